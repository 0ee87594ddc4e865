"""One block of a causal transformer: for one token with a key-value cache, and for all times at once."""

from typing import Any, Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.policies.layers import Activation, Affine, Precision, activate, recall

Norm: TypeAlias = Literal["pre", "post"]


class Cache(NamedTuple):
    """The keys and values of one layer for every position, zero where none has been written yet.

    Heads come first, keys apart from values, and the numbers that a product runs over lie side by side: positions for the
    keys, a head's numbers for the values. A step under `vmap` is then two batched products on contiguous memory and two writes
    in place. Layouts with heads last were measured 2 to 4 times slower on a CPU.
    """

    keys: Float[Array, "head head_width position"]
    values: Float[Array, "head position head_width"]


def resized(caches: tuple[Cache, ...], num_positions: int) -> tuple[Cache, ...]:
    """Return caches cut, or filled up with zeros, to so many positions."""

    def resize(leaf: Array, axis: int) -> Array:
        kept = jax.lax.slice_in_dim(leaf, 0, min(num_positions, leaf.shape[axis]), axis=axis)
        widths = [(0, 0)] * leaf.ndim
        widths[axis] = (0, num_positions - kept.shape[axis])
        return jnp.pad(kept, widths)

    return tuple(Cache(resize(cache.keys, -1), resize(cache.values, -2)) for cache in caches)


class BlockResiduals(NamedTuple):
    """The results of the four products of a block for one token, or for `[time, batch]` of them."""

    projected: Float[Array, "*time three_width"]
    merged: Float[Array, "*time width"]
    up: Float[Array, "*time feed_forward"]
    down: Float[Array, "*time width"]


class Block(eqx.Module):
    """One layer of attention and feed-forward, each with its residual and normalisation."""

    project: Affine
    merge: Affine
    up: Affine
    down: Affine
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
        precision: Precision,
        key: PRNGKeyArray,
    ) -> None:
        project_key, merge_key, up_key, down_key = jax.random.split(key, 4)
        # Variance scaling 2/3 for attention as published (tgm 6.2); sqrt(2) keeps the variance through a ReLU.
        self.project = Affine(width, 3 * heads * head_width, (2 / 3) ** 0.5, project_key, precision)
        self.merge = Affine(heads * head_width, width, (2 / 3) ** 0.5, merge_key, precision)
        self.up = Affine(width, feed_forward, 2**0.5, up_key, precision)
        self.down = Affine(feed_forward, width, 1.0, down_key, precision)
        self.attention_norm = eqx.nn.LayerNorm(width, dtype=jnp.float32)
        self.feed_forward_norm = eqx.nn.LayerNorm(width, dtype=jnp.float32)
        self.heads = heads
        self.norm = norm
        self.activation = activation

    def empty_cache(self, num_positions: int) -> Cache:
        """Return a cache in which nothing has been written."""
        head_width = self.merge.weight.shape[0] // self.heads
        keys = jnp.zeros((self.heads, head_width, num_positions), jnp.float32)
        return Cache(keys, jnp.zeros((self.heads, num_positions, head_width), jnp.float32))

    def step(
        self, cache: Cache, hidden: Float[Array, " width"], position: Int[Array, ""]
    ) -> tuple[Float[Array, " width"], Cache, BlockResiduals]:
        """Return the layer's output for the token at `position`, the cache that remembers it, and the residuals."""
        projected = self.project(self._into_attention(hidden))
        query, key, value = projected.reshape(3, self.heads, -1)
        cache = Cache(cache.keys.at[:, :, position].set(key), cache.values.at[:, position].set(value))
        mask = jnp.arange(cache.values.shape[1], dtype=position.dtype) <= position
        attended = attend(self._scaled(query)[:, None], jnp.swapaxes(cache.keys, 1, 2), cache.values, mask[None, None])[
            :, 0
        ].reshape(-1)
        merged = self.merge(attended)
        hidden = self._after_attention(hidden, merged)
        up = self.up(self._into_feed_forward(hidden))
        down = self.down(activate(self.activation, up))
        return self._after_feed_forward(hidden, down), cache, BlockResiduals(projected, merged, up, down)

    def unroll(
        self,
        hidden: Float[Array, "time batch width"],
        mask: Bool[Array, "batch time time"],
        residuals: BlockResiduals | None = None,
    ) -> Float[Array, "time batch width"]:
        """Return the layer's output for every time, where time `t` attends to each `s <= t` with `mask[:, t, s]`."""
        time, batch, _ = hidden.shape
        projected = recall(self.project, residuals and residuals.projected, self._into_attention(hidden))
        parts = projected.reshape(time, batch, 3, self.heads, -1).transpose(2, 1, 3, 0, 4)
        attended = attend(self._scaled(parts[0]), parts[1], parts[2], mask[:, None])
        attended = attended.transpose(2, 0, 1, 3).reshape(time, batch, -1)
        hidden = self._after_attention(hidden, recall(self.merge, residuals and residuals.merged, attended))
        up = recall(self.up, residuals and residuals.up, self._into_feed_forward(hidden))
        down = recall(self.down, residuals and residuals.down, activate(self.activation, up))
        return self._after_feed_forward(hidden, down)

    def _scaled(self, query: Float[Array, "*any head_width"]) -> Float[Array, "*any head_width"]:
        return query * query.shape[-1] ** -0.5

    def _into_attention(self, hidden: Float[Array, "*time width"]) -> Float[Array, "*time width"]:
        return normalise(self.attention_norm, hidden) if self.norm == "pre" else hidden

    def _after_attention(
        self, hidden: Float[Array, "*time width"], merged: Float[Array, "*time width"]
    ) -> Float[Array, "*time width"]:
        return hidden + merged if self.norm == "pre" else normalise(self.attention_norm, hidden + merged)

    def _into_feed_forward(self, hidden: Float[Array, "*time width"]) -> Float[Array, "*time width"]:
        return normalise(self.feed_forward_norm, hidden) if self.norm == "pre" else hidden

    def _after_feed_forward(
        self, hidden: Float[Array, "*time width"], down: Float[Array, "*time width"]
    ) -> Float[Array, "*time width"]:
        return hidden + down if self.norm == "pre" else normalise(self.feed_forward_norm, hidden + down)


def normalise(norm: eqx.nn.LayerNorm, hidden: Float[Array, "*time width"]) -> Float[Array, "*time width"]:
    """Return layer normalisation of each vector, as the module itself does for one."""
    assert norm.weight is not None and norm.bias is not None, "Block makes its norms with a scale and an offset"
    centred = hidden - jnp.mean(hidden, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + norm.eps)
    weight, bias = (jnp.broadcast_to(leaf, hidden.shape) for leaf in (norm.weight, norm.bias))
    return centred * scale * weight + bias


@jax.custom_vjp
def attend(
    query: Float[Array, "*any query head_width"],
    keys: Float[Array, "*any key head_width"],
    values: Float[Array, "*any key head_width"],
    mask: Bool[Array, "*part query key"],
) -> Float[Array, "*any query head_width"]:
    """Return `softmax(query keys^T) values` over the keys that `mask` allows each query, at least one."""
    return _attend(query, keys, values, mask)[0]


def _attend(query: Array, keys: Array, values: Array, mask: Array) -> tuple[Array, tuple[Array, ...]]:
    scores = jnp.einsum("...td,...sd->...ts", query, keys)
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    attended = jnp.einsum("...ts,...sd->...td", weights, values)
    return attended, (query, keys, values, weights, attended)


def _attend_gradient(kept: tuple[Array, ...], d_attended: Array) -> tuple[Any, ...]:
    query, keys, values, weights, attended = kept
    # sum_s w_s dw_s of a row is the product of the output with its gradient: head_width numbers instead of a row of keys.
    shared = jnp.sum(d_attended * attended, axis=-1, keepdims=True)
    d_scores = weights * (jnp.einsum("...td,...sd->...ts", d_attended, values) - shared)
    # Transposed in memory first: XLA multiplies a transposed left factor 3 to 5 times slower on a CPU.
    weights, flipped = (jax.lax.optimization_barrier(jnp.swapaxes(matrix, -1, -2)) for matrix in (weights, d_scores))
    d_values = jnp.einsum("...st,...td->...sd", weights, d_attended)
    return d_scores @ keys, jnp.einsum("...st,...td->...sd", flipped, query), d_values, None


attend.defvjp(_attend, _attend_gradient)


def causal_mask(position: Int[Array, "time batch"]) -> Bool[Array, "batch time time"]:
    """Return which times each time may attend to: those up to itself that brought a new token.

    A repeated position has overwritten its own entry of the cache with the same numbers, so only its first time counts.

    >>> causal_mask(jnp.array([[0], [1], [1]]))[0].astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    """
    is_new = jnp.concatenate([jnp.ones_like(position[:1], bool), position[1:] != position[:-1]])
    time = jnp.arange(position.shape[0])
    return (time[None, None, :] <= time[None, :, None]) & is_new.T[:, None, :]
