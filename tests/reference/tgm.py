"""The operators and exact laws of tgm.md (appendix A), slow, in NumPy and float64: the judge of the JAX versions."""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from scipy.special import logsumexp

Children = Mapping[str, Sequence[tuple[Hashable, str | None]]]


def log_soft(values, temperature):
    """Return `log softmax(temperature * values)`."""
    return temperature * values - logsumexp(temperature * values)


def gm(values, omega, alpha, q):
    """Return the general mellowmax of a vector of legal values."""
    return (logsumexp((q * alpha + omega) * values) - q * logsumexp(alpha * values)) / omega


def advantage(values, omega, alpha, q):
    """Return the summand of the trajectory constraint, `Q - GM(Q)`."""
    return (log_soft(values, q * alpha + omega) - q * log_soft(values, alpha)) / omega


def solve_tree(children: Children, phi: Mapping[str, float], beta, omega, alpha, q, root=""):
    """Return tables Q, values V, the sampling law P and the reference law R over stopped states.

    `children[state]` lists `(action, next state)`; None for a next state means stop and score `phi[state]`.
    """
    order, stack = [], [root]
    while stack:
        state = stack.pop()
        order.append(state)
        stack += [target for _, target in children[state] if target is not None]
    tables, values = {}, {}
    for state in reversed(order):
        successors = [beta * phi[state] if t is None else values[t] for _, t in children[state]]
        tables[state] = np.array(successors, float)
        values[state] = gm(tables[state], omega, alpha, q)
    law, reference, todo = {}, {}, [(root, 0.0, 0.0)]
    while todo:
        state, log_probs, log_reference = todo.pop()
        policy, prior = log_soft(tables[state], q * alpha + omega), log_soft(tables[state], alpha)
        for index, (_, target) in enumerate(children[state]):
            if target is None:
                law[state] = np.exp(log_probs + policy[index])
                reference[state] = np.exp(log_reference + prior[index])
            else:
                todo.append((target, log_probs + policy[index], log_reference + prior[index]))
    return tables, values, law, reference


def tgm_residual(tables, path, phi_x, beta, omega, alpha, q):
    """Return the residual of a trajectory; `path` lists `(state, action index)` including the stop."""
    return sum(advantage(tables[state], omega, alpha, q)[index] for state, index in path) - beta * phi_x


def tgm_residual_grad(tables, path, omega, alpha, q):
    """Return the gradient of the residual with respect to each visited state's table."""
    gradients = {}
    for state, index in path:
        scale = q * alpha + omega
        policy, prior = np.exp(log_soft(tables[state], scale)), np.exp(log_soft(tables[state], alpha))
        gradient = -(scale * policy - q * alpha * prior) / omega
        gradient[index] += 1.0
        gradients[state] = gradients.get(state, 0.0) + gradient
    return gradients


def worst_case_reward(policy, reference, omega, q):
    """Return the minimiser of `<policy, delta>` over `sum reference^q exp(-omega delta) <= 1`."""
    return -(np.log(policy) - q * np.log(reference)) / omega


def greedy_modes(items: Sequence, reward: Sequence[float], k: int, delta: float, distance: Callable) -> list[int]:
    """Return the indices of the greedy diverse top `k`: each at least `delta` from all better ones kept."""
    kept: list[int] = []
    for index in np.argsort(-np.asarray(reward), kind="stable").tolist():
        if all(distance(items[index], items[other]) >= delta for other in kept):
            kept.append(index)
        if len(kept) == k:
            break
    return kept
