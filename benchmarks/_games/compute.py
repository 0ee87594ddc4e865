"""How much a training run has computed, so that methods can be compared at equal cost (eflow 6.4)."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from narrows.envs.base import features
from narrows.envs.game import AbstractGame
from narrows.policies.base import AbstractPolicy, PolicyOutput


class Compute(NamedTuple):
    """What a run has spent on its network.

    Attributes:
        forward: floating-point operations of one look at one position.
        rows: positions trained on. A step forward and back counts as three looks.
        evaluations: positions looked at without training. In self-play one a move for a network that acts by its policy head,
            `num_actions` for one that acts by its children's flows, `1 + num_simulations` for one that searches; in training
            those whose flows a target is made of, `num_actions` for each row of flow matching.
    """

    forward: float
    rows: float
    evaluations: float

    @property
    def training(self) -> float:
        """Operations of the steps of the optimiser."""
        return 3.0 * self.rows * self.forward

    @property
    def playing(self) -> float:
        """Operations of looks without training."""
        return self.evaluations * self.forward

    @property
    def total(self) -> float:
        """All operations, by which runs are compared."""
        return self.training + self.playing


def forward_flops(policy: AbstractPolicy, env: AbstractGame, rows: int = 256) -> float:
    """Return the floating-point operations of one look at one position, as the compiler counts them for a batch of `rows`.

    Raises ValueError where this machine's compiler does not count.
    """
    arrays, rest = eqx.partition(policy, eqx.is_array)
    one = features(env.observe(env.reset()))

    def look(arrays: AbstractPolicy, observations: Int[Array, "row feature"]) -> PolicyOutput:
        return eqx.combine(arrays, rest).unroll(observations)

    observations = jnp.zeros((rows, *one.shape), one.dtype)
    costs = jax.jit(look).lower(arrays, observations).compile().cost_analysis()
    found = (costs or {}).get("flops", 0.0)
    if not found > 0.0:
        raise ValueError(f"the compiler for {jax.default_backend()} does not say how many operations a network takes.")
    return float(found) / rows
