"""Rewards: a batch of terminal states in, one log-reward each out."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from narrows.envs.perturbation import PerturbedState


class AbstractReward(eqx.Module):
    """A log-reward over terminal states, player 0's in games; a pure JAX function, fused into the training chunk.

    One whose numbers may lie far from zero, as measured scores may, says which `reference` they lie near and how it reads
    without it: single precision tells no two numbers apart that differ by less than a ten-millionth of their size.
    """

    @abstractmethod
    def __call__(self, states: Any) -> Float[Array, " batch"]:
        """Return the log-reward of each of a batch of terminal states (a leading `batch` axis on every leaf)."""

    @property
    def reference(self) -> float:
        """A number near the log-rewards, in double precision: by default zero."""
        return 0.0

    def centred(self) -> "AbstractReward":
        """Return the log-reward less its `reference`, which was taken off in double precision."""
        return self

    def deviation(self, states: Any) -> Float[Array, " batch"]:
        """Return the standard deviation of the log-reward of each of a batch of terminal states, zero where it is exact."""
        return jnp.zeros(jax.tree.leaves(states)[0].shape[0])

    def in_double(self, states: Any) -> Float[np.ndarray, " batch"]:
        """Return the log-rewards of a batch of terminal states, float64, as exact as they are near the `reference`."""
        return self.reference + np.asarray(self.centred()(states), np.float64)


class Tempered(AbstractReward):
    """Another reward times the inverse temperature `beta`: the target distribution is proportional to `exp(beta Phi)`."""

    reward: AbstractReward
    beta: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_inverse_temperature(self.beta)

    def __call__(self, states: Any) -> Float[Array, " batch"]:
        return self.beta * self.reward(states)

    @property
    def reference(self) -> float:
        return self.beta * self.reward.reference

    def deviation(self, states: Any) -> Float[Array, " batch"]:
        return self.beta * self.reward.deviation(states)

    def centred(self) -> "Tempered":
        return Tempered(self.reward.centred(), self.beta)


class UnwrapPerturbed(AbstractReward):
    """A reward of an environment's objects, for that environment under noise: it scores the object that came out."""

    reward: AbstractReward

    def __call__(self, states: PerturbedState) -> Float[Array, " batch"]:
        return self.reward(states.inner)

    @property
    def reference(self) -> float:
        return self.reward.reference

    def deviation(self, states: PerturbedState) -> Float[Array, " batch"]:
        return self.reward.deviation(states.inner)

    def centred(self) -> "UnwrapPerturbed":
        return UnwrapPerturbed(self.reward.centred())


def check_inverse_temperature(beta: float) -> None:
    """Raise ValueError unless `beta` is positive and finite."""
    if not 0.0 < beta < float("inf"):
        raise ValueError(f"beta must be positive and finite, got {beta}. Larger is greedier; 4 to 256 is usual.")
