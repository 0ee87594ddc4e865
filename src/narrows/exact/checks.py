"""Checks of numbers given for the states of a graph."""

import numpy as np
from jaxtyping import Float

from narrows.exact.graph import Graph, with_chance


def checked_ends(graph: Graph, numbers: Float[np.ndarray, " terminal"], name: str) -> Float[np.ndarray, " terminal"]:
    """Return a number for each terminal state as float64; ValueError for the wrong shape or one that is not finite."""
    numbers = np.asarray(numbers, np.float64)
    if numbers.shape != graph.terminals.shape:
        raise ValueError(
            f"{name} must have one entry for each terminal state, {graph.terminals.shape}, got {numbers.shape}. "
            "Score graph.terminal_states."
        )
    if not np.all(np.isfinite(numbers)):
        row = int(np.argmin(np.isfinite(numbers)))
        raise ValueError(f"{name} must be finite, got {numbers[row]} for terminal state {row}.")
    return numbers


def checked_policy(
    graph: Graph, log_policy: Float[np.ndarray, "state action"], name: str = "log_policy"
) -> Float[np.ndarray, "state action"]:
    """Return a policy as float64 with the outcomes' probabilities; ValueError for the wrong shape or a sum that is not one."""
    log_policy = np.asarray(log_policy, np.float64)
    if log_policy.shape != graph.children.shape:
        raise ValueError(
            f"{name} must have one entry for each state and action, {graph.children.shape}, got {log_policy.shape}."
        )
    log_policy = with_chance(graph, log_policy)
    total = np.sum(np.exp(log_policy), axis=1, where=graph.children >= 0)
    is_wrong = ~(np.abs(total - 1.0) < 1e-6) & ~graph.is_terminal
    if np.any(is_wrong):
        state = int(np.argmax(is_wrong))
        raise ValueError(
            f"{name}'s probabilities of the legal actions must sum to one, got {total[state]} in state {state}. "
            "Normalise them over the actions that have children."
        )
    return log_policy
