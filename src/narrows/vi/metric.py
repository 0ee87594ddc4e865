"""Inner products of predictions: each is the root of its weight matrix, as a linear map of a pytree (surrogate 7.2).

`<u, v> = <root(u), root(v)>` with `root = W^(1/2)`. Whatever the inner product, the operator must be F's representer in it:
for the mean over a batch of per-sample losses `f_b`, that is `F_b = grad f_b(z_b)` and not the gradient of the mean.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.core
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float

from narrows.vi.base import Z, as_array

Metric: TypeAlias = Callable[[Z], Z]
"""The root of an inner product's weights: a linear map of predictions."""


def euclidean(z: Z) -> Z:
    """Return predictions as they are: every entry counts the same."""
    return z


def batch_mean(z: Z) -> Z:
    """Return predictions over the root of their number: the mean over the first axis, which all leaves share."""
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(z)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(f"batch_mean needs one first axis that all predictions share, got {sorted(sizes)}.")
    ((size,),) = sizes
    return jax.tree.map(lambda leaf: leaf / np.sqrt(size).astype(leaf.dtype), z)


def weighted(weights: Float[ArrayLike, " batch"] | Sequence[float]) -> Metric:
    """Return the weighted mean over the first axis, with weights that are brought to sum 1.

    Args:
        weights: of the batch, >= 0.
    """
    given = as_array(weights)
    if given.ndim != 1:
        raise ValueError(f"weights must have one axis, the batch, got shape {given.shape}.")
    if not isinstance(given, jax.core.Tracer) and not (np.all(given >= 0) and given.sum() > 0):
        raise ValueError("weights must be at least 0 and not all 0.")
    root = (given / given.sum()) ** 0.5

    def metric(z: Z) -> Z:
        for leaf in jax.tree.leaves(z):
            if leaf.shape[:1] != root.shape:
                raise ValueError(f"weights are for {len(root)} predictions, got predictions of shape {leaf.shape}.")
        return jax.tree.map(lambda leaf: leaf * jnp.asarray(root, leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1)), z)

    return metric


def matrix(weights: Float[ArrayLike, "n n"]) -> Metric:
    """Return the inner product of a symmetric positive definite matrix, over all entries in one vector.

    The Fisher matrix of an output makes Gauss-Newton the natural gradient (surrogate 4).
    """
    given = as_array(weights)
    upper = (jnp if isinstance(given, jax.core.Tracer) else np).linalg.cholesky(given).T

    def metric(z: Z) -> Z:
        flat, unflatten = jax.flatten_util.ravel_pytree(z)
        if flat.shape != upper.shape[:1]:
            raise ValueError(f"weights are for {len(upper)} entries, got predictions with {flat.size}.")
        return unflatten(jnp.asarray(upper, flat.dtype) @ flat)

    return metric


def half_square(z: Z) -> Float[Array, ""]:
    """Return `1/2 ||z||^2` over all entries."""
    return 0.5 * optax.tree.norm(z, squared=True)
