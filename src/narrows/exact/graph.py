"""Every state of a small environment, numbered, with its moves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from narrows.envs.base import CHANCE


@dataclass(frozen=True, eq=False)
class Graph:
    """The states of an environment, numbered so that a child's number is larger than its parents' and the root is 0.

    Attributes:
        states: the states, NumPy leaves with a leading `state` axis.
        children: what each action leads to, -1 where it is illegal.
        backward_actions: the backward action that undoes each action; all 0 in an environment that cannot step back.
        is_terminal: which states are finished objects.
        num_parents: actions that lead to each state; 0 for the root alone.
        turn: whose turn it is in each state.
        chance_log_probs: log-probabilities of the outcomes in `CHANCE` states, float64 and of sum one, `-inf` in other rows;
            None if there are none.
        level_starts: level `l`, the states whose longest path from the root has `l` moves, is the half-open range
            `level_starts[l] .. level_starts[l + 1]`.
    """

    states: Any
    children: Int[np.ndarray, "state action"]
    backward_actions: Int[np.ndarray, "state action"]
    is_terminal: Bool[np.ndarray, " state"]
    num_parents: Int[np.ndarray, " state"]
    turn: Int[np.ndarray, " state"]
    chance_log_probs: Float[np.ndarray, "state action"] | None
    level_starts: Int[np.ndarray, " level_and_end"]
    _ids: dict[bytes, int] = field(repr=False)

    @property
    def num_states(self) -> int:
        """The number of states, terminal ones included."""
        return self.children.shape[0]

    @property
    def terminals(self) -> Int[np.ndarray, " terminal"]:
        """The numbers of the terminal states, ascending: the order of every `terminal` axis."""
        return np.flatnonzero(self.is_terminal)

    @property
    def terminal_states(self) -> Any:
        """The terminal states as a batch, to be scored by a reward or named by `env.to_text`."""
        return self.rows(self.terminals)

    @property
    def is_chance(self) -> Bool[np.ndarray, " state"]:
        """The states in which chance moves."""
        return (self.turn == CHANCE) & ~self.is_terminal

    def rows(self, ids: Int[np.ndarray, " row"]) -> Any:
        """Return a batch of states by their numbers."""
        return jax.tree.map(lambda leaf: leaf[ids], self.states)

    def levels(self) -> Iterator[Int[np.ndarray, " row"]]:
        """Yield the numbers of each level's non-terminal states, the root's level first."""
        for start, stop in zip(self.level_starts[:-1], self.level_starts[1:], strict=True):
            yield start + np.flatnonzero(~self.is_terminal[start:stop])

    def index(self, states: Any) -> Int[np.ndarray, " row"]:
        """Return the numbers of a batch of states; ValueError names the first row that is none of this graph's."""
        same_dtype = jax.tree.map(lambda own, other: np.asarray(other).astype(own.dtype), self.states, states)
        ids = np.asarray([self._ids.get(key, -1) for key in state_keys(same_dtype)], np.int64)
        if np.any(ids < 0):
            row = int(np.argmax(ids < 0))
            foreign = jax.tree.map(lambda leaf: leaf[row].tolist(), same_dtype)
            raise ValueError(f"row {row} is not a state of this graph: {foreign}. Was the graph made for another environment?")
        return ids


def with_chance(graph: Graph, log_policy: Float[np.ndarray, "state action"]) -> Float[np.ndarray, "state action"]:
    """Return the policy with the probabilities of the outcomes in `CHANCE` states."""
    if graph.chance_log_probs is None:
        return log_policy
    return np.where(graph.is_chance[:, None], graph.chance_log_probs, log_policy)


def state_keys(states: Any) -> list[bytes]:
    """Return the bytes of each of a batch of states: equal states have equal bytes."""
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(states)]
    rows = np.concatenate([leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:])).view(np.uint8) for leaf in leaves], axis=1)
    return rows.view(f"V{rows.shape[1]}").ravel().tolist()
