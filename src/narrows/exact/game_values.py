"""The value of a zero-sum game: to perfect players, to given ones and to those who answer a given one best."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from narrows.exact.checks import checked_ends, checked_policy
from narrows.exact.games import reference_of, signs_of
from narrows.exact.graph import Graph


class Minimax(NamedTuple):
    """Perfect play, float64.

    Attributes:
        values: what player 0 gets from each state on if both play perfectly.
        is_optimal: which actions keep that value; none where chance moves and in terminal states.
    """

    values: Float[np.ndarray, " state"]
    is_optimal: Bool[np.ndarray, "state action"]


class BestResponse(NamedTuple):
    """The best that one player can do against a given policy of the other's, float64.

    Attributes:
        values: what player 0 gets from each state on.
        actions: the responder's choice at its own turns, the first of several best; -1 elsewhere.
    """

    values: Float[np.ndarray, " state"]
    actions: Int[np.ndarray, " state"]

    @property
    def root_value(self) -> float:
        """The value of the whole game to player 0."""
        return float(self.values[0])


class OptimalRates(NamedTuple):
    """The rates at which a policy plays perfectly, over all positions alike.

    Attributes:
        argmax: share of positions where the most probable action is optimal.
        mass: mean probability of the optimal actions.
    """

    argmax: float
    mass: float


def minimax(graph: Graph, outcome: Float[np.ndarray, " terminal"]) -> Minimax:
    """Return the values of perfect play and the moves that keep them, the mean over outcomes where chance moves.

    Args:
        graph: the states.
        outcome: what player 0 gets, and player 1 pays, at each of `graph.terminals`; `hastened` makes quick wins count more.
    """
    sign, values = signs_of(graph), _ends(graph, outcome)
    is_optimal = np.zeros(graph.children.shape, bool)
    for ids in reversed(list(graph.levels())):
        own = sign[ids, None] * values[graph.children[ids]]
        best = np.max(np.where(graph.children[ids] >= 0, own, -np.inf), axis=1)
        is_optimal[ids] = (graph.children[ids] >= 0) & (own == best[:, None]) & ~graph.is_chance[ids, None]
        values[ids] = sign[ids] * best
        _average(graph, ids[graph.is_chance[ids]], values, graph.chance_log_probs)
    return Minimax(values, is_optimal)


def hastened(graph: Graph, outcome: Float[np.ndarray, " terminal"]) -> Float[np.ndarray, " terminal"]:
    """Return outcomes that are larger in size the earlier the game ends, so that perfect play wins fast and loses slowly.

    An outcome counts `1 + (number of levels) - (level of the end)` times.
    """
    level = np.searchsorted(graph.level_starts, graph.terminals, side="right") - 1
    return checked_ends(graph, outcome, "outcome") * (graph.level_starts.size - level)


def expected_outcome(
    graph: Graph, log_policy: Float[np.ndarray, "state action"], outcome: Float[np.ndarray, " terminal"]
) -> Float[np.ndarray, " state"]:
    """Return what player 0 gets on average from each state on if both players follow a policy."""
    log_policy, values = checked_policy(graph, log_policy), _ends(graph, outcome)
    for ids in reversed(list(graph.levels())):
        _average(graph, ids, values, log_policy)
    return values


def best_response(
    graph: Graph, log_policy: Float[np.ndarray, "state action"], outcome: Float[np.ndarray, " terminal"], player: int
) -> BestResponse:
    """Return the best that a player can do where the other follows a policy.

    Args:
        graph: the states.
        log_policy: the policy; what it says of the responder's own turns is not read.
        outcome: what player 0 gets, and player 1 pays, at each of `graph.terminals`.
        player: who responds, 0 or 1.
    """
    if player not in (0, 1):
        raise ValueError(f"player must be 0 or 1, got {player!r}.")
    sign, log_policy, values = signs_of(graph), checked_policy(graph, log_policy), _ends(graph, outcome)
    actions = np.full(graph.num_states, -1)
    for ids in reversed(list(graph.levels())):
        is_own = graph.turn[ids] == player
        ours = ids[is_own]
        own = np.where(graph.children[ours] >= 0, sign[ours, None] * values[graph.children[ours]], -np.inf)
        actions[ours] = np.argmax(own, axis=1)
        values[ours] = sign[ours] * np.max(own, axis=1)
        _average(graph, ids[~is_own], values, log_policy)
    return BestResponse(values, actions)


def exploitability(
    graph: Graph, log_policy: Float[np.ndarray, "state action"], outcome: Float[np.ndarray, " terminal"]
) -> float:
    """Return what a best response gains over perfect play's value, the mean over who responds; 0 for perfect players.

    Half the difference of what player 0 gets when it responds best and when player 1 does.
    """
    first, second = (best_response(graph, log_policy, outcome, player).root_value for player in (0, 1))
    return (first - second) / 2.0


def regularised_value(
    graph: Graph,
    log_policy: Float[np.ndarray, "state action"],
    log_reward: Float[np.ndarray, " terminal"],
    *,
    log_reference: Float[np.ndarray, "state action"] | None = None,
    branch_adjusted: bool = True,
) -> Float[np.ndarray, " state"]:
    """Return the value of the regularised game under any policy, from each state on (eflow eq. 3.9).

    `E[log_reward] - E[sum at player 0's turns of KL(pi || mu)] + E[sum at player 1's turns of KL(pi || mu)]`, which for the
    policy of `solve_game` is its `values`: player 0 can raise it by no other policy, nor player 1 lower it.

    Args:
        graph: the states, without chance turns.
        log_policy: of both players.
        log_reward, log_reference, branch_adjusted: as for `solve_game`; without adjustment the divergences are minus entropies.
    """
    if np.any(graph.is_chance):
        raise ValueError("chance moves in this graph, for which no regularised game of one flow is defined.")
    log_policy, values = checked_policy(graph, log_policy), _ends(graph, log_reward, "log_reward")
    log_mu, sign = reference_of(graph, log_reference, branch_adjusted), signs_of(graph)
    for ids in reversed(list(graph.levels())):
        is_played = (graph.children[ids] >= 0) & (log_policy[ids] > -np.inf)
        ratio = np.where(is_played, np.where(is_played, log_policy[ids], 0.0) - log_mu[ids], 0.0)
        _average(graph, ids, values, log_policy)
        values[ids] -= sign[ids] * np.sum(np.exp(log_policy[ids]) * ratio, axis=1, where=is_played)
    return values


def is_argmax_optimal(
    log_policy: Float[np.ndarray, "position action"], is_optimal: Bool[np.ndarray, "position action"]
) -> Bool[np.ndarray, " position"]:
    """Return whether the most probable action is optimal in each position; of several most probable ones, the first."""
    return np.take_along_axis(is_optimal, np.argmax(log_policy, axis=1)[:, None], axis=1)[:, 0]


def optimal_rates(
    log_policy: Float[np.ndarray, "position action"], is_optimal: Bool[np.ndarray, "position action"]
) -> OptimalRates:
    """Return how often a policy plays perfectly; positions without an optimal action, such as finished ones, do not count."""
    counts = np.any(is_optimal, axis=1)
    if not np.any(counts):
        raise ValueError("expected at least one position with an optimal action, got none.")
    log_policy, is_optimal = log_policy[counts], is_optimal[counts]
    mass = np.sum(np.exp(log_policy), axis=1, where=is_optimal)
    return OptimalRates(float(np.mean(is_argmax_optimal(log_policy, is_optimal))), float(np.mean(mass)))


def _ends(graph: Graph, numbers: Float[np.ndarray, " terminal"], name: str = "outcome") -> Float[np.ndarray, " state"]:
    values = np.zeros(graph.num_states)
    values[graph.terminals] = checked_ends(graph, numbers, name)
    return values


def _average(
    graph: Graph,
    ids: Int[np.ndarray, " row"],
    values: Float[np.ndarray, " state"],
    log_policy: Float[np.ndarray, "state action"] | None,
) -> None:
    """Write the mean of the children's values under a policy as the values of some states."""
    if ids.size:
        assert log_policy is not None, "a graph with chance turns knows their outcomes"
        is_legal = graph.children[ids] >= 0
        values[ids] = np.sum(np.exp(log_policy[ids]) * values[graph.children[ids]], axis=1, where=is_legal)
