"""The transition-level general mellowmax loss: Bellman errors against a target copy (tgm 3.3)."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.balance import mean_square, usable
from narrows.objectives.base import ALONE, AbstractRegression, Aids, Residual, Total
from narrows.operators import GeneralMellowmax
from narrows.policies.base import Model
from narrows.sizes import Count
from narrows.trajectories import Path, Trajectory, follow, gather


class BellmanGeneralMellowmax(AbstractRegression):
    """Mean of `(Q(s, a) - r - GM(Q_target(s')))^2` over the transitions of a batch.

    The reward arrives at the end only, so credit travels one step a target renewal; it is here as an ablation and for tests.

    Args:
        omega, alpha, q: parameters of the operator, as for TGM.
        target_period: updates between renewals of the target copy, >= 1.
        dag_correction: add `(1/omega) log P_B` to the reward of every transition (tgm 1.3).
    """

    omega: float = eqx.field(default=4.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.5, static=True)
    target_period: Count | None = eqx.field(default=100, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    needs_flow: ClassVar[bool] = False
    needs_child_flow: ClassVar[bool] = False
    needs_keys: ClassVar[bool] = False
    trains_backward: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 1

    def __check_init__(self) -> None:
        _ = self.operator
        if self.target_period is None or self.target_period < 1:
            raise ValueError(f"target_period must be at least 1, got {self.target_period}.")

    @property
    def operator(self) -> GeneralMellowmax:
        return GeneralMellowmax(self.omega, self.alpha, self.q)

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
        return mean_square(error, weight, total)

    def _errors(
        self, path: Path, target_path: Path, log_reward: Float[Array, ""]
    ) -> tuple[Float[Array, " time"], Float[Array, " time"]]:
        operator = self.operator
        # An all-True stand-in keeps the rows after the end finite.
        mask = path.action_mask | ~path.is_valid[:, None]
        next_values = jnp.append(operator.value(target_path.forward_logits / operator.policy_scale, mask)[1:], 0.0)
        is_last = path.is_valid & ~jnp.append(path.is_valid[1:], False)
        log_pb = jax.lax.stop_gradient(path.log_pb) if self.dag_correction else jnp.zeros_like(path.log_pb)
        goal = jnp.where(is_last, log_reward, next_values) + log_pb / operator.omega
        error = gather(path.forward_logits, path.actions) / operator.policy_scale - jax.lax.stop_gradient(goal)
        return jnp.where(path.is_valid, error, 0.0), path.is_valid.astype(error.dtype)
