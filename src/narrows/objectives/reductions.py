"""From the errors of a batch to one number: means of squares, of Huber's loss, and the variance."""

from collections.abc import Callable
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Total = Callable[[Float[Array, "*sums"]], Float[Array, "*sums"]]
"""From sums over the items at hand to sums over all items of a batch, wherever they are."""


def identity_total(part: Float[Array, "*sums"]) -> Float[Array, "*sums"]:
    """Return the sums as they are: the `Total` of a batch that is all at hand."""
    return part


class Reduction(NamedTuple):
    """How errors and their weights become one number, and how many trajectories that takes at least."""

    reduce: Callable[[Float[Array, "*violation"], Float[Array, "*violation"], Total], Float[Array, ""]]
    min_batch_size: int = 1


def weighted_mean(
    value: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total = identity_total
) -> Float[Array, ""]:
    """Return the weighted mean, 0 where no weight is left."""
    values, weights = total(jnp.stack([jnp.sum(weight * value), jnp.sum(weight)]))
    return values / jnp.maximum(weights, jnp.finfo(value.dtype).tiny)


def mean_square(
    error: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total = identity_total
) -> Float[Array, ""]:
    """Return the weighted mean of squares, 0 where no weight is left."""
    return weighted_mean(error**2, weight, total)


def variance(
    error: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total = identity_total
) -> Float[Array, ""]:
    """Return the weighted population variance, 0 where no weight is left."""
    errors, weights = total(jnp.stack([jnp.sum(weight * error), jnp.sum(weight)]))
    # Around the mean the sum of squares is smallest, so no gradient flows through it.
    mean = jax.lax.stop_gradient(errors / jnp.maximum(weights, jnp.finfo(error.dtype).tiny))
    return mean_square(error - mean, weight, total)


SQUARE: Final = Reduction(mean_square)
VARIANCE: Final = Reduction(variance, min_batch_size=2)


def regression(huber: float | None) -> Reduction:
    """Return the mean of squares, or of twice Huber's loss (Huber 1964), whose middle is the square itself.

    Args:
        huber: error from which the loss grows linearly, > 0; None for squares throughout.

    Raises ValueError for a threshold that is not positive.
    """
    if huber is None:
        return SQUARE
    if not huber > 0.0:
        raise ValueError(f"huber must be positive, got {huber}. Leave it out for squared errors.")

    def mean_huber(error: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total) -> Float[Array, ""]:
        size = jnp.abs(error)
        return weighted_mean(jnp.where(size <= huber, error**2, huber * (2.0 * size - huber)), weight, total)

    return Reduction(mean_huber)
