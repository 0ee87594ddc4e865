"""Exact scores of Connect-4 positions: how soon the player to move wins, or how late they lose, with every move."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int, Int8, UInt64

from narrows.games.solver.board import Board, board_of
from narrows.games.solver.cache import OpeningCache, load_book
from narrows.games.solver.positions import Scores, Words, are_four, canonical_keys, scores_of_moves, winning_moves

BUDGET: Final = 2_000_000
"""Nodes between two looks at whether to go on: a fraction of a second."""

_SLOW: Final = 1 << 20
"""Positions that took so many nodes are worth a row on disk."""

Watch = Callable[[int, int], None]
"""Told how many positions have been solved and how many nodes the present call has seen; raises to end the work."""


class Solver:
    """A perfect judge of one board size.

    A score is for the player to move: `k > 0` if they win, playing as fast as possible, with the `k`-th of their stones counted
    from the end (1: their very last); `-k` if the other does; 0 for a draw. Its sign is the weak value. A table of positions is
    kept between calls. Several threads may ask one solver; they wait for each other.

    Args:
        width: columns of the board.
        height: rows.
        table_bits: the table has `2^table_bits` entries of 8 bytes: 24 takes 128 MiB.
        cache: folder where slow openings are kept for other processes and later days; None keeps none.
        book: whether to look first moves up that come solved with the library, for the usual board.

    Attributes:
        nodes: positions looked at so far.
    """

    def __init__(
        self, width: int = 7, height: int = 6, *, table_bits: int = 24, cache: Path | None = None, book: bool = True
    ) -> None:
        if not 8 <= table_bits <= 34:
            raise ValueError(f"table_bits must be from 8 to 34, got {table_bits}. 24 takes 128 MiB, each more twice as much.")
        from narrows.games.solver import search  # compiled code is loaded when it is needed

        self.board: Board = board_of(width, height)
        self.nodes = 0
        self._search = search
        self._stack = search.new_stack(width, height)
        self._table = np.zeros(1 << table_bits, np.uint64)
        self._alone = threading.Lock()
        self._cache = None if cache is None else OpeningCache(cache, self.board)
        size, scores = load_book() if book else ((width, height), {})
        self._book: dict[int, int] = scores if size == (width, height) else {}

    def scores(self, mover: Words, stones: Words, *, weak: bool = False, watch: Watch | None = None) -> Scores:
        """Return the score of every move, `ILLEGAL` for a full column; with `weak` the signs only, which takes less time.

        Args:
            mover: stones of the player to move, one word a position.
            stones: stones of both.
            weak: whether win, draw or loss is enough.
            watch: told of progress every fraction of a second; an exception of its own ends the work.
        """
        _check_playable(self.board, mover, stones)
        counter = _Counter(watch)

        def values(mover: np.ndarray, stones: np.ndarray, position: np.ndarray) -> Int[np.ndarray, " move"]:
            return self._values(mover, stones, position, weak, counter)

        return scores_of_moves(self.board, mover, stones, values, weak=weak)

    def value(
        self, mover: Words, stones: Words, *, weak: bool = False, watch: Watch | None = None
    ) -> Int8[np.ndarray, " position"]:
        """Return the score of each position, that is of its best move; the arguments are those of `scores`."""
        _check_playable(self.board, mover, stones)
        return self._values(mover, stones, np.arange(len(stones)), weak, _Counter(watch)).astype(np.int8)

    def clear(self) -> None:
        """Forget all positions but those on disk."""
        self._table[:] = 0

    def _values(
        self, mover: Words, stones: Words, solved: Int[np.ndarray, " position"], weak: bool, counter: "_Counter"
    ) -> Int[np.ndarray, " position"]:
        """Return the scores of positions that are not over, each with a number of positions solved before it."""
        left = self.board.cells - np.bitwise_count(stones).astype(np.int64)
        values = np.ones_like(left) if weak else (left + 1) // 2
        keys = canonical_keys(self.board, mover, stones).tolist()
        for row in np.flatnonzero(~winning_moves(self.board, mover, stones).any(axis=1)).tolist():
            counter.solved = int(solved[row])
            if keys[row] in self._book:
                score = self._book[keys[row]]
                values[row] = (score > 0) - (score < 0) if weak else score
            else:
                low, high = self._bounds(np.asarray([mover[row], stones[row]]), int(left[row]), keys[row], weak, counter)
                values[row] = (low > 0) - (high < 0) if weak else low
        return values

    def _bounds(
        self, position: UInt64[np.ndarray, "2"], left: int, key: int, weak: bool, counter: "_Counter"
    ) -> tuple[int, int]:
        """Return bounds of the score of a position in which nobody wins at once: equal, or of one sign if `weak`."""
        bounds = np.asarray([-(left // 2), (left - 1) // 2], np.int64)
        keeps = self._cache if self.board.cells - left <= self.board.cells // 3 else None
        if keeps is not None:
            known = keeps.get(key)
            if known is not None and max(bounds[0], known[0]) <= min(bounds[1], known[1]):
                bounds[:] = max(bounds[0], known[0]), min(bounds[1], known[1])
        started = self.nodes
        try:
            with self._alone:
                self._stack.control[0] = -1  # whatever search was interrupted
                nodes = BUDGET
                while nodes >= BUDGET:
                    nodes = self._search.narrow(self.board, self._table, self._stack, position, bounds, weak, BUDGET)
                    self.nodes += nodes
                    counter.count(nodes)
        finally:  # what an interrupted search has found out is worth as much
            if keeps is not None and self.nodes - started >= _SLOW:
                keeps.put(key, int(bounds[0]), int(bounds[1]))
        return int(bounds[0]), int(bounds[1])


def _check_playable(board: Board, mover: Words, stones: Words) -> None:
    """Raise ValueError that names the first position in which nobody can move, and why."""
    count, own = np.bitwise_count(stones), np.bitwise_count(mover)
    reasons = (
        (
            ((stones & ~board.full) | (mover & ~stones)) != 0,
            "the words have stones outside the board, or the mover's are not among all stones",
        ),
        # Adding a stone to the bottom of a column carries through all of its stones, unless there is a gap.
        ((stones & (stones + board.bottom)) != 0, "a stone floats above an empty cell"),
        (count // 2 != own, "of {count} stones the mover has {own}, expected half of them, rounded down"),
        (are_four(board, mover) | are_four(board, mover ^ stones), "the game is over: there are four in a row"),
        (stones == board.full, "the game is over: the board is full"),
    )
    is_wrong = np.any([wrong for wrong, _ in reasons], axis=0)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        reason = next(text for wrong, text in reasons if wrong[row]).format(count=count[row], own=own[row])
        raise ValueError(f"position {row} (mover {int(mover[row]):#x}, stones {int(stones[row]):#x}): {reason}.")


class _Counter:
    """Counts the nodes of a call for whoever watches it."""

    def __init__(self, watch: Watch | None) -> None:
        self.watch = watch
        self.solved = 0
        self.nodes = 0
        self._told = 0

    def count(self, nodes: int) -> None:
        self.nodes += nodes
        if self.watch is not None and self.nodes - self._told >= BUDGET:
            self._told = self.nodes
            self.watch(self.solved, self.nodes)
