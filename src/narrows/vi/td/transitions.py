"""Transitions that values are learned from, and the error of temporal differences."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from narrows.vi.base import OfParams, Params
from narrows.vi.metric import Metric, batch_mean, weighted
from narrows.vi.problems.chains import Chain, walk

Value: TypeAlias = Callable[[Params, Any], Float[Array, " batch"]]
"""From parameters and a batch of observations to their values."""


class Transitions(NamedTuple):
    """A batch of transitions, the batch first.

    Attributes:
        observation: any pytree that the value function takes.
        reward: on the way.
        next_observation: where it led. Where the episode ended it is not used, but its value must be finite.
        is_terminal: whether the episode ended there, so that nothing is worth any more. False where it was cut off.
        weight: of each transition, >= 0, brought to sum 1; None for all alike.
    """

    observation: PyTree
    reward: Float[Array | np.ndarray, " batch"]
    next_observation: PyTree
    is_terminal: Bool[Array | np.ndarray, " batch"]
    weight: Float[Array | np.ndarray, " batch"] | None = None


def td_error(value: Value, params: Params, batch: Transitions, discount: float | Array) -> Float[Array, " batch"]:
    """Return `r + gamma v(s') - v(s)`, and `r - v(s)` at the end of an episode: how far each value is below its target.

    Raises ValueError where values and rewards are not one number for each transition.
    """
    return -field(value, batch, discount).function(valued(value, params, batch), params)


def field(value: Value, batch: Transitions, discount: float | Array) -> OfParams:
    """Return the operator `F(v) = v - r - gamma v(s')` of a batch, with the values of next states from the parameters."""

    def function(z: Float[Array, " batch"], params: Params) -> Float[Array, " batch"]:
        after = value(params, batch.next_observation)
        _check(after, batch, "next_observation")
        return z - batch.reward - discount * jnp.where(batch.is_terminal, jnp.zeros_like(after), after)

    return OfParams(function)


def valued(value: Value, params: Params, batch: Transitions) -> Float[Array, " batch"]:
    """Return the values of a batch's observations, of a shape that was looked at."""
    z = value(params, batch.observation)
    _check(z, batch, "observation")
    return z


def metric_of(batch: Transitions) -> Metric:
    """Return the mean over a batch, weighted where it has weights."""
    return batch_mean if batch.weight is None else weighted(batch.weight)


def of_chain(chain: Chain, key: Array, num_steps: int, observations: Float[np.ndarray, "state ..."]) -> Transitions:
    """Return that many transitions of a chain, one after the other, as a batch.

    Args:
        chain: a Markov reward process.
        key: of the draws.
        num_steps: size of the batch.
        observations: what is seen in each state, such as features; after the end of an episode it is that of the last state.
    """
    if len(observations) != len(chain.reward):
        raise ValueError(f"observations must have a row for each of {len(chain.reward)} states, got {len(observations)}.")
    seen, rows = walk(chain, key, num_steps), jnp.asarray(observations)
    after = rows[jnp.minimum(seen.next_state, len(rows) - 1)]
    return Transitions(rows[seen.state], jnp.asarray(chain.reward)[seen.state], after, seen.is_terminal)


def _check(z: Array, batch: Transitions, name: str) -> None:
    shape = jnp.shape(batch.reward)
    if len(shape) != 1 or jnp.shape(batch.is_terminal) != shape:
        raise ValueError(f"reward and is_terminal need one axis, the batch, got {shape} and {jnp.shape(batch.is_terminal)}.")
    if jnp.shape(z) != shape:
        raise ValueError(
            f"the value function must return one number for each of {shape[0]} transitions, got shape {jnp.shape(z)} for the "
            f"batch's {name}. A network with one output wants [..., 0] after it."
        )
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves((batch.observation, batch.next_observation))}
    if sizes != {shape}:
        raise ValueError(f"observations must have the batch, {shape[0]}, as their first axis, got {sorted(sizes)}.")
