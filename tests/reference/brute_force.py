"""Every trajectory of a small environment, one at a time in plain Python."""

from typing import Any, NamedTuple

import jax
import numpy as np

from narrows.envs.base import AbstractEnvironment


class Walk(NamedTuple):
    """One complete trajectory: the states left, the actions taken there, and the terminal state."""

    states: list[Any]
    actions: list[int]
    terminal: Any


def all_walks(env: AbstractEnvironment) -> list[Walk]:
    """Return every complete trajectory, found by trying every legal action in every state."""
    step, mask, is_terminal = jax.jit(env.step), jax.jit(env.action_mask), jax.jit(env.is_terminal)
    complete, open_walks = [], [Walk([], [], env.reset())]
    while open_walks:
        states, actions, last = open_walks.pop()
        if is_terminal(last):
            complete.append(Walk(states, actions, last))
            continue
        for action in np.flatnonzero(mask(last)).tolist():
            open_walks.append(Walk([*states, last], [*actions, action], step(last, action)))
    return complete


def stack(states: list[Any]) -> Any:
    """Return one batch of a list of states."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def actions_array(env: AbstractEnvironment, walks: list[Walk]) -> np.ndarray:
    """Return the walks' actions, shape [walk, max_steps], -1 after the end."""
    rows = np.full((len(walks), env.max_steps), -1, np.int32)
    for row, walk in zip(rows, walks, strict=True):
        row[: len(walk.actions)] = walk.actions
    return rows
