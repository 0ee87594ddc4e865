"""A Connect-4 board in the solver's own numbers: two words for a position, one for its key (eflow 8.1)."""

from typing import Final, NamedTuple

import numpy as np

ILLEGAL: Final = -100
"""The score of a move that is not legal."""


class Board(NamedTuple):
    """The constants of a board; words are unsigned, so that numba never makes floating-point numbers of them.

    Column `c` has the bits `side c` and up from its bottom cell, the last of its `side = height + 1` bits is never a stone.

    Attributes:
        width: number of columns.
        height: number of rows.
        cells: of the board.
        side: bits of a column.
        bottom: the lowest cell of every column.
        full: all cells.
    """

    width: int
    height: int
    cells: int
    side: np.uint64
    bottom: np.uint64
    full: np.uint64


def board_of(width: int, height: int) -> Board:
    """Return the constants of a board; ValueError for a size that ConnectFour does not have."""
    if width < 4 or not 4 <= height <= 8 or width * (height + 1) > 64:
        raise ValueError(
            "expected at least 4 columns, 4 to 8 rows and width * (height + 1) <= 64, so that a board fits into a word, got "
            f"width={width} and height={height}."
        )
    bottom = sum(1 << ((height + 1) * column) for column in range(width))
    full = bottom * ((1 << height) - 1)
    return Board(width, height, width * height, np.uint64(height + 1), np.uint64(bottom), np.uint64(full))


def stones_to_win(cells: int, num_stones: int, score: int) -> int:
    """Return with which of their next stones the winner wins, 1 for the very next; 0 in a draw.

    A score counts the winner's stones from their last: of those left, the mover puts the larger half.

    Args:
        cells: of the board.
        num_stones: on it.
        score: strong score of a move or of the position, for the player to move.
    """
    left = cells - num_stones
    own = (left + 1) // 2 if score > 0 else left // 2
    return own - abs(score) + 1 if score else 0
