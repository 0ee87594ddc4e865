"""Replay: finished trajectories on the device, the newest or the best, drawn uniformly or by rank of reward."""

import functools
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from narrows.sizes import Count
from narrows.trajectories import NO_ACTION, Trajectory


class BufferState(NamedTuple):
    """The buffer: `capacity` trajectories, of which the first `size` have been written.

    `position` is written next in a ring; the best stand in order, the best first and of equal ones the newest.
    """

    trajectories: Trajectory
    size: Int[Array, ""]
    position: Int[Array, ""]


class Replay(eqx.Module):
    """Train on past trajectories beside the fresh ones.

    Args:
        capacity: trajectories kept; >= 1.
        batch_size: past trajectories added to each training batch; >= 1.
        prioritised: draw with probability proportional to 1/rank of the log-reward (Schaul et al. 2016, arXiv:1511.05952,
            the rank-based variant: independent of the reward's scale) instead of uniformly.
        keep: `newest` overwrites the oldest trajectory; `best` keeps the distinct objects of the highest scores, the newer of
            equal ones, measured objects of `given_per_step` among them.
    """

    capacity: Count = eqx.field(default=10_000, static=True)
    batch_size: int = eqx.field(default=16, static=True)
    prioritised: bool = eqx.field(default=False, static=True)
    keep: Literal["newest", "best"] = eqx.field(default="newest", static=True)

    def __check_init__(self) -> None:
        if self.capacity < 1 or self.batch_size < 1:
            raise ValueError(f"capacity and batch_size must be at least 1, got {self.capacity} and {self.batch_size}.")

    def init(self, example: Trajectory) -> BufferState:
        """Return an empty buffer for batches shaped like `example` (arrays or `jax.ShapeDtypeStruct`)."""
        empty = jax.tree.map(lambda leaf: jnp.zeros((self.capacity, *leaf.shape[1:]), leaf.dtype), example)
        # A slot that was never written is a trajectory without a step: zeros would be actions, maybe illegal ones.
        empty = empty._replace(actions=jnp.full_like(empty.actions, NO_ACTION))
        return BufferState(empty, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def add(self, state: BufferState, batch: Trajectory) -> BufferState:
        """Return the buffer with the batch's trajectories that have a finite reward, `capacity` of all of them at most."""
        return self._add_to_best(state, batch) if self.keep == "best" else self._add_to_ring(state, batch)

    def _add_to_ring(self, state: BufferState, batch: Trajectory) -> BufferState:
        is_kept = jnp.isfinite(batch.log_reward)
        num_kept = jnp.sum(is_kept)
        order = jnp.cumsum(is_kept) - 1
        # A batch larger than the ring would write a slot twice, in an unspecified order.
        is_written = is_kept & (order >= num_kept - self.capacity)
        slot = jnp.where(is_written, (state.position + order) % self.capacity, self.capacity)
        stored = jax.tree.map(lambda ring, new: ring.at[slot].set(new, mode="drop"), state.trajectories, batch)
        size = jnp.minimum(state.size + num_kept, self.capacity).astype(jnp.int32)
        return BufferState(stored, size, ((state.position + num_kept) % self.capacity).astype(jnp.int32))

    def _add_to_best(self, state: BufferState, batch: Trajectory) -> BufferState:
        """Sort old and new together. An object that comes again is forgotten where it stood, and stands as the new one."""
        old, num = state.trajectories, batch.log_reward.shape[0]
        is_new = jnp.isfinite(batch.log_reward)
        among = _equal(batch.terminal, batch.terminal) & is_new & (jnp.arange(num)[:, None] > jnp.arange(num))
        is_new &= ~jnp.any(among, axis=1)
        is_old = (jnp.arange(self.capacity) < state.size) & ~jnp.any(_equal(old.terminal, batch.terminal) & is_new, axis=1)
        is_kept = jnp.concatenate([is_new, is_old])
        every = jax.tree.map(lambda new, old: jnp.concatenate([new, old]), batch, old)
        order = jnp.argsort(jnp.where(is_kept, -every.log_reward, jnp.inf))[: self.capacity]
        size = jnp.minimum(jnp.sum(is_kept), self.capacity).astype(jnp.int32)
        stored = jax.tree.map(lambda leaf: leaf[order], every)
        is_filled = jnp.arange(self.capacity) < size
        stored = stored._replace(
            actions=jnp.where(is_filled[:, None], stored.actions, NO_ACTION),
            log_reward=jnp.where(is_filled, stored.log_reward, 0.0),
        )
        return BufferState(stored, size, state.position)

    def sample(self, key: PRNGKeyArray, state: BufferState) -> Trajectory:
        """Return `batch_size` trajectories drawn with replacement; from an empty buffer, ones without a reward."""
        if self.prioritised:
            index = draw_by_rank(key, state, self.batch_size)
        else:
            index = jax.random.randint(key, (self.batch_size,), 0, jnp.maximum(state.size, 1))
        drawn = jax.tree.map(lambda leaf: leaf[index], state.trajectories)
        return drawn._replace(log_reward=jnp.where(state.size > 0, drawn.log_reward, jnp.nan))


def draw_by_rank(key: PRNGKeyArray, state: BufferState, num: int) -> Int[Array, " batch"]:
    """Return places of a buffer, drawn with replacement by 1/rank of the log-reward; 0 of an empty one.

    The cumulative sum of 1/rank is inverted: one uniform number an item, where a categorical draw takes one a slot.
    """
    capacity = state.trajectories.log_reward.shape[0]
    cumulative = jnp.asarray(np.cumsum(1.0 / np.arange(1, capacity + 1)), jnp.float32)
    last = jnp.maximum(state.size, 1) - 1
    rank = jnp.searchsorted(cumulative, jax.random.uniform(key, (num,)) * cumulative[last], side="right")
    is_filled = jnp.arange(capacity) < state.size
    order = jnp.argsort(jnp.where(is_filled, -state.trajectories.log_reward, jnp.inf))
    return order[jnp.minimum(rank, last)]


def _equal(some: Any, others: Any) -> Bool[Array, "one other"]:
    """Return which states of one batch are which of another."""

    def equal(one: Array, other: Array) -> Array:
        one, other = one.reshape(one.shape[0], -1), other.reshape(other.shape[0], -1)
        return jnp.all(one[:, None] == other[None], axis=-1)

    return functools.reduce(jnp.logical_and, jax.tree.leaves(jax.tree.map(equal, some, others)))
