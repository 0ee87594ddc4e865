"""What a reward is: a batch of terminal states in, one log-reward each out."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from narrows.envs.perturbed import PerturbedState


class AbstractReward(eqx.Module):
    """A log-reward over terminal states, player 0's in games; a pure JAX function, fused into the training chunk."""

    @abstractmethod
    def __call__(self, states: Any) -> Float[Array, " batch"]:
        """Return the log-reward of each of a batch of terminal states (a leading `batch` axis on every leaf)."""


class AbstractProxy(AbstractReward):
    """A reward that was fitted to measurements, and guesses where they say nothing."""


class Tempered(AbstractReward):
    """Another reward times the inverse temperature `beta`: the target law is proportional to `exp(beta Phi)`."""

    reward: AbstractReward
    beta: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_inverse_temperature(self.beta)

    def __call__(self, states: Any) -> Float[Array, " batch"]:
        return self.beta * self.reward(states)


class Came(AbstractReward):
    """Another reward, of an environment's objects, for that environment under a kernel: what came out is what counts."""

    reward: AbstractReward

    def __call__(self, states: PerturbedState) -> Float[Array, " batch"]:
        return self.reward(states.inner)


def check_inverse_temperature(beta: float) -> None:
    """Raise ValueError unless `beta` is positive and finite."""
    if not 0.0 < beta < float("inf"):
        raise ValueError(f"beta must be positive and finite, got {beta}. Larger is greedier; 4 to 256 is usual.")
