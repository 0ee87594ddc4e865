"""Backward induction on an enumerated graph (tgm 1.2, 1.3 and 2.1; eflow 2 where chance moves)."""

from functools import partial
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from narrows.envs.base import CHANCE
from narrows.exact.blocks import in_blocks
from narrows.exact.checks import checked_ends, checked_policy
from narrows.exact.graph import Graph


@runtime_checkable
class Operator(Protocol):
    """A map from the values of a state's actions to its value and its policy; `operators.GeneralMellowmax` is one."""

    @property
    def omega(self) -> float: ...

    def value(self, values: Float[Array, "*batch action"], mask: Bool[Array, "*batch action"]) -> Float[Array, "*batch"]: ...

    def log_policy(
        self, values: Float[Array, "*batch action"], mask: Bool[Array, "*batch action"]
    ) -> Float[Array, "*batch action"]: ...


class Solution(NamedTuple):
    """The solution of the Bellman equations of an operator, float64.

    Attributes:
        values: v of each state, the log-reward where it is terminal; at omega = 1, q = 0 the logarithm of its flow F.
        q_values: Q of each action or outcome, `-inf` where it is illegal and in terminal states.
        log_policy: the operator's policy, the probabilities of the outcomes in `CHANCE` states, `-inf` where an action is
            illegal and in terminal states.
        log_probs: log-probability that the policy, in the environment with its noise, ends in each terminal state.
    """

    values: Float[np.ndarray, " state"]
    q_values: Float[np.ndarray, "state action"]
    log_policy: Float[np.ndarray, "state action"]
    log_probs: Float[np.ndarray, " terminal"]

    @property
    def root_value(self) -> float:
        """The value of the initial state: at omega = 1, q = 0 the log-partition function of the target."""
        return float(self.values[0])


def solve(
    graph: Graph,
    log_reward: Float[np.ndarray, " terminal"],
    operator: Operator,
    *,
    dag_correction: bool | None = None,
    log_backward: Float[np.ndarray, "state action"] | None = None,
    averaging: Literal["flow", "value"] = "flow",
) -> Solution:
    """Return the values, policy and sampling distribution that solve an operator's Bellman equations, by backward induction.

    `Q(s, a) = v(s') + (1/omega) log P_B(s | s')` and `v(s) = M(Q(s, .))`, with v of a terminal state its log-reward. With
    the correction, q = 0 samples an object with probability proportional to `exp(omega log_reward)`; without it, also
    proportional to its number of trajectories.

    At a `CHANCE` state `v(s) = (1/omega) log sum_o P(o) exp(omega v(s_o))`: soft Bellman is then the expected flow network
    (eflow eqs. 2.1 to 2.3), which does not sample in proportion to the reward. With `averaging="value"` it is
    `v(s) = sum_o P(o) v(s_o)`: maximum-entropy reinforcement learning. Both are about the tree of histories, in which every
    state has one parent, so a state that several histories share is only solved once (eflow 1.2).

    Args:
        graph: the states.
        log_reward: `beta Phi` of each of `graph.terminals`, finite.
        operator: evaluated in float64.
        dag_correction: count the backward policy; by default where there are no chance turns, with which it has no meaning.
        log_backward: `log P_B(s | s')` of each action's move; by default uniform, `-log(num_parents)` of the child.
        averaging: what is averaged over the outcomes of a chance turn.

    Raises ValueError for a log-reward of the wrong shape or not finite, for a graph with two players, and for a correction
    where there are chance turns.
    """
    if np.any((graph.turn != 0) & (graph.turn != CHANCE)):
        raise ValueError("this graph has two players, who have no operator's Bellman equation here.")
    log_reward = checked_ends(graph, log_reward, "log_reward")
    if averaging not in ("flow", "value"):
        raise ValueError(f"averaging must be 'flow' or 'value', got {averaging!r}.")
    bonus = backward_bonus(graph, dag_correction, log_backward)
    values = np.zeros(graph.num_states)
    values[graph.terminals] = log_reward
    q_values = np.full(graph.children.shape, -np.inf)
    log_policy = np.full(graph.children.shape, -np.inf)
    with jax.enable_x64(True):
        for level in reversed(list(graph.levels())):
            is_chance = graph.is_chance[level]
            mask = graph.children[level] >= 0
            q_values[level] = np.where(mask, values[graph.children[level]] + bonus[level] / operator.omega, -np.inf)
            ours, chances = level[~is_chance], level[is_chance]
            if ours.size:
                rows = (np.where(mask, q_values[level], 0.0)[~is_chance], mask[~is_chance])
                values[ours], log_policy[ours] = in_blocks(partial(_back_up, operator), rows)
            if chances.size:
                assert graph.chance_log_probs is not None, "a graph with chance turns knows their outcomes"
                log_policy[chances] = graph.chance_log_probs[chances]
                values[chances] = _expect(q_values[chances], log_policy[chances], operator.omega, averaging)
    return Solution(values, q_values, log_policy, terminal_distribution(graph, log_policy))


def rollout_distribution(graph: Graph, log_policy: Float[np.ndarray, "state action"]) -> Float[np.ndarray, " terminal"]:
    """Return the log-probability that a policy, in the environment with its noise, ends in each terminal state.

    What `log_policy` says of `CHANCE` states is not read: the environment's own probabilities stand there.

    Raises ValueError for a policy of the wrong shape, and for one whose probabilities of the legal actions do not sum to one.
    """
    return terminal_distribution(graph, checked_policy(graph, log_policy))


def terminal_distribution(graph: Graph, log_policy: Float[np.ndarray, "state action"]) -> Float[np.ndarray, " terminal"]:
    """Return the log-probability that a policy ends in each terminal state, from the root forward."""
    log_reach = np.full(graph.num_states, -np.inf)
    log_reach[0] = 0.0
    for level in graph.levels():
        children = graph.children[level]
        is_legal = children >= 0
        np.logaddexp.at(log_reach, children[is_legal], (log_reach[level, None] + log_policy[level])[is_legal])
    return log_reach[graph.terminals]


def uniform_log_backward(graph: Graph) -> Float[np.ndarray, "state action"]:
    """Return `log P_B` of each action's move under the uniform backward policy, 0 where the action is illegal."""
    return np.where(graph.children >= 0, -np.log(np.maximum(graph.num_parents[graph.children], 1)), 0.0)


@eqx.filter_jit
def _back_up(operator: Operator, rows: tuple[Array, Array]) -> tuple[Array, Array]:
    return operator.value(*rows), operator.log_policy(*rows)


def mean_of(log_probs: Float[np.ndarray, "*row item"], values: Float[np.ndarray, "*row item"]) -> Float[np.ndarray, "*row"]:
    """Return the mean over items; what has no probability does not count, whatever it is worth."""
    probs = np.exp(log_probs)
    return np.sum(probs * np.where(probs > 0.0, values, 0.0), axis=-1)


def _expect(
    values: Float[np.ndarray, "state action"],
    log_probs: Float[np.ndarray, "state action"],
    omega: float,
    averaging: Literal["flow", "value"],
) -> Float[np.ndarray, " state"]:
    """Return the value of chance states: of the flow `exp(omega v)` an arithmetic mean or a geometric one."""
    if averaging == "value":
        return mean_of(log_probs, values)
    probs = np.exp(log_probs)
    possible = np.where(probs > 0.0, values, -np.inf)
    top = np.max(possible, axis=1, keepdims=True)
    gap = possible - top
    # At omega = inf the largest value is left; its own gap of 0 must not become inf * 0.
    scaled = np.multiply(omega, gap, where=gap < 0.0, out=np.zeros_like(gap))
    return top[:, 0] + np.log(np.sum(probs * np.exp(scaled), axis=1)) / omega


def backward_bonus(
    graph: Graph, dag_correction: bool | None, log_backward: Float[np.ndarray, "state action"] | None
) -> Float[np.ndarray, "state action"]:
    """Return `log P_B` of each action's move, 0 without the correction (tgm 1.3)."""
    has_chance = bool(np.any(graph.is_chance))
    if has_chance and (dag_correction or log_backward is not None):
        raise ValueError(
            "with chance turns the equations are those of the tree of histories, where every state has one parent: there is "
            "no backward policy to count. Leave dag_correction and log_backward out."
        )
    if dag_correction or (dag_correction is None and not has_chance):
        return uniform_log_backward(graph) if log_backward is None else np.asarray(log_backward, np.float64)
    if log_backward is not None:
        raise ValueError("log_backward has no meaning with dag_correction=False. Leave one of them out.")
    return np.zeros(graph.children.shape)
