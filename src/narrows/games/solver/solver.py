"""Exact scores of Connect-4 positions: how soon the player to move wins or how late he loses with every move."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int, Int8, UInt64

from narrows.games.solver.board import ILLEGAL, Board, board_of, canonical_key, has_four, legal_stones
from narrows.games.solver.book import load_book
from narrows.games.solver.cache import OpeningCache

BUDGET: Final = 2_000_000
"""Nodes between two looks at whether to go on: a fraction of a second."""

_SLOW: Final = 1 << 20
"""Positions that took so many nodes are worth a row on disk."""

Watch = Callable[[int, int], None]
"""Told how many positions have been solved and how many nodes the present call has seen; raises to end the work."""


class Solver:
    """A perfect judge of one board size.

    A score is the player's to move: `k > 0` if he wins, playing as fast as possible, with the `k`-th of his stones counted
    from the end (1: his very last); `-k` if the other does; 0 for a draw. Its sign is the weak value. A table of positions is
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

    def scores(
        self,
        mover: UInt64[np.ndarray, " position"],
        stones: UInt64[np.ndarray, " position"],
        *,
        weak: bool = False,
        watch: Watch | None = None,
    ) -> Int8[np.ndarray, "position column"]:
        """Return the score of every move, `ILLEGAL` for a full column; with `weak` the signs only, which takes less time.

        Args:
            mover: stones of the player to move, one word a position.
            stones: stones of both.
            weak: whether win, draw or loss is enough.
            watch: told of progress every fraction of a second; an exception of its own ends the work.
        """
        counter = _Counter(watch)
        result = np.full((len(stones), self.board.width), ILLEGAL, np.int8)
        for number, (own, both) in enumerate(self._checked(mover, stones)):
            counter.solved = number
            legal = legal_stones(self.board, both)
            for column, stone in enumerate(legal):
                if stone:
                    result[number, column] = self._after(own, both, stone, weak, counter)
        return result

    def value(
        self,
        mover: UInt64[np.ndarray, " position"],
        stones: UInt64[np.ndarray, " position"],
        *,
        weak: bool = False,
        watch: Watch | None = None,
    ) -> Int8[np.ndarray, " position"]:
        """Return the score of each position, that is of its best move; the arguments are those of `scores`."""
        counter = _Counter(watch)
        result = np.zeros(len(stones), np.int8)
        for number, (own, both) in enumerate(self._checked(mover, stones)):
            counter.solved = number
            result[number] = self._score(own, both, weak, counter)
        return result

    def clear(self) -> None:
        """Forget all positions but those on disk."""
        self._table[:] = 0

    def _checked(
        self, mover: UInt64[np.ndarray, " position"], stones: UInt64[np.ndarray, " position"]
    ) -> list[tuple[int, int]]:
        pairs = list(zip(np.asarray(mover).tolist(), np.asarray(stones).tolist(), strict=True))
        for number, (own, both) in enumerate(pairs):
            reason = why_unplayable(self.board, own, both)
            if reason:
                raise ValueError(f"position {number} (mover {own:#x}, stones {both:#x}): {reason}.")
        return pairs

    def _after(self, own: int, both: int, stone: int, weak: bool, counter: "_Counter") -> int:
        """Return the score of the move that puts a stone."""
        num_stones = both.bit_count()
        if has_four(self.board, own | stone):
            return 1 if weak else (self.board.cells + 1 - num_stones) // 2
        if num_stones + 1 == self.board.cells:
            return 0
        return -self._score(own ^ both, both | stone, weak, counter)

    def _score(self, own: int, both: int, weak: bool, counter: "_Counter") -> int:
        """Return the score of a position that is not over."""
        left = self.board.cells - both.bit_count()
        if any(stone and has_four(self.board, own | stone) for stone in legal_stones(self.board, both)):
            return 1 if weak else (left + 1) // 2
        bounds = np.asarray([-(left // 2), (left - 1) // 2], np.int64)
        key = canonical_key(self.board, own, both)
        if key in self._book:
            score = self._book[key]
            return (score > 0) - (score < 0) if weak else score
        keeps = self._cache if both.bit_count() <= self.board.cells // 3 else None
        if keeps is not None:
            known = keeps.get(key)
            if known is not None and max(bounds[0], known[0]) <= min(bounds[1], known[1]):
                bounds[:] = max(bounds[0], known[0]), min(bounds[1], known[1])
        started = self.nodes
        try:
            self._narrow(own, both, bounds, weak, counter)
        finally:  # what an interrupted search has found out is worth as much
            if keeps is not None and self.nodes - started >= _SLOW:
                keeps.put(key, int(bounds[0]), int(bounds[1]))
        low, high = int(bounds[0]), int(bounds[1])
        if not weak:
            return low
        return (low > 0) - (high < 0)

    def _narrow(self, own: int, both: int, bounds: Int[np.ndarray, "2"], weak: bool, counter: "_Counter") -> None:
        position = np.asarray([own, both], np.uint64)
        with self._alone:
            self._stack.control[0] = -1  # whatever search was interrupted
            while True:
                nodes = self._search.narrow(self.board, self._table, self._stack, position, bounds, weak, BUDGET)
                self.nodes += nodes
                counter.count(nodes)
                if nodes < BUDGET:
                    return


def why_unplayable(board: Board, own: int, both: int) -> str:
    """Return why nobody can move in a position, or an empty text: stones that float, four in a row, no room."""
    if both & ~int(board.full) or own & ~both:
        return "the words have stones outside the board, or the mover's are not among all stones"
    side = int(board.side)
    heights = [(both >> (side * column)) & ((1 << side) - 1) for column in range(board.width)]
    if any(column & (column + 1) for column in heights):
        return "a stone floats above an empty cell"
    if both.bit_count() // 2 != own.bit_count():
        return f"of {both.bit_count()} stones the mover has {own.bit_count()}, expected half of them, rounded down"
    if has_four(board, own) or has_four(board, own ^ both):
        return "the game is over: there are four in a row"
    return "the game is over: the board is full" if both.bit_count() == board.cells else ""


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
