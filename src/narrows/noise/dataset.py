"""Transitions, by which a kernel is learned and judged: what was asked for and what came of it."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.envs.perturbation import AbstractKernel, AbstractPerturbed

_TOGETHER = 256
"""Trajectories played at once."""

BLOCK = 4096
"""Transitions looked at together, so that memory does not grow with their number."""


class Transitions(NamedTuple):
    """A batch of transitions: the environment's state, the action asked for in it and the one that took place."""

    states: Any
    asked: Int[Array, " transition"]
    came: Int[Array, " transition"]


def transitions(key: PRNGKeyArray, env: AbstractPerturbed, num: int) -> Transitions:
    """Play uniformly under the kernel of `env` and return the first `num` transitions, trajectory after trajectory.

    They are what a laboratory would see of a world whose kernel is not known; `fit_kernel` learns it from them.

    Args:
        key: randomness of play and of chance.
        env: the perturbed environment that is played.
        num: transitions, >= 1.
    """
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}.")
    played: list[Transitions] = []
    found = 0
    while found < num:
        key, one_key = jax.random.split(key)
        batch, took_place = jax.tree.map(np.asarray, _play(one_key, env))
        played.append(jax.tree.map(lambda leaf, rows=took_place: leaf[rows], batch))
        found += int(took_place.sum())
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[:num]), *played)


def cross_entropy(kernel: AbstractKernel, transitions: Transitions) -> float:
    """Return the mean of `-log P(came | state, asked)` over transitions, in nats; infinite if one was held impossible."""
    return float(mean_surprise(kernel, transitions))


@eqx.filter_jit
def mean_surprise(kernel: AbstractKernel, transitions: Transitions) -> Float[Array, ""]:
    """Return `cross_entropy` as an array, for use in compiled programs."""

    def surprise(transition: Transitions) -> Float[Array, ""]:
        return -kernel.log_probs(transition.states, transition.asked)[transition.came]

    return jnp.mean(jax.lax.map(surprise, transitions, batch_size=BLOCK))


@eqx.filter_jit
def _play(key: PRNGKeyArray, env: AbstractPerturbed) -> tuple[Transitions, Bool[Array, " transition"]]:
    """Return the transitions of a batch of trajectories, each one's beside each other, and which took place at all."""
    rules, kernel = env.inner, env.kernel

    def move(state: Any, key: PRNGKeyArray) -> tuple[Any, tuple[Transitions, Bool[Array, ""]]]:
        asking_key, nature_key = jax.random.split(key)
        asked = jax.random.categorical(asking_key, jnp.where(rules.action_mask(state), 0.0, -jnp.inf)).astype(jnp.int32)
        came = jax.random.categorical(nature_key, kernel.log_probs(state, asked)).astype(jnp.int32)
        is_over = rules.is_terminal(state)
        child = jax.tree.map(lambda old, new: jnp.where(is_over, old, new), state, rules.step(state, came))
        return child, (Transitions(state, asked, came), ~is_over)

    def trajectory(key: PRNGKeyArray) -> tuple[Transitions, Bool[Array, " time"]]:
        return jax.lax.scan(move, rules.reset(), jax.random.split(key, rules.max_steps))[1]

    rows = jax.vmap(trajectory)(jax.random.split(key, _TOGETHER))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)
