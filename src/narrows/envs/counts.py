"""Objects made of counts: each action adds one to a count, in any order, and the last one ends."""

from typing import Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from narrows.envs.base import AbstractReversibleEnvironment

State = TypeVar("State", bound=tuple[Any, Any])
"""A named tuple of the counts and of whether the object is finished."""


class AbstractCounts(AbstractReversibleEnvironment[State]):
    """Rules in which action `i < num_features` adds one to count `i` and action `num_features` ends.

    Backward action `i` takes one off count `i`; the last one takes the end back.
    """

    @property
    def num_actions(self) -> int:
        return self.num_features + 1

    @property
    def num_backward_actions(self) -> int:
        return self.num_features + 1

    def step(self, state: State, action: Int[Array, ""]) -> State:
        return _made(state, state[0] + (jnp.arange(self.num_features) == action), action == self.num_features)

    def is_terminal(self, state: State) -> Bool[Array, ""]:
        return state[1]

    def observe(self, state: State) -> Int[Array, " feature"]:
        return state[0]

    def states_along(self, actions: Int[Array, " time"]) -> State:
        moves = actions[:, None] == jnp.arange(self.num_actions)
        counts = jnp.pad(jnp.cumsum(moves, axis=0, dtype=jnp.int32), ((1, 0), (0, 0)))
        return _made(self.reset(), counts[:, :-1], counts[:, -1] > 0)

    def backward_step(self, state: State, backward_action: Int[Array, ""]) -> State:
        return _made(state, state[0] - (jnp.arange(self.num_features) == backward_action), jnp.zeros_like(state[1]))

    def backward_mask(self, state: State) -> Bool[Array, " backward_action"]:
        return jnp.append((state[0] > 0) & ~state[1], state[1])

    def backward_action(self, state: State, action: Int[Array, ""]) -> Int[Array, ""]:
        return action

    def forward_action(self, state: State, backward_action: Int[Array, ""]) -> Int[Array, ""]:
        return backward_action


def _made(state: State, counts: Int[Array, "*time feature"], is_done: Bool[Array, "*time"]) -> State:
    """Return a state of the same class."""
    make: Any = type(state)
    return make(counts, is_done)
