"""Stochastic GFlowNets where no flow meets all constraints: the compromise of least squares (eflow 2.4 and 2.5)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from narrows.exact.graph import Graph, with_chance
from narrows.exact.solution import Solution, solve, terminal_distribution
from narrows.operators import soft_bellman


class Compromise(NamedTuple):
    """Flows that violate the constraints of a stochastic GFlowNet least, float64.

    Attributes:
        log_policy: the player's policy, the probabilities of the outcomes in `CHANCE` states, `-inf` where illegal.
        log_probs: log-probability of ending in each terminal state.
        log_flow: log F of each state, the log-reward where it is terminal.
        residuals: `log F(s) + log P(o) - log F(s_o)` of each outcome, 0 elsewhere.
        loss: the weighted sum of their squares.
        max_gradient: the largest derivative of the loss at the end, 0 at an exact minimum.
        num_steps: steps of the search.
    """

    log_policy: Float[np.ndarray, "state action"]
    log_probs: Float[np.ndarray, " terminal"]
    log_flow: Float[np.ndarray, " state"]
    residuals: Float[np.ndarray, "state action"]
    loss: float
    max_gradient: float
    num_steps: int


def solve_stochastic_gflownet(
    graph: Graph,
    log_reward: Float[np.ndarray, " terminal"],
    *,
    weights: Float[np.ndarray, "state action"] | None = None,
    max_steps: int = 2000,
    tolerance: float = 1e-8,
) -> Compromise:
    """Return the least-squares compromise between the constraints of a stochastic GFlowNet whose backward policy is 1.

    They are `F(s) pi(a|s) = F(s_a)` for the player's moves, `F(s) P(o|s) = F(s_o)` for outcomes and `F(x) = R(x)` for objects:
    more equations than flows, without a solution unless rewards happen to follow the kernel. Here the player's hold exactly,
    so that the flows of chance states are what is left to choose, and outcomes do in the mean square of their logarithms. The
    search is quasi-Newton (L-BFGS) from the flows of maximum-entropy reinforcement learning; the loss is not convex, and the
    minimum found is the one nearby.

    A flow belongs to a state, as that of a network does that sees states: on a graph it is one for all the histories that share
    the state. Other than `solve`'s, the flows of a tree of histories would differ there, since each is pulled by the outcome
    that led to it too, and their loss would be smaller. Where the letters' kernels are permutations of each other, as under
    `Substitution`, outcomes that count alike ask the same flow of every letter, and the policy tends to the uniform one.

    Args:
        graph: the states, any with chance turns.
        log_reward: `beta Phi` of each of `graph.terminals`, finite.
        weights: of each outcome's squared residual, >= 0; by default 1.
        max_steps: of the search.
        tolerance: largest derivative of the loss to stop at.

    Raises ValueError for weights of the wrong shape or negative, and what `solve` raises.
    """
    weights = np.ones(graph.children.shape) if weights is None else np.asarray(weights, np.float64)
    _check(graph, weights)
    start = solve(graph, log_reward, soft_bellman(), averaging="value")
    state, action = np.nonzero(graph.is_chance[:, None] & np.isfinite(start.log_policy))
    log_flow, residuals, max_gradient, num_steps = start.values, np.zeros(graph.children.shape), 0.0, 0
    if state.size:
        with jax.enable_x64(True):
            problem = _pose(graph, start, state, action, weights)
            x, num_steps = _search(problem, start.values[graph.is_chance], max_steps, tolerance)
            (_, misfit), gradient = _loss(jnp.asarray(x), problem)
            log_flow, residuals[state, action] = np.asarray(misfit.log_flow), np.asarray(misfit.residuals)
            max_gradient = float(jnp.max(jnp.abs(gradient)))
    shares = np.where(graph.children >= 0, log_flow[graph.children] - log_flow[:, None], -np.inf)
    log_policy = with_chance(graph, shares)
    return Compromise(
        log_policy=log_policy,
        log_probs=terminal_distribution(graph, log_policy),
        log_flow=log_flow,
        residuals=residuals,
        loss=float(np.sum(weights * residuals**2)),
        max_gradient=max_gradient,
        num_steps=num_steps,
    )


class _Round(NamedTuple):
    """States of the player whose flow is the sum of their children's, known by then."""

    ids: Int[Array, " row"]
    children: Int[Array, "row action"]
    mask: Bool[Array, "row action"]


class _Problem(NamedTuple):
    """The flows that are known or guessed, which of them are free, the sums in their order, and every outcome's constraint."""

    log_flow: Float[Array, " state"]
    free: Int[Array, " free"]
    rounds: tuple[_Round, ...]
    state: Int[Array, " outcome"]
    child: Int[Array, " outcome"]
    log_prob: Float[Array, " outcome"]
    weight: Float[Array, " outcome"]


def _pose(
    graph: Graph,
    start: Solution,
    state: Int[np.ndarray, " outcome"],
    action: Int[np.ndarray, " outcome"],
    weights: Float[np.ndarray, "state action"],
) -> _Problem:
    # A player's state waits for those of its children that are a player's too; flows of chance states are given. So where turns
    # alternate there is one round, however deep the graph.
    nth = np.zeros(graph.num_states, np.int64)
    for level in reversed(list(graph.levels())):
        ours = level[~graph.is_chance[level]]
        nth[ours] = 1 + np.max(np.where(graph.children[ours] >= 0, nth[graph.children[ours]], 0), axis=1)
    rounds = []
    for number in range(1, int(nth.max()) + 1):
        ids = np.flatnonzero(nth == number)
        mask = graph.children[ids] >= 0
        children = np.where(mask, graph.children[ids], 0)
        rounds.append(_Round(ids=jnp.asarray(ids), children=jnp.asarray(children), mask=jnp.asarray(mask)))
    edge = (state, action)
    parts = (start.values, np.flatnonzero(graph.is_chance), tuple(rounds), state, graph.children[edge])
    return _Problem(*jax.tree.map(jnp.asarray, (*parts, start.log_policy[edge], weights[edge])))


def _search(
    problem: _Problem, x: Float[np.ndarray, " free"], max_steps: int, tolerance: float
) -> tuple[Float[np.ndarray, " free"], int]:
    """Return where the search from `x` ends and its number of steps."""
    from scipy.optimize import minimize  # a quarter of a second and 30 MB that most runs have no use for

    def loss(x: Float[np.ndarray, " free"]) -> tuple[float, Float[np.ndarray, " free"]]:
        (value, _), gradient = _loss(jnp.asarray(x), problem)
        return float(value), np.asarray(gradient)

    options = {"maxiter": max_steps, "maxfun": 2 * max_steps, "maxcor": 30, "gtol": tolerance, "ftol": 0.0}
    found = minimize(loss, x, jac=True, method="L-BFGS-B", options=options)
    return found.x, int(found.nit)


class _Misfit(NamedTuple):
    """The flows of all states and what is left of every outcome's constraint."""

    log_flow: Float[Array, " state"]
    residuals: Float[Array, " outcome"]


@jax.jit
@partial(jax.value_and_grad, has_aux=True)
def _loss(x: Float[Array, " free"], problem: _Problem) -> tuple[Float[Array, ""], _Misfit]:
    log_flow = problem.log_flow.at[problem.free].set(x)
    for ids, children, mask in problem.rounds:
        log_flow = log_flow.at[ids].set(jax.nn.logsumexp(jnp.where(mask, log_flow[children], -jnp.inf), axis=1))
    residuals = log_flow[problem.state] + problem.log_prob - log_flow[problem.child]
    return jnp.sum(problem.weight * residuals**2), _Misfit(log_flow, residuals)


def _check(graph: Graph, weights: Float[np.ndarray, "state action"]) -> None:
    if weights.shape != graph.children.shape or not np.all(weights >= 0.0):
        raise ValueError(
            f"weights must be at least 0, one for each state and outcome, {graph.children.shape}, got shape {weights.shape} "
            f"and the smallest {np.min(weights)}. Those of chance states are read: put 0 anywhere else."
        )
