"""Environments made for the tests of the contract: one that wraps and replaces, one with a chance turn."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from narrows.envs.base import CHANCE, AbstractEnvironment, AbstractReversibleEnvironment


class Double(AbstractReversibleEnvironment[Any]):
    """Another environment with some of its members replaced; a function gets the other environment first."""

    inner: AbstractReversibleEnvironment
    replaced: Mapping[str, Any] = eqx.field(static=True)

    def _size(self, name: str) -> int:
        return self.replaced.get(name, getattr(self.inner, name))

    def _ask(self, name: str, *arguments: Any) -> Any:
        if name in self.replaced:
            return self.replaced[name](self.inner, *arguments)
        return getattr(self.inner, name)(*arguments)

    @property
    def num_actions(self) -> int:
        return self._size("num_actions")

    @property
    def num_backward_actions(self) -> int:
        return self._size("num_backward_actions")

    @property
    def max_steps(self) -> int:
        return self._size("max_steps")

    @property
    def num_features(self) -> int:
        return self._size("num_features")

    @property
    def num_values(self) -> int:
        return self._size("num_values")

    @property
    def distance(self):
        return self.replaced.get("distance", self.inner.distance)

    def reset(self):
        return self._ask("reset")

    def step(self, state, action):
        return self._ask("step", state, action)

    def action_mask(self, state):
        return self._ask("action_mask", state)

    def is_terminal(self, state):
        return self._ask("is_terminal", state)

    def observe(self, state):
        return self._ask("observe", state)

    def turn(self, state):
        return self._ask("turn", state)

    def chance_log_probs(self, state):
        return self._ask("chance_log_probs", state)

    def backward_step(self, state, backward_action):
        return self._ask("backward_step", state, backward_action)

    def backward_mask(self, state):
        return self._ask("backward_mask", state)

    def backward_action(self, state, action):
        return self._ask("backward_action", state, action)

    def forward_action(self, state, backward_action):
        return self._ask("forward_action", state, backward_action)

    def to_text(self, states):
        return self._ask("to_text", states)

    def from_text(self, texts):
        return self._ask("from_text", texts)


class CoinState(NamedTuple):
    faces: Int[Array, "*batch 2"]
    num_laid: Int[Array, "*batch"]


class Coin(AbstractEnvironment[CoinState]):
    """A player lays a coin, chance throws another; the third action is nobody's."""

    probabilities: tuple[float, float, float] = eqx.field(static=True)

    @property
    def num_actions(self) -> int:
        return 3

    @property
    def max_steps(self) -> int:
        return 2

    @property
    def num_features(self) -> int:
        return 2

    @property
    def num_values(self) -> int:
        return 2

    def reset(self):
        return CoinState(jnp.zeros(2, jnp.int32), jnp.zeros((), jnp.int32))

    def step(self, state, action):
        return CoinState(state.faces.at[state.num_laid].set(action), state.num_laid + 1)

    def action_mask(self, state):
        return (jnp.arange(3) < 2) & (state.num_laid < 2)

    def is_terminal(self, state):
        return state.num_laid == 2

    def observe(self, state):
        return state.faces

    def turn(self, state):
        return jnp.where(state.num_laid == 1, CHANCE, 0)

    def chance_log_probs(self, state):
        return jnp.log(jnp.asarray(self.probabilities))

    def to_text(self, states):
        return ["".join("HT"[face] for face in row) for row in np.asarray(states.faces).tolist()]

    def from_text(self, texts):
        if not all(len(text) == 2 and set(text) <= set("HT") for text in texts):
            raise ValueError("expected two letters, each H or T")
        faces = jnp.asarray([["HT".index(letter) for letter in text] for text in texts], jnp.int32)
        return CoinState(faces, jnp.full(len(texts), 2, jnp.int32))
