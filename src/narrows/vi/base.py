"""Types that all methods share: points, operators, the report of a step, and how a step may end.

A variational inequality asks for `z*` in a set `Z` with `<F(z*), z - z*> >= 0` for every `z` in `Z`. A method chooses the
sequence of targets; whether a target is reached by a projection or by training a model is decided elsewhere.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

Z: TypeAlias = PyTree
"""Predictions: any pytree of arrays. For a game, the strategies of all players together."""

Params: TypeAlias = PyTree

StepSize: TypeAlias = float | Float[Array, ""] | Callable[[Int[Array, ""]], Any]
"""A positive number, or a schedule from the number of the step to one, as optax has them."""


class OfParams(NamedTuple):
    """An operator that reads the parameters too, `F(z, params)`, such as a target that values the next state.

    Args:
        function: of predictions and parameters; no gradient flows through it.
    """

    function: Callable[[Z, Params], Z]


Operator: TypeAlias = Callable[[Z], Z] | OfParams
"""The operator F: predictions to a pytree of the same structure and shapes."""


class Point(NamedTuple):
    """The current iterate of a method.

    Attributes:
        z: the predictions.
        params: what they were predicted from; None in prediction space.
        carry: further state of the way to reach targets, such as that of an optimiser.
    """

    z: Z
    params: Params
    carry: Any


class Reached(NamedTuple):
    """Record of how well one target `y` was reached, in terms of the surrogate loss `l = 1/2 ||z - y||^2`.

    Attributes:
        loss_before: l at the start.
        loss_after: l at the end.
        lower: a lower bound of l over all reachable predictions; 0 where none is known.
        num_steps: inner steps that it took.
        is_accepted: whether the end is kept; False where it was worse than the start, or not finite.
    """

    loss_before: Float[Array, ""]
    loss_after: Float[Array, ""]
    lower: Float[Array, ""]
    num_steps: Int[Array, ""]
    is_accepted: Bool[Array, ""]


Reach: TypeAlias = Callable[[Point, Z], tuple[Point, Reached]]
Evaluate: TypeAlias = Callable[[Point], Z]


class MethodState(NamedTuple):
    """The memory of a method between steps.

    Attributes:
        step: how many steps have been taken.
        previous: the operator at the step before; None for a method that does not look back.
    """

    step: Int[Array, ""]
    previous: Z | None


class Trace(NamedTuple):
    """Record of one step of a method.

    Attributes:
        step_size: of this step.
        field: the operator at its start.
        first: the predictions after the first target.
        reached: a `Reached` for each of its targets, stacked.
    """

    step_size: Float[Array, ""]
    field: Z
    first: Z
    reached: Reached


class Method(NamedTuple):
    """A method in prediction space: which target comes next (surrogate 2.3).

    Attributes:
        init: from predictions to what the method remembers.
        step: from the operator, the way to reach a target, a point and the memory to the next point, memory and a trace.
    """

    init: Callable[[Z], MethodState]
    step: Callable[[Evaluate, Reach, Point, MethodState], tuple[Point, MethodState, Trace]]


class Result(IntEnum):
    """The end of a step or a run. In compiled code the number stands for it; `message` says what to do."""

    CONVERGED = 0
    RUNNING = 1
    MAX_STEPS = 2
    NONFINITE_OPERATOR = 3
    NONFINITE_STEP = 4
    BAD_STEP_SIZE = 5
    DIVERGED = 6

    @property
    def message(self) -> str:
        """A sentence on what happened and what to do about it."""
        return _MESSAGES[self]

    @property
    def is_failure(self) -> bool:
        """Whether what came out should not be used."""
        return self >= Result.NONFINITE_OPERATOR


_MESSAGES: Final = {
    Result.CONVERGED: "The residual fell to the tolerance.",
    Result.RUNNING: "The step was taken.",
    Result.MAX_STEPS: (
        "The residual is still above the tolerance after max_steps steps. Allow more; if the residual does not fall, take "
        "a smaller step size, and extragradient or optimistic instead of forward where the operator is only monotone."
    ),
    Result.NONFINITE_OPERATOR: (
        "The operator returned nan or infinity; the step was not taken. Look for a division by zero or the logarithm of zero, "
        "or begin nearer to the solution with a smaller step size."
    ),
    Result.NONFINITE_STEP: (
        "The inner steps led to nan or infinity; the step was not taken. Lower the learning rate of the inner optimiser, "
        "clip its gradients, or damp Gauss-Newton."
    ),
    Result.BAD_STEP_SIZE: "The step size was not positive and finite; the step was not taken. Look at the schedule.",
    Result.DIVERGED: (
        "The residual grew beyond 1e8 times its first value. Take a smaller step size: for a strongly monotone operator with "
        "constants mu and L, below 2 mu / L^2; for one that is only monotone, extragradient with a step below 1 / L."
    ),
}


class Info(NamedTuple):
    """Diagnostics of one step.

    Attributes:
        loss_before: surrogate loss `l_t` of the last target before its inner steps, `eta^2 ||F||^2 / 2` for a forward step.
        loss_after: the same loss after them. Its ratio to `loss_before` is what the theory bounds (surrogate 2.2).
        alpha_hat: `sqrt((loss_after - lower) / (loss_before - lower))`, the largest over the targets of the step; theory
            asks that it stay below a constant less than one. Above one the inner steps made things worse.
        gap_root: `r_t = sqrt(2 (l_t - lower))` of the first target, eta times the root of the regularised gap
            (surrogate eq. B2): zero exactly at the solution, and `||z_t - z*|| <= r_t / (1 - rho)`.
        residual: `||z_t - T(z_t)|| / eta` for the step's own map T where targets are projected; `||F(z_t)||` where a model is
            trained towards them.
        step_size: eta.
        num_inner_steps: inner steps, over all targets.
        is_accepted: False where the step was not taken, or nothing better than its start was found and `keep_best` was asked.
        result: a `Result`, `RUNNING` where all went well.
    """

    loss_before: Float[Array, ""]
    loss_after: Float[Array, ""]
    alpha_hat: Float[Array, ""]
    gap_root: Float[Array, ""]
    residual: Float[Array, ""]
    step_size: Float[Array, ""]
    num_inner_steps: Int[Array, ""]
    is_accepted: Bool[Array, ""]
    result: Int[Array, ""]


def evaluation(operator: Operator) -> Evaluate:
    """Return the operator as a function of a point, without gradients, its answer checked against the predictions.

    Raises ValueError, when traced, where structure or shapes of the answer are not those of the predictions.
    """

    def evaluate(point: Point) -> Z:
        z, params = jax.lax.stop_gradient((point.z, point.params))
        field = operator.function(z, params) if isinstance(operator, OfParams) else operator(z)
        check_alike(field, z, "the operator")
        return jax.tree.map(lambda value, like: jnp.asarray(value, like.dtype), jax.lax.stop_gradient(field), z)

    return evaluate


def check_alike(got: PyTree, expected: PyTree, what: str) -> None:
    """Raise ValueError where `got` has not the structure and the shapes of the predictions `expected`."""
    theirs, ours = jax.tree.structure(got), jax.tree.structure(expected)
    if theirs != ours:
        raise ValueError(f"{what} must return a pytree like the predictions, {ours}, got {theirs}.")
    for (path, leaf), like in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        if jnp.shape(leaf) != jnp.shape(like):
            where = f" at {jax.tree_util.keystr(path)}" if path else ""
            raise ValueError(
                f"{what} must return the shape of the predictions, {jnp.shape(like)}{where}, got {jnp.shape(leaf)}. "
                "An array of another shape would be stretched without a word."
            )


def as_array(value: Any) -> Any:
    """Return a constant as a NumPy array, in full precision whatever JAX's is now; a traced value as it is."""
    return value if isinstance(value, jax.core.Tracer) else np.asarray(value)


def positive(name: str, value: StepSize) -> StepSize:
    """Return a step size as it came; ValueError where it can be seen to be none. Traced values are looked at in each step."""
    if callable(value) or isinstance(value, jax.core.Tracer):
        return value
    if jnp.shape(value) != () or not 0.0 < float(value) < float("inf"):
        raise ValueError(f"{name} must be positive and finite, got {value}.")
    return value


def at_step(step_size: StepSize, step: Int[Array, ""], like: Z) -> Float[Array, ""]:
    """Return the step size at a step, in the precision of the predictions."""
    value = step_size(step) if callable(step_size) else step_size
    return jnp.asarray(value, jnp.result_type(*jax.tree.leaves(like)))


def minus(z: Z, step_size: Float[Array, ""], field: Z) -> Z:
    """Return `z - step_size * field`, leaf by leaf in the leaf's own precision."""
    return jax.tree.map(lambda leaf, value: leaf - step_size.astype(leaf.dtype) * value, z, field)


def step_result(trace: Trace, size: Float[Array, ""]) -> Int[Array, ""]:
    """Return the `Result` of a step, from its record and the norm of the point that it led to.

    The last losses are not asked for, so that a caller who does not read them need not compute them.
    """
    code = jnp.where(jnp.isfinite(size), jnp.int32(Result.RUNNING), jnp.int32(Result.NONFINITE_STEP))
    is_finite = jnp.isfinite(trace.reached.loss_before).all()
    code = jnp.where(is_finite, code, jnp.int32(Result.NONFINITE_OPERATOR))
    is_step = (trace.step_size > 0) & jnp.isfinite(trace.step_size)
    return jnp.where(is_step, code, jnp.int32(Result.BAD_STEP_SIZE))


def make_info(trace: Trace, residual: Float[Array, ""], code: Int[Array, ""]) -> Info:
    """Return the diagnostics of a step from its record and its `Result`."""
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


def select_accepted(code: Int[Array, ""], new: tuple, old: tuple) -> tuple:
    """Return the new values where the step went well and the old ones otherwise, so that a failed step changes nothing."""
    return optax.tree.where(code == Result.RUNNING, new, old)
