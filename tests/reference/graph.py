"""Every state of a small environment by plain search, as the judge of masks and counts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from narrows.envs.base import AbstractEnvironment


class Node(NamedTuple):
    """A state, its legal actions with the key of the state that each leads to, and whether it is terminal."""

    state: Any
    children: dict[int, tuple]
    is_terminal: bool


def key_of(state: Any) -> tuple:
    """Return a state's numbers, flat."""
    return tuple(number for leaf in jax.tree.leaves(state) for number in np.asarray(leaf).reshape(-1).tolist())


def explore(env: AbstractEnvironment) -> dict[tuple, Node]:
    """Return the nodes that legal play from the initial state reaches, that state first."""

    @jax.jit
    def expand(state: Any) -> Any:
        children = jax.vmap(env.step, in_axes=(None, 0))(state, jnp.arange(env.num_actions))
        return env.action_mask(state), env.is_terminal(state), children

    start = jax.tree.map(np.asarray, env.reset())
    nodes, queue = {}, [start]
    while queue:
        state = queue.pop(0)
        if key_of(state) in nodes:
            continue
        mask, is_terminal, children = jax.tree.map(np.asarray, expand(state))
        legal = {int(action): jax.tree.map(lambda leaf, a=action: leaf[a], children) for action in np.flatnonzero(mask)}
        nodes[key_of(state)] = Node(state, {action: key_of(child) for action, child in legal.items()}, bool(is_terminal))
        queue += legal.values()
    return nodes


def count_trajectories(nodes: dict[tuple, Node]) -> dict[tuple, int]:
    """Return how many paths from the initial state lead to each terminal one (`nodes` of `explore`)."""
    counts = dict.fromkeys(nodes, 0)
    counts[next(iter(nodes))] = 1
    for key in _topological(nodes):
        for child in nodes[key].children.values():
            counts[child] += counts[key]
    return {key: counts[key] for key, node in nodes.items() if node.is_terminal}


def _topological(nodes: dict[tuple, Node]) -> list[tuple]:
    missing = dict.fromkeys(nodes, 0)
    for node in nodes.values():
        for child in node.children.values():
            missing[child] += 1
    ready, order = [key for key, count in missing.items() if not count], []
    while ready:
        order.append(ready.pop())
        for child in nodes[order[-1]].children.values():
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    return order
