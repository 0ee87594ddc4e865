"""Moves chosen by a network: by its policy head, or by the flows of the positions one move away."""

from typing import Any, Final, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.envs.game import AbstractGame
from narrows.policies.base import AbstractPolicy

Acts: TypeAlias = Literal["head", "children"]
"""A network chooses by its policy head, one look at the position, or in proportion to the flows of the positions that the
moves lead to (eflow eqs. 3.5 and 3.6), one look at each of those. Neither looks further ahead."""


MANY_ACTIONS: Final = 128
"""Games of more actions are played by head: to look at what comes of every move takes as many looks as there are actions."""


class Children(NamedTuple):
    """The log-flow of every move for the player who makes it; rows of illegal moves have no meaning.

    `is_known` says which moves end the game: their log-flow is the log-reward, never predicted.
    """

    log_flow: Float[Array, "position action"]
    is_known: Bool[Array, "position action"]


def children(env: AbstractGame, policy: AbstractPolicy, states: Any, scale: float | Float[Array, ""]) -> Children:
    """Return the log-flows of all moves of a batch of positions, `-u(s')` of a network with a flow head (eflow 3.4).

    Args:
        env: the game.
        policy: a network without memory whose flow head speaks for the player to move.
        states: a batch of positions.
        scale: log-reward of a win.
    """
    actions = jnp.arange(env.num_actions, dtype=jnp.int32)
    after = jax.vmap(lambda state: jax.vmap(env.step, in_axes=(None, 0))(state, actions))(states)
    after = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), after)
    log_flow = policy.unroll(jax.vmap(env.observe)(after)).log_flow
    assert log_flow is not None, "whoever asks has checked that there is a flow head"
    is_over = jax.vmap(env.is_terminal)(after)
    # A game can be won by the player who was not to move, in games other than these; so the sign is asked for, not assumed.
    by_mover = jnp.where(jax.vmap(env.turn)(after) == 0, 1, -1) * jax.vmap(env.outcome)(after)
    value = -jnp.where(is_over, scale * by_mover, log_flow)
    return Children(value.reshape(-1, env.num_actions), is_over.reshape(-1, env.num_actions))


def logits(
    env: AbstractGame, policy: AbstractPolicy, acts: Acts, states: Any, scale: float | Float[Array, ""]
) -> Float[Array, "position action"]:
    """Return the logits of the moves in each of a batch of positions."""
    if acts == "children":
        return children(env, policy, states, scale).log_flow
    return policy.unroll(jax.vmap(env.observe)(states)).forward_logits
