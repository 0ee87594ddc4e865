"""Deep Q-learning with regularised values, and Munchausen's bonus: the policy's own log-probability as a reward."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.objectives.bellman import AbstractQLearning
from narrows.operators import GeneralMellowmax, masked_logsumexp
from narrows.sizes import Count
from narrows.trajectories import Path


class MunchausenDQN(AbstractQLearning):
    """Munchausen deep Q-learning (Vieillard et al. 2020, arXiv:2007.14430), as for flow networks by Tiapkin et al. (2024).

        Q(s, a) = r + munchausen max(tau log pi'(a|s), floor) + tau LSE(Q'(s') / tau),      pi = softmax(Q / tau)

    with Q' and pi' of a target copy. Where the floor is not reached, the bonus draws pi towards itself, so that the entropy
    counts `(1 - munchausen) tau`; tau is `1 / ((1 - munchausen) omega)`, which makes the optimum the soft optimum at omega,
    the distribution of a flow network, whatever `munchausen` is. At 0 this is soft deep Q-learning.

    Args:
        omega: inverse temperature of the optimum, > 0.
        munchausen: weight of the bonus, in [0, 1). Published: 0.9 in games, 0.15 for flow networks.
        floor: the least that `tau log pi'` counts, < 0. Published: -1 in games, where rewards are of that size; one as high as
            that leaves unlikely actions too likely.
        target_period: updates between renewals of the target copy, >= 1.
        huber: error from which a loss grows linearly, > 0; None for squares throughout.
        dag_correction: add `(1/omega) log P_B` to the reward of every transition (tgm 1.3).
    """

    omega: float = eqx.field(default=1.0, static=True)
    munchausen: float = eqx.field(default=0.15, static=True)
    floor: float = eqx.field(default=-100.0, static=True)
    target_period: Count | None = eqx.field(default=100, static=True)
    huber: float | None = eqx.field(default=1.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)

    def __check_init__(self) -> None:
        if not 0.0 <= self.munchausen < 1.0:
            raise ValueError(f"munchausen must lie in [0, 1), got {self.munchausen}. 0.15 is usual for flow networks.")
        if not self.floor < 0.0:
            raise ValueError(f"floor must be negative, got {self.floor}. It bounds a log-probability from below.")

    @property
    def operator(self) -> GeneralMellowmax:
        return GeneralMellowmax(self.omega, 0.0, 0.0)

    @property
    def temperature(self) -> float:
        """The tau by which values become the policy's logits, in nats of reward."""
        return 1.0 / ((1.0 - self.munchausen) * self.omega)

    def q_values(self, logits: Float[Array, "*any"]) -> Float[Array, "*any"]:
        return self.temperature * logits

    def target_values(self, target: Path, mask: Bool[Array, "time batch action"]) -> Float[Array, "time batch"]:
        return self.temperature * masked_logsumexp(target.forward_logits, mask)

    def bonus(self, target: Path) -> Float[Array, "time batch"]:
        return self.munchausen * jnp.maximum(self.temperature * target.log_pi, self.floor)
