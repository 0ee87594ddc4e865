"""Ordinary openings: the positions from which tournaments begin, because two players without randomness have one game only."""

from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.base import features
from narrows.envs.connect_four import ConnectFour
from narrows.envs.contract import rows_of
from narrows.envs.game import AbstractGame
from narrows.games.rules import ROWS, in_rows, legal_moves, look, moved

LIMIT: Final = 100_000
"""Positions of a ply that are still listed; of more, a sample is drawn by playing at random."""

_ROOM: Final = 2**31
"""Bytes that the positions of a ply may take before those that are the same are left out; of more, a sample is drawn too."""

_TRIES: Final = 50
"""Rounds of play at random in search of positions that are still missing."""


class Openings(NamedTuple):
    """Unfinished positions and, for each, one series of moves that leads there."""

    states: Any
    moves: Int[np.ndarray, "opening ply"]

    @property
    def num(self) -> int:
        """The number of openings."""
        return len(self.moves)


def usual_plies(env: AbstractGame) -> int:
    """Return after how many moves tournaments begin: 2 in tic-tac-toe (72 positions) and games as small, else 4.

    Connect-4 has 1,120 positions of 4 moves.
    """
    return 4 if isinstance(env, ConnectFour) or env.num_actions > 9 else 2


def openings(env: AbstractGame, plies: int, num: int | None = None, *, seed: int = 0) -> Openings:
    """Return the distinct positions after so many moves in which the game goes on, mirror images counted apart.

    Args:
        env: the game.
        plies: number of moves.
        num: how many at most, a sample without replacement; None for all of them.
        seed: of the sample.

    Where there are too many to list them, a sample is drawn by playing at random, so that positions with many move orders are
    more frequent. Raises ValueError where there is none, or all of too many are asked for.
    """
    if plies < 0 or (num is not None and num < 1):
        raise ValueError(f"expected plies >= 0 and at least one opening, got plies={plies} and num={num}.")
    generator = np.random.default_rng([seed, plies])
    level: Openings | None = beginnings(env, 1)
    for _ in range(plies):
        level = None if level is None else _grown(env, level)
    if level is None:
        if num is None:
            raise ValueError(f"there are more than {LIMIT} positions after {plies} moves. Ask for a sample or for fewer moves.")
        level = _wandered(env, plies, num, generator)
    if not level.num:
        raise ValueError(f"every game is over after {plies} moves. Ask for openings of fewer moves.")
    if num is None or num >= level.num:
        return level
    return _taken(level, np.sort(generator.permutation(level.num)[:num]))


def beginnings(env: AbstractGame, num: int) -> Openings:
    """Return the initial position so many times, for players with randomness of their own."""
    states = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], num, axis=0), env.reset())
    return Openings(states, np.zeros((num, 0), np.int64))


def _taken(level: Openings, rows: Int[np.ndarray, " row"]) -> Openings:
    return Openings(rows_of(level.states, rows), level.moves[rows])


def _grown(env: AbstractGame, level: Openings) -> Openings | None:
    """Return the distinct positions a move later, None where there are too many."""
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(level.states))
    if legal_moves(env, level.states).sum() * num_bytes > _ROOM * level.num:
        return None
    row, action = np.nonzero(_going_on(env, level))
    found = _distinct(env, _after(env, _taken(level, row), action))
    return found if found.num <= LIMIT else None


def _wandered(env: AbstractGame, plies: int, num: int, generator: np.random.Generator) -> Openings:
    """Return distinct positions of games at random, `num` at least if so many are found in a while."""
    found = _wander(env, plies, num, generator)
    for _ in range(_TRIES):
        if found.num >= num:
            break
        more = _wander(env, plies, num, generator)
        states = jax.tree.map(lambda *leaves: np.concatenate(leaves), found.states, more.states)
        found = _distinct(env, Openings(states, np.concatenate([found.moves, more.moves])))
    return found


def _wander(env: AbstractGame, plies: int, num: int, generator: np.random.Generator) -> Openings:
    level = beginnings(env, num)
    for _ in range(plies):
        goes_on = _going_on(env, level)
        rows = np.flatnonzero(goes_on.any(axis=1))
        action = np.argmax(np.where(goes_on[rows], generator.random((len(rows), env.num_actions)), -1.0), axis=1)
        level = _after(env, _taken(level, rows), action)
    return _distinct(env, level)


def _after(env: AbstractGame, level: Openings, action: Int[np.ndarray, " opening"]) -> Openings:
    """Return the positions after one more move each."""
    states = in_rows(lambda pairs: moved(env, *pairs), (level.states, action.astype(np.int32)))
    return Openings(states, np.concatenate([level.moves, action[:, None]], axis=1))


def _distinct(env: AbstractGame, level: Openings) -> Openings:
    """Return the positions that players can tell apart, in the order in which they came."""
    views = in_rows(lambda states: _views(env, states), level.states)
    _, first = np.unique(views, axis=0, return_index=True)
    return _taken(level, np.sort(first))


@eqx.filter_jit
def _views(env: AbstractGame, states: Any) -> Int[Array, "position feature"]:
    """Return what is seen of positions, and whose turn it is."""
    seen = features(jax.vmap(env.observe)(states))
    return jnp.concatenate([seen, jax.vmap(env.turn)(states)[:, None]], axis=1)


def _going_on(env: AbstractGame, level: Openings) -> Bool[np.ndarray, "opening action"]:
    """Return which moves are legal and do not end the game."""
    goes_on = legal_moves(env, level.states)
    # A game may have thousands of actions, of which a few dozen are legal: these alone are tried, a portion at a time.
    for pairs in np.array_split(np.argwhere(goes_on), max(1, goes_on.sum() // ROWS)):
        tried = rows_of(level.states, pairs[:, 0]), pairs[:, 1].astype(np.int32)
        goes_on[tuple(pairs.T)] = ~in_rows(lambda tried: look(env, moved(env, *tried)), tried).is_over
    return goes_on
