"""A game without a board, for which names are words and winning is no line."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from narrows.envs.game import AbstractGame


class Nim(NamedTuple):
    stones: jax.Array
    num_moves: jax.Array


class OneHeap(AbstractGame[Nim]):
    """Take one or two of five stones; whoever takes the last one wins: a game without lines, for which names are words."""

    num_actions = 2
    max_steps = 5
    num_features = 1
    num_values = 6
    board = (1, 1)
    action_names = ("one", "two")
    action_symmetries = np.arange(2)[None]
    feature_symmetries = np.arange(1)[None]

    def reset(self):
        return Nim(jnp.asarray(5, jnp.int32), jnp.asarray(0, jnp.int32))

    def step(self, state, action):
        return Nim(state.stones - action - 1, state.num_moves + 1)

    def action_mask(self, state):
        return jnp.arange(2) < state.stones

    def is_terminal(self, state):
        return state.stones == 0

    def turn(self, state):
        return state.num_moves % 2

    def outcome(self, state):
        return jnp.where(state.stones == 0, jnp.where(state.num_moves % 2 == 1, 1, -1), 0)

    def observe(self, state):
        return state.stones[None]

    def to_text(self, states):
        return [str(stones) for stones in np.asarray(states.stones)]

    def from_text(self, texts):
        raise NotImplementedError
