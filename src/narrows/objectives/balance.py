"""Balance objectives: one per-step term, telescoped (tgm 3.1 to 3.5).

For the values V of an operator with parameters (omega, alpha, q) and every legal action,

    V(s) + term(s, a) - V(s') = 0,     term(s, a) = (1/omega) (log pi(a|s) - q log d(a|s) - log P_B(s|s')),

with V of a terminal state its log-reward, d = softmax(alpha Q) and pi = softmax((q alpha + omega) Q). At omega = 1, q = 0,
V is log F and this is detailed balance; summed along a trajectory it is trajectory balance, and TGM for q > 0.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.base import ALONE, AbstractRegression, Aids, Residual, Total, here
from narrows.operators import GeneralMellowmax, masked_log_softmax
from narrows.policies.base import Model
from narrows.trajectories import Path, Record, Trajectory, follow, gather

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class Steps(NamedTuple):
    """What balance takes of each step of a trajectory: its term, and the log-flow before it where the policy has that head."""

    terms: Float[Array, "time *batch"]
    log_flow: Float[Array, "time *batch"] | None
    is_valid: Bool[Array, "time *batch"]


class AbstractResidualObjective(AbstractRegression):
    """What balance objectives share: `steps` of every trajectory, `residual` on each, then a reduction over the batch."""

    @property
    def target_period(self) -> int | None:
        return None

    @property
    def needs_child_flow(self) -> bool:
        return False

    @property
    def needs_keys(self) -> bool:
        return False

    @abstractmethod
    def steps(self, path: Path) -> Steps:
        """Return what balance takes of each step, every array `[time, batch]`."""

    @abstractmethod
    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        """Return the violations of one trajectory, all zero at the solution (up to one constant where a variance follows)."""

    @abstractmethod
    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        """Return one number from the violations of a batch."""

    def residuals(self, model: Model, env: AbstractEnvironment, batch: Trajectory, record: Record | None = None) -> Residual:
        """Return the violations of a batch of trajectories, one row each."""
        # Tables of logits stay as they lie, time first; only numbers a step are mapped over the batch.
        steps = self.steps(follow(model, env, batch.actions, record))
        return jax.vmap(self.residual, in_axes=(1, 0, None))(steps, batch.log_reward, model.log_z)

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
        error, weight = self.residuals(model, env, batch, aids.record)
        return Residual(error, jnp.where(is_usable[:, None], weight, 0.0))


class AbstractBalance(AbstractResidualObjective):
    """A balance objective of one player, by the parameters of its operator."""

    omega: AbstractVar[float]
    alpha: AbstractVar[float]
    q: AbstractVar[float]
    dag_correction: AbstractVar[bool]

    def __check_init__(self) -> None:
        _ = self.operator  # refuses parameters out of range

    @property
    def operator(self) -> GeneralMellowmax:
        return GeneralMellowmax(self.omega, self.alpha, self.q)

    @property
    def trains_backward(self) -> bool:
        return self.dag_correction

    def steps(self, path: Path) -> Steps:
        return Steps(step_terms(self.operator, path, self.dag_correction), path.log_flow, path.is_valid)


class TrajectoryBalance(AbstractBalance):
    """Trajectory balance (Malkin et al. 2022, arXiv:2201.13259): `(log_z / omega + sum term - log_reward)^2`.

    Args:
        omega, alpha, q: parameters of the operator; the defaults are the GFlowNet's.
        dag_correction: count the backward policy, so that objects with many trajectories are not favoured.
    """

    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    needs_flow: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 1

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        error = log_z / self.omega + jnp.sum(steps.terms) - log_reward
        return Residual(error[None], jnp.ones(1))

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        return mean_square(error, weight, total)


class DetailedBalance(AbstractBalance):
    """Detailed balance (Bengio et al. 2023, arXiv:2111.09266): the squared violation of every transition.

    Args:
        omega, alpha, q: parameters of the operator; the defaults are the GFlowNet's.
        dag_correction: count the backward policy, so that objects with many trajectories are not favoured.
    """

    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    needs_flow: ClassVar[bool] = True
    min_batch_size: ClassVar[int] = 1

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        return transition_residual(steps, log_reward)

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        return mean_square(error, weight, total)


class SubTrajectoryBalance(AbstractBalance):
    """Sub-trajectory balance (Madan et al. 2023, arXiv:2209.12782): every segment, weighted by `lambda_^length`.

    The weights of a trajectory's segments sum to one.

    Args:
        lambda_: weight of a segment per step of its length, > 0; near 0 it is detailed balance.
        omega, alpha, q: parameters of the operator; the defaults are the GFlowNet's.
        dag_correction: count the backward policy, so that objects with many trajectories are not favoured.
    """

    lambda_: float = eqx.field(default=0.9, static=True)
    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    needs_flow: ClassVar[bool] = True
    min_batch_size: ClassVar[int] = 1

    def __check_init__(self) -> None:
        check_segment_weight(self.lambda_)

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        return segment_residual(steps, log_reward, self.lambda_)

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        return mean_square(error, weight, total)


class VarGrad(AbstractBalance):
    """Log-partition variance (Richter et al. 2020, arXiv:2010.10436): trajectory balance without a learned `log_z`.

    Args:
        dag_correction: count the backward policy, so that objects with many trajectories are not favoured.
    """

    dag_correction: bool = eqx.field(default=True, static=True)
    needs_flow: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 2
    omega: ClassVar[float] = 1.0
    alpha: ClassVar[float] = 1.0
    q: ClassVar[float] = 0.0

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        return trajectory_residual(steps, log_reward)

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        return variance(error, weight, total)


class TrajectoryGeneralMellowmax(AbstractBalance):
    """TGM (Jiralerspong et al. 2025, arXiv:2506.17007): `Var_batch[sum term - log_reward]`, the population variance.

    The defaults are the single setting of it that did best where the score is a wrong proxy (`docs/robustness_results.md`).

    Args:
        omega: inverse temperature of the regularisation, > 0.
        alpha: inverse temperature of the reference policy, >= 0.
        q: pull towards the reference policy, in [0, 1]; 0 is a GFlowNet.
        dag_correction: count the backward policy (tgm 1.3); the paper's tasks are trees, where it is zero. For q > 0
            the law that is learned depends on the backward policy, and a learned one is whatever training made of it.
    """

    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=1.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    needs_flow: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 2

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        return trajectory_residual(steps, log_reward)

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        return variance(error, weight, total)


def step_terms(operator: GeneralMellowmax, path: Path, dag_correction: bool) -> Float[Array, "time *batch"]:
    """Return `(1/omega) (log pi - q log d - log P_B)` of each step, zero after the end.

    The forward logits are the policy's, `(q alpha + omega) Q`, so the reference's are a fraction of them.
    """
    terms = gather(masked_log_softmax(path.forward_logits, path.action_mask), path.actions)
    if operator.q > 0.0:
        reference_logits = (operator.alpha / operator.policy_scale) * path.forward_logits
        # Each is gathered before the subtraction: at an illegal action it would be -inf minus -inf.
        terms = terms - operator.q * gather(masked_log_softmax(reference_logits, path.action_mask), path.actions)
    if dag_correction:
        terms = terms - path.log_pb
    return jnp.where(path.is_valid, terms, 0.0) / operator.omega


def path_values(steps: Steps, log_reward: Float[Array, ""]) -> Float[Array, " state"]:
    """Return V of the `time + 1` states of one trajectory: the flow head's, and the log-reward from the end on."""
    if steps.log_flow is None:
        raise ValueError("this objective needs a policy with a flow head. Construct the policy with flow_head=True.")
    return jnp.append(jnp.where(steps.is_valid, steps.log_flow, log_reward), log_reward)


def trajectory_residual(steps: Steps, log_reward: Float[Array, ""]) -> Residual:
    """Return rho = `sum term - log_reward` of one trajectory (tgm eq. 2), minus the root's value at the solution."""
    return Residual((jnp.sum(steps.terms) - log_reward)[None], jnp.ones(1))


def transition_residual(steps: Steps, log_reward: Float[Array, ""]) -> Residual:
    """Return `V(s) + term - V(s')` of every transition of one trajectory."""
    values = path_values(steps, log_reward)
    error = values[:-1] + steps.terms - values[1:]
    return Residual(jnp.where(steps.is_valid, error, 0.0), steps.is_valid.astype(error.dtype))


def segment_residual(steps: Steps, log_reward: Float[Array, ""], lambda_: float) -> Residual:
    """Return `V_i + sum term - V_j` of every segment of one trajectory, its weight `lambda_^length` up to a factor."""
    # V_i + sum_{i <= t < j} term_t - V_j is a difference of potentials, one for each state of the trajectory.
    potential = path_values(steps, log_reward) - jnp.append(0.0, jnp.cumsum(steps.terms))
    time = jnp.arange(potential.shape[0])
    length = time[None, :] - time[:, None]
    is_segment = (length > 0) & (time[None, :] <= jnp.sum(steps.is_valid))
    # Lengths of no segment are replaced before the power, which could overflow for lambda_ far from 1.
    weight = jnp.where(is_segment, lambda_ ** jnp.where(is_segment, length - 1, 0).astype(potential.dtype), 0.0)
    error = jnp.where(is_segment, potential[:, None] - potential[None, :], 0.0)
    return Residual(error.reshape(-1), (weight / jnp.sum(weight)).reshape(-1))


def check_segment_weight(lambda_: float) -> None:
    """Raise ValueError unless the weight of a segment per step of its length is positive and finite."""
    if not 0.0 < lambda_ < float("inf"):
        raise ValueError(f"lambda_ must be positive and finite, got {lambda_}. 0.9 is usual.")


def usable(batch: Trajectory) -> tuple[Trajectory, Bool[Array, " batch"]]:
    """Return the batch with a harmless reward in place of each non-finite one, and which items may train."""
    is_usable = jnp.isfinite(batch.log_reward)
    return batch._replace(log_reward=jnp.where(is_usable, batch.log_reward, 0.0)), is_usable


def mean_square(
    error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total = here
) -> Float[Array, ""]:
    """Return the weighted mean of squares, 0 where no weight is left."""
    return weighted_mean(error**2, weight, total)


def weighted_mean(
    value: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total = here
) -> Float[Array, ""]:
    """Return the weighted mean, 0 where no weight is left."""
    values, weights = total(jnp.stack([jnp.sum(weight * value), jnp.sum(weight)]))
    return values / jnp.maximum(weights, jnp.finfo(value.dtype).tiny)


def variance(
    error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total = here
) -> Float[Array, ""]:
    """Return the weighted population variance, 0 where no weight is left."""
    errors, weights = total(jnp.stack([jnp.sum(weight * error), jnp.sum(weight)]))
    # Around the mean the sum of squares is smallest, so no gradient flows through it.
    mean = jax.lax.stop_gradient(errors / jnp.maximum(weights, jnp.finfo(error.dtype).tiny))
    return mean_square(error - mean, weight, total)
