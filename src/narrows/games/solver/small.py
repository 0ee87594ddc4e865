"""Every position of a small Connect-4 board, solved at once."""

from collections.abc import Iterator
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int, Int8, UInt8

from narrows.games.solver.board import Board, board_of
from narrows.games.solver.positions import Scores, Words, are_telling, scores_of_moves

_BITS = 30
"""Keys of so many bits at most: a byte a key is then 1 GiB."""

_BLOCK = 1 << 22


class Solved(NamedTuple):
    """Positions and the score of every move there, `ILLEGAL` for full columns."""

    mover: Words
    stones: Words
    scores: Scores


@final
class SmallBoard:
    """The score of every position of a board that can arise, found by going through all games without pruning any.

    It needs a byte for each of `2^(width (height + 1))` keys: 1 MiB for 4x4, 32 MiB for 5x4, 1 GiB for 5x5 (columns by rows),
    which is the largest that is accepted.

    Args:
        width: columns of the board.
        height: rows.

    Attributes:
        counts: for each number of stones, how many unfinished positions can arise.
    """

    def __init__(self, width: int, height: int) -> None:
        self.board: Board = board_of(width, height)
        if width * (height + 1) > _BITS:
            raise ValueError(
                f"every position is solved of boards with width * (height + 1) <= {_BITS}, got width={width} and "
                f"height={height}. Use Solver for larger ones."
            )
        from narrows.games.solver.enumeration import visit_all  # compiled code is loaded when it is needed

        self._table: UInt8[np.ndarray, " key"] = np.zeros(1 << (width * (height + 1)), np.uint8)
        self.counts: Int[np.ndarray, " ply"] = np.zeros(self.board.cells, np.int64)
        visit_all(self.board, self._table, self.counts)

    def scores(self, mover: Words, stones: Words) -> Scores:
        """Return the score of every move, `ILLEGAL` for a full column; ValueError for what is over or cannot arise."""
        mover, stones = np.asarray(mover, np.uint64), np.asarray(stones, np.uint64)
        self.value(mover, stones)  # refuses what is no position
        return scores_of_moves(self.board, mover, stones, lambda mover, stones, _: self.value(mover, stones))

    def value(self, mover: Words, stones: Words) -> Int8[np.ndarray, " position"]:
        """Return the score of each position, that is of its best move; ValueError for one that is over or cannot arise."""
        key = np.asarray(mover, np.uint64) + np.asarray(stones, np.uint64) + self.board.bottom
        is_small = key < self._table.size
        found = self._table[np.where(is_small, key, 0)].astype(np.int64)
        is_wrong = (found == 0) | ~is_small | ((np.asarray(mover) & ~np.asarray(stones)) != 0)
        if is_wrong.any():
            raise ValueError(f"position {int(np.argmax(is_wrong))} is over or cannot arise, so it has no score.")
        return (found - 1 - self.board.cells).astype(np.int8)

    def blocks(self, *, only_telling: bool = False) -> Iterator[Solved]:
        """Yield all unfinished positions that can arise, some millions at most at a time, in the order of their keys.

        Args:
            only_telling: leave out the positions whose legal moves all lead to the same outcome.
        """
        for start in range(0, self._table.size, _BLOCK):
            keys = np.flatnonzero(self._table[start : start + _BLOCK]).astype(np.uint64) + np.uint64(start)
            mover, stones = self._decoded(keys)
            found = Solved(mover, stones, self.scores(mover, stones))
            if only_telling:
                tells = are_telling(found.scores)
                found = Solved(*(field[tells] for field in found))
            if len(found.mover):
                yield found

    def all(self, *, only_telling: bool = False) -> Solved:
        """Return what `blocks` yields in one piece: 70 million positions for 5x5."""
        blocks = list(self.blocks(only_telling=only_telling))
        return Solved(*(np.concatenate(fields) for fields in zip(*blocks, strict=True)))

    def _decoded(self, keys: Words) -> tuple[Words, ...]:
        """Return the mover's and all stones: in each column of a key the highest bit stands above the top stone."""
        side = int(self.board.side)
        columns = np.arange(1 << side)
        # frexp's exponent of a number is how many bits it has.
        top = np.where(columns > 0, 1 << np.maximum(np.frexp(columns)[1] - 1, 0), 1)
        of_stones, of_mover = (top - 1).astype(np.uint64), (columns - np.where(columns > 0, top, 0)).astype(np.uint64)
        mover, stones = np.zeros_like(keys), np.zeros_like(keys)
        for number in range(self.board.width):
            shift = np.uint64(side * number)
            column = (keys >> shift) & np.uint64((1 << side) - 1)
            mover |= of_mover[column] << shift
            stones |= of_stones[column] << shift
        return mover, stones
