"""All games of a small board, compiled: each position is looked at once."""

import numpy as np
from jaxtyping import Int, UInt8

from narrows.games.solver.board import Board
from narrows.games.solver.compiled import compiled

_ONE, _TWO = np.uint64(1), np.uint64(2)


@compiled
def make_four(board: Board, stones: np.uint64) -> bool:
    """Return whether stones contain four in a row."""
    for step in (_ONE, board.side - _ONE, board.side, board.side + _ONE):
        pairs = stones & (stones >> step)
        if pairs & (pairs >> (_TWO * step)) != 0:
            return True
    return False


@compiled
def visit_all(board: Board, table: UInt8[np.ndarray, " key"], counts: Int[np.ndarray, " ply"]) -> None:
    """Write the score of every unfinished position that can arise, plus `cells + 1`, at its key; count them by stones.

    What the table has at other keys stays 0.
    """
    offset = board.cells + 1
    column = board.full & ((_ONE << board.side) - _ONE)
    mover, stones = np.zeros(board.cells, np.uint64), np.zeros(board.cells, np.uint64)
    place, best = np.zeros(board.cells, np.int64), np.zeros(board.cells, np.int64)
    depth = 0
    best[0] = -offset
    while True:
        own, both = mover[depth], stones[depth]
        if place[depth] == board.width:
            table[own + both + board.bottom] = best[depth] + offset
            counts[depth] += 1
            if depth == 0:
                return
            depth -= 1
            best[depth] = max(best[depth], -best[depth + 1])
            place[depth] += 1
            continue
        stone = (both + board.bottom) & (column << (board.side * np.uint64(place[depth])))
        if stone == 0:
            place[depth] += 1
            continue
        if make_four(board, own | stone):
            score = (board.cells + 1 - depth) // 2
        elif depth + 1 == board.cells:
            score = 0
        else:
            known = np.int64(table[(own ^ both) + (both | stone) + board.bottom])
            if known == 0:
                depth += 1
                mover[depth], stones[depth] = own ^ both, both | stone
                place[depth], best[depth] = 0, -offset
                continue
            score = offset - known
        best[depth] = max(best[depth], score)
        place[depth] += 1
