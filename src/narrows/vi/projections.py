"""Projections on sets of predictions: functions from a pytree to the nearest one in the set (Euclidean)."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float

from narrows.vi.base import Z, as_array
from narrows.vi.metric import Metric, euclidean, half_square

Projection: TypeAlias = Callable[[Z], Z]


def everywhere(z: Z) -> Z:
    """Return predictions as they are: no constraint."""
    return z


def simplex(z: Z) -> Z:
    """Return the nearest probability distribution, along the last axis of each leaf."""

    def project(leaf: Array) -> Array:
        if leaf.ndim == 0:
            raise ValueError("simplex needs an axis to sum over, got a single number.")
        return jnp.apply_along_axis(optax.projections.projection_simplex, -1, leaf)

    return jax.tree.map(project, z)


def box(lower: Z | float, upper: Z | float) -> Projection:
    """Return the projection on `lower <= z <= upper`, entry by entry; bounds are numbers or pytrees like the predictions."""
    if isinstance(lower, (int, float)) and isinstance(upper, (int, float)) and not lower <= upper:
        raise ValueError(f"lower must not exceed upper, got {lower} and {upper}.")

    def project(z: Z) -> Z:
        return optax.projections.projection_box(z, _like(lower, z), _like(upper, z))

    return project


def _like(bound: Z | float, z: Z) -> Z:
    """Return a bound for each part of the predictions: one number goes to all of them."""
    is_number = jax.tree.structure(bound) == jax.tree.structure(0.0) and jnp.ndim(bound) == 0
    return jax.tree.map(lambda leaf: jnp.asarray(bound, leaf.dtype), z) if is_number else bound


def ball(radius: float, center: Z | None = None) -> Projection:
    """Return the projection on the Euclidean ball over all entries; around 0 where no center is given."""
    if not isinstance(radius, jax.core.Tracer) and not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}.")

    def project(z: Z) -> Z:
        if center is None:
            return optax.projections.projection_l2_ball(z, radius)
        return optax.tree.add(center, optax.projections.projection_l2_ball(optax.tree.sub(z, center), radius))

    return project


def affine(matrix: Float[ArrayLike, "rows n"], target: Float[ArrayLike, " rows"]) -> Projection:
    """Return the projection on `{z : matrix z = target}` for predictions that are one vector; rows may depend on each other."""
    rows, levels = as_array(matrix), as_array(target)
    if rows.ndim != 2 or levels.shape != rows.shape[:1]:
        raise ValueError(f"affine needs a matrix and one number a row, got shapes {rows.shape} and {levels.shape}.")
    inverse = (jnp if isinstance(rows, jax.core.Tracer) else np).linalg.pinv(rows)

    def project(z: Array) -> Array:
        there, back, level = (jnp.asarray(constant, z.dtype) for constant in (rows, inverse, levels))
        return z - back @ (there @ z - level)

    return project


def product(*projections: Projection) -> Projection:
    """Return the projection on a product of sets, for predictions that are a tuple with one part for each."""

    def project(z: Z) -> Z:
        if not isinstance(z, tuple) or len(z) != len(projections):
            got = f"{len(z)} parts" if isinstance(z, tuple) else type(z).__name__
            raise ValueError(f"this product of {len(projections)} sets needs a tuple of as many parts, got {got}.")
        parts = [projection(part) for projection, part in zip(projections, z, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(z, is_leaf=lambda part: part is not z), parts)

    return project


def distance_bound(project: Projection, metric: Metric = euclidean) -> Callable[[Z], Float[Array, ""]]:
    """Return the exact least surrogate loss of a target, `1/2 dist(y, Z)^2`, a surrogate's lower bound (surrogate 2.4)."""
    return lambda target: half_square(metric(optax.tree.sub(target, project(target))))
