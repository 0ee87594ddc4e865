"""The projected Bellman equation as a variational inequality (surrogate 6).

With `T v = r + gamma P v` and `F(v) = v - T v`, the solution over the representable values, in the inner product of the weights
`xi`, is the fixed point of temporal differences: `A theta = b`. The reductions are Bertsekas' (2009, LIDS-P-2808).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from narrows.vi.metric import Metric, weighted
from narrows.vi.problems.base import HiddenProblem, Problem
from narrows.vi.problems.chains import Chain, Walk


class Moments(NamedTuple):
    """Moments of a chain, its features and its weights that temporal differences need: exact, or averages over transitions.

    Attributes:
        gram: `B = Phi^T Xi Phi`.
        matrix: `A = Phi^T Xi (I - gamma P) Phi`.
        vector: `b = Phi^T Xi r`.
    """

    gram: Float[Array | np.ndarray, "feature feature"]
    matrix: Float[Array | np.ndarray, "feature feature"]
    vector: Float[Array | np.ndarray, " feature"]


class LinearBellman(NamedTuple):
    """A projected Bellman equation with a linear model, `v = Phi theta`; `linear_bellman` makes one.

    Attributes:
        chain: the Markov reward process.
        features: Phi.
        weights: xi, of sum 1.
        moments: `B`, `A` and `b`, exactly.
        fit: the parameters of the nearest representable values, as a matrix.
        solution: theta*, the one of least norm where there are many.
        strength: mu of the projected operator on the representable values; below zero where the weights break monotonicity.
        lipschitz: its L.
        start: parameters to begin at.
    """

    chain: Chain
    features: Float[np.ndarray, "state feature"]
    weights: Float[np.ndarray, " state"]
    moments: Moments
    fit: Float[np.ndarray, "feature state"]
    solution: Float[np.ndarray, " feature"]
    strength: float
    lipschitz: float
    start: Float[np.ndarray, " feature"]

    @property
    def metric(self) -> Metric:
        """The inner product of the weights."""
        return weighted(jnp.asarray(self.weights))

    def predict(self, params: Float[Array, " feature"]) -> Float[Array, " state"]:
        """Return `Phi theta`."""
        return jnp.asarray(self.features, params.dtype) @ params

    def operator(self, value: Float[Array, " state"]) -> Float[Array, " state"]:
        """Return `F(v) = v - T v`."""
        return value - self.chain.backup(value)

    def project(self, value: Float[Array, " state"]) -> Float[Array, " state"]:
        """Return the nearest representable values, in the inner product of the weights."""
        return self.predict(jnp.asarray(self.fit, value.dtype) @ value)

    def error(self, params: Float[Array, " feature"]) -> Float[Array, ""]:
        """Return the projected Bellman error, `||Phi theta - Proj T Phi theta||`; zero exactly at the solution."""
        value = self.predict(params)
        return self.norm(self.project(self.operator(value)))

    def norm(self, value: Float[Array, " state"]) -> Float[Array, ""]:
        """Return the norm of the weights, `sqrt(sum_s xi_s v_s^2)`."""
        return jnp.sqrt(jnp.sum(jnp.asarray(self.weights, value.dtype) * value**2))

    def hidden(self) -> HiddenProblem:
        """Return the variational inequality in the values, with the model in front of it; to be used with `metric`."""
        start = jnp.asarray(self.start)
        solution = self.predict(jnp.asarray(self.solution))
        problem = Problem(self.operator, self.predict(start), solution, self.strength, self.lipschitz, self.project)
        return HiddenProblem(self.predict, start, problem)


def linear_bellman(
    chain: Chain,
    features: Float[np.ndarray, "state feature"],
    weights: Float[np.ndarray, " state"] | None = None,
    start: Float[np.ndarray, " feature"] | None = None,
) -> LinearBellman:
    """Return the projected Bellman equation of a chain.

    Args:
        chain: a `markov_chain`.
        features: of each state; they may depend on each other.
        weights: of the states, brought to sum 1; the stationary distribution where not given. Only that one is known to make
            the operator strongly monotone.
        start: parameters to begin at; 0 where not given.
    """
    features = np.asarray(features, float)
    num_states = len(chain.reward)
    if features.ndim != 2 or len(features) != num_states:
        raise ValueError(f"features must have a row for each of {num_states} states, got shape {features.shape}.")
    shares = chain.stationary if weights is None else np.asarray(weights, float)
    if shares.shape != (num_states,) or not np.all(shares >= 0) or not shares.sum() > 0:
        raise ValueError(f"weights must be at least 0 and not all 0, one for each of {num_states} states, got {shares}.")
    shares = shares / shares.sum()
    root = np.sqrt(shares)
    start = np.zeros(features.shape[1]) if start is None else np.asarray(start, float)
    if start.shape != features.shape[1:]:
        raise ValueError(f"start must have one number for each of {features.shape[1]} features, got shape {start.shape}.")
    differences = features - chain.discount * chain.transition @ features
    moments = Moments(*((features.T * shares) @ each for each in (features, differences, chain.reward)))
    left, sizes, right = np.linalg.svd(root[:, None] * features, full_matrices=False)
    is_used = sizes > 1e-12 * sizes.max()
    # Columns of `basis` are parameters whose values are orthonormal in the inner product of the weights.
    left, basis = left[:, is_used], right[is_used].T / sizes[is_used]
    projected = left.T @ (root[:, None] * differences @ basis)
    return LinearBellman(
        chain=chain,
        features=features,
        weights=shares,
        moments=moments,
        fit=basis @ left.T * root,
        solution=np.linalg.lstsq(moments.matrix, moments.vector, rcond=None)[0],
        strength=float(np.linalg.eigvalsh((projected + projected.T) / 2)[0]),
        lipschitz=float(np.linalg.norm(projected, 2)),
        start=start,
    )


def td_step(moments: Moments, params: Float[Array, " feature"], step_size: float | Array) -> Float[Array, " feature"]:
    """Return the expected step of TD(0), `theta - beta (A theta - b)`."""
    return params - step_size * _pull(moments, params)


def exact_step(moments: Moments, params: Float[Array, " feature"], step_size: float | Array = 1.0) -> Float[Array, " feature"]:
    """Return the exact minimiser of the surrogate, `theta - eta B^-1 (A theta - b)`: LSPE(0), projected value iteration.

    The features must not depend on each other. Yu and Bertsekas (IEEE TAC 54(7), 2009).
    """
    return params - step_size * jnp.linalg.solve(jnp.asarray(moments.gram, params.dtype), _pull(moments, params))


def surrogate_step(
    moments: Moments, params: Float[Array, " feature"], step_size: float | Array, inner_size: float | Array, num_steps: int
) -> Float[Array, " feature"]:
    """Return `theta - eta [I - (I - b B)^m] B^-1 (A theta - b)`: m gradient steps of size b on one surrogate, in closed form.

    It is `b sum_{k<m} (I - b B)^k` by doubling: no inverse, so B may be singular, and some `2 log2 m` products of matrices.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    gram, identity = jnp.asarray(moments.gram, params.dtype), jnp.eye(len(params), dtype=params.dtype)
    shrink = identity - inner_size * gram
    power, total = shrink, identity
    for digit in format(num_steps, "b")[1:]:
        power, total = power @ power, total + power @ total
        if digit == "1":
            power, total = power @ shrink, total + power
    return params - step_size * inner_size * (total @ _pull(moments, params))


def lstd(moments: Moments, ridge: float = 0.0) -> Float[Array, " feature"]:
    """Return the solution of `(A + ridge I) theta = b`; averages over few transitions are singular without a ridge."""
    matrix = jnp.asarray(moments.matrix)
    return jnp.linalg.solve(matrix + ridge * jnp.eye(len(matrix), dtype=matrix.dtype), jnp.asarray(moments.vector))


def alpha_of(moments: Moments, inner_size: float, num_steps: int) -> float:
    """Return alpha of that many gradient steps, `max_i |1 - b lambda_i(B)|^m` over the directions that change values."""
    sizes = np.linalg.eigvalsh(np.asarray(moments.gram))
    return float(np.abs(1.0 - inner_size * sizes[sizes > 1e-12 * sizes[-1]]).max() ** num_steps)


def simulate(
    problem: LinearBellman,
    seen: Walk,
    update: Callable[[Moments, PyTree], PyTree],
    params: PyTree,
    ridge: float = 1e-3,
) -> PyTree:
    """Return the parameters after each transition, `update` having been given the averages of B, A and b so far.

    Args:
        problem: features and rewards; its weights are not used.
        seen: transitions.
        update: from averages and parameters to the next parameters, such as
            `lambda moments, params: exact_step(moments, params)` for LSPE; any pytree, so that methods can run side by side.
        params: to begin at.
        ridge: the sum behind the average of B begins at so much of the identity.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    # A row of zeros for the state after the end, which is worth nothing.
    features = jnp.concatenate([jnp.asarray(problem.features, dtype), jnp.zeros((1, problem.features.shape[1]), dtype)])
    reward, size = jnp.asarray(problem.chain.reward, dtype), features.shape[1]

    def learn(carry: tuple, now: tuple[Walk, Array]) -> tuple[tuple, PyTree]:
        (sums, params), (at, count) = carry, now
        feature = features[at.state]
        difference = feature - problem.chain.discount * features[at.next_state]
        new = Moments(jnp.outer(feature, feature), jnp.outer(feature, difference), feature * reward[at.state])
        sums = jax.tree.map(jnp.add, sums, new)
        params = update(jax.tree.map(lambda leaf: leaf / count, sums), params)
        return (sums, params), params

    zero = jnp.zeros((size, size), dtype)
    start = Moments(ridge * jnp.eye(size, dtype=dtype), zero, zero[0])
    counts = jnp.arange(1, len(seen.state) + 1, dtype=dtype)
    return jax.lax.scan(learn, (start, jax.tree.map(jnp.asarray, params)), (seen, counts))[1]


def _pull(moments: Moments, params: Float[Array, " feature"]) -> Float[Array, " feature"]:
    """Return `A theta - b`, in the precision of the parameters."""
    return jnp.asarray(moments.matrix, params.dtype) @ params - jnp.asarray(moments.vector, params.dtype)
