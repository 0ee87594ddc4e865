"""Scores of the first openings of the usual board, which take minutes: solved once by this solver, kept in the package."""

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from narrows.games.solver.board import Board
from narrows.games.solver.positions import all_positions, canonical_keys

if TYPE_CHECKING:  # the solver looks into the book
    from narrows.games.solver.solver import Solver


def load_book() -> tuple[tuple[int, int], dict[int, int]]:
    """Return the width and height of the board of the book in the package, and its scores by canonical key."""
    with as_file(files("narrows.games") / "data" / "openings.npz") as path, np.load(path, allow_pickle=False) as archive:
        width, height = archive["board"].tolist()
        keys, scores = archive["keys"], archive["scores"]
    assert keys.dtype == np.uint64 and scores.dtype == np.int8 and keys.shape == scores.shape
    return (width, height), dict(zip(keys.tolist(), scores.tolist(), strict=True))


def build_book(solver: "Solver", last: int, progress: Callable[[int, int], None] | None = None) -> dict[int, int]:
    """Return the score of every position after up to `last` moves by canonical key; give the solver a folder for its openings.

    The positions after `last` moves are searched, those before are scored by the moves that lead to them.

    Args:
        solver: without a book.
        last: number of moves.
        progress: told how many of the positions after `last` moves have been searched.
    """
    book: dict[int, int] = {}
    for ply in range(last, -1, -1):
        found = all_positions(solver.board, ply)
        keys, first = np.unique(canonical_keys(solver.board, found), return_index=True)
        for number, (key, row) in enumerate(zip(keys.tolist(), first.tolist(), strict=True)):
            position = (found.mover[row : row + 1], found.stones[row : row + 1])
            book[key] = int(solver.value(*position)[0] if ply == last else solver.scores(*position).max())
            if progress is not None and ply == last:
                progress(number + 1, len(keys))
    return book


def save_book(board: Board, book: dict[int, int], path: Path) -> None:
    """Write a book into a compressed NumPy archive."""
    keys = np.asarray(sorted(book), np.uint64)
    scores = np.asarray([book[key] for key in sorted(book)], np.int8)
    np.savez_compressed(path, board=np.asarray([board.width, board.height], np.int64), keys=keys, scores=scores)
