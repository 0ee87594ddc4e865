"""Positions whose every move has a known score, for any game that is solved, and how a player does there (eflow 6.1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Int8

from narrows.envs.bitboard import boards
from narrows.envs.connect_four import ConnectFour, ConnectFourState
from narrows.envs.contract import rows_of
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe, TicTacToeState
from narrows.games.players import Acts, NetworkPlayer
from narrows.games.sets import EvaluationSet, load
from narrows.games.solver.board import ILLEGAL
from narrows.games.solver.positions import Words
from narrows.policies.base import AbstractPolicy

BANDS: Final = ((0, 7), (8, 15), (16, 23), (24, 63))
"""First and last ply of each band that results are told by."""

Watch: TypeAlias = Callable[[AbstractPolicy], dict[str, float]]
"""A network to columns of the history: `optimal`, the share of its moves that keep what can be had, and `strict`, that of
the fastest wins and slowest losses."""

_WATCHED: Final = 2000
"""Positions of Connect-4 at which a player in training is watched, at most."""

_LARGEST_WATCHED: Final = 25
"""Bits of a position up to which all positions are solved on the spot: for 5 by 4 cells in a second, 5 by 5 take a minute."""


class Share(NamedTuple):
    """The share of play that is optimal, in [0, 1].

    Attributes:
        num: positions that this is the mean of.
        outcome: share of moves that keep the best outcome: win, draw or loss.
        strict: share of moves of the best score: the fastest win, the slowest loss.
    """

    num: int
    outcome: float
    strict: float


class Optimality(NamedTuple):
    """The share of optimal moves over all positions and by band of plies; empty bands are absent."""

    overall: Share
    bands: Mapping[tuple[int, int], Share]


@dataclass(frozen=True, eq=False)
class Exam:
    """Unfinished positions of one game.

    Args:
        name: how many and what positions they are.
        states: a batch of states.
        scores: strong scores of the moves for the player to move, -100 for illegal ones.
        ply: moves played before.
    """

    name: str
    states: Any
    scores: Int8[np.ndarray, "position action"]
    ply: Int[np.ndarray, " position"]

    def __len__(self) -> int:
        return len(self.scores)

    def grade(self, play: Int[np.ndarray, " position"] | Float[np.ndarray, "position action"]) -> Optimality:
        """Return how much of some play is optimal.

        Args:
            play: the move that is chosen in each position, or the probabilities of the moves: then the expected shares.
                ValueError for an illegal move or probabilities that do not sum to 1.
        """
        if not len(self):
            raise ValueError("the set has no positions, so there is no share of them. Give one that has.")
        mass = self._mass(np.asarray(play))
        best = self.scores.max(axis=1, keepdims=True)
        strict = np.sum(mass * (self.scores == best), axis=1)
        outcome = np.sum(mass * ((self.scores != ILLEGAL) & (np.sign(self.scores) == np.sign(best))), axis=1)

        def share(where: Any) -> Share:
            return Share(int(np.sum(where)), float(outcome[where].mean()), float(strict[where].mean()))

        by_band = {(first, last): (self.ply >= first) & (self.ply <= last) for first, last in BANDS}
        bands = {band: share(where) for band, where in by_band.items() if where.any()}
        return Optimality(share(np.ones(len(self), bool)), bands)

    def _mass(self, play: np.ndarray) -> Float[np.ndarray, "position action"]:
        """Return the probabilities of the moves."""
        num, width = self.scores.shape
        if np.issubdtype(play.dtype, np.integer):
            if play.shape != (num,) or play.min() < 0 or play.max() >= width:
                raise ValueError(
                    f"expected a column from 0 to {width - 1} for each of {num} positions, got shape {play.shape} "
                    f"with values from {play.min()} to {play.max()}."
                )
            mass = np.eye(width)[play]
        else:
            mass = play.astype(np.float64)
            if mass.shape != (num, width) or not np.all(mass >= 0) or not np.allclose(mass.sum(axis=1), 1.0, atol=1e-3):
                raise ValueError(f"expected probabilities of shape {(num, width)} that sum to 1, got shape {mass.shape}.")
        into_full = np.sum(mass * (self.scores == ILLEGAL), axis=1) > 1e-3
        if into_full.any():
            raise ValueError(
                f"position {int(np.argmax(into_full))}: the player moves into a full column. Mask illegal moves first."
            )
        return mass


def exam(env: AbstractGame, name: str | None = None, *, num: int | None = None, seed: int = 0) -> Exam:
    """Return the positions that a name stands for.

    Args:
        env: Connect-4 or tic-tac-toe.
        name: `all`, the name of a set that comes with the library, or a file that `narrows games build-set` wrote. By default
            the quiet set for Connect-4 on 7 columns by 6 rows, and all positions for tic-tac-toe and small boards. All
            positions of Connect-4 are those in which not every move has the same outcome.
        num: how many at most, a sample without replacement.
        seed: of the sample.

    Raises ValueError for a game that is not solved, an unknown name or a set of another board.
    """
    if not isinstance(env, TicTacToe | ConnectFour):
        raise ValueError(f"perfect play is known for Connect-4 and tic-tac-toe, not for {type(env).__name__}.")
    name = ("quiet" if env.board == (6, 7) else "all") if name is None else name
    if name == "all":
        found = _all_of_connect_four(env) if isinstance(env, ConnectFour) else _all_of_tic_tac_toe()
    elif isinstance(env, ConnectFour):
        found = _of_named_set(env, name)
    else:
        raise ValueError(f"there is no set {name!r} of tic-tac-toe positions. Leave it out: all 4,520 are looked at.")
    if num is None or num >= len(found):
        return found
    rows = np.sort(np.random.default_rng(seed).permutation(len(found))[:num])
    return Exam(f"{num} of {found.name}", rows_of(found.states, rows), found.scores[rows], found.ply[rows])


def exam_of(found: EvaluationSet) -> Exam:
    """Return the positions of a set."""
    return Exam(f"{len(found)} {found.kind} positions", states_of(found.mover, found.stones), found.scores, found.ply)


def watch(env: AbstractGame, acts: Acts, scale: float) -> Watch | None:
    """Return what tells how well a player in training does: on quiet positions of Connect-4, on all positions of tic-tac-toe.

    Of small boards of Connect-4 these are positions in which some moves are better than others. None for games whose perfect
    moves are not at hand, and where the solver's libraries are not installed.
    """
    if isinstance(env, ConnectFour):
        if env.board != (6, 7) and env.width * (env.height + 1) > _LARGEST_WATCHED:
            return None
    elif not isinstance(env, TicTacToe):
        return None
    try:
        questions = exam(env, num=_WATCHED if isinstance(env, ConnectFour) else None)
    except ImportError:
        return None

    def shares(policy: AbstractPolicy) -> dict[str, float]:
        player = NetworkPlayer(env, policy, scale=scale, acts=acts)
        found = questions.grade(player.choose(questions.states, np.random.default_rng(0))).overall
        return {"optimal": found.outcome, "strict": found.strict}

    return shares


def states_of(mover: Words, stones: Words) -> ConnectFourState:
    """Return Connect-4 positions, given as the solver counts them, as states of the rules."""
    num_moves = jnp.asarray(np.bitwise_count(stones).astype(np.int32))
    return ConnectFourState(boards(mover), boards(stones), num_moves)


def _of_named_set(env: ConnectFour, name: str) -> Exam:
    path, shipped = Path(name), files("narrows.games") / "data" / f"{name}.npz"
    if path.suffix == ".npz":
        found = load(path)
    elif name.isidentifier() and shipped.is_file():
        with as_file(shipped) as inside:
            found = load(inside)
    else:
        raise ValueError(
            f"there is no set {name!r}. Known: all, quiet, random and play where they have been built, or a .npz file that "
            "`narrows games build-set` wrote."
        )
    if (found.width, found.height) != (env.width, env.height):
        raise ValueError(
            f"set {name!r} is of {found.width} columns by {found.height} rows, the player's board has {env.width} by "
            f"{env.height}. Build one with `narrows games build-set --game`."
        )
    return exam_of(found)


def _all_of_connect_four(env: ConnectFour) -> Exam:
    from narrows.games.solver import SmallBoard  # compiles

    found = SmallBoard(env.width, env.height).all(only_telling=True)
    ply = np.bitwise_count(found.stones).astype(np.int64)
    name = f"{len(ply)} positions in which moves differ in outcome"
    return Exam(name, states_of(found.mover, found.stones), found.scores, ply)


def _all_of_tic_tac_toe() -> Exam:
    from narrows.games.solver import solve_tic_tac_toe

    found = solve_tic_tac_toe()
    mover, other = (((bits[:, None] >> np.arange(9)) & 1).astype(bool) for bits in (found.mover, found.other))
    states = TicTacToeState(jnp.asarray(mover), jnp.asarray(other))
    return Exam(f"{len(mover)} positions", states, found.scores, (mover | other).sum(axis=1))
