"""Any two-player game of the pgx library (Koyamada et al. 2023, arXiv:2303.17503) as rules of ours, trained like the others."""

from collections.abc import Sequence as Objects
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.base import NO_ACTION
from narrows.envs.game import AbstractGame

LONGEST: Final = {
    "animal_shogi": 256,
    "connect_four": 42,
    "gardner_chess": 256,
    "go_9x9": 162,
    "hex": 122,
    "othello": 128,
    "tic_tac_toe": 9,
}
"""Games without chance and hidden information, and no fewer moves than their longest play has."""


class PgxState(NamedTuple):
    """The library's state and the moves that led there, by which a position is named."""

    inner: Any
    moves: Int[Array, "*batch time"]
    num_moves: Int[Array, "*batch"]


class PgxGame(AbstractGame[PgxState]):
    """A game of the pgx library. Observations are the library's planes, a cell's one after another.

    A position's text has the numbers of its moves, with spaces between them. Use `pgx_game` to make one.

    Args:
        rules: the library's environment.
        name: what the library calls it.
        max_steps: moves of the longest game.
        first: the number that the library has drawn for the player who begins.
    """

    rules: Any = eqx.field(static=True)
    name: str = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    first: int = eqx.field(static=True)

    @property
    def num_actions(self) -> int:
        return int(self.rules.num_actions)

    @property
    def _planes(self) -> tuple[int, ...]:
        return tuple(self.rules.observation_shape)

    @property
    def num_features(self) -> int:
        return int(np.prod(self._planes))

    @property
    def num_values(self) -> int:
        return 2

    @property
    def board(self) -> tuple[int, int]:
        return (self._planes[0], self._planes[1]) if len(self._planes) == 3 else (1, self._planes[0])

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(str(number) for number in range(1, self.num_actions + 1))

    @property
    def action_symmetries(self) -> Int[np.ndarray, "symmetry action"]:
        return np.arange(self.num_actions)[None]

    @property
    def feature_symmetries(self) -> Int[np.ndarray, "symmetry feature"]:
        return np.arange(self.num_features)[None]

    def reset(self) -> PgxState:
        inner = jax.tree.map(_strong, self.rules.init(jax.random.key(0)))
        return PgxState(inner, jnp.full(self.max_steps, NO_ACTION, jnp.int32), jnp.zeros((), jnp.int32))

    def step(self, state: PgxState, action: Int[Array, ""]) -> PgxState:
        inner = jax.tree.map(
            lambda new, old: jnp.asarray(new, old.dtype), self.rules.step(state.inner, action.astype(jnp.int32)), state.inner
        )
        is_now = jnp.arange(self.max_steps) == state.num_moves
        return PgxState(inner, jnp.where(is_now, action, state.moves), state.num_moves + 1)

    def action_mask(self, state: PgxState) -> Bool[Array, " action"]:
        return state.inner.legal_action_mask & ~self.is_terminal(state)

    def is_terminal(self, state: PgxState) -> Bool[Array, ""]:
        return state.inner.terminated | state.inner.truncated

    def turn(self, state: PgxState) -> Int[Array, ""]:
        return (state.inner.current_player != self.first).astype(jnp.int32)

    def outcome(self, state: PgxState) -> Int[Array, ""]:
        return jnp.where(self.is_terminal(state), jnp.sign(state.inner.rewards[self.first]), 0).astype(jnp.int32)

    def observe(self, state: PgxState) -> Int[Array, " feature"]:
        return state.inner.observation.reshape(-1).astype(jnp.int32)

    def to_text(self, states: PgxState) -> list[str]:
        rows = np.asarray(states.moves).tolist()
        return [" ".join(self.action_names[move] for move in row if move != NO_ACTION) for row in rows]

    def from_text(self, texts: Objects[str]) -> PgxState:
        """Return the batch of finished positions that moves lead to; ValueError for a text that is no finished game."""
        step, mask_of, is_over = jax.jit(self.step), jax.jit(self.action_mask), jax.jit(self.is_terminal)
        states = []
        for num, text in enumerate(texts):
            state = self.reset()
            for place, name in enumerate(text.split(" "), start=1):
                if name not in self.action_names or not mask_of(state)[self.action_names.index(name)]:
                    raise ValueError(f"game {num}, {text!r}: move {place}, {name!r}, is not a legal move there.")
                state = step(state, jnp.asarray(self.action_names.index(name), jnp.int32))
            if not is_over(state):
                raise ValueError(f"game {num}, {text!r}: the game is not over. Give a finished one.")
            states.append(state)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def pgx_game(name: str, max_steps: int | None = None) -> PgxGame:
    """Return a game of the pgx library.

    Args:
        name: what the library calls it.
        max_steps: moves of its longest game; for the games in `LONGEST` it is known.

    Raises ValueError for a game that is not there, has chance, or is not told in planes of zeros and ones; ImportError without
    the library.
    """
    try:
        import pgx
    except ImportError:
        raise ImportError("games of pgx need the library: pip install 'narrows[games]'") from None
    name = name.replace("-", "_") if name.replace("-", "_") in LONGEST else name
    longest = LONGEST.get(name, max_steps)
    if name not in pgx.available_envs() or longest is None:
        raise ValueError(
            f"there is no game {name!r} of pgx that is known to have two players and no chance. Known: {', '.join(LONGEST)}."
        )
    rules: Any = pgx.make(name)  # pyright: ignore[reportArgumentType]  # the library lists its names in a type of its own
    observation = jax.eval_shape(rules.init, jax.random.key(0)).observation
    if rules.num_players != 2 or observation.dtype != jnp.bool_:
        raise ValueError(
            f"{name!r} has {rules.num_players} players and observations of {observation.dtype}; expected two players and "
            "planes of zeros and ones."
        )
    return PgxGame(rules, name, longest, int(rules.init(jax.random.key(0)).current_player))


def _strong(leaf: Any) -> Array:
    """Return an array with a dtype of its own, which no later step changes."""
    return jnp.asarray(leaf, jnp.asarray(leaf).dtype)
