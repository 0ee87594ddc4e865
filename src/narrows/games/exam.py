"""Positions whose every move has a known score, for any game that is solved, and how a player does there (eflow 6.1)."""

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Int8

from narrows.envs.connect_four import ConnectFour
from narrows.envs.contract import rows_of
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe, TicTacToeState
from narrows.games.sets import EvaluationSet, Optimality, load, optimality
from narrows.games.solver.board import ILLEGAL
from narrows.games.watching import states_of


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

    @property
    def width(self) -> int:
        """Number of actions, which for Connect-4 is that of columns."""
        return self.scores.shape[1]

    @property
    def outcomes(self) -> Int8[np.ndarray, "position action"]:
        """1, 0 or -1 for a move that wins, draws or loses, -100 for an illegal one."""
        return np.where(self.scores == ILLEGAL, ILLEGAL, np.sign(self.scores)).astype(np.int8)

    def grade(self, play: Int[np.ndarray, " position"] | Float[np.ndarray, "position action"]) -> Optimality:
        """Return how much of some play is optimal: a move for each position, or probabilities of the moves."""
        # The measure reads scores and plies, which positions of any solved game have.
        return optimality(cast(EvaluationSet, self), play)


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
    is_usual = isinstance(env, ConnectFour) and (env.width, env.height) == (7, 6)
    name = ("quiet" if is_usual else "all") if name is None else name
    if name == "all":
        found = _all_of_connect_four(env) if isinstance(env, ConnectFour) else _all_of_tic_tac_toe()
    elif isinstance(env, ConnectFour):
        found = _of_set(env, name)
    else:
        raise ValueError(f"there is no set {name!r} of tic-tac-toe positions. Leave it out: all 4,520 are looked at.")
    if num is None or num >= len(found):
        return found
    rows = np.sort(np.random.default_rng(seed).permutation(len(found))[:num])
    return Exam(f"{num} of {found.name}", rows_of(found.states, rows), found.scores[rows], found.ply[rows])


def _of_set(env: ConnectFour, name: str) -> Exam:
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
    return Exam(f"{len(found)} {found.kind} positions", states_of(found.mover, found.stones), found.scores, found.ply)


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
