"""Backward induction on an enumerated graph (tgm sections 1.2, 1.3 and 2.1)."""

from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from narrows.exact.blocks import in_blocks
from narrows.exact.graph import Graph


@runtime_checkable
class Operator(Protocol):
    """What turns the values of a state's actions into its value and its policy; `operators.GeneralMellowmax` is one."""

    @property
    def omega(self) -> float: ...

    def value(self, values: Float[Array, "*batch action"], mask: Bool[Array, "*batch action"]) -> Float[Array, "*batch"]: ...

    def log_policy(
        self, values: Float[Array, "*batch action"], mask: Bool[Array, "*batch action"]
    ) -> Float[Array, "*batch action"]: ...


class Solution(NamedTuple):
    """The solution of the Bellman equations of an operator, float64.

    Attributes:
        values: v of each state, the log-reward where it is terminal.
        q_values: Q of each action, `-inf` where it is illegal and in terminal states.
        log_policy: the operator's policy, `-inf` where an action is illegal and in terminal states.
        log_law: log-probability that the policy ends in each terminal state.
    """

    values: Float[np.ndarray, " state"]
    q_values: Float[np.ndarray, "state action"]
    log_policy: Float[np.ndarray, "state action"]
    log_law: Float[np.ndarray, " terminal"]

    @property
    def root_value(self) -> float:
        """The value of the initial state: at omega = 1, q = 0 the log-partition function of the target."""
        return float(self.values[0])


def solve(
    graph: Graph,
    log_reward: Float[np.ndarray, " terminal"],
    operator: Operator,
    *,
    dag_correction: bool = True,
    log_backward: Float[np.ndarray, "state action"] | None = None,
) -> Solution:
    """Return the values, policy and sampling law that solve an operator's Bellman equations, by backward induction.

    `Q(s, a) = v(s') + (1/omega) log P_B(s | s')` and `v(s) = M(Q(s, .))`, with v of a terminal state its log-reward. With
    the correction, q = 0 samples an object with probability proportional to `exp(omega log_reward)`; without it, also
    proportional to its number of trajectories.

    Args:
        graph: the states.
        log_reward: `beta Phi` of each of `graph.terminals`, finite.
        operator: evaluated in float64.
        dag_correction: count the backward policy.
        log_backward: `log P_B(s | s')` of each action's move; by default uniform, `-log(num_parents)` of the child.

    Raises ValueError for a log-reward of the wrong shape or not finite, and for a graph with chance turns or two players.
    """
    log_reward = np.asarray(log_reward, np.float64)
    _check(graph, log_reward)
    bonus = np.zeros(graph.children.shape)
    if dag_correction:
        bonus = uniform_log_backward(graph) if log_backward is None else np.asarray(log_backward, np.float64)
    elif log_backward is not None:
        raise ValueError("log_backward has no meaning with dag_correction=False. Leave one of them out.")
    values = np.zeros(graph.num_states)
    values[graph.terminals] = log_reward
    q_values = np.full(graph.children.shape, -np.inf)
    log_policy = np.full(graph.children.shape, -np.inf)
    with jax.enable_x64(True):
        for level in reversed(list(graph.levels())):
            if level.size:
                mask = graph.children[level] >= 0
                q = np.where(mask, values[graph.children[level]] + bonus[level] / operator.omega, 0.0)
                values[level], log_policy[level] = in_blocks(partial(_back_up, operator), (q, mask))
                q_values[level] = np.where(mask, q, -np.inf)
    return Solution(values, q_values, log_policy, terminal_law(graph, log_policy))


def terminal_law(graph: Graph, log_policy: Float[np.ndarray, "state action"]) -> Float[np.ndarray, " terminal"]:
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


def _check(graph: Graph, log_reward: Float[np.ndarray, " terminal"]) -> None:
    if np.any(graph.turn != 0):
        raise ValueError("this graph has chance turns or two players, which have no operator's Bellman equation here.")
    if log_reward.shape != graph.terminals.shape:
        raise ValueError(
            f"log_reward must have one entry for each terminal state, {graph.terminals.shape}, got {log_reward.shape}. "
            "Score graph.terminal_states."
        )
    if not np.all(np.isfinite(log_reward)):
        row = int(np.argmin(np.isfinite(log_reward)))
        raise ValueError(f"log_reward must be finite, got {log_reward[row]} for terminal state {row}.")
