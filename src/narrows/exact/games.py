"""Adversarial flow networks by backward induction on an enumerated graph (eflow 3).

A state that several histories share is solved once: what follows from it is the same for all of them (eflow 1.2).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from narrows.exact.checks import checked_ends, checked_policy
from narrows.exact.graph import Graph, with_chance
from narrows.exact.solution import terminal_distribution


class GameSolution(NamedTuple):
    """The flow network of a two-player zero-sum game, float64.

    Attributes:
        values: U of each state, the log-flow of player 0 and the negative of player 1's; the log-reward where it is terminal.
        log_policy: of whoever moves, `-inf` where an action is illegal and in terminal states.
        log_probs: log-probability that the players, each by this policy, end in each terminal state.
    """

    values: Float[np.ndarray, " state"]
    log_policy: Float[np.ndarray, "state action"]
    log_probs: Float[np.ndarray, " terminal"]

    @property
    def root_value(self) -> float:
        """`log Z` of player 0, the value of the regularised game (eflow eq. 3.9)."""
        return float(self.values[0])


class PlayersSolution(NamedTuple):
    """Flows of players who take each other for the environment, float64.

    Attributes:
        log_flows: log F of each player in each state, the player's log-reward where it is terminal.
        log_policy: of whoever moves, chance included; `-inf` where an action is illegal and in terminal states.
        log_probs: log-probability that the players, each by this policy, end in each terminal state.
    """

    log_flows: Float[np.ndarray, "player state"]
    log_policy: Float[np.ndarray, "state action"]
    log_probs: Float[np.ndarray, " terminal"]


def solve_game(
    graph: Graph,
    log_reward: Float[np.ndarray, " terminal"],
    *,
    log_reference: Float[np.ndarray, "state action"] | None = None,
    branch_adjusted: bool = True,
) -> GameSolution:
    """Return the branch-adjusted adversarial flow network of a two-player zero-sum game (eflow eqs. 3.5 and 3.6).

    With `sigma = +1` where player 0 moves and `-1` where player 1 does,

        U(s) = sigma log sum_a mu(a|s) exp(sigma U(s_a)),    pi(a|s) in proportion to mu(a|s) exp(sigma U(s_a)):

    for the uniform `mu`, the arithmetic mean of player 0's flow at its turns and the harmonic mean at the other's. It is the
    saddle point of the game with log-reward minus both players' divergences from `mu` (3.9).

    Args:
        graph: the states, a player's turn in each that is not terminal.
        log_reward: player 0's of each of `graph.terminals`, finite; player 1's is its negative.
        log_reference: `log mu` of every action, finite where it is legal; by default uniform over the legal ones.
        branch_adjusted: without it `mu` is 1 for every legal move, another game with entropy bonuses (eflow 3.3, end).

    Raises ValueError for arrays of the wrong shape or not finite, for a reference that does not sum to one or is not read, and
    for chance turns: an average of player 0's flow over outcomes of chance is not one of player 1's, its reciprocal.
    """
    log_reward = checked_ends(graph, log_reward, "log_reward")
    if np.any(graph.is_chance):
        raise ValueError(
            "chance moves in this graph, and no one flow serves both players then: the mean of a flow is not the reciprocal of "
            "the mean of its reciprocal. solve_unadjusted gives each player a flow of its own."
        )
    log_mu = reference_of(graph, log_reference, branch_adjusted)
    sign = signs_of(graph)
    values, log_policy = np.zeros(graph.num_states), np.full(graph.children.shape, -np.inf)
    values[graph.terminals] = log_reward
    for ids in reversed(list(graph.levels())):
        shares = _shares(graph, ids, sign[ids, None] * values[graph.children[ids]] + log_mu[ids])
        flow = np.logaddexp.reduce(shares, axis=1)
        values[ids], log_policy[ids] = sign[ids] * flow, shares - flow[:, None]
    return GameSolution(values, log_policy, terminal_distribution(graph, log_policy))


def solve_unadjusted(graph: Graph, log_rewards: Float[np.ndarray, "player terminal"]) -> PlayersSolution:
    """Return the flows and policies of players who each take all others for the environment (eflow eqs. 3.1 and 3.2).

    A player's flow is the sum of its children's at its own turns and their mean under the policy at another's, or under
    those of the outcomes in `CHANCE` states (2.2).

    Args:
        graph: the states.
        log_rewards: a row a player, in the order of the numbers that `turn` gives them: the log-reward of each of
            `graph.terminals`, finite.

    Raises ValueError for an array of the wrong shape or not finite, and for a player without a row.
    """
    log_rewards = np.asarray(log_rewards, np.float64)
    if log_rewards.ndim != 2:
        raise ValueError(f"log_rewards must have a row for each player, got shape {log_rewards.shape}.")
    num_players = log_rewards.shape[0]
    if graph.turn.max() >= num_players:
        raise ValueError(f"log_rewards has {num_players} rows and player {graph.turn.max()} has none. Give a row a player.")
    log_flows = np.zeros((num_players, graph.num_states))
    log_flows[:, graph.terminals] = [checked_ends(graph, row, f"log_rewards[{num}]") for num, row in enumerate(log_rewards)]
    log_policy = with_chance(graph, np.full(graph.children.shape, -np.inf))
    for ids in reversed(list(graph.levels())):
        for player in range(num_players):
            own = ids[graph.turn[ids] == player]
            if own.size:
                shares = _shares(graph, own, log_flows[player][graph.children[own]])
                log_policy[own] = shares - np.logaddexp.reduce(shares, axis=1, keepdims=True)
        for player in range(num_players):
            flows = log_flows[player][graph.children[ids]]
            is_own = (graph.turn[ids] == player)[:, None]
            shares = _shares(graph, ids, np.where(is_own, flows, flows + log_policy[ids]))
            log_flows[player, ids] = np.logaddexp.reduce(shares, axis=1)
    return PlayersSolution(log_flows, log_policy, terminal_distribution(graph, log_policy))


def signs_of(graph: Graph) -> Float[np.ndarray, " state"]:
    """Return sigma of each state, 1 where player 0 moves and -1 where player 1 does; ValueError for a third player."""
    if graph.turn.max() > 1:
        raise ValueError(f"a zero-sum game has players 0 and 1, and this graph has a turn of player {graph.turn.max()}.")
    return np.where(graph.turn == 1, -1.0, 1.0)


def reference_of(
    graph: Graph, log_reference: Float[np.ndarray, "state action"] | None, branch_adjusted: bool
) -> Float[np.ndarray, "state action"]:
    """Return `log mu` of every action: the one given, uniform over the legal moves, or zeros where branches do not count."""
    is_legal = graph.children >= 0
    if not branch_adjusted:
        if log_reference is not None:
            raise ValueError("log_reference has no meaning with branch_adjusted=False. Leave one of them out.")
        return np.zeros(is_legal.shape)
    if log_reference is None:
        uniform = -np.log(np.maximum(np.sum(is_legal, axis=1, keepdims=True), 1))
        return np.broadcast_to(uniform, is_legal.shape)
    log_reference = checked_policy(graph, log_reference, "log_reference")
    is_wrong = np.any(is_legal & ~np.isfinite(log_reference), axis=1) & ~graph.is_chance
    if np.any(is_wrong):
        raise ValueError(
            f"log_reference must be finite where an action is legal; it is not in state {int(np.argmax(is_wrong))}. Give every "
            "legal action some probability."
        )
    return log_reference


def _shares(graph: Graph, ids: np.ndarray, log_flows: Float[np.ndarray, "row action"]) -> Float[np.ndarray, "row action"]:
    """Return what each legal action of some states adds to their log-flow, `-inf` where it is illegal."""
    return np.where(graph.children[ids] >= 0, log_flows, -np.inf)
