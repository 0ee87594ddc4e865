"""The worst case of a policy: what an adversary within an uncertainty set of rewards leaves of it (tgm 4).

In a state whose legal actions have weights `w_a = d_a^q P_B(s | s_a)`, d the reference distribution, the set holds the changes
`delta` of the step rewards with

    D_s = {delta : sum_a w_a exp(-omega delta_a) <= 1}.

The adversary that knows the policy answers with `delta(a) = -(1/omega) (log pi(a) - log w_a)`, and the policy that does best
against such an answer is that of the operator. In a tree P_B is 1 and these are the sets of tgm 4.2. Where histories meet,
the reward `(1/omega) log P_B` that the correction of tgm 1.3 adds to a step is part of the weights instead, so that
a change is one of the reward that the policy was trained on.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from narrows.envs.base import CHANCE
from narrows.exact.checks import checked_ends, checked_policy
from narrows.exact.graph import Graph, with_chance
from narrows.exact.solution import backward_bonus, mean_of, rollout_distribution, solve, terminal_distribution
from narrows.operators import GeneralMellowmax

Steps = Float[np.ndarray, "state action"]

_ROUNDING = 1e-9
"""Sets with the trained reward on their border, as those of q = 1 have it, hold it."""


class WorstCase(NamedTuple):
    """The value that a policy keeps under the worst reward in the set, in units of the log-reward, float64.

    Attributes:
        value: expected log-reward under the worst change of the step rewards: the worst-case value of the root.
        best_value: the largest one that any policy attains, the root's value under the operator.
        mean_reward: expected log-reward as it was trained on, without an adversary.
        values: worst-case value of going on from each state, the log-reward where it is terminal.
        step_rewards: the worst change of each action's reward, infinite where the policy never takes it (the adversary has
            nothing to gain there), 0 where it is illegal and in `CHANCE` states, whose probabilities no adversary touches.
        object_rewards: the worst change of each object's reward, infinite for an object that the policy never makes. In a tree
            it is the sum over the object's steps. Where an object has many trajectories the adversary is held to one change
            for all of them, `-(1/omega) (log P(x) - log W(x))` with W(x) the sum of the trajectories' weights; this is a
            weaker one than that of the steps, which may tell trajectories apart. None where chance moves and histories meet
            in an object: no closed form is known there.
        log_object_weights: log W(x); changes of objects' rewards that steps compose to have `sum_x W(x) exp(-omega delta) <= 1`
            (without chance turns).
        log_probs: log-probability of each object.
        state_margins: the smallest number to add to no change at all, in each state, to be in its set; 0 where nobody chooses.
        margin: the same for objects: the smallest raise of all objects' rewards that steps within their sets compose to.
    """

    value: float
    best_value: float
    mean_reward: float
    values: Float[np.ndarray, " state"]
    step_rewards: Steps
    object_rewards: Float[np.ndarray, " terminal"] | None
    log_object_weights: Float[np.ndarray, " terminal"]
    log_probs: Float[np.ndarray, " terminal"]
    state_margins: Float[np.ndarray, " state"]
    margin: float

    @property
    def gap(self) -> float:
        """The robust optimum's advantage in the worst case, >= 0 up to rounding."""
        return self.best_value - self.value

    @property
    def shifted_value(self) -> float:
        """The value over the set moved by the margin, so that no change at all is on its border: it compares sets.

        A set that misses the reward as it is makes the adversary raise some of it, and its value may exceed the mean.
        """
        return self.value - self.margin

    @property
    def contains_zero(self) -> bool:
        """Whether the reward as it was trained on, changed for no object, is in the set."""
        return self.margin <= _ROUNDING

    @property
    def object_value(self) -> float | None:
        """Expected log-reward under the worst change of the objects' rewards: `value` in a tree, at least that elsewhere."""
        if self.object_rewards is None:
            return None
        return self.mean_reward + float(mean_of(self.log_probs, self.object_rewards))


def worst_case(
    graph: Graph,
    log_policy: Steps,
    log_reward: Float[np.ndarray, " terminal"],
    operator: GeneralMellowmax,
    *,
    log_reference: Steps | None = None,
    dag_correction: bool | None = None,
    log_backward: Steps | None = None,
) -> WorstCase:
    """Return the worst case of any policy over the uncertainty set of an operator, by backward induction.

    `v(s) = sum_a pi(a) (delta(a) + v(s_a))` with the worst `delta` of each state, which is `sum_a pi(a) v(s_a) - Omega_d(pi)`;
    `v(s) = sum_o P(o) v(s_o)` where chance moves. The best attainable value is `solve`'s with `averaging="value"`.

    Args:
        graph: the states.
        log_policy: any policy over them, as `model_log_policy` returns a model's or `solve` the optimal one.
        log_reward: `beta Phi` of each of `graph.terminals`, finite.
        operator: `omega`, `alpha` and `q` choose the set: q = 0 is a GFlowNet's, `mellowmax`, `soft_mellowmax`.
        log_reference: log d of each legal action; by default `softmax(alpha Q)` with the Q of the operator's exact solution.
            `softmax_reference` makes a model's own.
        dag_correction: count the backward policy; by default where there are no chance turns, as in `solve`.
        log_backward: `log P_B` of each action's move; by default uniform.

    Raises ValueError for a log-reward of the wrong shape or not finite, a policy or a reference that is none, a reference
    without full support where it counts (q > 0), a graph with two players, and a correction where there are chance turns.
    """
    if np.any((graph.turn != 0) & (graph.turn != CHANCE)):
        raise ValueError("this graph has two players; the worst case is that of one player whose reward is wrong.")
    log_reward = checked_ends(graph, log_reward, "log_reward")
    log_probs = rollout_distribution(graph, log_policy)
    log_policy = with_chance(graph, np.where(graph.children >= 0, log_policy, -np.inf))
    log_factors = backward_bonus(graph, dag_correction, log_backward)
    if log_reference is None:
        solved = solve(graph, log_reward, operator, dag_correction=dag_correction, log_backward=log_backward, averaging="value")
        log_reference = softmax_reference(graph, solved.q_values, operator.alpha)
    log_weights = _log_weights(graph, log_reference, operator.q, log_factors)
    steps = np.where(graph.is_chance[:, None], 0.0, worst_rewards(log_policy, log_weights, operator.omega))
    values = _evaluate(graph, log_policy, steps, log_reward)
    log_object_weights = terminal_distribution(graph, log_weights)
    return WorstCase(
        value=float(values[0]),
        best_value=_best_value(graph, log_weights, log_reward, operator.omega),
        mean_reward=float(mean_of(log_probs, log_reward)),
        values=values,
        step_rewards=steps,
        object_rewards=_object_rewards(graph, log_probs, log_object_weights, operator.omega),
        log_object_weights=log_object_weights,
        log_probs=log_probs,
        state_margins=np.where(graph.is_terminal | graph.is_chance, 0.0, smallest_shift(log_weights, operator.omega)),
        margin=_margin(graph, log_weights, operator.omega),
    )


def softmax_reference(graph: Graph, values: Steps, inverse_temperature: float) -> Steps:
    """Return `log softmax(t x)` over each state's legal actions, `-inf` elsewhere: a reference distribution (tgm 2.1).

    Args:
        graph: the states.
        values: with the Q of a solution and t = alpha it is the operator's. A model with values Q acts by
            `softmax(c Q)`, so with its `log_policy` and t = alpha / c it is `softmax(alpha Q)` of the model's own Q; c is
            `policy_scale` of the operator it was trained with.
        inverse_temperature: t, >= 0.
    """
    is_legal = graph.children >= 0
    # An action of probability zero has no more than its share where everything is alike.
    scaled = inverse_temperature * np.where(is_legal, values, 0.0) if inverse_temperature > 0.0 else np.zeros(values.shape)
    logits = np.where(is_legal, scaled, -np.inf)
    total = _log_sum_exp(logits)[:, None]
    return np.where(is_legal, logits - np.where(is_legal.any(axis=1, keepdims=True), total, 0.0), -np.inf)


def worst_rewards(
    log_policy: Float[np.ndarray, "*row action"], log_weights: Float[np.ndarray, "*row action"], omega: float
) -> Float[np.ndarray, "*row action"]:
    """Return `delta(a) = -(1/omega) (log pi(a) - log w_a)`, the minimiser of `<pi, delta>` over the set (tgm 4.2).

    It is infinite where the policy has no probability and 0 where there is no weight: an illegal action.
    """
    is_legal = np.isfinite(log_weights)
    return (np.where(is_legal, log_weights, 0.0) - np.where(is_legal, log_policy, 0.0)) / omega


def smallest_shift(
    log_weights: Float[np.ndarray, "*row action"], omega: float, rewards: Float[np.ndarray, "*row action"] | None = None
) -> Float[np.ndarray, "*row"]:
    """Return `(1/omega) log sum_a w_a exp(-omega delta_a)`, what has to be added to a change to be in the set (tgm 4.2).

    Negative where it is inside by that much. `rewards` are the change, none by default, which makes it the table's margin.
    """
    exponents = log_weights if rewards is None else log_weights - omega * rewards
    return _log_sum_exp(exponents) / omega


def second_reward(
    first: Float[np.ndarray, "*point"], log_weights: Float[np.ndarray, " 2"], omega: float, log_bound: float = 0.0
) -> Float[np.ndarray, "*point"]:
    """Return the change of a second action's reward on the border of the set, by that of the first (end of tgm 4.2).

    `delta_2 = -(1/omega) log((C - w_1 exp(-omega delta_1)) / w_2)`, NaN where the first alone is outside. With more actions
    than two, C is what the others leave of 1.

    Args:
        first: change of the first action's reward.
        log_weights: of both actions.
        omega: of the operator.
        log_bound: log C.
    """
    left = np.exp(log_bound) - np.exp(log_weights[0] - omega * np.asarray(first, np.float64))
    return (log_weights[1] - np.log(np.where(left > 0.0, left, np.nan))) / omega


def _log_weights(graph: Graph, log_reference: Steps, q: float, log_factors: Steps) -> Steps:
    """Return `log w`, that of the outcomes in `CHANCE` states, `-inf` where an action is illegal and in terminal states."""
    is_legal = graph.children >= 0
    if q > 0.0:
        log_reference = _checked_reference(graph, log_reference)
        log_factors = log_factors + q * np.where(is_legal & ~graph.is_chance[:, None], log_reference, 0.0)
    return with_chance(graph, np.where(is_legal, log_factors, -np.inf))


def _evaluate(
    graph: Graph, log_policy: Steps, steps: Steps, log_reward: Float[np.ndarray, " terminal"]
) -> Float[np.ndarray, " state"]:
    """Return the policy's expected log-reward from each state with the changes of its steps' rewards added."""

    def back_up(level: Int[np.ndarray, " row"], after: Float[np.ndarray, "row action"]) -> Float[np.ndarray, " row"]:
        return mean_of(log_policy[level], steps[level] + after)

    return _induct(graph, log_reward, back_up)


def _best_value(graph: Graph, log_weights: Steps, log_reward: Float[np.ndarray, " terminal"], omega: float) -> float:
    """Return the root's `v(s) = (1/omega) log sum_a w_a exp(omega v(s_a))` (tgm 2.1)."""

    def back_up(level: Int[np.ndarray, " row"], after: Float[np.ndarray, "row action"]) -> Float[np.ndarray, " row"]:
        robust = smallest_shift(log_weights[level], omega, -after)
        return np.where(graph.is_chance[level], mean_of(log_weights[level], after), robust)

    return float(_induct(graph, log_reward, back_up)[0])


def _margin(graph: Graph, log_weights: Steps, omega: float) -> float:
    """Return the smallest raise of all objects, which in a tree is `(1/omega) log sum_x P_ref(x)^q` (tgm 4.2).

    A raise c(s) of everything behind a state is composed of changes `c(s) - c(s_a)`, within the set if
    `c(s) = (1/omega) log sum_a w_a exp(omega c(s_a))` at least. Chance's outcomes are raised by what the worst of them needs.
    """

    def back_up(level: Int[np.ndarray, " row"], after: Float[np.ndarray, "row action"]) -> Float[np.ndarray, " row"]:
        composed = smallest_shift(log_weights[level], omega, -after)
        most = np.max(np.where(np.isfinite(log_weights[level]), after, -np.inf), axis=1)
        return np.where(graph.is_chance[level], most, composed)

    return float(_induct(graph, np.zeros(graph.terminals.size), back_up)[0])


def _object_rewards(
    graph: Graph,
    log_probs: Float[np.ndarray, " terminal"],
    log_object_weights: Float[np.ndarray, " terminal"],
    omega: float,
) -> Float[np.ndarray, " terminal"] | None:
    # In a tree the outcomes' probabilities are in both numbers and cancel: what is left are the player's steps.
    if np.any(graph.is_chance) and np.any(graph.num_parents > 1):
        return None
    return np.where(np.isfinite(log_probs), worst_rewards(log_probs, log_object_weights, omega), np.inf)


def _induct(
    graph: Graph,
    at_end: Float[np.ndarray, " terminal"],
    back_up: Callable[[Int[np.ndarray, " row"], Float[np.ndarray, "row action"]], Float[np.ndarray, " row"]],
) -> Float[np.ndarray, " state"]:
    """Return a number of each state: given where it is terminal, `back_up(states, numbers of their children)` elsewhere."""
    values = np.zeros(graph.num_states)
    values[graph.terminals] = at_end
    for level in reversed(list(graph.levels())):
        is_legal = graph.children[level] >= 0
        values[level] = back_up(level, np.where(is_legal, values[graph.children[level]], 0.0))
    return values


def _log_sum_exp(values: Float[np.ndarray, "*row item"]) -> Float[np.ndarray, "*row"]:
    return np.logaddexp.reduce(values, axis=-1)


def _checked_reference(graph: Graph, log_reference: Steps) -> Steps:
    is_wrong = (graph.children >= 0) & ~graph.is_chance[:, None]
    if np.shape(log_reference) == is_wrong.shape:
        is_wrong &= ~np.isfinite(log_reference)
        if np.any(is_wrong):
            state, action = (int(place[0]) for place in np.nonzero(is_wrong))
            raise ValueError(
                f"the reference must give every legal action some probability, got log {log_reference[state, action]} for "
                f"action {action} in state {state}: with q > 0 the set would be unbounded below. Mix it with the uniform "
                "distribution."
            )
    return checked_policy(graph, log_reference, "log_reference")
