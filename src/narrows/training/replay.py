"""Replay: a ring of finished trajectories on the device, drawn uniformly or by rank of reward."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from narrows.sizes import Count
from narrows.trajectories import NO_ACTION, Trajectory


class BufferState(NamedTuple):
    """The ring: `capacity` trajectories, of which the first `size` have been written; `position` is written next."""

    trajectories: Trajectory
    size: Int[Array, ""]
    position: Int[Array, ""]


class Replay(eqx.Module):
    """Train on past trajectories beside the fresh ones.

    Args:
        capacity: trajectories kept, the oldest is overwritten; >= 1.
        batch_size: past trajectories added to each training batch; >= 1.
        prioritised: draw with probability proportional to 1/rank of the log-reward (Schaul et al. 2016, arXiv:1511.05952,
            the rank-based variant: independent of the reward's scale) instead of uniformly.
    """

    capacity: Count = eqx.field(default=10_000, static=True)
    batch_size: int = eqx.field(default=16, static=True)
    prioritised: bool = eqx.field(default=False, static=True)

    def __check_init__(self) -> None:
        if self.capacity < 1 or self.batch_size < 1:
            raise ValueError(f"capacity and batch_size must be at least 1, got {self.capacity} and {self.batch_size}.")

    def init(self, example: Trajectory) -> BufferState:
        """Return an empty ring for batches shaped like `example` (arrays or `jax.ShapeDtypeStruct`)."""
        empty = jax.tree.map(lambda leaf: jnp.zeros((self.capacity, *leaf.shape[1:]), leaf.dtype), example)
        # A slot that was never written is a trajectory without a step: zeros would be actions, maybe illegal ones.
        empty = empty._replace(actions=jnp.full_like(empty.actions, NO_ACTION))
        return BufferState(empty, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def add(self, state: BufferState, batch: Trajectory) -> BufferState:
        """Return the ring with the batch's trajectories that have a finite reward; the last `capacity` of them are kept."""
        is_kept = jnp.isfinite(batch.log_reward)
        num_kept = jnp.sum(is_kept)
        order = jnp.cumsum(is_kept) - 1
        # A batch larger than the ring would write a slot twice, in an unspecified order.
        is_written = is_kept & (order >= num_kept - self.capacity)
        slot = jnp.where(is_written, (state.position + order) % self.capacity, self.capacity)
        stored = jax.tree.map(lambda ring, new: ring.at[slot].set(new, mode="drop"), state.trajectories, batch)
        size = jnp.minimum(state.size + num_kept, self.capacity).astype(jnp.int32)
        return BufferState(stored, size, ((state.position + num_kept) % self.capacity).astype(jnp.int32))

    def sample(self, key: PRNGKeyArray, state: BufferState) -> Trajectory:
        """Return `batch_size` trajectories drawn with replacement; from an empty ring, ones without a reward."""
        index = self._by_rank(key, state) if self.prioritised else self._uniform(key, state)
        drawn = jax.tree.map(lambda leaf: leaf[index], state.trajectories)
        return drawn._replace(log_reward=jnp.where(state.size > 0, drawn.log_reward, jnp.nan))

    def _uniform(self, key: PRNGKeyArray, state: BufferState) -> Int[Array, " batch"]:
        return jax.random.randint(key, (self.batch_size,), 0, jnp.maximum(state.size, 1))

    def _by_rank(self, key: PRNGKeyArray, state: BufferState) -> Int[Array, " batch"]:
        """Invert the cumulative sum of 1/rank: one uniform number an item, where a categorical draw takes one a slot."""
        cumulative = jnp.asarray(np.cumsum(1.0 / np.arange(1, self.capacity + 1)), jnp.float32)
        last = jnp.maximum(state.size, 1) - 1
        rank = jnp.searchsorted(cumulative, jax.random.uniform(key, (self.batch_size,)) * cumulative[last], side="right")
        is_filled = jnp.arange(self.capacity) < state.size
        order = jnp.argsort(jnp.where(is_filled, -state.trajectories.log_reward, jnp.inf))
        return order[jnp.minimum(rank, last)]
