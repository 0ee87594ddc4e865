"""A method whose targets are reached by a projection: the classical algorithms, without a model."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from narrows.vi.base import Info, Method, MethodState, Operator, Point, Reached, Result, Trace, Z, evaluation
from narrows.vi.methods import check_method
from narrows.vi.metric import Metric, euclidean, half_square
from narrows.vi.projections import Projection, everywhere


class Projected(NamedTuple):
    """A method in prediction space, ready to use.

    Attributes:
        init: from predictions to the method's memory.
        step: from an operator, predictions and memory to the next predictions, memory and what a step tells.
    """

    init: Callable[[Z], MethodState]
    step: Callable[[Operator, Z, MethodState], tuple[Z, MethodState, Info]]


def projected(method: Method, project: Projection = everywhere, metric: Metric = euclidean) -> Projected:
    """Return a method with targets reached exactly, `T_eta(z) = Proj(z - eta F(z))` for the forward step.

    Args:
        method: `forward`, `extragradient`, `optimistic` or `proximal_point`.
        project: on the set Z.
        metric: inner product that `info` is measured in; `project` must be the projection in it.
    """
    check_method(method)

    def reach(point: Point, target: Z) -> tuple[Point, Reached]:
        z = project(target)
        before, after = (half_square(metric(optax.tree.sub(at, target))) for at in (point.z, z))
        # In exact arithmetic the nearest point of the set is nearer than where we are.
        lower = jnp.minimum(after, before)
        return Point(z, None, ()), Reached(before, after, lower, jnp.ones((), jnp.int32), jnp.ones((), bool))

    def step(operator: Operator, z: Z, state: MethodState) -> tuple[Z, MethodState, Info]:
        point, memory, trace = method.step(evaluation(operator), reach, Point(z, None, ()), state)
        moved = optax.tree.norm(metric(optax.tree.sub(z, trace.first)))
        code = outcome(trace, optax.tree.norm(point.z))
        z, memory = kept(code, (point.z, memory), (z, state))
        return z, memory, told(trace, moved / trace.step_size, code)

    return Projected(method.init, step)


def outcome(trace: Trace, size: Float[Array, ""]) -> Int[Array, ""]:
    """Return how a step ended, from what it did and the size of where it led.

    It does not ask for the last losses: who does not read them should not have to compute them.
    """
    code = jnp.where(jnp.isfinite(size), jnp.int32(Result.RUNNING), jnp.int32(Result.NONFINITE_STEP))
    is_finite = jnp.isfinite(trace.reached.loss_before).all()
    code = jnp.where(is_finite, code, jnp.int32(Result.NONFINITE_OPERATOR))
    is_step = (trace.step_size > 0) & jnp.isfinite(trace.step_size)
    return jnp.where(is_step, code, jnp.int32(Result.BAD_STEP_SIZE))


def told(trace: Trace, residual: Float[Array, ""], code: Int[Array, ""]) -> Info:
    """Return what a step tells, from what it did and how it ended."""
    before, after, lower, num_steps, is_accepted = trace.reached
    span = before - lower
    alphas = jnp.sqrt(jnp.maximum(after - lower, 0.0) / jnp.where(span > 0, span, 1.0))
    return Info(
        loss_before=before[-1],
        loss_after=after[-1],
        alpha_hat=alphas.max(),
        gap_root=jnp.sqrt(2.0 * jnp.maximum(span[0], 0.0)),
        residual=residual,
        step_size=trace.step_size,
        num_inner_steps=num_steps.sum(dtype=jnp.int32),
        is_accepted=is_accepted.any() & (code == Result.RUNNING),
        result=code,
    )


def kept(code: Int[Array, ""], new: tuple, old: tuple) -> tuple:
    """Return the new values where a step went well, the old ones otherwise: a step that failed changes nothing."""
    return optax.tree.where(code == Result.RUNNING, new, old)
