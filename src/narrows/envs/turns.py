"""The players that have turns in some rules, found by playing: which methods a class defines does not tell."""

from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.base import CHANCE, AbstractEnvironment

_NUM_GAMES: Final = 64
_WHOSE: Final = (CHANCE, 0, 1)


def turns_of(env: AbstractEnvironment) -> frozenset[int]:
    """Return who has turns: 0, 1 and `CHANCE`, those that 64 games of random legal play meet.

    Rules that leave `turn` as it is are one player's without a look.

    >>> from narrows.envs import Subsets, TicTacToe
    >>> sorted(turns_of(Subsets(3))), sorted(turns_of(TicTacToe()))
    ([0], [0, 1])
    """
    if type(env).turn is AbstractEnvironment.turn:
        return frozenset({0})
    return frozenset(whose for whose, is_met in zip(_WHOSE, np.asarray(_met(env)), strict=True) if is_met)


@eqx.filter_jit
def _met(env: AbstractEnvironment) -> Bool[Array, " whose"]:
    """Return which of `_WHOSE` are to move somewhere in random games."""
    key = jax.random.key(0)

    def goes_on(loop: tuple[Int[Array, ""], Any, Bool[Array, " whose"]]) -> Bool[Array, ""]:
        return (loop[0] < env.max_steps) & ~jnp.all(jax.vmap(env.is_terminal)(loop[1]))

    def advance(
        loop: tuple[Int[Array, ""], Any, Bool[Array, " whose"]],
    ) -> tuple[Int[Array, ""], Any, Bool[Array, " whose"]]:
        time, states, met = loop
        uniforms = jax.random.uniform(jax.random.fold_in(key, time), (_NUM_GAMES, env.num_actions))
        states, turn = jax.vmap(move)(states, uniforms)
        return time + 1, states, met | jnp.any(turn, axis=0)

    def move(state: Any, uniforms: Array) -> tuple[Any, Bool[Array, " whose"]]:
        is_over, turn = env.is_terminal(state), env.turn(state) == jnp.asarray(_WHOSE)
        action = jnp.argmax(jnp.where(env.action_mask(state), uniforms, -1.0)).astype(jnp.int32)
        after = jax.tree.map(lambda old, new: jnp.where(is_over, old, new), state, env.step(state, action))
        return after, turn & ~is_over

    start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (_NUM_GAMES, *jnp.shape(leaf))), env.reset())
    return jax.lax.while_loop(goes_on, advance, (jnp.zeros((), jnp.int32), start, jnp.zeros(len(_WHOSE), bool)))[2]
