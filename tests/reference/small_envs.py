"""Environments that exist for tests: a tree drawn by hand and a walk whose states are met at several depths."""

from collections.abc import Sequence as Objects

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from narrows.envs.base import CHANCE, AbstractEnvironment, AbstractReversibleEnvironment


class HandTree(AbstractReversibleEnvironment[Int[Array, ""]]):
    """The tree of tgm T4. States: root 0, child 1, objects 2 (stop at the root) and 3, 4, 5 (the child's stops)."""

    num_actions: int = eqx.field(default=3, static=True)
    num_backward_actions: int = eqx.field(default=1, static=True)
    max_steps: int = eqx.field(default=2, static=True)
    num_features: int = eqx.field(default=1, static=True)
    num_values: int = eqx.field(default=6, static=True)

    def reset(self):
        return jnp.zeros((), jnp.int32)

    def step(self, state, action):
        return jnp.where(state == 0, jnp.where(action == 0, 2, 1), 3 + action).astype(jnp.int32)

    def action_mask(self, state):
        return jnp.array([True, True, False]) & (state == 0) | (state == 1)

    def is_terminal(self, state):
        return state >= 2

    def observe(self, state):
        return state[None]

    def backward_step(self, state, backward_action):
        return jnp.where(state >= 3, 1, 0).astype(jnp.int32)

    def backward_mask(self, state):
        return (state > 0)[None]

    def backward_action(self, state, action):
        return jnp.zeros((), jnp.int32)

    def forward_action(self, state, backward_action):
        return jnp.array([0, 1, 0, 0, 1, 2], jnp.int32)[state]

    def to_text(self, states) -> list[str]:
        return [str(state) for state in np.asarray(states).tolist()]

    def from_text(self, texts: Objects[str]):
        return jnp.asarray([int(text) for text in texts], jnp.int32)


class Hops(AbstractEnvironment[Int[Array, " 2"]]):
    """A walk on 0 .. length by 1, by 2 or by 2 again (two actions, one child); ending is legal from 1 on.

    A position is reached by many paths of different lengths. `coin`: at odd positions a fair or loaded coin moves.
    `is_endless`: the walk can jump back, so play may never end. `dead_end`: from the last position nothing is legal.
    """

    length: int = eqx.field(default=5, static=True)
    coin: bool = eqx.field(default=False, static=True)
    is_endless: bool = eqx.field(default=False, static=True)
    dead_end: bool = eqx.field(default=False, static=True)
    num_actions: int = eqx.field(default=4, static=True)
    num_features: int = eqx.field(default=1, static=True)

    @property
    def max_steps(self) -> int:
        return self.length + 1

    @property
    def num_values(self) -> int:
        return self.length + 1

    def reset(self):
        return jnp.zeros(2, jnp.int32)

    def step(self, state, action):
        position = state[0] + jnp.array([1, 2, 2, 0])[action]
        if self.is_endless:
            position = jnp.where((state[0] == 2) & (action == 0), 1, position)
        return jnp.stack([position, (action == 3).astype(jnp.int32)]).astype(jnp.int32)

    def action_mask(self, state):
        position, is_done = state[0], state[1] == 1
        can_end = (position > 0) & ~((position == self.length) & self.dead_end)
        legal = jnp.append(position + jnp.array([1, 2, 2]) <= self.length, can_end)
        return legal & ~is_done

    def is_terminal(self, state):
        return state[1] == 1

    def observe(self, state):
        return state[:1]

    def turn(self, state):
        return jnp.where((state[0] % 2 == 1) & self.coin & (state[1] == 0), CHANCE, 0)

    def chance_log_probs(self, state):
        weights = jnp.where(self.action_mask(state), jnp.arange(1.0, 5.0), 0.0)
        return jnp.log(weights) - jnp.log(jnp.maximum(jnp.sum(weights), 1e-30))

    def to_text(self, states) -> list[str]:
        return [str(position) for position in np.asarray(states)[:, 0].tolist()]

    def from_text(self, texts: Objects[str]):
        return jnp.asarray([[int(text), 1] for text in texts], jnp.int32)
