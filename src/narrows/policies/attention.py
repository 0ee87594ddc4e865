"""One block of a causal transformer: for one token with a key-value cache, and for all times at once."""

from typing import Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.policies.layers import Activation, activate, linear

Norm: TypeAlias = Literal["pre", "post"]

HeadVectors: TypeAlias = Float[Array, "head head_width"]


class Cache(NamedTuple):
    """The keys and values of one layer for every position, zero where none has been written yet.

    Heads stand before positions and keys apart from values: so laid out, a step under `vmap` is two batched matrix products on
    contiguous memory and a write in place. Other layouts were measured 2 to 4 times slower on a CPU.
    """

    keys: Float[Array, "head position head_width"]
    values: Float[Array, "head position head_width"]


class Block(eqx.Module):
    """One layer of attention and feed-forward, each with its residual and normalisation."""

    project: eqx.nn.Linear
    merge: eqx.nn.Linear
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    attention_norm: eqx.nn.LayerNorm
    feed_forward_norm: eqx.nn.LayerNorm
    heads: int = eqx.field(static=True)
    norm: Norm = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        feed_forward: int,
        norm: Norm,
        activation: Activation,
        key: PRNGKeyArray,
    ) -> None:
        project_key, merge_key, up_key, down_key = jax.random.split(key, 4)
        # Variance scaling 2/3 for attention as published (tgm section 6.2); sqrt(2) keeps the variance through a ReLU.
        self.project = linear(width, 3 * heads * head_width, (2 / 3) ** 0.5, project_key)
        self.merge = linear(heads * head_width, width, (2 / 3) ** 0.5, merge_key)
        self.up = linear(width, feed_forward, 2**0.5, up_key)
        self.down = linear(feed_forward, width, 1.0, down_key)
        self.attention_norm = eqx.nn.LayerNorm(width, dtype=jnp.float32)
        self.feed_forward_norm = eqx.nn.LayerNorm(width, dtype=jnp.float32)
        self.heads = heads
        self.norm = norm
        self.activation = activation

    def empty_cache(self, num_positions: int) -> Cache:
        """Return a cache in which nothing has been written."""
        shape = (self.heads, num_positions, self.merge.weight.shape[1] // self.heads)
        return Cache(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))

    def step(
        self, cache: Cache, hidden: Float[Array, " width"], position: Int[Array, ""]
    ) -> tuple[Float[Array, " width"], Cache]:
        """Return the layer's output for the token at `position`, and the cache that remembers it."""
        query, key, value = self._queries_keys_values(hidden)
        cache = Cache(cache.keys.at[:, position].set(key), cache.values.at[:, position].set(value))
        mask = jnp.arange(cache.keys.shape[1], dtype=position.dtype) <= position
        attended = attend(query[:, None], cache.keys, cache.values, mask[None])
        return self._finish(hidden, attended[:, 0]), cache

    def unroll(self, hidden: Float[Array, "time width"], mask: Bool[Array, "time time"]) -> Float[Array, "time width"]:
        """Return the layer's output for every time, where time `t` attends to each `s <= t` with `mask[t, s]`."""
        query, key, value = jax.vmap(self._queries_keys_values, out_axes=1)(hidden)
        attended = attend(query, key, value, mask)
        return jax.vmap(self._finish, in_axes=(0, 1))(hidden, attended)

    def _queries_keys_values(self, hidden: Float[Array, " width"]) -> tuple[HeadVectors, HeadVectors, HeadVectors]:
        if self.norm == "pre":
            hidden = self.attention_norm(hidden)
        query, key, value = self.project(hidden).reshape(3, self.heads, -1)
        return query * query.shape[-1] ** -0.5, key, value

    def _finish(self, hidden: Float[Array, " width"], attended: Float[Array, "head head_width"]) -> Float[Array, " width"]:
        hidden = hidden + self.merge(attended.reshape(-1))
        if self.norm == "pre":
            return hidden + self._feed_forward(self.feed_forward_norm(hidden))
        hidden = self.attention_norm(hidden)
        return self.feed_forward_norm(hidden + self._feed_forward(hidden))

    def _feed_forward(self, hidden: Float[Array, " width"]) -> Float[Array, " width"]:
        return self.down(activate(self.activation, self.up(hidden)))


def attend(
    query: Float[Array, "head query head_width"],
    keys: Float[Array, "head key head_width"],
    values: Float[Array, "head key head_width"],
    mask: Bool[Array, "query key"],
) -> Float[Array, "head query head_width"]:
    """Return `softmax(query keys^T) values` over the keys that `mask` allows each query, at least one."""
    scores = jnp.einsum("htd,hsd->hts", query, keys)
    scores = jnp.where(mask[None], scores, jnp.finfo(scores.dtype).min)
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    # Dividing after the product normalises [time, head_width] numbers rather than [time, time]: less to store for the gradient.
    return jnp.einsum("hts,hsd->htd", weights, values) / jnp.sum(weights, axis=-1)[..., None]


def causal_mask(position: Int[Array, " time"]) -> Bool[Array, "time time"]:
    """Return which times each time may attend to: those up to itself that brought a new token.

    A repeated position has overwritten its own entry of the cache with the same numbers, so only its first time counts.

    >>> causal_mask(jnp.array([0, 1, 1])).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    """
    is_new = jnp.concatenate([jnp.ones(1, bool), position[1:] != position[:-1]])
    time = jnp.arange(position.shape[0])
    return (time[None, :] <= time[:, None]) & is_new[None, :]
