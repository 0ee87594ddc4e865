"""A policy's heads on every row of a batch of trajectories, and their gradient, at the cost of the rows that are needed.

What a loss needs of a policy is a table of outputs, one row a step. The gradient with respect to the parameters is then one
sum over rows, which this module takes in chunks: only rows of real steps, a working set that stays in the processor's cache,
and no second forward pass where the sampler kept its cache.
"""

from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from narrows.policies.base import AbstractPolicy, PolicyOutput, Residuals
from narrows.trajectories.sampling import SamplerCache

CPU_ROWS: Final = 256
"""Rows a chunk on a CPU. Fewer make small matrices, more outgrow the second-level cache and waste more of the last chunk."""

ACCELERATOR_ROWS: Final = 65_536
"""Rows a chunk elsewhere: wide machines want everything at once, as far as memory goes."""


class Rows(NamedTuple):
    """The input of a policy, every leaf `[time, item, ...]`.

    An item is what the policy must see together: a whole trajectory if it has a memory, else one step.
    """

    observations: PyTree[Array]
    residuals: Residuals | None


def evaluate(
    policy: AbstractPolicy, observations: PyTree[Array], is_needed: Bool[Array, "time batch"], cache: SamplerCache | None = None
) -> PolicyOutput:
    """Return a policy's heads for the observations of a batch of trajectories, every leaf `[time, batch, ...]`.

    Args:
        policy: the policy; the result is differentiable in its parameters, in reverse mode.
        observations: what it saw.
        is_needed: which rows are read. The others hold finite values without meaning, and no gradient flows from them.
        cache: what the sampler kept of the same rows under the same parameters.
    """
    shape = is_needed.shape
    residuals, output = (None, None) if cache is None else (cache.residuals, cache.output)
    rows = Rows(observations, residuals)
    if not policy.has_memory:
        rows, output, is_needed = (_merge(tree) for tree in (rows, output, is_needed))
    per_chunk = _items_per_chunk(is_needed.shape)
    if output is None and policy.has_memory and per_chunk >= is_needed.shape[1]:
        table = _run(policy, rows)  # in one piece, where ordinary differentiation keeps what the gradient needs
    else:
        table = _evaluate(policy, rows, output, _chunks(is_needed, per_chunk, is_all_needed=policy.has_memory))
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[2:]), table)


class _Chunks(eqx.Module):
    """The needed items in portions of equal size; the last one is filled up with an index past the end.

    `is_everything` says that they are all the items in their order, without anything to fill up: slices do then, where
    gathering and scattering would cost as much as a layer of a small network.
    """

    items: Int[Array, "chunk item"]
    num: Int[Array, ""]
    is_everything: bool = eqx.field(static=True)

    def take(self, chunk: Int[Array, ""], tree: Any) -> Any:
        if self.is_everything:
            return self._slice(chunk, tree)
        return jax.tree.map(lambda leaf: leaf.at[:, self.items[chunk]].get(mode="clip"), tree)

    def take_or_zero(self, chunk: Int[Array, ""], tree: Any) -> Any:
        if self.is_everything:
            return self._slice(chunk, tree)
        return jax.tree.map(lambda leaf: leaf.at[:, self.items[chunk]].get(mode="fill", fill_value=0), tree)

    def put(self, chunk: Int[Array, ""], tree: Any, part: Any) -> Any:
        if self.is_everything:
            start = chunk * self.items.shape[1]
            return jax.tree.map(lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, start, axis=1), tree, part)
        return jax.tree.map(lambda leaf, new: leaf.at[:, self.items[chunk]].set(new, mode="drop"), tree, part)

    def _slice(self, chunk: Int[Array, ""], tree: Any) -> Any:
        start, size = chunk * self.items.shape[1], self.items.shape[1]
        return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size, axis=1), tree)


def _chunks(is_needed: Bool[Array, "time item"], per_chunk: int, *, is_all_needed: bool) -> _Chunks:
    num_items = is_needed.shape[1]
    padded = -(-num_items // per_chunk) * per_chunk
    if is_all_needed and padded == num_items:
        items = jnp.arange(num_items, dtype=jnp.int32).reshape(-1, per_chunk)
        return _Chunks(items, jnp.asarray(items.shape[0], jnp.int32), is_everything=True)
    is_needed = jnp.any(is_needed, axis=0)
    index = jnp.nonzero(is_needed, size=padded, fill_value=num_items)[0].astype(jnp.int32)
    return _Chunks(index.reshape(-1, per_chunk), -(-jnp.sum(is_needed, dtype=jnp.int32) // per_chunk), is_everything=False)


@eqx.filter_custom_vjp
def _evaluate(policy: AbstractPolicy, rows: Rows, output: PolicyOutput | None, chunks: _Chunks) -> PolicyOutput:
    if output is not None:
        return output

    def write(chunk: Int[Array, ""], table: PolicyOutput) -> PolicyOutput:
        return chunks.put(chunk, table, _run(policy, chunks.take(chunk, rows)))

    num_items = jax.tree.leaves(rows.observations)[0].shape[1]
    shapes = jax.eval_shape(lambda: _run(policy, rows))
    table = jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], num_items, *leaf.shape[2:]), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, chunks.num, write, table)


@_evaluate.def_fwd
def _keep_nothing(perturbed: Any, *arguments: Any) -> tuple[PolicyOutput, None]:
    return _evaluate(*arguments), None


@_evaluate.def_bwd
def _gradient(
    residuals: None,
    d_output: Any,
    perturbed: Any,
    policy: AbstractPolicy,
    rows: Rows,
    output: PolicyOutput | None,
    chunks: _Chunks,
) -> AbstractPolicy:
    parameters, rest = eqx.partition(policy, eqx.is_inexact_array)

    # A head that the loss does not read has None for a cotangent, and is not worth a gradient.
    is_read = jax.tree.map(lambda d_head: d_head is not None, d_output, is_leaf=lambda d_head: d_head is None)

    def heads_of_loss(parameters: Any, part: Rows) -> PolicyOutput:
        output = _run(eqx.combine(parameters, rest), part)
        return eqx.filter(output, is_read)

    def gradient(part: Rows, d_part: Any) -> Any:
        return jax.vjp(lambda parameters: heads_of_loss(parameters, part), parameters)[1](d_part)[0]

    def add(chunk: Int[Array, ""], total: Any) -> Any:
        return jax.tree.map(jnp.add, total, gradient(chunks.take(chunk, rows), chunks.take_or_zero(chunk, d_output)))

    if chunks.items.shape[0] == 1 and policy.has_memory:
        return gradient(rows, d_output)

    return jax.lax.fori_loop(0, chunks.num, add, jax.tree.map(jnp.zeros_like, parameters))


def _run(policy: AbstractPolicy, rows: Rows) -> PolicyOutput:
    """Return the heads for every item."""

    if rows.residuals is None:
        return policy.unroll(rows.observations)
    return policy.unroll_from_residuals(rows.observations, rows.residuals)


def _items_per_chunk(shape: tuple[int, ...]) -> int:
    rows = CPU_ROWS if jax.default_backend() == "cpu" else ACCELERATOR_ROWS
    return min(max(rows // shape[0], 1), shape[1])


def _merge(tree: Any) -> Any:
    """Make one item of each step: `[time, batch, ...]` to `[1, time * batch, ...]`."""
    return jax.tree.map(lambda leaf: leaf.reshape(1, -1, *leaf.shape[2:]), tree)
