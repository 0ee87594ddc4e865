"""Deep Q-learning with regularised values, and Munchausen's bonus: the policy's own log-probability as a reward."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.balance import usable, weighted_mean
from narrows.objectives.base import ALONE, AbstractRegression, Aids, Residual, Total
from narrows.operators import GeneralMellowmax, masked_log_softmax, masked_logsumexp
from narrows.policies.base import Model
from narrows.sizes import Count
from narrows.trajectories import Path, Trajectory, follow, gather


class MunchausenDQN(AbstractRegression):
    """Munchausen deep Q-learning (Vieillard et al. 2020, arXiv:2007.14430), as for flow networks by Tiapkin et al. (2024).

        Q(s, a) = r + munchausen max(tau log pi'(a|s), floor) + tau LSE(Q'(s') / tau),      pi = softmax(Q / tau)

    with Q' and pi' of a target copy. Where the floor is not reached, the bonus draws pi towards itself, so that the entropy
    counts `(1 - munchausen) tau`; tau is `1 / ((1 - munchausen) omega)` here, for the optimum to be the soft optimum at omega,
    the law of a flow network, whatever `munchausen` is. At 0 this is soft deep Q-learning.

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
    needs_flow: ClassVar[bool] = False
    needs_child_flow: ClassVar[bool] = False
    needs_keys: ClassVar[bool] = False
    trains_backward: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 1

    def __check_init__(self) -> None:
        _ = self.operator
        if not 0.0 <= self.munchausen < 1.0:
            raise ValueError(f"munchausen must lie in [0, 1), got {self.munchausen}. 0.15 is usual for flow networks.")
        if not self.floor < 0.0:
            raise ValueError(f"floor must be negative, got {self.floor}. It bounds a log-probability from below.")
        if self.target_period is None or self.target_period < 1:
            raise ValueError(f"target_period must be at least 1, got {self.target_period}.")
        if self.huber is not None and not self.huber > 0.0:
            raise ValueError(f"huber must be positive, got {self.huber}. Leave the error squared with none.")

    @property
    def operator(self) -> GeneralMellowmax:
        return GeneralMellowmax(self.omega, 0.0, 0.0)

    @property
    def temperature(self) -> float:
        """The tau by which values become the policy's logits, in nats of reward."""
        return 1.0 / ((1.0 - self.munchausen) * self.omega)

    def loss(
        self,
        model: Model,
        target: Model,
        env: AbstractEnvironment,
        batch: Trajectory,
        aids: Aids = ALONE,
    ) -> Float[Array, ""]:
        return self.reduce(*self.errors(model, target, env, batch, aids), aids.total)

    def errors(self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, aids: Aids = ALONE) -> Residual:
        batch, is_usable = usable(batch)
        path, target_path = follow(model, env, batch.actions, aids.record), follow(target, env, batch.actions)
        error, weight = jax.vmap(self._errors, in_axes=(1, 1, 0))(path, target_path, batch.log_reward)
        return Residual(error, jnp.where(is_usable[:, None], weight, 0.0))

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        if self.huber is None:
            return weighted_mean(error**2, weight, total)
        # Twice Huber's loss, whose middle is then the square itself.
        size = jnp.abs(error)
        return weighted_mean(jnp.where(size <= self.huber, error**2, self.huber * (2.0 * size - self.huber)), weight, total)

    def _errors(
        self, path: Path, target_path: Path, log_reward: Float[Array, ""]
    ) -> tuple[Float[Array, " time"], Float[Array, " time"]]:
        tau = self.temperature
        # An all-True stand-in keeps the rows after the end finite.
        mask = path.action_mask | ~path.is_valid[:, None]
        next_values = jnp.append(tau * masked_logsumexp(target_path.forward_logits, mask)[1:], 0.0)
        log_probs = gather(masked_log_softmax(target_path.forward_logits, path.action_mask), path.actions)
        bonus = self.munchausen * jnp.maximum(tau * log_probs, self.floor)
        is_last = path.is_valid & ~jnp.append(path.is_valid[1:], False)
        log_pb = path.log_pb if self.dag_correction else jnp.zeros_like(path.log_pb)
        goal = jnp.where(is_last, log_reward, next_values) + bonus + log_pb / self.omega
        error = tau * gather(path.forward_logits, path.actions) - jax.lax.stop_gradient(goal)
        return jnp.where(path.is_valid, error, 0.0), path.is_valid.astype(error.dtype)
