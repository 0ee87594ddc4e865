"""Policies that know the noise, or do not, played in it: exact references on graphs of perturbed environments.

They are judged against the target of the environment without its noise, where a GFlowNet samples in proportion to the
reward (eflow 2.5 and 7.4).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from narrows.envs.base import NO_ACTION
from narrows.envs.perturbation import PerturbedState
from narrows.exact.graph import Graph, state_keys, with_chance
from narrows.exact.solution import Operator, rollout_distribution, solve
from narrows.operators import soft_bellman

_BLOCK = 4096
# A kernel with a larger condition number leaves no digit of the policy that is asked of it.
_MAX_CONDITION = 1e10
_ROUNDING = 1e-12


class NoiseFree(NamedTuple):
    """The environment without its noise, as far as the noise lets moves take place.

    Attributes:
        graph: its states, moves being what takes place; terminal states in the order of the noisy graph's.
        ids: the number of each of its states in the noisy graph.
    """

    graph: Graph
    ids: Int[np.ndarray, " state"]


class Played(NamedTuple):
    """A policy and what comes of it in the environment with its noise, float64.

    Attributes:
        log_policy: what is asked for, the kernel in `CHANCE` states, `-inf` where an action is illegal.
        log_probs: log-probability of ending in each terminal state.
    """

    log_policy: Float[np.ndarray, "state action"]
    log_probs: Float[np.ndarray, " terminal"]


class Deconvolution(NamedTuple):
    """The policy whose outcomes come as near to the target as clipping allows, float64.

    Attributes:
        log_policy: what is asked for, the kernel in `CHANCE` states, `-inf` where an action is illegal or was clipped.
        log_probs: log-probability of ending in each terminal state; the target itself where nothing was clipped.
        weights: the solution before clipping, of sum one in the player's states and possibly negative, 0 elsewhere.
        is_clipped: which actions would have to be asked for with negative probability.
        share_clipped: their share among the actions of the states that have a choice.
    """

    log_policy: Float[np.ndarray, "state action"]
    log_probs: Float[np.ndarray, " terminal"]
    weights: Float[np.ndarray, "state action"]
    is_clipped: Bool[np.ndarray, "state action"]
    share_clipped: float


def noise_free_graph(graph: Graph) -> NoiseFree:
    """Return the graph without its chance turns: each state's moves are the outcomes that it can come to.

    Raises ValueError for a graph that is not a perturbed environment's.
    """
    asked = _asked(graph)
    ids = np.flatnonzero(asked == NO_ACTION)
    rank = np.full(graph.num_states, -1)
    rank[ids] = np.arange(ids.size)
    children, undo = np.full((ids.size, graph.children.shape[1]), -1), np.zeros((ids.size, graph.children.shape[1]), np.int64)
    for asking in graph.children[ids].T:
        rows, waiting = np.flatnonzero(asking >= 0), asking[asking >= 0]
        came = graph.children[waiting]
        children[rows] = np.where(came >= 0, rank[came], children[rows])
        # A perturbed environment's way back says what took place and what was asked for.
        undo[rows] = np.where(came >= 0, graph.backward_actions[waiting] // graph.children.shape[1], undo[rows])
    states = graph.rows(ids).inner
    level_starts = np.append(graph.level_starts[:-1:2], graph.num_states)
    return NoiseFree(
        Graph(
            states=states,
            children=children,
            backward_actions=undo,
            is_terminal=graph.is_terminal[ids],
            num_parents=np.bincount(children[children >= 0], minlength=ids.size),
            turn=graph.turn[ids],
            chance_log_probs=None,
            # Turns alternate, so that two of the noisy graph's levels are one here.
            level_starts=np.searchsorted(ids, level_starts),
            _ids={key: number for number, key in enumerate(state_keys(states))},
        ),
        ids,
    )


def solve_noise_free(graph: Graph, log_reward: Float[np.ndarray, " terminal"], operator: Operator | None = None) -> Played:
    """Return the policy that solves the environment without its noise, and what it samples in the noise.

    Args:
        graph: the states of a perturbed environment.
        log_reward: `beta Phi` of each of `graph.terminals`, finite.
        operator: by default soft Bellman at omega = 1, which without noise samples in proportion to the reward.

    Raises ValueError for a graph that is not a perturbed environment's, and what `solve` raises.
    """
    quiet = noise_free_graph(graph)
    log_policy = np.full(graph.children.shape, -np.inf)
    log_policy[quiet.ids] = solve(quiet.graph, log_reward, soft_bellman() if operator is None else operator).log_policy
    return Played(with_chance(graph, log_policy), rollout_distribution(graph, log_policy))


def solve_deconvolution(graph: Graph, log_reward: Float[np.ndarray, " terminal"]) -> Deconvolution:
    """Return the policy that undoes the noise, as far as probabilities can: the target itself where nothing is clipped.

    With K the kernel of a state and t its moves under the GFlowNet without noise, the policy solves `sum_a pi(a) K(a, o) =
    t(o)`; what comes out negative is set to 0 and the rest is scaled to sum one. For `Substitution` at rate alpha among n
    letters that share a mass T, `pi(a) = (t(a) - T alpha / n) / (1 - alpha)` (eflow 2.5). Without clipping the
    constraints of a stochastic GFlowNet with a learned backward policy can be met too, and where there is any they cannot.

    Args:
        graph: the states of a perturbed environment.
        log_reward: `beta Phi` of each of `graph.terminals`, finite.

    Raises ValueError for a kernel that cannot be inverted, for a graph that is not a perturbed environment's, and what `solve`
    raises.
    """
    quiet = noise_free_graph(graph)
    target = np.exp(solve(quiet.graph, log_reward, soft_bellman()).log_policy)
    weights = np.zeros(graph.children.shape)
    is_open = ~quiet.graph.is_terminal
    players, target = quiet.ids[is_open], target[is_open]
    for start in range(0, players.size, _BLOCK):
        block = players[start : start + _BLOCK]
        weights[block] = _undo_kernel(graph, block, target[start : start + _BLOCK])
    policy = np.maximum(weights, 0.0)
    policy[players] /= np.sum(policy[players], axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        log_policy = np.log(policy)
    is_clipped = weights < -_ROUNDING
    num_asks = np.sum(graph.children[players] >= 0, axis=1)
    num_choices = max(int(np.sum(num_asks[num_asks > 1])), 1)
    return Deconvolution(
        log_policy=with_chance(graph, log_policy),
        log_probs=rollout_distribution(graph, log_policy),
        weights=weights,
        is_clipped=is_clipped,
        share_clipped=int(np.sum(is_clipped)) / num_choices,
    )


def _undo_kernel(
    graph: Graph, players: Int[np.ndarray, " row"], target: Float[np.ndarray, "row action"]
) -> Float[np.ndarray, "row action"]:
    """Return the solution of `K^T pi = t` for each of a block of a player's states."""
    assert graph.chance_log_probs is not None, "a perturbed environment has chance turns"
    asking = graph.children[players]
    is_legal = asking >= 0
    # Illegal actions are rows and columns of the identity, so that one shape fits all states.
    kernels = np.where(is_legal[:, :, None], np.exp(graph.chance_log_probs[asking]), np.eye(asking.shape[1]))
    is_singular = ~(np.linalg.cond(kernels) < _MAX_CONDITION)
    if np.any(is_singular):
        row = int(np.argmax(is_singular))
        state = int(players[row])
        actions = np.flatnonzero(is_legal[row])
        raise ValueError(
            f"the kernel of state {state} cannot be undone: P(what takes place | asked) over its actions {actions.tolist()} is "
            f"{kernels[row][np.ix_(actions, actions)].tolist()}, a singular matrix. Expected outcomes that tell what was asked "
            "for, such as a rate below 1."
        )
    weights = np.linalg.solve(np.swapaxes(kernels, 1, 2), target[:, :, None])[:, :, 0]
    return np.where(is_legal, weights, 0.0)


def _asked(graph: Graph) -> Int[np.ndarray, " state"]:
    """Return what was asked for in each state."""
    if not isinstance(graph.states, PerturbedState):
        raise ValueError(
            f"expected the graph of a perturbed environment, got one whose states are {type(graph.states).__name__}. "
            "Enumerate perturbed(env, kernel)."
        )
    return np.asarray(graph.states.asked)
