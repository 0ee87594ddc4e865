"""The likelihood of given objects under a trained policy, where each can be made in one way."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment
from narrows.envs.turns import turns_of
from narrows.exact.blocks import in_blocks
from narrows.operators import masked_log_softmax
from narrows.policies.base import Model
from narrows.trajectories import Path, follow, gather, sample_backward

_TOGETHER = 1024
"""Objects whose likelihood is computed together, in one program: compiling for other sizes takes longer than it saves."""


def log_likelihood(model: Model, env: AbstractEnvironment, terminal: Any) -> Float[np.ndarray, " object"]:
    """Return the log-probability, in nats, that a policy makes each of given objects: the sum over its one trajectory.

    Args:
        model: the policy.
        env: rules in which every state has one parent and only the player moves.
        terminal: a batch of terminal states.

    Raises ValueError where objects have several trajectories.
    """
    if not is_tree(env):
        raise ValueError(
            f"objects of {type(env).__name__} can be made in several ways, whose probabilities would all have to be added up, "
            "so that how likely one is cannot be told."
        )
    return np.asarray(in_blocks(lambda rows: _log_likelihood(model, env, rows), terminal, _TOGETHER), np.float64)


def is_tree(env: AbstractEnvironment) -> bool:
    """Return whether every object can be made in one way only."""
    return isinstance(env, AbstractReversibleEnvironment) and env.num_backward_actions == 1 and turns_of(env) == {0}


def follow_to(model: Model, env: AbstractEnvironment, terminal: Any) -> Path:
    """Return the one path to each of a batch of terminal states of a tree."""
    assert isinstance(env, AbstractReversibleEnvironment)
    num_rows = jax.tree.leaves(terminal)[0].shape[0]
    # One parent leaves nothing to draw.
    return follow(model, env, sample_backward(jax.random.key(0), model, env, terminal, jnp.zeros(num_rows)).actions)


def log_prob_of(path: Path) -> Float[Array, " batch"]:
    """Return the sum of the log-probabilities of a path's actions."""
    steps = gather(masked_log_softmax(path.forward_logits, path.action_mask), path.actions)
    return jnp.sum(jnp.where(path.is_valid, steps, 0.0), axis=0)


@eqx.filter_jit
def _log_likelihood(model: Model, env: AbstractEnvironment, terminal: Any) -> Float[Array, " row"]:
    return log_prob_of(follow_to(model, env, terminal))
