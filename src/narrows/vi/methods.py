"""Methods in prediction space: forward, extragradient, proximal point, optimistic (surrogate 2.3 and 4)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from narrows.vi.base import Evaluate, Method, MethodState, Point, Reach, Reached, StepSize, Trace, Z, at_step, minus, positive


def forward(step_size: StepSize) -> Method:
    """Return the forward step, `z - eta F(z)`: simultaneous gradient play in prediction space.

    It converges for a strongly monotone operator with `0 < eta < 2 mu / L^2`; the safe default is `eta = mu / L^2`.
    """
    return anchored(step_size, 1)


def extragradient(step_size: StepSize) -> Method:
    """Return the extragradient step: `z - eta F(z_half)` where `z_half` is reached by a forward step from the same anchor.

    It converges for operators that are only monotone with `eta < 1 / L` (Korpelevich 1976).
    """
    return anchored(step_size, 2)


def proximal_point(step_size: StepSize, num_iterations: int = 20) -> Method:
    """Return the proximal point `(I + eta F)^-1 z`, by that many fixed-point iterations.

    They contract where `eta L < 1`, by that factor each.
    """
    return anchored(step_size, num_iterations)


def anchored(step_size: StepSize, num_iterations: int) -> Method:
    """Return the method that reaches `z - eta F(u)` again and again, `u` where it got last, `z` its anchor (surrogate 2.3).

    One iteration is the forward step, two are extragradient, many the proximal point.
    """
    step_size = positive("step_size", step_size)
    if num_iterations < 1:
        raise ValueError(f"num_iterations must be at least 1, got {num_iterations}.")

    def step(evaluate: Evaluate, reach: Reach, point: Point, state: MethodState) -> tuple[Point, MethodState, Trace]:
        eta, anchor = at_step(step_size, state.step, point.z), point.z

        def again(point: Point, _: None = None) -> tuple[Point, Reached]:
            return reach(point, minus(anchor, eta, evaluate(point)))

        field = evaluate(point)
        point, reached = reach(point, minus(anchor, eta, field))
        first, every = point.z, _one(reached)
        if num_iterations > 1:
            point, more = _repeated(again, point, num_iterations - 1)
            every = jax.tree.map(lambda one, rest: jnp.concatenate([one, rest]), every, more)
        return point, MethodState(state.step + 1, None), Trace(eta, field, first, every)

    return Method(_fresh, step)


def optimistic(step_size: StepSize) -> Method:
    """Return the optimistic step, `z - eta (2 F(z) - F(z_previous))`: one evaluation a step, and monotone operators suffice.

    At the first step both are the same. The operator must be of the same predictions in every step, not of a new batch.
    """
    step_size = positive("step_size", step_size)

    def step(evaluate: Evaluate, reach: Reach, point: Point, state: MethodState) -> tuple[Point, MethodState, Trace]:
        eta, field = at_step(step_size, state.step, point.z), evaluate(point)
        previous = jax.tree.map(lambda now, before: jnp.where(state.step == 0, now, before), field, state.previous)
        looking_ahead = jax.tree.map(lambda now, before: 2.0 * now - before, field, previous)
        point, reached = reach(point, minus(point.z, eta, looking_ahead))
        return point, MethodState(state.step + 1, field), Trace(eta, field, point.z, _one(reached))

    return Method(lambda z: MethodState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, z)), step)


def _fresh(z: Z) -> MethodState:
    return MethodState(jnp.zeros((), jnp.int32), None)


def _one(reached: Reached) -> Reached:
    return jax.tree.map(lambda leaf: leaf[None], reached)


def _repeated(again: Callable, point: Point, num: int) -> tuple[Point, PyTree]:
    """Repeat by a scan; a single time is written out, so that the compiler sees through it."""
    if num == 1:
        point, reached = again(point)
        return point, _one(reached)
    return jax.lax.scan(again, point, length=num)


def check_method(method: Method) -> None:
    """Raise ValueError for what is no method."""
    if not isinstance(method, Method):
        raise ValueError(f"method must be forward(...), extragradient(...) or another of vi's methods, got {method!r}.")
