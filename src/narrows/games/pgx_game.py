"""Any two-player game of the pgx library (Koyamada et al. 2023, arXiv:2303.17503) as rules of ours, trained like the others."""

import functools
from collections.abc import Sequence as Objects
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.base import NO_ACTION
from narrows.envs.game import AbstractGame


class Taken(NamedTuple):
    """A game of the library that is taken here.

    Attributes:
        max_steps: no fewer moves than its longest play has.
        counts: the planes of its observations that hold a count, and what the library divides it by: the largest count that
            there can be. All other planes are of zeros and ones.
    """

    max_steps: int
    counts: tuple[tuple[int, int], ...] = ()


TAKEN: Final = {
    "animal_shogi": Taken(256, ((193, 256),)),
    "chess": Taken(512, ((113, 512), (118, 100))),
    "connect_four": Taken(42),
    "gardner_chess": Taken(256, ((113, 256), (114, 100))),
    "go_19x19": Taken(722),
    "go_9x9": Taken(162),
    "hex": Taken(122),
    "othello": Taken(128),
    "shogi": Taken(512),
    "tic_tac_toe": Taken(9),
}
"""The library's games of two players without chance and hidden information."""


class PgxState(NamedTuple):
    """The library's state and the moves that led there, by which a position is named."""

    inner: Any
    moves: Int[Array, "*batch time"]
    num_moves: Int[Array, "*batch"]


class PgxGame(AbstractGame[PgxState]):
    """A game of the pgx library. Observations are the library's planes, a cell's one after another.

    A plane that holds a count is replaced by the count's binary digits, a plane each: so every feature is 0 or 1, and a linear
    layer can still read the count. A position's text has the numbers of its moves, with spaces between them. Use `pgx_game` to
    make one.

    Args:
        rules: the library's environment.
        name: what the library calls it.
        num_actions: of the library's environment.
        planes: shape of its observations.
        max_steps: moves of the longest game.
        counts: planes with a count, and what the library divides each by.
        first: the number that the library has drawn for the player who begins.
    """

    rules: Any = eqx.field(static=True)
    name: str = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    planes: tuple[int, ...] = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    counts: tuple[tuple[int, int], ...] = eqx.field(static=True)
    first: int = eqx.field(static=True)

    @property
    def num_features(self) -> int:
        num_digits = sum(largest.bit_length() - 1 for _, largest in self.counts)
        return int(np.prod(self.planes[:-1])) * (self.planes[-1] + num_digits)

    @property
    def num_values(self) -> int:
        return 2

    @property
    def board(self) -> tuple[int, int]:
        return (self.planes[0], self.planes[1])

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
        inner = jax.tree.map(_strong, jax.jit(self.rules.init)(jax.random.key(0)))
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
        planes = state.inner.observation
        plain = [plane for plane in range(planes.shape[-1]) if plane not in dict(self.counts)]
        parts = [planes.astype(jnp.int32) if not self.counts else planes[..., np.asarray(plain)].astype(jnp.int32)]
        for plane, largest in self.counts:
            count = jnp.rint(planes[..., plane, None] * largest).astype(jnp.int32)
            parts.append((count >> np.arange(largest.bit_length())) & 1)
        return jnp.concatenate(parts, axis=-1).reshape(-1)

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


@functools.cache
def pgx_game(name: str) -> PgxGame:
    """Return a game of the pgx library by what the library calls it, hyphens for underscores or not.

    Raises ValueError that lists `TAKEN` for any other, ImportError without the library.
    """
    known = TAKEN.get(name.replace("-", "_"))
    if known is None:
        raise ValueError(
            f"{name!r} is no game of pgx with two players, no chance and nothing hidden. Known: {', '.join(sorted(TAKEN))}."
        )
    name = name.replace("-", "_")
    # A player is read inside a trace, where the library's tables would become part of it.
    with jax.ensure_compile_time_eval():
        try:
            import pgx
        except ImportError:
            raise ImportError("games of pgx need the library: pip install 'narrows[games]'") from None
        rules: Any = pgx.make(name)  # pyright: ignore[reportArgumentType]  # the library lists its names in a type of its own
        start = jax.eval_shape(rules.init, jax.random.key(0))
        first = int(jax.jit(rules.init)(jax.random.key(0)).current_player)
    sizes = (start.legal_action_mask.shape[0], start.observation.shape, known.max_steps)
    return PgxGame(rules, name, *sizes, known.counts, first)


def _strong(leaf: Any) -> Array:
    """Return an array with a dtype of its own, which no later step changes."""
    return jnp.asarray(leaf, jnp.asarray(leaf).dtype)
