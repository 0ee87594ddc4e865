"""Inner solvers: how a model is brought nearer to a target. Any optax optimiser is one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from narrows.vi.base import Params, Z
from narrows.vi.metric import half_square


class Inner(NamedTuple):
    """An inner solver of `min 1/2 ||residual(params)||^2`.

    Attributes:
        init: from parameters to its state.
        step: from the residual as a function of parameters, the parameters, the state and a scale (see `descend`) to the next
            parameters, state, and the loss before the step.
    """

    init: Callable[[Params], Any]
    step: Callable[[Callable[[Params], Z], Params, Any, Float[Array, ""] | None], tuple[Params, Any, Float[Array, ""]]]


def as_inner(inner: optax.GradientTransformation | Inner) -> Inner:
    """Return the inner solver that an optax optimiser is, or a solver as it came; ValueError for anything else."""
    if not isinstance(inner, (optax.GradientTransformation, Inner)):
        raise ValueError(
            f"inner must be an optax optimiser like optax.adam(1e-3), gauss_newton() or levenberg_marquardt(), got {inner!r}."
        )
    return descend(inner) if isinstance(inner, optax.GradientTransformation) else inner


def descend(optimizer: optax.GradientTransformation) -> Inner:
    """Return the inner solver that an optax optimiser is.

    A scale R divides its gradients and multiplies its updates, so that optimisers whose step length does not shrink with the
    gradient, such as Adam, still come to rest (surrogate 5.2). Those that want the value get it.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def step(
        residual: Callable[[Params], Z], params: Params, state: Any, scale: Float[Array, ""] | None
    ) -> tuple[Params, Any, Float[Array, ""]]:
        def loss_of(params: Params) -> Float[Array, ""]:
            return half_square(residual(params))

        loss, grads = jax.value_and_grad(loss_of)(params)
        if scale is not None:
            safe = jnp.where(scale > 0, scale, 1.0)
            grads = jax.tree.map(lambda leaf: leaf / safe.astype(leaf.dtype), grads)
        updates, state = optimizer.update(grads, state, params, value=loss, grad=grads, value_fn=loss_of)
        if scale is not None:
            updates = jax.tree.map(lambda leaf: leaf * scale.astype(leaf.dtype), updates)
        return optax.apply_updates(params, updates), state, loss

    return Inner(optimizer.init, step)
