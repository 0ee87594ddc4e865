"""Classical algorithms, without a model: targets are reached by a projection; and one compiled loop over such steps."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from narrows.vi.base import (
    Info,
    Method,
    MethodState,
    Operator,
    Point,
    Reached,
    Result,
    Z,
    evaluation,
    make_info,
    select_accepted,
    step_result,
)
from narrows.vi.methods import check_method
from narrows.vi.metric import Metric, euclidean, half_square
from narrows.vi.projections import Projection, everywhere

_DIVERGED = 1e8
"""A residual that has grown so much will not come back."""


class Projected(NamedTuple):
    """A method in prediction space, ready to use.

    Attributes:
        init: from predictions to the method's memory.
        step: from an operator, predictions and memory to the next predictions, memory and the step's `Info`.
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
        code = step_result(trace, optax.tree.norm(point.z))
        z, memory = select_accepted(code, (point.z, memory), (z, state))
        return z, memory, make_info(trace, moved / trace.step_size, code)

    return Projected(method.init, step)


class Stats(NamedTuple):
    """Cost and accuracy of a run.

    Attributes:
        num_steps: taken.
        residual: `||z - T(z)|| / eta` where the last step began.
        gap_root: `r_t` there, an upper bound of the distance to the solution times `1 - rho` (surrogate eq. B4).
        average: the mean of all iterates. For an operator that is only monotone it converges where the last iterate cycles.
    """

    num_steps: Int[Array, ""]
    residual: Float[Array, ""]
    gap_root: Float[Array, ""]
    average: Z


class Solution(NamedTuple):
    """The result of `solve`.

    Attributes:
        value: the last predictions.
        result: a `Result`; its message says what to do where it is not `CONVERGED`.
        stats: what it cost.
        state: the method's memory, to go on from.
    """

    value: Z
    result: Int[Array, ""]
    stats: Stats
    state: MethodState

    @property
    def message(self) -> str:
        """A sentence on what happened and what to do about it; outside compiled code only."""
        return Result(int(self.result)).message


class _Loop(NamedTuple):
    z: Z
    state: MethodState
    average: Z
    step: Int[Array, ""]
    first: Float[Array, ""]
    residual: Float[Array, ""]
    gap_root: Float[Array, ""]
    result: Int[Array, ""]


def solve(
    operator: Callable[..., Z],
    z0: Z,
    method: Method,
    *,
    project: Projection = everywhere,
    max_steps: int = 10_000,
    tol: float = 1e-6,
    key: Array | None = None,
    state: MethodState | None = None,
) -> Solution:
    """Return the solution of `<F(z*), z - z*> >= 0` for all z in the set, from `z0`.

    Args:
        operator: F, from predictions to a pytree like them; with `key`, from a key and predictions, drawn anew in each step.
        z0: where to begin; brought into the set first.
        method: `forward`, `extragradient`, `optimistic` or `proximal_point` with its step size.
        project: on the set.
        max_steps: at most so many.
        tol: residual `||z - T(z)|| / eta` to stop at. With a noisy operator it is noisy; 0 takes all steps.
        key: randomness of a stochastic operator. Extragradient evaluates both times with the same key.
        state: memory of an earlier run, to go on from.

    Raises ValueError where the operator's answer is not like the predictions, or a number is out of its range.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}.")
    if not isinstance(tol, jax.core.Tracer) and not tol >= 0:
        raise ValueError(f"tol must be at least 0, got {tol}.")
    runner = projected(method, project)
    z0 = project(jax.tree.map(jnp.asarray, z0))
    if not jax.tree.leaves(z0):
        raise ValueError(f"z0 must hold at least one array to begin at, got {z0!r}.")
    dtype = jnp.result_type(*jax.tree.leaves(z0))
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"z0 must hold floating-point numbers, got {dtype}. Write 0.0 rather than 0.")

    def once(loop: _Loop) -> tuple[Z, MethodState, Info]:
        drawn = operator if key is None else partial(operator, jax.random.fold_in(key, loop.state.step))
        return runner.step(drawn, loop.z, loop.state)

    def body(loop: _Loop) -> _Loop:
        z, memory, info = once(loop)
        first = jnp.where(loop.step == 0, info.residual, loop.first)
        weight = 1.0 / (loop.step + 1.0)
        average = jax.tree.map(lambda mean, new: mean + weight.astype(mean.dtype) * (new - mean), loop.average, z)
        result = jnp.where(info.residual > _DIVERGED * first, jnp.int32(Result.DIVERGED), info.result)
        result = jnp.where(info.residual <= tol, jnp.int32(Result.CONVERGED), result)
        result = jnp.where(info.result == Result.RUNNING, result, info.result)
        return _Loop(z, memory, average, loop.step + 1, first, info.residual, info.gap_root, result)

    zero, count = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    memory = runner.init(z0) if state is None else state
    start = _Loop(z0, memory, z0, count, zero, zero, zero, jnp.full((), Result.RUNNING, jnp.int32))
    end = jax.lax.while_loop(lambda loop: (loop.result == Result.RUNNING) & (loop.step < max_steps), body, start)
    result = jnp.where(end.result == Result.RUNNING, jnp.int32(Result.MAX_STEPS), end.result)
    return Solution(end.z, result, Stats(end.step, end.residual, end.gap_root, end.average), end.state)
