"""The likelihood of given objects under a trained policy, where each can be made in one way."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment
from narrows.envs.turns import turns_of
from narrows.exact.blocks import in_blocks
from narrows.operators import masked_log_softmax
from narrows.policies.base import Model
from narrows.trajectories import NO_ACTION, Path, follow, gather, per_step, sample_backward

_TOGETHER = 1024
"""Objects whose likelihood is computed together, in one program: compiling for other sizes takes longer than it saves."""
_STEPS_TOGETHER = 4096
"""Steps of which a policy without memory is asked together."""


def log_likelihood(model: Model, env: AbstractEnvironment, terminal: Any) -> Float[np.ndarray, " object"]:
    """Return the log-probability, in nats, that a policy makes each of given objects: the sum over its one trajectory.

    A policy without memory is asked once of each step that several objects have in common: those of one beginning.

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
    terminal = jax.device_get(terminal)
    if model.policy.has_memory:
        return np.asarray(in_blocks(lambda rows: _log_likelihood(model, env, rows), terminal, _TOGETHER), np.float64)
    return _summed(model, env, *in_blocks(lambda rows: _steps_to(model, env, rows), terminal, _STEPS_TOGETHER))


def is_tree(env: AbstractEnvironment) -> bool:
    """Return whether every object can be made in one way only."""
    return isinstance(env, AbstractReversibleEnvironment) and env.num_backward_actions == 1 and turns_of(env) == {0}


def follow_to(model: Model, env: AbstractEnvironment, terminal: Any) -> Path:
    """Return the one path to each of a batch of terminal states of a tree."""
    return follow(model, env, _actions(model, env, terminal))


def log_prob_of(path: Path) -> Float[Array, " batch"]:
    """Return the sum of the log-probabilities of a path's actions."""
    steps = gather(masked_log_softmax(path.forward_logits, path.action_mask), path.actions)
    return jnp.sum(jnp.where(path.is_valid, steps, 0.0), axis=0)


@eqx.filter_jit
def _log_likelihood(model: Model, env: AbstractEnvironment, terminal: Any) -> Float[Array, " row"]:
    return log_prob_of(follow_to(model, env, terminal))


def _actions(model: Model, env: AbstractEnvironment, terminal: Any) -> Int[Array, "row time"]:
    assert isinstance(env, AbstractReversibleEnvironment)
    num_rows = jax.tree.leaves(terminal)[0].shape[0]
    # One parent leaves nothing to draw.
    return sample_backward(jax.random.key(0), model, env, terminal, jnp.zeros(num_rows)).actions


@eqx.filter_jit
def _steps_to(model: Model, env: AbstractEnvironment, terminal: Any) -> tuple[Int[Array, "row time"], Bool[Array, "row time"]]:
    """Return the actions that make each object, and at which of them there is a choice."""
    actions = _actions(model, env, terminal)
    before = jax.tree.map(lambda leaf: leaf[:, :-1], jax.vmap(env.states_along)(actions))
    num_legal = jnp.sum(per_step(env.action_mask)(before), axis=2)
    return actions, (actions != NO_ACTION) & (num_legal > 1)


def _summed(
    model: Model, env: AbstractEnvironment, actions: Int[np.ndarray, "row time"], is_choice: Bool[np.ndarray, "row time"]
) -> Float[np.ndarray, " row"]:
    """Return the sum of the log-probabilities of each row's actions; rows that begin alike have their first steps in common."""
    order = np.lexsort(actions.T[::-1])
    rows, is_choice = actions[order], is_choice[order]
    is_new = is_choice.copy()
    is_new[1:] &= np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
    steps = np.nonzero(is_new)
    if not len(steps[0]):
        return np.zeros(len(rows))
    of_step = in_blocks(lambda part: _log_probs(model, env, rows[part[0]], part[1]), steps, _STEPS_TOGETHER)
    # The step of a row that is not new is that of the nearest row before it where it was.
    newest = np.full(rows.shape, -1)
    newest[steps] = np.arange(len(of_step))
    newest = np.maximum.accumulate(newest, axis=0)
    total = np.empty(len(rows))
    total[order] = np.sum(np.where(is_choice, of_step.astype(np.float64)[newest], 0.0), axis=1)
    return total


@eqx.filter_jit
def _log_probs(
    model: Model, env: AbstractEnvironment, actions: Int[np.ndarray, "row time"], time: Int[np.ndarray, " row"]
) -> Float[Array, " row"]:
    """Return the log-probability of each row's action at a time."""
    before = jax.vmap(lambda row, step: jax.tree.map(lambda leaf: leaf[step], env.states_along(row)))(actions, time)
    observations = jax.tree.map(lambda leaf: leaf[None], jax.vmap(env.observe)(before))
    logits = model.policy.unroll(observations).forward_logits[0]
    log_probs = masked_log_softmax(logits, jax.vmap(env.action_mask)(before))
    return gather(log_probs, jnp.take_along_axis(actions, time[:, None], axis=1)[:, 0])
