"""Any method in prediction space, composed with any optimiser in parameter space (arXiv:2411.05228; surrogate 2).

At each step predictions `z_t = g(theta_t)` and the target `y_t = z_t - eta F(z_t)` are frozen, and an inner solver brings the
model nearer to the target, `l_t(theta) = 1/2 ||g(theta) - y_t||^2`. One step of SGD is the usual gradient play, or TD(0); more
of them use the same evaluation of F, the same sample, better.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from narrows.vi.base import (
    Info,
    Method,
    MethodState,
    Operator,
    Params,
    Point,
    Reached,
    Z,
    evaluation,
    make_info,
    select_accepted,
    step_result,
)
from narrows.vi.inner import Inner, as_inner
from narrows.vi.methods import check_method
from narrows.vi.metric import Metric, euclidean, half_square

Predict = Callable[[Params], Z]


class SurrogateState(NamedTuple):
    """The memory of a surrogate method: that of its method in prediction space, and the state of its inner solver."""

    method: MethodState
    inner: Any


class SurrogateMethod(NamedTuple):
    """A method on the parameters of a model.

    Attributes:
        init: from parameters and predictions of the usual shapes to the state.
        step: from the model `predict(params) -> z`, the operator, parameters and state to the next parameters, state, and the
            step's `Info`. Both functions may close over a batch; nothing is compiled anew when only arrays change.
    """

    init: Callable[[Params, Z], SurrogateState]
    step: Callable[[Predict, Operator, Params, SurrogateState], tuple[Params, SurrogateState, Info]]


class _Settings(NamedTuple):
    inner: Inner
    inner_steps: int
    alpha: float | None
    lower_bound: Callable[[Z], Float[Array, ""]] | None
    metric: Metric
    keep_best: bool
    normalise: bool


def surrogate(
    method: Method,
    inner: optax.GradientTransformation | Inner,
    inner_steps: int = 1,
    *,
    alpha: float | None = None,
    lower_bound: Callable[[Z], Float[Array, ""]] | None = None,
    metric: Metric = euclidean,
    keep_best: bool = False,
    normalise: bool = False,
    reset_inner_state: bool = False,
) -> SurrogateMethod:
    """Return a method of prediction space, carried out by training a model towards its targets.

    Args:
        method: `forward`, `extragradient`, `optimistic` or `proximal_point`. Targets after the first in a step begin where the
            one before ended.
        inner: an optax optimiser, `gauss_newton` or `levenberg_marquardt`.
        inner_steps: for each target; with `alpha` at most so many.
        alpha: stop as soon as `l - lower <= alpha^2 (l_before - lower)`, alpha-descent (surrogate 2.2), in (0, 1).
        lower_bound: of the loss of a target over all parameters, such as `distance_bound(simplex)`; None for 0.
        metric: inner product of predictions: `euclidean`, `batch_mean`, `weighted` or `matrix`.
        keep_best: return the best inner iterate, the start among them, so that `alpha_hat` is at most one.
        normalise: divide the inner gradients by `sqrt(2 l_before)` and multiply the updates by it. Adam's steps do not shrink
            with the residual by themselves; optimisers that are linear in the gradient, such as SGD, do not change.
        reset_inner_state: begin each target with a fresh inner state. What the paper does is not known; kept by default.

    Raises ValueError where a setting is out of its range.
    """
    check_method(method)
    if inner_steps < 1:
        raise ValueError(f"inner_steps must be at least 1, got {inner_steps}.")
    if alpha is not None and not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}.")
    solver = as_inner(inner)
    settings = _Settings(solver, inner_steps, alpha, lower_bound, metric, keep_best, normalise)

    def step(
        predict: Predict, operator: Operator, params: Params, state: SurrogateState
    ) -> tuple[Params, SurrogateState, Info]:
        def reach(point: Point, target: Z) -> tuple[Point, Reached]:
            fresh = solver.init(point.params) if reset_inner_state else point.carry
            return _reached(settings, predict, point._replace(carry=fresh), target)

        start = Point(predict(params), params, state.inner)
        point, memory, trace = method.step(evaluation(operator), reach, start, state.method)
        code = step_result(trace, optax.tree.norm(point.params))
        params, state = select_accepted(code, (point.params, SurrogateState(memory, point.carry)), (params, state))
        return params, state, make_info(trace, optax.tree.norm(metric(trace.field)), code)

    return SurrogateMethod(lambda params, z0: SurrogateState(method.init(z0), solver.init(params)), step)


def _reached(settings: _Settings, predict: Predict, point: Point, target: Z) -> tuple[Point, Reached]:
    """Train towards one target."""
    metric, target = settings.metric, jax.lax.stop_gradient(target)

    def residual(params: Params) -> Z:
        return metric(optax.tree.sub(predict(params), target))

    before = half_square(metric(optax.tree.sub(point.z, target)))
    lower = jnp.zeros_like(before) if settings.lower_bound is None else settings.lower_bound(target).astype(before.dtype)
    scale = jnp.sqrt(2.0 * before) if settings.normalise else None
    run = _fixed if settings.alpha is None else _until_descent
    search = run(settings, residual, point, before, lower, scale)
    params, loss = search.best
    is_accepted = loss < before if settings.keep_best else jnp.isfinite(loss)
    return Point(predict(params), params, search.inner), Reached(before, loss, lower, search.num_steps, is_accepted)


class _Best(NamedTuple):
    params: Params
    loss: Float[Array, ""]


class _Search(NamedTuple):
    inner: Any
    best: _Best
    num_steps: Int[Array, ""]


def _fixed(
    settings: _Settings, residual: Predict, point: Point, before: Float[Array, ""], lower: Array, scale: Array | None
) -> _Search:
    """Take all inner steps. The first stands before the loop: the compiler shares its forward pass with the prediction."""
    params, inner, _ = settings.inner.step(residual, point.params, point.carry, scale)
    best = _Best(point.params, before) if settings.keep_best else None

    def again(carry: tuple, _: None) -> tuple[tuple, None]:
        params, inner, best = carry
        after, inner, loss = settings.inner.step(residual, params, inner, scale)
        return (after, inner, _better(best, params, loss)), None

    if settings.inner_steps > 1:
        (params, inner, best), _ = jax.lax.scan(again, (params, inner, best), length=settings.inner_steps - 1)
    loss = half_square(residual(params))
    return _Search(inner, _better(best, params, loss) or _Best(params, loss), jnp.int32(settings.inner_steps))


def _until_descent(
    settings: _Settings, residual: Predict, point: Point, before: Float[Array, ""], lower: Array, scale: Array | None
) -> _Search:
    """Step until the alpha-descent condition holds (surrogate 2.4)."""
    assert settings.alpha is not None, "without alpha all inner steps are taken"
    enough = settings.alpha**2 * (before - lower)

    def is_wanting(carry: tuple) -> Bool[Array, ""]:
        *_, loss, step = carry
        return (step < settings.inner_steps) & ~(loss - lower <= enough)

    def again(carry: tuple) -> tuple:
        params, inner, best, _, step = carry
        params, inner, _ = settings.inner.step(residual, params, inner, scale)
        loss = half_square(residual(params))
        return params, inner, _better(best, params, loss), loss, step + 1

    best = _Best(point.params, before) if settings.keep_best else None
    start = (point.params, point.carry, best, before, jnp.zeros((), jnp.int32))
    params, inner, best, loss, num_steps = jax.lax.while_loop(is_wanting, again, start)
    return _Search(inner, best or _Best(params, loss), num_steps)


def _better(best: _Best | None, params: Params, loss: Float[Array, ""]) -> _Best | None:
    """Return the better of two iterates; None where no best one is kept."""
    return best and _Best(optax.tree.where(loss < best.loss, params, best.params), jnp.minimum(loss, best.loss))
