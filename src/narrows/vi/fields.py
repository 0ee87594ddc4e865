"""Operators from what players want, with the signs right (surrogate 1), and a gap that is zero at the solution."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from narrows.vi.base import StepSize, Z, at_step, minus, positive
from narrows.vi.metric import half_square
from narrows.vi.projections import Projection, everywhere

Field: TypeAlias = Callable[[Z], Z]


def minimum(function: Callable[[Z], Float[Array, ""]]) -> Field:
    """Return the operator of `min f(z)`, its gradient."""
    return jax.grad(function)


def saddle(function: Callable[[Z, Z], Float[Array, ""]]) -> Field:
    """Return the operator of `min over x, max over y of f(x, y)`, `(grad_x f, -grad_y f)`, for predictions `(x, y)`."""

    def field(z: tuple[Z, Z]) -> tuple[Z, Z]:
        x, y = jax.grad(function, argnums=(0, 1))(*z)
        return x, jax.tree.map(lambda leaf: -leaf, y)

    return field


def game(losses: Sequence[Callable[..., Float[Array, ""]]]) -> Field:
    """Return the operator of a game, player i lowering its loss in its own part: `F_i = grad_i loss_i(z_1, ..., z_n)`.

    Args:
        losses: of each player, of the parts of all; a player who raises a utility has its negative for a loss.

    Predictions are a tuple with one part for each player; ValueError for any other.
    """

    def field(z: tuple[Z, ...]) -> tuple[Z, ...]:
        if not isinstance(z, tuple) or len(z) != len(losses):
            got = f"{len(z)} parts" if isinstance(z, tuple) else type(z).__name__
            raise ValueError(f"a game of {len(losses)} players needs a tuple of as many parts, got {got}.")
        return tuple(jax.grad(loss, argnums=player)(*z) for player, loss in enumerate(losses))

    return field


def regularised_gap(z: Z, field: Z, step_size: StepSize, project: Projection = everywhere) -> Float[Array, ""]:
    """Return `max over u in the set of <F, z - u> - ||z - u||^2 / (2 eta)`, zero exactly at a solution (surrogate eq. B2).

    `gap_root` of a step is the root of `2 eta` times it. Without constraints it is `eta ||F||^2 / 2`.

    Args:
        z: predictions, in the set.
        field: the operator there.
        step_size: eta, > 0.
        project: on the set.
    """
    eta = at_step(positive("step_size", step_size), jnp.zeros((), jnp.int32), z)
    target = minus(z, eta, field)
    here, nearest = (half_square(optax.tree.sub(at, target)) for at in (z, project(target)))
    return (here - nearest) / eta
