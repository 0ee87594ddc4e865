"""Games that are trees drawn by hand or at random, and their flow networks by plain recursion."""

import math
from collections.abc import Sequence as Objects
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from narrows.envs.base import AbstractEnvironment
from narrows.exact import Graph
from narrows.rewards.base import AbstractReward


class Tree(NamedTuple):
    """The children of each node, numbered breadth first from the root 0, and whose turn it is in each; leaves have no child."""

    children: tuple[tuple[int, ...], ...]
    turn: tuple[int, ...]

    @property
    def leaves(self) -> list[int]:
        return [node for node, children in enumerate(self.children) if not children]

    @property
    def paths(self) -> list[list[int]]:
        """Every path from the root to a leaf, as nodes."""
        complete, started = [], [[0]]
        while started:
            path = started.pop()
            onward = [[*path, child] for child in self.children[path[-1]]]
            started += onward
            complete += [] if onward else [path]
        return complete


def random_tree(rng: np.random.Generator, depth: int, num_players: int = 2, *, takes_turns: bool = True) -> Tree:
    """Return a tree whose nodes have 1 to 4 children and may end early; players take turns from player 0 on or in any order."""
    children, turn, level = [[]], [0 if takes_turns else int(rng.integers(num_players))], [0]
    node = 0
    while node < len(children):
        ends = level[node] == depth or (level[node] > 0 and rng.random() < 0.15)
        for _ in range(0 if ends else int(rng.integers(1, 5))):
            children[node].append(len(children))
            children.append([])
            level.append(level[node] + 1)
            turn.append(level[-1] % num_players if takes_turns else int(rng.integers(num_players)))
        node += 1
    return Tree(tuple(map(tuple, children)), tuple(turn))


def graph_of(tree: Tree) -> Graph:
    """Return the tree as a graph; action `a` leads to the child with that place."""
    num_actions = max(len(children) for children in tree.children)
    children = np.array([[*row, *[-1] * (num_actions - len(row))] for row in tree.children])
    level = np.zeros(len(tree.children), np.int64)
    for node, row in enumerate(tree.children):
        level[list(row)] = level[node] + 1
    return Graph(
        states=np.arange(level.size),
        children=children,
        backward_actions=np.zeros_like(children),
        is_terminal=np.all(children < 0, axis=1),
        num_parents=(np.arange(level.size) > 0).astype(np.int64),
        turn=np.array(tree.turn),
        chance_log_probs=None,
        level_starts=np.searchsorted(level, np.arange(level.max() + 2)),
        _ids={},
    )


def adjusted_flow(tree: Tree, reward: dict[int, float], node: int = 0) -> dict[int, float]:
    """Return V of a node and all below it: arithmetic means at player 0, harmonic at player 1 (eflow eqs. 3.5, 3.6)."""
    if not tree.children[node]:
        return {node: reward[node]}
    flow = {}
    for child in tree.children[node]:
        flow |= adjusted_flow(tree, reward, child)
    below = [flow[child] for child in tree.children[node]]
    mean = math.fsum(below) / len(below) if tree.turn[node] == 0 else len(below) / math.fsum(1.0 / v for v in below)
    return flow | {node: mean}


def unadjusted_flows(tree: Tree, rewards: dict[int, tuple[float, ...]], node: int = 0) -> dict[int, tuple[float, ...]]:
    """Return every player's F of a node and all below it: sums at own turns, means at the others' (eflow eqs. 3.1, 3.2)."""
    if not tree.children[node]:
        return {node: rewards[node]}
    flows = {}
    for child in tree.children[node]:
        flows |= unadjusted_flows(tree, rewards, child)
    below = [flows[child] for child in tree.children[node]]
    mover = tree.turn[node]
    total = math.fsum(flow[mover] for flow in below)
    means = tuple(
        total if player == mover else math.fsum(flow[mover] / total * flow[player] for flow in below)
        for player in range(len(below[0]))
    )
    return flows | {node: means}


class TreeGame(AbstractEnvironment):
    """A tree as rules: a state is a node, a policy sees its number."""

    tree: Tree = eqx.field(static=True)

    @property
    def num_actions(self) -> int:
        return max(len(children) for children in self.tree.children)

    @property
    def max_steps(self) -> int:
        return max(map(len, self.tree.paths)) - 1

    @property
    def num_features(self) -> int:
        return 1

    @property
    def num_values(self) -> int:
        return len(self.tree.children)

    def reset(self):
        return jnp.zeros((), jnp.int32)

    def step(self, state, action):
        return jnp.maximum(jnp.asarray(graph_of(self.tree).children, jnp.int32)[state, action], 0)

    def action_mask(self, state):
        return jnp.asarray(graph_of(self.tree).children >= 0)[state]

    def is_terminal(self, state):
        return ~jnp.any(self.action_mask(state))

    def observe(self, state):
        return state[None]

    def turn(self, state):
        return jnp.asarray(self.tree.turn, jnp.int32)[state]

    def to_text(self, states) -> list[str]:
        return [str(state) for state in np.asarray(states).tolist()]

    def from_text(self, texts: Objects[str]):
        return jnp.asarray([int(text) for text in texts], jnp.int32)


class OfNodes(AbstractReward):
    """Player 0's log-reward of each node of a tree; only those of leaves are asked for."""

    log_reward: jax.Array

    def __call__(self, states):
        return self.log_reward[states]
