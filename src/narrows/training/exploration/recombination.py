"""Recombination: pieces of two of the best objects put together, and some steps of the child drawn again."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from narrows.envs.base import NO_ACTION
from narrows.training.exploration.base import (
    AbstractExploration,
    Plan,
    Scene,
    check_share,
    only_first,
    turns_a_step,
    without,
)
from narrows.training.replay import draw_by_rank

_FARTHEST = 5
"""A stretch is shifted by a fifth of the longest object at most: farther, it would tear apart what belongs together."""


class Recombination(AbstractExploration):
    """Put pieces of two of the best objects together and draw some steps of the child again (cf. Kim et al. 2024,
    arXiv:2402.05961).

    Two parents are drawn from `[replay]` by rank. A stretch of the second takes the place of as many steps of the first, in
    its own place or shifted to another; then some steps are drawn again, by the policy or uniformly. Where the rules do not
    allow what is kept, the policy draws. Where good objects are rare this finds what a policy that learns only from its own
    samples does not meet.

    Args:
        share: part of each batch that is made so, in (0, 1]; the others are drawn from scratch.
        shift: probability that the stretch is put elsewhere than it stood, in [0, 1].
        mutations: steps of a child to draw again, on average, >= 0; at least one of a child that is its parent.
        uniform: share of those that are drawn uniformly and not by the policy, in [0, 1].
    """

    share: float = eqx.field(default=0.9, static=True)
    shift: float = eqx.field(default=0.7, static=True)
    mutations: float = eqx.field(default=1.5, static=True)
    uniform: float = eqx.field(default=0.75, static=True)

    def __check_init__(self) -> None:
        for name in ("shift", "uniform"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        if not 0.0 <= self.mutations < float("inf"):
            raise ValueError(f"mutations must be at least 0 and finite, got {self.mutations}. It is a number of steps.")
        check_share(self.share)

    @property
    def needs_replay(self) -> bool:
        return True

    def plan(self, key: PRNGKeyArray, scene: Scene) -> Plan:
        assert scene.past is not None, "the trainer has refused anything else"
        key_first, key_second, key_cross, key_mask, key_which, key_letter = jax.random.split(key, 6)
        actions = scene.past.trajectories.actions
        first, second = (actions[draw_by_rank(key, scene.past, scene.num)] for key in (key_first, key_second))
        child = _crossed(key_cross, first, second, self.shift, turns_a_step(scene.env))
        num = jnp.maximum(jnp.sum(child != NO_ACTION, axis=1), 1)
        is_redrawn = without(key_mask, child, jnp.minimum(self.mutations / num, 1.0), jnp.any(child != first, axis=1))
        # An action that is not legal there is the policy's to draw.
        letters = jax.random.randint(key_letter, child.shape, 0, scene.env.num_actions)
        is_uniform = jax.random.uniform(key_which, child.shape) < self.uniform
        drawn = jnp.where(is_uniform, letters, NO_ACTION)
        return Plan(only_first(jnp.where(is_redrawn, drawn, child), self.share))


def _crossed(
    key: PRNGKeyArray, first: Int[Array, "batch time"], second: Int[Array, "batch time"], shift: float, unit: int
) -> Int[Array, "batch time"]:
    """Return the first with a stretch of steps from the second; steps go `unit` by `unit`."""
    num, length = first.shape
    key_ends, key_whether, key_far = jax.random.split(key, 3)
    num_steps = jnp.sum(first != NO_ACTION, axis=1)
    ends = jnp.floor(jax.random.uniform(key_ends, (2, num)) * (num_steps + 1)).astype(jnp.int32)
    farthest = max(1, length // unit // _FARTHEST)
    far = jax.random.randint(key_far, (num,), -farthest, farthest + 1) * unit
    far = jnp.where(jax.random.uniform(key_whether, (num,)) < shift, far, 0)
    place = jnp.arange(length)
    source = place - far[:, None]
    piece = jnp.take_along_axis(second, jnp.clip(source, 0, length - 1), axis=1)
    is_there = (source >= 0) & (source < length) & (piece != NO_ACTION)
    is_inside = (place >= jnp.min(ends, axis=0)[:, None]) & (place < jnp.max(ends, axis=0)[:, None])
    return jnp.where(is_inside & is_there, piece, first)
