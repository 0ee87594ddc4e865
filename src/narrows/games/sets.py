"""Sets of Connect-4 positions with the exact score of every move (eflow 8.3)."""

import io
import zipfile
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final, Self

import numpy as np
from jaxtyping import Int, Int8, UInt8

from narrows.files import write_atomically
from narrows.games.solver.board import ILLEGAL, board_of
from narrows.games.solver.positions import NO_MOVE, Positions, Words, are_four, falling_stones, replayed

_KINDS: Final = ("quiet", "random", "play")


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Positions and what every move there is worth.

    Args:
        width: columns of the board.
        height: rows.
        kind: `quiet`, `random` or `play`: how the positions were drawn.
        seed: of the draw.
        moves: the columns played, from 0, each game filled up with 255.
        scores: strong scores of the moves for the player to move, -100 for full columns.
    """

    width: int
    height: int
    kind: str
    seed: int
    moves: UInt8[np.ndarray, "position time"]
    scores: Int8[np.ndarray, "position column"]

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def empty(cls, width: int, height: int, kind: str, seed: int) -> Self:
        """Return a set without positions, to begin with."""
        return cls(width, height, kind, seed, np.zeros((0, 0), np.uint8), np.zeros((0, width), np.int8))

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def positions(self) -> Positions:
        """The positions in the solver's words."""
        return replayed(board_of(self.width, self.height), self.moves)

    @property
    def mover(self) -> Words:
        """Stones of the player to move."""
        return self.positions.mover

    @property
    def stones(self) -> Words:
        """Stones of both players."""
        return self.positions.stones

    @property
    def ply(self) -> Int[np.ndarray, " position"]:
        """Stones on the board."""
        return np.sum(self.moves != NO_MOVE, axis=1)


def _check(found: EvaluationSet) -> None:
    """Raise ValueError unless the moves lead to unfinished positions and the scores can be theirs."""
    board = board_of(found.width, found.height)
    if found.kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {found.kind!r}.")
    if found.moves.dtype != np.uint8 or found.moves.ndim != 2 or found.scores.dtype != np.int8:
        raise ValueError(f"expected moves of uint8 and scores of int8, got {found.moves.dtype} and {found.scores.dtype}.")
    if found.scores.shape != (len(found.moves), board.width):
        raise ValueError(f"expected {board.width} scores for each of {len(found.moves)} games, got shape {found.scores.shape}.")
    positions = found.positions
    is_over = are_four(board, positions.mover ^ positions.stones) | (positions.stones == board.full)
    if is_over.any():
        raise ValueError(f"game {int(np.argmax(is_over))} is over: nothing is left to play there.")
    is_illegal = falling_stones(board, positions.stones) == 0
    left = board.cells - found.ply
    too_large = np.abs(found.scores.astype(np.int64)) > ((left + 1) // 2)[:, None]
    wrong = np.any(np.where(is_illegal, found.scores != ILLEGAL, too_large), axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"game {row} has scores {found.scores[row].tolist()}, which its position cannot have.")


def save(found: EvaluationSet, path: Path) -> None:
    """Write a set into a compressed NumPy archive, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        board=np.asarray([found.width, found.height], np.int64),
        kind=np.asarray(found.kind),
        seed=np.asarray(found.seed, np.int64),
        moves=found.moves,
        scores=found.scores,
    )
    write_atomically(path, stream.getvalue())


def load(path: Path) -> EvaluationSet:
    """Return the set in a file; ValueError that names the file if it holds none. Runs nothing that the file says."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # closed also where it is no archive
            width, height = archive["board"].tolist()
            return EvaluationSet(width, height, str(archive["kind"]), int(archive["seed"]), archive["moves"], archive["scores"])
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}. Build a set with: narrows games build-set --out {path}") from None
    except (ValueError, KeyError, TypeError, EOFError, OSError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no set of positions: {error}. Build one with: narrows games build-set") from error


def quiet() -> EvaluationSet:
    """Return the set of quiet positions that comes with the library: 500 a ply for plies 12 to 32, 100 a ply for 8 to 11."""
    with as_file(files("narrows.games") / "data" / "quiet.npz") as path:
        return load(path)
