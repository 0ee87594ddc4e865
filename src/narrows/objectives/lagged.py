"""General mellowmax whose reference is a lagged copy of the policy, with a value head that shapes what the network sees."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.base import (
    NO_CONTEXT,
    AbstractRegression,
    LossContext,
    Needs,
    Passes,
    Residual,
    check_target_period,
    usable,
)
from narrows.objectives.reductions import Total, mean_square, variance
from narrows.operators import GeneralMellowmax, soft_bellman
from narrows.policies.base import Model
from narrows.sizes import Count
from narrows.trajectories import Path, Trajectory, follow


class LaggedGeneralMellowmax(AbstractRegression):
    """TGM with the policy of some steps ago as its reference: `Var_batch[rho]`, and a value head learned beside it.

        rho = (1/omega) sum (log pi - q log d - (1 - q) log P_B) - (1 - q) log_reward
        loss = Var_batch[rho] + value_weight mean (V(s) - (1 - q) log_reward)^2

    The constraint of TGM along a trajectory (arXiv:2506.17007, thm 4.1) holds for any reference `d` that is held fixed; here it
    is a copy of the policy, renewed every `target_period` steps, as in Trust-PCL (Nachum et al. 2018, arXiv:1707.01891). The
    reward counts `1 - q`, so that the policy moves that share of the way, in log-probability, from its copy to the
    distribution of a flow network at omega, which is the fixed point whatever `q` is: where every copy is fitted exactly, the
    k-th of them is at inverse temperature `omega (1 - q^k)`. At q = 0 there is no reference and this is VarGrad with values.

    `V` predicts what the reward will be from each state that was passed. It enters no other term: its gradient outweighs the
    policy's in what the two share, and so the network's features become those that tell rewards apart, of which the policy
    is a readout. `docs/robustness_results.md` compares it with TGM, PPO and others where the reward is a wrong proxy.

    Args:
        omega: inverse temperature of the distribution, > 0.
        q: pull towards the copy, in [0, 1).
        value_weight: of the value head's error, >= 0; at 0 no value head is needed.
        target_period: training steps between renewals of the copy, >= 1.
        epochs: times that each batch is gone through.
        minibatches: parts in which it is gone through; it must have a multiple of so many trajectories.
        dag_correction: count the backward policy, so that objects with many trajectories are not favoured.
    """

    omega: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.9, static=True)
    value_weight: float = eqx.field(default=100.0, static=True)
    target_period: Count | None = eqx.field(default=1, static=True)
    epochs: int = eqx.field(default=4, static=True)
    minibatches: int = eqx.field(default=4, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)

    def __check_init__(self) -> None:
        _ = soft_bellman(self.omega)  # refuses an omega out of range
        if not 0.0 <= self.q < 1.0:
            raise ValueError(f"q must lie in [0, 1), got {self.q}. At 1 the policy would never stop moving; 0.9 is usual.")
        if not 0.0 <= self.value_weight < float("inf"):
            raise ValueError(f"value_weight must be at least 0 and finite, got {self.value_weight}. 100 is usual.")
        check_target_period(self.target_period)
        for name, value in (("epochs", self.epochs), ("minibatches", self.minibatches)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")

    @property
    def operator(self) -> GeneralMellowmax:
        return soft_bellman(self.omega)

    @property
    def needs(self) -> Needs:
        return Needs(
            flow=self.value_weight > 0.0,
            trains_backward=self.dag_correction,
            min_batch_size=2,
            target_period=self.target_period,
            passes=Passes(self.epochs, self.minibatches),
        )

    def errors(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Residual:
        """Return rho first and then, with a value head, what it is off by before each step: `[batch, 1 + time]`."""
        batch, is_usable = usable(batch)
        path = follow(model, env, batch.actions, context.cache)
        goal = (1.0 - self.q) * batch.log_reward
        error = (jnp.sum(self._terms(path, target, env, batch), axis=0) - goal)[None]
        weight = jnp.ones_like(error)
        if self.value_weight > 0.0:
            error = jnp.concatenate([error, jnp.where(path.is_valid, _values(path) - goal, 0.0)])
            weight = jnp.concatenate([weight, path.is_valid.astype(error.dtype)])
        return Residual(error.T, jnp.where(is_usable[:, None], weight.T, 0.0))

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        spread = variance(error[:, :1], weight[:, :1], total)
        if self.value_weight == 0.0:
            return spread
        return spread + self.value_weight * mean_square(error[:, 1:], weight[:, 1:], total)

    def _terms(self, path: Path, target: Model, env: AbstractEnvironment, batch: Trajectory) -> Float[Array, "time batch"]:
        """Return `(1/omega) (log pi - q log d - (1 - q) log P_B)` of each step, zero after the end."""
        terms = path.log_pi
        if self.q > 0.0:
            terms = terms - self.q * jax.lax.stop_gradient(follow(target, env, batch.actions).log_pi)
        if self.dag_correction:
            terms = terms - (1.0 - self.q) * path.log_pb
        return jnp.where(path.is_valid, terms, 0.0) / self.omega


def _values(path: Path) -> Float[Array, "time batch"]:
    if path.log_flow is None:
        raise ValueError(
            "LaggedGeneralMellowmax learns a value head. Construct the policy with flow_head=True, or set value_weight = 0."
        )
    return path.log_flow
