"""Matrix games: two players, each with a distribution over actions, one paying the other."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from narrows.vi.base import Result
from narrows.vi.methods import extragradient
from narrows.vi.problems.base import Problem
from narrows.vi.projections import simplex
from narrows.vi.solving import Solution, solve

Payoff: TypeAlias = Array | np.ndarray | Sequence[Sequence[float]]
"""Payments of player 1 to player 2: a row for each action of player 1, a column for each of player 2."""

Mixed: TypeAlias = tuple[Float[Array, " rows"], Float[Array, " columns"]]
"""A distribution over actions for each player."""

ROCK_PAPER_SCISSORS: Final = ((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0))
"""Both choose among rock, scissors and paper, in this order, and the loser pays one."""

MATCHING_PENNIES: Final = ((-1.0, 1.0), (1.0, -1.0))
"""Player 1 gets both pennies where they match, player 2 where they do not."""


def matrix_game(payoff: Payoff, regularisation: float = 0.0) -> Problem:
    """Return `min_x max_y x^T A y + lam/2 (||x - u||^2 - ||y - u'||^2)` over distributions x and y, u and u' uniform.

    The operator is `(A y + lam (x - u), -A^T x + lam (y - u'))`, with strength lam and Lipschitz constant
    `sqrt(lam^2 + ||A||^2)`. Predictions are the tuple `(x, y)`, and begin at the first action of each player.

    Args:
        payoff: A, shape `[rows, columns]`.
        regularisation: lam, >= 0. Without it the solution comes from a linear program and is one of possibly many; with it, it
            comes from a run of extragradient to 1e-12, and is None where that did not get there.
    """
    matrix = np.asarray(payoff, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"payoff must have a row and a column for each action, got shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise ValueError("payoff must be finite. Leave out actions that are never allowed.")
    if not 0.0 <= regularisation < float("inf"):
        raise ValueError(f"regularisation must be at least 0 and finite, got {regularisation}.")
    lipschitz = float(np.hypot(regularisation, np.linalg.norm(matrix, 2)))
    solution = _uniform(matrix)
    if solution is None:
        solution = _regularised(matrix, regularisation, lipschitz) if regularisation > 0 else _linear_program(matrix)
    return Problem(
        operator=_operator(matrix, regularisation),
        start=_first_actions(matrix),
        solution=None if solution is None else (jnp.asarray(solution[0]), jnp.asarray(solution[1])),
        strength=float(regularisation),
        lipschitz=lipschitz,
        project=simplex,
    )


def duality_gap(payoff: Payoff, z: Mixed) -> Float[Array, ""]:
    """Return what both players together could gain by answering the other's strategy, `max_j (A^T x)_j - min_i (A y)_i`.

    It is 0 exactly at a solution of the game without regularisation.
    """
    x, y = z
    matrix = jnp.asarray(np.asarray(payoff) if isinstance(payoff, Sequence) else payoff, x.dtype)
    if matrix.shape != (*x.shape, *y.shape):
        raise ValueError(f"payoff must have shape {(*x.shape, *y.shape)} to go with the strategies, got {matrix.shape}.")
    return jnp.max(x @ matrix) - jnp.min(matrix @ y)


def _operator(matrix: np.ndarray, regularisation: float) -> Callable[[Mixed], Mixed]:
    weights = jnp.asarray(matrix)
    num_rows, num_columns = matrix.shape

    def operator(z: Mixed) -> Mixed:
        x, y = z
        pull_x, pull_y = regularisation * (x - 1.0 / num_rows), regularisation * (y - 1.0 / num_columns)
        return weights @ y + pull_x, -(weights.T @ x) + pull_y

    return operator


def _uniform(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return uniform strategies where they leave the other player without a preference: they solve the game at every lam."""
    x, y = (np.full(size, 1.0 / size) for size in matrix.shape)
    slack = 1e-12 * max(1.0, float(np.abs(matrix).max()))
    is_solution = np.ptp(x @ matrix) <= slack and np.ptp(matrix @ y) <= slack
    return (x, y) if is_solution else None


def _linear_program(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return minimax strategies of both players (von Neumann 1928)."""
    return _minimax(matrix), _minimax(-matrix.T)


def _minimax(matrix: np.ndarray) -> np.ndarray:
    """Return the x that minimises `max_j (A^T x)_j`: least v with `A^T x <= v`."""
    # Only here: it takes longer to import than most problems to solve.
    from scipy.optimize import linprog

    num_rows, num_columns = matrix.shape
    found = linprog(
        c=np.append(np.zeros(num_rows), 1.0),
        A_ub=np.column_stack([matrix.T, -np.ones(num_columns)]),
        b_ub=np.zeros(num_columns),
        A_eq=np.append(np.ones(num_rows), 0.0)[None],
        b_eq=np.ones(1),
        bounds=[(0.0, None)] * num_rows + [(None, None)],
    )
    # Every finite game has a value, so this is ours and not the user's.
    assert found.success, found.message
    strategy = np.maximum(found.x[:-1], 0.0)
    return strategy / strategy.sum()


def _regularised(matrix: np.ndarray, regularisation: float, lipschitz: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the solution in double precision, whatever JAX is set to."""
    with jax.enable_x64(True):
        method, tol = extragradient(0.5 / lipschitz), 1e-12 * max(1.0, lipschitz)
        operator = _operator(matrix, regularisation)

        # As one program: compiling the projection piece by piece takes longer than the whole run.
        @jax.jit
        def run(start: Mixed) -> Solution:
            return solve(operator, start, method, project=simplex, max_steps=100_000, tol=tol)

        found = run(_first_actions(matrix))
        x, y = found.value
        return (np.asarray(x), np.asarray(y)) if int(found.result) == Result.CONVERGED else None


def _first_actions(matrix: np.ndarray) -> Mixed:
    num_rows, num_columns = matrix.shape
    return jnp.asarray(np.eye(num_rows)[0]), jnp.asarray(np.eye(num_columns)[0])
