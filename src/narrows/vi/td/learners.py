"""Learners of values: TD(0) with several inner steps on each frozen target, and the usual one beside it (surrogate 6.4)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from narrows.vi.base import (
    Info,
    MethodState,
    Params,
    Reached,
    StepSize,
    Trace,
    Z,
    at_step,
    make_info,
    minus,
    positive,
    select_accepted,
    step_result,
)
from narrows.vi.inner import Inner, as_inner
from narrows.vi.methods import forward
from narrows.vi.metric import batch_mean, half_square
from narrows.vi.surrogate_loss import SurrogateState, surrogate
from narrows.vi.td.transitions import Transitions, Value, field, metric_of, td_error, valued


class Learner(NamedTuple):
    """A way to learn values from transitions. Both are pure: compile, scan and vmap them as you like.

    Attributes:
        init: from parameters to the state.
        step: from parameters, state and a batch to the next parameters, state, and the step's `Info`.
    """

    init: Callable[[Params], Any]
    step: Callable[[Params, Any, Transitions], tuple[Params, Any, Info]]


def surrogate_td0(
    value: Value,
    inner: optax.GradientTransformation | Inner,
    *,
    inner_steps: int,
    discount: float | Array,
    step_size: StepSize = 1.0,
    alpha: float | None = None,
    keep_best: bool = False,
    normalise: bool = False,
    reset_inner_state: bool = False,
) -> Learner:
    """Return TD(0) with several inner steps towards the frozen targets `v(s) - eta F` of each batch.

    With one step of SGD it is the semi-gradient step of size `eta` times the learning rate. More of them need fewer
    transitions; so many that the batch's noise is fitted ask for a larger batch or a smaller eta.

    Args:
        value: from parameters and observations to values.
        inner: an optax optimiser, `gauss_newton` or `levenberg_marquardt`.
        inner_steps: on each batch; with `alpha` at most so many.
        discount: gamma, in [0, 1].
        step_size: eta; 1 is the usual target `r + gamma v(s')`. A number or a schedule.
        alpha, keep_best, normalise, reset_inner_state: as in `surrogate`.

    Raises ValueError where a setting is out of its range, or a batch does not fit the value function.
    """
    discount = _checked(discount)
    method = partial(
        surrogate,
        forward(step_size),
        inner,
        inner_steps,
        alpha=alpha,
        keep_best=keep_best,
        normalise=normalise,
        reset_inner_state=reset_inner_state,
    )

    def step(params: Params, state: SurrogateState, batch: Transitions) -> tuple[Params, SurrogateState, Info]:
        operator = field(value, batch, discount)
        return method(metric=metric_of(batch)).step(lambda params: valued(value, params, batch), operator, params, state)

    # The forward step remembers nothing of the predictions, so a batch of any size may come.
    init = method(metric=batch_mean).init
    return Learner(lambda params: init(params, jnp.zeros(0)), step)


def semi_gradient_td0(value: Value, optimizer: optax.GradientTransformation, *, discount: float | Array) -> Learner:
    """Return semi-gradient TD(0): one gradient step on the squared error, the target held fixed.

    It takes every step, whatever comes out; `result` tells where that was not finite.
    """
    discount = _checked(discount)

    def loss_of(params: Params, batch: Transitions, after: Float[Array, " batch"]) -> Float[Array, ""]:
        errors = batch.reward + discount * jnp.where(batch.is_terminal, 0.0, after) - valued(value, params, batch)
        return 0.5 * jnp.average(errors**2, weights=batch.weight)

    def step(params: Params, state: Any, batch: Transitions) -> tuple[Params, Any, Info]:
        after = value(params, batch.next_observation)
        loss, grads = jax.value_and_grad(loss_of)(params, batch, after)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        one, end = jnp.ones_like(loss), loss_of(params, batch, after)
        reached = Reached(loss, end, jnp.zeros_like(loss), jnp.ones((), jnp.int32), jnp.ones((), bool))
        trace = Trace(one, None, None, jax.tree.map(lambda leaf: leaf[None], reached))
        info = make_info(trace, jnp.sqrt(2.0 * loss), step_result(trace, optax.tree.norm(params)))
        return params, state, info._replace(is_accepted=jnp.ones((), bool))

    return Learner(optimizer.init, step)


def streamed_td0(
    value: Value,
    inner: optax.GradientTransformation | Inner,
    *,
    discount: float | Array,
    step_size: StepSize = 1.0,
) -> Learner:
    """Return surrogate TD(0) that sees new transitions in each inner step, the parameters behind the targets held fixed.

    It is a target network renewed once a step (surrogate 2.3). A batch has an axis before its own, the inner steps; weights are
    for each of the inner batches. The step's `Info` is of all of them together, each inner batch counting the same.

    Args:
        value: from parameters and observations to values.
        inner: an optax optimiser, `gauss_newton` or `levenberg_marquardt`.
        discount: gamma, in [0, 1].
        step_size: eta; 1 is the usual target `r + gamma v(s')`. A number or a schedule.
    """
    discount, step_size = _checked(discount), positive("step_size", step_size)
    solver = as_inner(inner)

    def step(params: Params, state: SurrogateState, batch: Transitions) -> tuple[Params, SurrogateState, Info]:
        if jnp.ndim(batch.reward) != 2:
            raise ValueError(f"a streamed batch needs two axes, inner step and batch, got reward {jnp.shape(batch.reward)}.")
        before, errors = jax.lax.stop_gradient(
            jax.vmap(lambda part: (valued(value, params, part), td_error(value, params, part, discount)))(batch)
        )
        eta, fields = at_step(step_size, state.method.step, before), -errors
        targets = minus(before, eta, fields)

        def residual(part: Transitions, target: Z) -> Callable[[Params], Z]:
            metric = metric_of(part)
            return lambda params: metric(valued(value, params, part) - target)

        def again(carry: tuple[Params, Any], now: tuple[Transitions, Z]) -> tuple[tuple[Params, Any], None]:
            after, held, _ = solver.step(residual(*now), *carry, None)
            return (after, held), None

        (after, held), _ = jax.lax.scan(again, (params, state.inner), (batch, targets))

        def size(part: Transitions, z: Z) -> Float[Array, ""]:
            return half_square(metric_of(part)(z))

        start = jax.vmap(size)(batch, before - targets).mean()
        end = jax.vmap(lambda part, target: half_square(residual(part, target)(after)))(batch, targets).mean()
        num_steps = jnp.full((), len(batch.reward), jnp.int32)
        reached = Reached(start, end, jnp.zeros_like(start), num_steps, jnp.isfinite(end))
        norm = jnp.sqrt(2.0 * jax.vmap(size)(batch, fields).mean())
        trace = Trace(eta, fields, before, jax.tree.map(lambda leaf: leaf[None], reached))
        code = step_result(trace, optax.tree.norm(after))
        new = (after, SurrogateState(MethodState(state.method.step + 1, None), held))
        return *select_accepted(code, new, (params, state)), make_info(trace, norm, code)

    return Learner(lambda params: SurrogateState(MethodState(jnp.zeros((), jnp.int32), None), solver.init(params)), step)


def _checked(discount: float | Array) -> float | Array:
    if not isinstance(discount, jax.core.Tracer) and not 0.0 <= float(discount) <= 1.0:
        raise ValueError(f"discount must lie between 0 and 1, got {discount}.")
    return discount
