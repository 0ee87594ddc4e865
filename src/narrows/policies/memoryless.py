"""Networks that read a state by itself, and any number of states at once."""

from abc import abstractmethod

import jax
from jaxtyping import Array, Int, PyTree

from narrows.envs.base import features
from narrows.policies.base import AbstractNetwork, PolicyOutput


class AbstractMemoryless(AbstractNetwork):
    """A policy without memory: one pass over all states of all trajectories, however many axes lie in front."""

    @abstractmethod
    def read(self, values: Int[Array, "position feature"]) -> PolicyOutput:
        """Return the heads for a list of states."""

    def start(self) -> tuple[()]:
        return ()

    def step(self, carry: tuple[()], observation: PyTree[Array]) -> tuple[PolicyOutput, tuple[()]]:
        return jax.tree.map(lambda head: head[0], self.unroll(features(observation)[None])), carry

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        values = features(observations)
        output = self.read(values.reshape(-1, values.shape[-1]))
        return jax.tree.map(lambda head: head.reshape(*values.shape[:-1], *head.shape[1:]), output)
