"""A Connect-4 board in the solver's own numbers: two words for a position, one for its key (eflow 8.1)."""

from typing import Final, NamedTuple

import numpy as np

ILLEGAL: Final = -100
"""The score of a column that takes no stone."""


class Board(NamedTuple):
    """What compiled code must know of a board; words are unsigned, so that numba never makes floating-point numbers of them.

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
    return Board(
        width, height, width * height, np.uint64(height + 1), np.uint64(bottom), np.uint64(bottom * ((1 << height) - 1))
    )


def has_four(board: Board, stones: int) -> bool:
    """Return whether stones contain four in a row."""
    side = int(board.side)
    for step in (1, side, side - 1, side + 1):
        pairs = stones & (stones >> step)
        if pairs & (pairs >> 2 * step):
            return True
    return False


def legal_stones(board: Board, stones: int) -> list[int]:
    """Return for each column the stone that falls into it, 0 for a full column."""
    playable = (stones + int(board.bottom)) & int(board.full)
    column = (1 << board.height) - 1
    return [playable & (column << (int(board.side) * number)) for number in range(board.width)]


def key_of(board: Board, mover: int, stones: int) -> int:
    """Return the number of a position that no other position has: in each column the mover's stones and a bit above the top."""
    return mover + stones + int(board.bottom)


def mirror_of(board: Board, word: int) -> int:
    """Return a word with its columns in the opposite order."""
    side, mirrored = int(board.side), 0
    for _ in range(board.width):
        mirrored = (mirrored << side) | (word & ((1 << side) - 1))
        word >>= side
    return mirrored


def canonical_key(board: Board, mover: int, stones: int) -> int:
    """Return the smaller key of a position and its mirror image."""
    key = key_of(board, mover, stones)
    return min(key, mirror_of(board, key))


def centre_first(width: int) -> list[int]:
    """Return the columns, those near the middle first, the left one of two: 3, 2, 4, 1, 5, 0, 6."""
    return sorted(range(width), key=lambda column: (abs(2 * column - (width - 1)), column))


def stones_to_win(cells: int, num_stones: int, score: int) -> int:
    """Return with which of his next stones the winner wins, 1 for the very next; 0 in a draw.

    A score counts the winner's stones from his last: of those left, the mover puts the larger half.

    Args:
        cells: of the board.
        num_stones: on it.
        score: strong score of a move or of the position, for the player to move.
    """
    left = cells - num_stones
    own = (left + 1) // 2 if score > 0 else left // 2
    return own - abs(score) + 1 if score else 0
