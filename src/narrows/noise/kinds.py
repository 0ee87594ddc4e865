"""Legal actions of the same kind: what noise chooses among."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from narrows.envs.base import AbstractEnvironment


def same_kind(env: AbstractEnvironment, state: Any, action: Int[Array, ""]) -> Bool[Array, " action"]:
    """Return the legal actions of the same kind as one, itself included: the object ends after either or after neither."""
    ends = _ends(env, state)
    return env.action_mask(state) & (ends == ends[action])


def same_kind_matrix(env: AbstractEnvironment, state: Any) -> Bool[Array, "asked action"]:
    """Return `same_kind` of every action, a row each."""
    ends = _ends(env, state)
    return env.action_mask(state)[None, :] & (ends[:, None] == ends[None, :])


def _ends(env: AbstractEnvironment, state: Any) -> Bool[Array, " action"]:
    """Return for each action whether the object is finished after it.

    Compiled, this costs what `is_terminal` reads of a step: for sequences one comparison an action, no token is written.
    """
    actions = jnp.arange(env.num_actions, dtype=jnp.int32)
    return jax.vmap(lambda action: env.is_terminal(env.step(state, action)))(actions)
