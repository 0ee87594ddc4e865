"""Where the book of openings in the package came from: every position after a few moves, scored by the solver."""

import numpy as np

from narrows.games.solver.positions import Positions, are_four, canonical_keys, falling_stones


def all_positions(board, ply):
    """Every different position without four in a row that can arise after `ply` moves, with one game that leads there.

    Mirror images count as different. There are 1, 7, 49, 238, 1120, 4263, 16422, 54131, 182383 of the usual board.
    """
    start = np.zeros(1, np.uint64)
    found = Positions(start, start, np.zeros((1, 0), np.uint8))
    for _ in range(ply):
        falling = falling_stones(board, found.stones)
        row, column = np.nonzero(falling)
        mover, stones = found.mover[row] ^ found.stones[row], found.stones[row] | falling[row, column]
        goes_on = ~are_four(board, mover ^ stones)
        _, first = np.unique((mover + stones)[goes_on], return_index=True)
        kept = np.flatnonzero(goes_on)[first]
        moves = np.concatenate([found.moves[row[kept]], column[kept, None].astype(np.uint8)], axis=1)
        found = Positions(mover[kept], stones[kept], moves)
    return found


def build_book(solver, last, progress):
    """The score of every position after up to `last` moves by canonical key; the last are searched, the rest follow.

    For the usual board give the solver a folder for its openings and no book; `progress` is told how many are searched.
    """
    book = {}
    for ply in range(last, -1, -1):
        found = all_positions(solver.board, ply)
        keys, first = np.unique(canonical_keys(solver.board, found.mover, found.stones), return_index=True)
        for number, (key, row) in enumerate(zip(keys.tolist(), first.tolist(), strict=True)):
            position = (found.mover[row : row + 1], found.stones[row : row + 1])
            book[key] = int(solver.value(*position)[0] if ply == last else solver.scores(*position).max())
            if ply == last:
                progress(number + 1, len(keys))
    return book


def save_book(board, book, path):
    """Write a book as the package holds it, `openings.npz`."""
    keys = np.asarray(sorted(book), np.uint64)
    scores = np.asarray([book[key] for key in sorted(book)], np.int8)
    np.savez_compressed(path, board=np.asarray([board.width, board.height], np.int64), keys=keys, scores=scores)
