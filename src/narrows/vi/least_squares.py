"""Second-order inner solvers, through lineax, and the named methods that they make of a forward step (surrogate 4).

At the start of an outer step the residual is `eta F(z)`, so one Gauss-Newton step is `theta - eta J^+ F`: preconditioned hidden
gradient descent (Sakos et al. 2023). More steps on the same target, damping and other methods than forward come for free.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jaxtyping import Array, Float

from narrows.vi.base import Params, StepSize, Z
from narrows.vi.inner import Inner
from narrows.vi.methods import forward
from narrows.vi.metric import Metric, euclidean, half_square
from narrows.vi.surrogate_loss import SurrogateMethod, surrogate

Solver: TypeAlias = Literal["auto", "gram", "woodbury", "cg"]


def gauss_newton(scale: float = 1.0, rcond: float | None = None) -> Inner:
    """Return the inner solver `theta - scale J^+ residual`, with the pseudo-inverse of the Jacobian itself.

    Args:
        scale: of the step, > 0; below one it is damped Gauss-Newton.
        rcond: singular values below so much of the largest count as zero; None for the precision of the numbers.
    """
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}.")

    def move(jacobian: lx.AbstractLinearOperator, residual: Z) -> Params:
        found = lx.linear_solve(jacobian, residual, lx.SVD(rcond=rcond), throw=False).value
        return jax.tree.map(lambda leaf: scale * leaf, found)

    return _linearised(move)


def levenberg_marquardt(damping: float, solver: Solver = "auto") -> Inner:
    """Return the inner solver `theta - (J^T J + damping)^-1 J^T residual`.

    As damping goes to zero it is Gauss-Newton, as it grows a gradient step of size `1 / damping`. Softmax outputs want 1e-2 at
    least: targets may leave what they can reach (surrogate 7.4).

    Args:
        damping: > 0; in the units of the squared Jacobian under the surrogate's metric.
        solver: `gram` solves in parameters, `woodbury` in predictions (equal, and the smaller is the faster), `cg` stores no
            matrix, `auto` takes the smaller of the first two.
    """
    if not damping > 0:
        raise ValueError(f"damping must be positive, got {damping}. Without damping it is gauss_newton().")
    if solver not in ("auto", "gram", "woodbury", "cg"):
        raise ValueError(f"solver must be auto, gram, woodbury or cg, got {solver!r}.")

    def move(jacobian: lx.AbstractLinearOperator, residual: Z) -> Params:
        in_predictions = solver == "woodbury" or (solver != "gram" and jacobian.out_size() <= jacobian.in_size())
        linear = lx.linearise(jacobian) if solver == "cg" else lx.materialise(jacobian)
        square = linear @ linear.T if in_predictions else linear.T @ linear
        damped = square + damping * lx.IdentityLinearOperator(square.in_structure())
        damped = lx.TaggedLinearOperator(damped, lx.positive_semidefinite_tag)
        if in_predictions:
            return linear.T.mv(_solved(damped, residual, solver))
        return _solved(damped, linear.T.mv(residual), solver)

    return _linearised(move)


def preconditioned_hidden_gradient(step_size: StepSize, metric: Metric = euclidean) -> SurrogateMethod:
    """Return preconditioned hidden gradient descent, `theta - eta J^+ F` (Sakos et al. 2023, arXiv:2312.16609).

    With the Fisher matrix of the output as the metric's matrix, and F its representer, it is the natural gradient.
    """
    return surrogate(forward(step_size), gauss_newton(), metric=metric)


def damped_gauss_newton(step_size: StepSize, scale: float, inner_steps: int = 1) -> SurrogateMethod:
    """Return the forward step with damped Gauss-Newton inside; one inner step is the above with `scale * step_size`."""
    return surrogate(forward(step_size), gauss_newton(scale), inner_steps)


def _linearised(move: Callable[[lx.AbstractLinearOperator, Z], Params]) -> Inner:
    def step(
        residual: Callable[[Params], Z], params: Params, state: Any, scale: Float[Array, ""] | None
    ) -> tuple[Params, Any, Float[Array, ""]]:
        # A step that solves is as long as the residual is: there is nothing to normalise.
        value = residual(params)
        jacobian = lx.JacobianLinearOperator(lambda at, _: residual(at), params)
        return optax.tree.sub(params, move(jacobian, value)), state, half_square(value)

    return Inner(lambda params: (), step)


def _solved(matrix: lx.AbstractLinearOperator, vector: Any, solver: Solver) -> Any:
    if solver != "cg":
        return lx.linear_solve(matrix, vector, lx.Cholesky(), throw=False).value
    tight = 10.0 * float(jnp.finfo(jnp.result_type(*jax.tree.leaves(vector))).eps)
    return lx.linear_solve(matrix, vector, lx.CG(rtol=tight, atol=tight), throw=False).value
