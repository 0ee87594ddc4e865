"""Q-learning against a target copy, and the transition-level general mellowmax loss (tgm 3.3)."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.base import NO_CONTEXT, AbstractRegression, LossContext, Needs, Residual, check_target_period, usable
from narrows.objectives.reductions import Total, regression
from narrows.operators import GeneralMellowmax
from narrows.policies.base import Model
from narrows.sizes import Count
from narrows.trajectories import Path, Trajectory, follow, gather, shift_back

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractQLearning(AbstractRegression):
    """Errors `Q(s, a) - r - bonus(s, a) - V_target(s')` of every transition, V of a terminal state its log-reward.

    With `dag_correction`, `(1/omega) log P_B` is added to the reward of every transition (tgm 1.3).
    """

    target_period: AbstractVar[int | None]
    huber: AbstractVar[float | None]
    dag_correction: AbstractVar[bool]

    def __check_init__(self) -> None:
        _ = self.operator, regression(self.huber)  # refuse parameters out of range
        check_target_period(self.target_period)

    @property
    def needs(self) -> Needs:
        return Needs(target_period=self.target_period)

    @abstractmethod
    def q_values(self, logits: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """Return the action values that a policy's logits stand for."""

    @abstractmethod
    def target_values(self, target: Path, mask: Bool[Array, "time batch action"]) -> Float[Array, "time batch"]:
        """Return the value of the state before each step."""

    @abstractmethod
    def bonus(self, target: Path) -> Float[Array, "time batch"] | float:
        """Return what is added to the reward of each step."""

    def errors(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Residual:
        batch, is_usable = usable(batch)
        path, target_path = follow(model, env, batch.actions, context.cache), follow(target, env, batch.actions)
        following = shift_back(self.target_values(target_path, path.mask_or_all))
        goal = jnp.where(path.is_last, batch.log_reward, following) + self.bonus(target_path)
        if self.dag_correction:
            goal = goal + path.log_pb / self.operator.omega
        error = self.q_values(gather(path.forward_logits, path.actions)) - jax.lax.stop_gradient(goal)
        error = jnp.where(path.is_valid, error, 0.0)
        return Residual(error.T, (path.is_valid & is_usable).astype(error.dtype).T)

    def reduce(self, error: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total) -> Float[Array, ""]:
        return regression(self.huber).reduce(error, weight, total)


class BellmanGeneralMellowmax(AbstractQLearning):
    """Mean of `(Q(s, a) - r - GM(Q_target(s')))^2` over the transitions of a batch.

    The reward arrives at the end only, so credit travels one step a target renewal; an ablation.

    Args:
        omega, alpha, q: as for `TrajectoryGeneralMellowmax`.
        target_period: updates between renewals of the target copy, >= 1.
        dag_correction: add `(1/omega) log P_B` to the reward of every transition (tgm 1.3).
        huber: error from which the loss grows linearly, > 0; None for squares throughout.
    """

    omega: float = eqx.field(default=4.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.5, static=True)
    target_period: Count | None = eqx.field(default=100, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    huber: float | None = eqx.field(default=None, static=True)

    @property
    def operator(self) -> GeneralMellowmax:
        return GeneralMellowmax(self.omega, self.alpha, self.q)

    def q_values(self, logits: Float[Array, "*any"]) -> Float[Array, "*any"]:
        return logits / self.operator.policy_scale

    def target_values(self, target: Path, mask: Bool[Array, "time batch action"]) -> Float[Array, "time batch"]:
        return self.operator.value(self.q_values(target.forward_logits), mask)

    def bonus(self, target: Path) -> float:
        return 0.0
