"""Problems without constraints whose operator is affine: bilinear saddle points and quadratic games of any kind."""

from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from narrows.vi.problems.base import Problem
from narrows.vi.projections import Projection, everywhere

Matrix: TypeAlias = Array | np.ndarray | Sequence[Sequence[float]]
"""Numbers in rows."""

Vector: TypeAlias = Array | np.ndarray | Sequence[float]
"""Numbers in a row."""

_BISECTIONS = 200
"""More than halvings of an interval that double precision can tell apart."""


def quadratic(matrix: Matrix, offset: Vector | None = None, project: Projection = everywhere) -> Problem:
    """Return the affine operator `F(z) = M z + b` in the precision that JAX is set to; z is one vector, and begins at ones.

    A symmetric M is the gradient of `1/2 z^T M z + b^T z`; the skew part of any other makes players go round each other. Its
    strength mu is the least eigenvalue of the symmetric part, its Lipschitz constant L the largest singular value.

    Args:
        matrix: M, shape `[n, n]`, with no direction in which the operator turns back.
        offset: b, shape `[n]`; None for 0.
        project: on the set; with any other than `everywhere` the solution is not computed.

    Raises ValueError where M is not square, not monotone, or does not go with b.
    """
    square = np.asarray(matrix, np.float64)
    if square.ndim != 2 or square.shape[0] != square.shape[1]:
        raise ValueError(
            f"matrix must be square, got shape {square.shape}. The field of a rectangular saddle point is bilinear()."
        )
    shift = _offset("offset", offset, len(square))
    lipschitz = float(np.linalg.norm(square, 2))
    strength = float(np.linalg.eigvalsh((square + square.T) / 2)[0])
    # The matrix may have been rounded to single precision on its way here.
    rounding = len(square) * float(np.finfo(np.float32).eps if _is_single(matrix) else np.finfo(np.float64).eps) * lipschitz
    if strength < -rounding:
        raise ValueError(
            f"matrix must be monotone, z^T M z >= 0 for all z, but its symmetric part has the eigenvalue {strength:.3g}. "
            "Turn the sign of what the maximising players see: their field is the negative gradient."
        )
    weights, terms = jnp.asarray(square), jnp.asarray(shift)
    solution = _solved(square, -shift) if project is everywhere else None
    return Problem(
        operator=lambda z: weights @ z + terms,
        start=project(jnp.ones_like(terms)),
        solution=None if solution is None else jnp.asarray(solution),
        strength=strength if strength > rounding else 0.0,
        lipschitz=lipschitz,
        project=project,
    )


def bilinear(matrix: Matrix, offset_x: Vector | None = None, offset_y: Vector | None = None) -> Problem:
    """Return `min_x max_y x^T A y + b^T x + c^T y`, whose operator `(A y + b, -A^T x - c)` is monotone and not strongly so.

    Simultaneous gradient play spirals away from the solution at every step size; extragradient, optimistic and proximal steps
    converge. Predictions are the tuple `(x, y)`, and begin at ones.

    Args:
        matrix: A, shape `[n, m]`.
        offset_x: b, shape `[n]`; None for 0.
        offset_y: c, shape `[m]`; None for 0.

    The solution is the shortest one, or None where offsets that A does not reach leave no saddle point at all.
    """
    payoff = np.asarray(matrix, np.float64)
    if payoff.ndim != 2:
        raise ValueError(f"matrix must have two axes, got shape {payoff.shape}.")
    left, right = _offset("offset_x", offset_x, payoff.shape[0]), _offset("offset_y", offset_y, payoff.shape[1])
    x, y = _solved(payoff.T, -right), _solved(payoff, -left)
    weights, terms_x, terms_y = jnp.asarray(payoff), jnp.asarray(left), jnp.asarray(right)

    def operator(z: tuple[Float[Array, " n"], Float[Array, " m"]]) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
        x, y = z
        return weights @ y + terms_x, -(weights.T @ x) - terms_y

    return Problem(
        operator=operator,
        start=(jnp.ones_like(terms_x), jnp.ones_like(terms_y)),
        solution=None if x is None or y is None else (jnp.asarray(x), jnp.asarray(y)),
        strength=0.0,
        lipschitz=float(np.linalg.norm(payoff, 2)),
    )


def rotation(strength: float, lipschitz: float) -> Problem:
    """Return the field of the plane that turns as much as its constants allow.

    In complex numbers it is `a z` with `Re a = mu` and `|a| = L`. It is the worst case of a strongly monotone operator: a
    forward step contracts by the general bound and not better.
    """
    _check_constants(strength, lipschitz)
    turn = float(np.sqrt(lipschitz**2 - strength**2))
    problem = quadratic(np.array([[strength, -turn], [turn, strength]]))
    return problem._replace(start=jnp.asarray(np.array([1.0, 0.0])), strength=float(strength), lipschitz=float(lipschitz))


def random_quadratic(key: Array, size: int, strength: float, lipschitz: float) -> Problem:
    """Return a random affine operator, neither symmetric nor normal, with exactly these constants, its solution not at 0.

    Args:
        key: of the draw.
        size: of z; at least 2, since in one dimension both constants are the same.
        strength: mu, >= 0.
        lipschitz: L, >= mu.
    """
    _check_constants(strength, lipschitz)
    if size < 2:
        raise ValueError(f"size must be at least 2, got {size}. In one dimension strength and lipschitz are the same.")
    keys = jax.random.split(key, 3)
    first, second = (np.asarray(jax.random.normal(keys[i], (size, size)), np.float64) for i in range(2))
    symmetric, skew = first @ first.T / size, second - second.T
    # With least eigenvalue 0, no multiple of it adds to the strength, and every multiple adds to the norm.
    base = symmetric - np.linalg.eigvalsh(symmetric)[0] * np.eye(size) + skew
    scale = _scale_for_norm(strength, base, lipschitz)
    problem = quadratic(strength * np.eye(size) + scale * base, jax.random.normal(keys[2], (size,)))
    return problem._replace(strength=float(strength), lipschitz=float(lipschitz))


def _scale_for_norm(strength: float, base: np.ndarray, lipschitz: float) -> float:
    """Return c with `||mu I + c base|| = L`, by bisection: the norm grows with c where base is monotone."""
    identity = strength * np.eye(len(base))
    low, high = 0.0, (strength + lipschitz) / float(np.linalg.norm(base, 2))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_short = np.linalg.norm(identity + middle * base, 2) < lipschitz
        low, high = (middle, high) if is_short else (low, middle)
    return low


def _check_constants(strength: float, lipschitz: float) -> None:
    if not (0.0 <= strength <= lipschitz and 0.0 < lipschitz < float("inf")):
        raise ValueError(
            f"lipschitz must be positive and strength between 0 and it, got {lipschitz} and {strength}. "
            "No operator is more strongly monotone than it is Lipschitz."
        )


def _offset(name: str, offset: Vector | None, size: int) -> np.ndarray:
    if offset is None:
        return np.zeros(size)
    shift = np.asarray(offset, np.float64)
    if shift.shape != (size,):
        raise ValueError(f"{name} must have shape {(size,)} to go with the matrix, got {shift.shape}.")
    return shift


def _is_single(matrix: Matrix) -> bool:
    return isinstance(matrix, (jax.Array, np.ndarray)) and jnp.finfo(jnp.result_type(matrix, jnp.float32)).bits <= 32


def _solved(matrix: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Return the shortest z with `matrix z = target`, or None where there is none."""
    z = np.linalg.lstsq(matrix, target, rcond=None)[0]
    missed = float(np.linalg.norm(matrix @ z - target))
    return z if missed <= 1e-9 * (1.0 + float(np.linalg.norm(target))) else None
