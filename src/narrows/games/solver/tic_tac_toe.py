"""Tic-tac-toe solved by plain minimax over its few positions."""

from functools import cache
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Int, Int8

from narrows.games.solver.board import ILLEGAL

_LINES: Final = tuple(
    sum(1 << cell for cell in line)
    for line in ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
)
_FULL: Final = (1 << 9) - 1


class SolvedTicTacToe(NamedTuple):
    """Positions of tic-tac-toe and the score of every move there, as a Connect-4 solver would tell it.

    Attributes:
        mover: the cells of the player to move, as bits.
        other: those of the other player.
        scores: of every cell, `ILLEGAL` for one that is taken.
    """

    mover: Int[np.ndarray, " position"]
    other: Int[np.ndarray, " position"]
    scores: Int8[np.ndarray, "position cell"]


def solve_tic_tac_toe() -> SolvedTicTacToe:
    """Return all 4,520 unfinished positions, by the number of stones."""
    level, found = {(0, 0)}, []
    while level:
        found += sorted(level)
        level = {
            (other, mover | 1 << cell)
            for mover, other in level
            for cell in range(9)
            if not (mover | other) >> cell & 1 and not _has_line(mover | 1 << cell) and mover | other | 1 << cell != _FULL
        }
    mover, other = np.asarray(found).T
    return SolvedTicTacToe(mover, other, cell_scores(mover, other))


def cell_scores(mover: Int[np.ndarray, " position"], other: Int[np.ndarray, " position"]) -> Int8[np.ndarray, "position cell"]:
    """Return the score of every cell in unfinished positions, `ILLEGAL` for one that is taken."""
    rows = [_scores(own, others) for own, others in zip(mover.tolist(), other.tolist(), strict=True)]
    return np.asarray(rows, np.int8).reshape(len(rows), 9)


def _has_line(cells: int) -> bool:
    return any(cells & line == line for line in _LINES)


@cache
def _scores(mover: int, other: int) -> tuple[int, ...]:
    return tuple(_score(mover, other, 1 << cell) for cell in range(9))


def _score(mover: int, other: int, stone: int) -> int:
    """Return the score of putting a stone: positive where it wins, the larger the more stones are left then."""
    if (mover | other) & stone:
        return ILLEGAL
    if _has_line(mover | stone):
        return (10 - (mover | other).bit_count()) // 2
    if mover | other | stone == _FULL:
        return 0
    return -max(_scores(other, mover | stone))
