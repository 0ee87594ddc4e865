"""Tic-tac-toe and a tree search on it, written as loops."""

import math

import numpy as np

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


def has_line(cells):
    return any(all(cells[cell] for cell in line) for line in LINES)


def wins_of(own, taken):
    """The empty cells in which a stone completes a line."""
    return [cell for cell in range(9) if not taken[cell] and has_line([own[c] or c == cell for c in range(9)])]


class Node:
    """A position of a search tree, written as in the AlphaZero paper: everything for the player who is to move there."""

    def __init__(self, mover, other, look_at):
        self.look_at = look_at
        self.mover, self.other = mover, other
        self.loses, self.is_full = has_line(other), all(one or two for one, two in zip(mover, other, strict=True))
        logits, value = look_at(np.asarray(mover) + 2 * np.asarray(other))
        self.legal = [cell for cell in range(9) if not mover[cell] and not other[cell]]
        weights = {cell: math.exp(float(logits[cell])) for cell in self.legal}
        self.prior = {cell: weight / sum(weights.values()) for cell, weight in weights.items()}
        self.value = -1.0 if self.loses else 0.0 if self.is_full else min(max(float(value), -1.0), 1.0)
        self.total, self.visits = self.value, 1
        self.children = {}

    def score(self, cell):
        child = self.children.get(cell)
        wins = 0.0 if child is None else -child.total / child.visits
        count = 0 if child is None else child.visits
        return wins + self.prior[cell] * math.sqrt(self.visits) / (1 + count)

    def simulate(self):
        """Add one position below and return what it is worth here."""
        if self.loses or self.is_full:
            value = self.value
        else:
            cell = max(self.legal, key=self.score)
            if cell in self.children:
                value = -self.children[cell].simulate()
            else:
                stones = [own or place == cell for place, own in enumerate(self.mover)]
                self.children[cell] = Node(self.other, stones, self.look_at)
                value = -self.children[cell].value
        self.total, self.visits = self.total + value, self.visits + 1
        return value
