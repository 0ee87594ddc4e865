"""Trees in which nature moves, drawn by hand or at random, and what flows on them are, by plain recursion (eflow 2)."""

import functools
import itertools
import math
from collections.abc import Iterator
from collections.abc import Sequence as Objects
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from narrows.envs.base import CHANCE, AbstractEnvironment
from narrows.exact import Graph
from narrows.exact.graph import state_keys


class NoisyTree(AbstractEnvironment[Int[Array, ""]]):
    """A tree as a table; states are numbered breadth first, leaves have no children.

    Args:
        children: of each state, its first actions'; no number twice.
        probs: of each state, the probability of each child where nature moves, nothing where the player does.
    """

    children: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    probs: tuple[tuple[float, ...], ...] = eqx.field(static=True)

    @property
    def num_actions(self) -> int:
        return max(map(len, self.children))

    @property
    def max_steps(self) -> int:
        return max(self.depths)

    @property
    def num_features(self) -> int:
        return 1

    @property
    def num_values(self) -> int:
        return len(self.children)

    @property
    def leaves(self) -> list[int]:
        return [state for state, children in enumerate(self.children) if not children]

    @property
    def depths(self) -> list[int]:
        depths = [0] * len(self.children)
        for state, children in enumerate(self.children):
            for child in children:
                depths[child] = depths[state] + 1
        return depths

    def reset(self):
        return jnp.zeros((), jnp.int32)

    def step(self, state, action):
        return jnp.asarray(_table(self.children, -1, self.num_actions), jnp.int32)[state, action]

    def action_mask(self, state):
        return jnp.asarray(_table(self.children, -1, self.num_actions))[state] >= 0

    def is_terminal(self, state):
        return ~jnp.any(self.action_mask(state))

    def observe(self, state):
        return state[None]

    def turn(self, state):
        return jnp.asarray([CHANCE if law else 0 for law in self.probs], jnp.int32)[state]

    def chance_log_probs(self, state):
        return jnp.log(jnp.asarray(_table(self.probs, 0.0, self.num_actions)))[state]

    def to_text(self, states) -> list[str]:
        return [str(state) for state in np.asarray(states).tolist()]

    def from_text(self, texts: Objects[str]):
        return jnp.asarray([int(text) for text in texts], jnp.int32)


# The worked example (eflow 2.4): the root's two moves lead to nature, whose outcomes are the four leaves.
EXAMPLE = NoisyTree(((1, 2), (3, 4), (5, 6), (), (), (), ()), ((), (0.5, 0.5), (0.9, 0.1), (), (), (), ()))
EXAMPLE_REWARDS = (2.0, 3.0, 1.0, 4.0)


def random_tree(seed: int, *, depth: int = 6, most_children: int = 3, share_chance: float = 0.5) -> NoisyTree:
    """Return a tree with 2 to `most_children` children a state; who moves is drawn, the player at the root.

    From depth 3 on a tenth of the states are leaves; the laws of outcomes are Dirichlet.
    """
    rng = np.random.default_rng(seed)
    children: list[tuple[int, ...]] = []
    probs: list[tuple[float, ...]] = []
    depths, num_states = [0], 1
    for state in itertools.count():
        if state == num_states:
            return NoisyTree(tuple(children), tuple(probs))
        is_leaf = depths[state] == depth or (depths[state] >= 3 and rng.random() < 0.1)
        num = 0 if is_leaf else int(rng.integers(2, most_children + 1))
        is_chance = num and state > 0 and rng.random() < share_chance
        children.append(tuple(range(num_states, num_states + num)))
        probs.append(tuple(rng.dirichlet(np.ones(num)).tolist()) if is_chance else ())
        depths += [depths[state] + 1] * num
        num_states += num
    raise AssertionError("the loop above returns")


def graph_of(tree: NoisyTree) -> Graph:
    """Return the graph of a tree, straight from its table."""
    children = _table(tree.children, -1, tree.num_actions)
    with np.errstate(divide="ignore"):
        log_probs = np.log(_table(tree.probs, 0.0, tree.num_actions))
    depths, states = np.array(tree.depths), np.arange(len(tree.children), dtype=np.int32)
    return Graph(
        states=states,
        children=children,
        backward_actions=np.zeros(children.shape, np.int64),
        is_terminal=~np.any(children >= 0, axis=1),
        num_parents=np.minimum(states, 1).astype(np.int64),
        turn=np.array([CHANCE if law else 0 for law in tree.probs], np.int32),
        chance_log_probs=log_probs if any(tree.probs) else None,
        level_starts=np.searchsorted(depths, np.arange(depths.max() + 2)),
        _ids={key: number for number, key in enumerate(state_keys(states))},
    )


def flows(tree: NoisyTree, rewards: dict[int, float]) -> dict[int, float]:
    """Return F of every state: sums where the player moves, expectations where nature does (eflow eqs. 2.1 to 2.3)."""
    found = dict(rewards)
    for state in reversed(range(len(tree.children))):
        if tree.children[state]:
            law = tree.probs[state] or (1.0,) * len(tree.children[state])
            found[state] = sum(p * found[child] for p, child in zip(law, tree.children[state], strict=True))
    return found


def moves_to(tree: NoisyTree, leaf: int) -> list[tuple[int, int]]:
    """Return the states on the way to a leaf, each with the action taken, the root's first."""
    parents = _parents(tree)
    moves = []
    while leaf:
        moves.append(parents[leaf])
        leaf = parents[leaf][0]
    return moves[::-1]


def rollout(tree: NoisyTree, policy: np.ndarray) -> dict[int, float]:
    """Return the probability of each leaf: the player's probabilities times nature's along its path."""
    return {
        leaf: math.prod(tree.probs[state][action] if tree.probs[state] else policy[state, action] for state, action in moves)
        for leaf in tree.leaves
        for moves in [moves_to(tree, leaf)]
    }


def chance_weight(tree: NoisyTree, leaf: int) -> float:
    """Return w(x), the product of nature's probabilities along the path to a leaf."""
    return math.prod(tree.probs[state][action] for state, action in moves_to(tree, leaf) if tree.probs[state])


class Determined(NamedTuple):
    """A tree in which nature has made up its mind: the probability of it, and the child it takes in each of its states."""

    prob: float
    choice: dict[int, int]


def determined(tree: NoisyTree) -> Iterator[Determined]:
    """Yield every way in which nature can decide all of its states beforehand, independently."""
    states = [state for state, law in enumerate(tree.probs) if law]
    for actions in itertools.product(*(range(len(tree.children[state])) for state in states)):
        prob = math.prod(tree.probs[state][action] for state, action in zip(states, actions, strict=True))
        yield Determined(prob, {state: tree.children[state][action] for state, action in zip(states, actions, strict=True)})


def determined_flows(tree: NoisyTree, rewards: dict[int, float], choice: dict[int, int]) -> dict[int, float]:
    """Return the flows of a tree in which nature takes known children."""
    found = dict(rewards)
    for state in reversed(range(len(tree.children))):
        if state in choice:
            found[state] = found[choice[state]]
        elif tree.children[state]:
            found[state] = sum(found[child] for child in tree.children[state])
    return found


@functools.cache
def _parents(tree: NoisyTree) -> dict[int, tuple[int, int]]:
    return {child: (state, action) for state, row in enumerate(tree.children) for action, child in enumerate(row)}


def _table(rows: tuple[tuple[float, ...], ...], fill: float, width: int) -> np.ndarray:
    """Return ragged rows as one array, filled up to the width."""
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows])
