"""How well a player in training does, from time to time: the share of its moves that are perfect, where that is known."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt64

from narrows.envs.bitboard import boards
from narrows.envs.connect_four import ConnectFour, ConnectFourState
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe, TicTacToeState
from narrows.games.looking import Acts
from narrows.games.players import NetworkPlayer
from narrows.policies.base import AbstractPolicy

Watch: TypeAlias = Callable[[AbstractPolicy], dict[str, float]]
"""A network to columns of the history: `optimal`, the share of its moves that keep what can be had, and `strict`, that of
the fastest wins and slowest losses."""

NUM_POSITIONS = 2000
"""Positions looked at, at most."""

ILLEGAL = -100
"""The score of a move that is not legal, as the solver writes it."""

LARGEST_TABLE = 25
"""Bits of a position up to which all positions are solved on the spot: for 5 by 4 cells in a second, 5 by 5 take a minute."""


def watch(env: AbstractGame, acts: Acts, scale: float) -> Watch | None:
    """Return the look that fits a game: quiet positions for Connect-4 on 7 by 6, all positions of tic-tac-toe.

    Of small boards of Connect-4 it looks at positions in which some moves are better than others. None for other games, whose
    perfect moves are not at hand, and where the solver's libraries are not installed.
    """
    try:
        found = _known(env)
    except ImportError:
        return None
    if found is None:
        return None
    states, scores = found
    is_legal = scores > ILLEGAL
    best = scores.max(axis=1, keepdims=True)
    is_strict, is_optimal = scores == best, is_legal & (np.sign(scores) == np.sign(best))

    def look(policy: AbstractPolicy) -> dict[str, float]:
        player = NetworkPlayer(env, policy, scale=scale, acts=acts)
        chosen = player.choose(states, np.random.default_rng(0))
        rows = np.arange(len(chosen))
        return {"optimal": float(is_optimal[rows, chosen].mean()), "strict": float(is_strict[rows, chosen].mean())}

    return look


def _known(env: AbstractGame) -> tuple[Any, Float[np.ndarray, "position action"]] | None:
    if isinstance(env, ConnectFour) and env.board == (6, 7):
        from narrows.games.sets import quiet  # a file, read when it is asked for

        whole = quiet()
        rows = np.sort(np.random.default_rng(0).permutation(len(whole))[:NUM_POSITIONS])
        return states_of(whole.mover[rows], whole.stones[rows]), whole.scores[rows].astype(np.float64)
    if isinstance(env, TicTacToe):
        from narrows.games.solver import solve_tic_tac_toe

        solved = solve_tic_tac_toe()
        mover, other = ((bits[:, None] >> np.arange(9)) & 1 == 1 for bits in (solved.mover, solved.other))
        return TicTacToeState(jnp.asarray(mover), jnp.asarray(other)), solved.scores.astype(np.float64)
    if isinstance(env, ConnectFour) and env.width * (env.height + 1) <= LARGEST_TABLE:
        from narrows.games.solver import SmallBoard  # compiles

        positions = SmallBoard(env.width, env.height).all(only_telling=True)
        rows = np.sort(np.random.default_rng(0).permutation(len(positions.mover))[:NUM_POSITIONS])
        return states_of(positions.mover[rows], positions.stones[rows]), positions.scores[rows].astype(np.float64)
    return None


def states_of(mover: UInt64[np.ndarray, " position"], stones: UInt64[np.ndarray, " position"]) -> ConnectFourState:
    """Return Connect-4 positions, given as the solver counts them, as states of the rules."""
    num_moves = jnp.asarray(np.bitwise_count(stones).astype(np.int32))
    return ConnectFourState(boards(mover), boards(stones), num_moves)
