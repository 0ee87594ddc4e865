"""Sets of Connect-4 positions with the exact score of every move, and how well players do on them (eflow 6.1, 8.3)."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int, Int8, UInt8, UInt64

from narrows.files import write_atomically
from narrows.games.solver.board import ILLEGAL, board_of
from narrows.games.solver.positions import NO_MOVE, are_four, falling_stones, replayed

BANDS: Final = ((0, 7), (8, 15), (16, 23), (24, 63))
"""First and last ply of each band that results are told by."""

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

    @property
    def mover(self) -> UInt64[np.ndarray, " position"]:
        """Stones of the player to move."""
        return replayed(board_of(self.width, self.height), self.moves).mover

    @property
    def stones(self) -> UInt64[np.ndarray, " position"]:
        """Stones of both players."""
        return replayed(board_of(self.width, self.height), self.moves).stones

    @property
    def ply(self) -> Int[np.ndarray, " position"]:
        """Stones on the board."""
        return np.sum(self.moves != NO_MOVE, axis=1)

    @property
    def outcomes(self) -> Int8[np.ndarray, "position column"]:
        """1, 0 or -1 for a move that wins, draws or loses, -100 for a full column."""
        return np.where(self.scores == ILLEGAL, ILLEGAL, np.sign(self.scores)).astype(np.int8)


def _check(found: EvaluationSet) -> None:
    """Raise ValueError unless the moves lead to unfinished positions and the scores can be theirs."""
    board = board_of(found.width, found.height)
    if found.kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {found.kind!r}.")
    if found.moves.dtype != np.uint8 or found.moves.ndim != 2 or found.scores.dtype != np.int8:
        raise ValueError(f"expected moves of uint8 and scores of int8, got {found.moves.dtype} and {found.scores.dtype}.")
    if found.scores.shape != (len(found.moves), board.width):
        raise ValueError(f"expected {board.width} scores for each of {len(found.moves)} games, got shape {found.scores.shape}.")
    positions = replayed(board, found.moves)
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
        with np.load(path, allow_pickle=False) as archive:
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


class Share(NamedTuple):
    """How much of the play is optimal, in [0, 1].

    Attributes:
        num: positions that this is the mean of.
        outcome: share of moves that keep the best outcome: win, draw or loss.
        strict: share of moves of the best score: the fastest win, the slowest loss.
    """

    num: int
    outcome: float
    strict: float


class Optimality(NamedTuple):
    """What share of a player's moves is optimal, over all positions and by band of plies; empty bands are absent."""

    overall: Share
    bands: Mapping[tuple[int, int], Share]


def optimality(found: EvaluationSet, play: Int[np.ndarray, " position"] | Float[np.ndarray, "position column"]) -> Optimality:
    """Return how much of a player's play is optimal (eflow 6.1).

    Args:
        found: the positions.
        play: the column that the player chooses in each, or the probabilities with which he plays the columns: then the
            expected shares. ValueError for a move into a full column or probabilities that do not sum to 1.
    """
    if not len(found):
        raise ValueError("the set has no positions, so there is no share of them. Give one that has.")
    mass = _mass(found, np.asarray(play))
    strict = np.sum(mass * (found.scores == found.scores.max(axis=1, keepdims=True)), axis=1)
    outcome = np.sum(mass * (found.outcomes == found.outcomes.max(axis=1, keepdims=True)), axis=1)
    ply = found.ply

    def share(where: Any) -> Share:
        return Share(int(np.sum(where)), float(outcome[where].mean()), float(strict[where].mean()))

    by_band = {(first, last): (ply >= first) & (ply <= last) for first, last in BANDS}
    bands = {band: share(where) for band, where in by_band.items() if where.any()}
    return Optimality(share(np.ones(len(found), bool)), bands)


def _mass(found: EvaluationSet, play: np.ndarray) -> Float[np.ndarray, "position column"]:
    """Return the probabilities of the columns."""
    if np.issubdtype(play.dtype, np.integer):
        if play.shape != (len(found),) or play.min() < 0 or play.max() >= found.width:
            raise ValueError(
                f"expected a column from 0 to {found.width - 1} for each of {len(found)} positions, got shape {play.shape} "
                f"with values from {play.min()} to {play.max()}."
            )
        mass = np.eye(found.width)[play]
    else:
        mass = play.astype(np.float64)
        if mass.shape != found.scores.shape or not np.all(mass >= 0) or not np.allclose(mass.sum(axis=1), 1.0, atol=1e-3):
            raise ValueError(f"expected probabilities of shape {found.scores.shape} that sum to 1, got shape {mass.shape}.")
    into_full = np.sum(mass * (found.scores == ILLEGAL), axis=1) > 1e-3
    if into_full.any():
        raise ValueError(
            f"position {int(np.argmax(into_full))}: the player moves into a full column. Mask illegal moves first."
        )
    return mass
