"""Balance objectives: one per-step term, telescoped (tgm 3.1 to 3.5).

For the values V of an operator with parameters (omega, alpha, q) and every legal action,

    V(s) + term(s, a) - V(s') = 0,     term(s, a) = (1/omega) (log pi(a|s) - q log d(a|s) - log P_B(s|s')),

with V of a terminal state its log-reward, d = softmax(alpha Q) and pi = softmax((q alpha + omega) Q). At omega = 1, q = 0,
V is log F and this is detailed balance; summed along a trajectory it is trajectory balance, and TGM for q > 0.

An objective is made of three parts, its `Form`: whose turns there are (`OnePlayer`, or `TwoPlayers` in `adversarial`), what a
violation spans (a transition, every segment, the trajectory), and how violations become one number (`reductions`).
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.envs.base import AbstractEnvironment
from narrows.envs.turns import turns_of
from narrows.objectives.base import NO_CONTEXT, AbstractRegression, LossContext, Needs, Residual, usable
from narrows.objectives.reductions import VARIANCE, Reduction, Total, regression
from narrows.operators import GeneralMellowmax, masked_log_softmax
from narrows.policies.base import Model
from narrows.trajectories import Path, SamplerCache, Trajectory, follow, gather


class Steps(NamedTuple):
    """The steps of a trajectory: the term of each, and the log-flow before it where the policy has that head."""

    terms: Float[Array, "time *batch"]
    log_flow: Float[Array, "time *batch"] | None
    is_valid: Bool[Array, "time *batch"]


class Players(Protocol):
    """Whose turns there are: the operator of their values, and the term of each step."""

    @property
    def operator(self) -> GeneralMellowmax: ...

    @property
    def trains_backward(self) -> bool: ...

    def accounts_for(self, env: AbstractEnvironment) -> bool: ...

    def steps(self, path: Path) -> Steps: ...


class Span(NamedTuple):
    """What a violation spans.

    Attributes:
        residual: from the steps of one trajectory, its log-reward and the value of the root to its violations.
        needs_flow: whether they take values of the states in between.
    """

    residual: Callable[[Steps, Float[Array, ""], Float[Array, ""]], Residual]
    needs_flow: bool


class Form(NamedTuple):
    """The parts of a balance objective."""

    players: Players
    span: Span
    reduction: Reduction


class AbstractBalance(AbstractRegression):
    """A balance objective: `steps` of every trajectory, `residual` on each, then a reduction over the batch."""

    @property
    @abstractmethod
    def form(self) -> Form:
        """The parts that the objective is made of."""

    def __check_init__(self) -> None:
        _ = self.operator  # refuses parameters out of range

    @property
    def operator(self) -> GeneralMellowmax:
        return self.form.players.operator

    @property
    def needs(self) -> Needs:
        players, span, reduction = self.form
        return Needs(flow=span.needs_flow, trains_backward=players.trains_backward, min_batch_size=reduction.min_batch_size)

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return self.form.players.accounts_for(env)

    def steps(self, path: Path) -> Steps:
        """Return what balance takes of each step, every array `[time, batch]`."""
        return self.form.players.steps(path)

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        """Return the violations of one trajectory, all zero at the solution (up to one constant where a variance follows)."""
        return self.form.span.residual(steps, log_reward, log_z / self.operator.omega)

    def reduce(self, error: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total) -> Float[Array, ""]:
        return self.form.reduction.reduce(error, weight, total)

    def residuals(
        self, model: Model, env: AbstractEnvironment, batch: Trajectory, cache: SamplerCache | None = None
    ) -> Residual:
        """Return the violations of a batch of trajectories, one row each."""
        # Tables of logits stay as they lie, time first; only numbers a step are mapped over the batch.
        steps = self.steps(follow(model, env, batch.actions, cache))
        return jax.vmap(self.residual, in_axes=(1, 0, None))(steps, batch.log_reward, model.log_z)

    def errors(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Residual:
        batch, is_usable = usable(batch)
        error, weight = self.residuals(model, env, batch, context.cache)
        return Residual(error, jnp.where(is_usable[:, None], weight, 0.0))


class OnePlayer(eqx.Module):
    """A single player's turns, by the parameters of the operator; `dag_correction` counts the backward policy."""

    operator: GeneralMellowmax
    dag_correction: bool = eqx.field(static=True)

    @property
    def trains_backward(self) -> bool:
        return self.dag_correction

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return turns_of(env) == {0}

    def steps(self, path: Path) -> Steps:
        return Steps(step_terms(self.operator, path, self.dag_correction), path.log_flow, path.is_valid)


class TrajectoryBalance(AbstractBalance):
    """Trajectory balance (Malkin et al. 2022, arXiv:2201.13259): `(log_z / omega + sum term - log_reward)^2`.

    Args:
        omega, alpha, q: as for `TrajectoryGeneralMellowmax`; by default that of a GFlowNet.
        dag_correction: count the backward policy, so that objects with many trajectories are not favoured.
        huber: violation from which the loss grows linearly, > 0; None for squares throughout.
    """

    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    huber: float | None = eqx.field(default=None, static=True)

    @property
    def form(self) -> Form:
        return Form(one_player(self.omega, self.alpha, self.q, self.dag_correction), FROM_ROOT, regression(self.huber))


class DetailedBalance(AbstractBalance):
    """Detailed balance (Bengio et al. 2023, arXiv:2111.09266): the squared violation of every transition.

    Args:
        omega, alpha, q, dag_correction, huber: as for `TrajectoryBalance`.
    """

    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    huber: float | None = eqx.field(default=None, static=True)

    @property
    def form(self) -> Form:
        return Form(one_player(self.omega, self.alpha, self.q, self.dag_correction), TRANSITIONS, regression(self.huber))


class SubTrajectoryBalance(AbstractBalance):
    """Sub-trajectory balance (Madan et al. 2023, arXiv:2209.12782): every segment, weighted by `lambda_^length`.

    The weights of a trajectory's segments sum to one.

    Args:
        lambda_: weight of a segment per step of its length, > 0; near 0 it is detailed balance.
        omega, alpha, q, dag_correction, huber: as for `TrajectoryBalance`.
    """

    lambda_: float = eqx.field(default=0.9, static=True)
    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)
    huber: float | None = eqx.field(default=None, static=True)

    @property
    def form(self) -> Form:
        players = one_player(self.omega, self.alpha, self.q, self.dag_correction)
        return Form(players, segments(self.lambda_), regression(self.huber))


class VarGrad(AbstractBalance):
    """Log-partition variance (Richter et al. 2020, arXiv:2010.10436): trajectory balance without a learned `log_z`.

    Args:
        dag_correction: count the backward policy, so that objects with many trajectories are not favoured.
    """

    dag_correction: bool = eqx.field(default=True, static=True)

    @property
    def form(self) -> Form:
        return Form(one_player(1.0, 1.0, 0.0, self.dag_correction), TRAJECTORY, VARIANCE)


class TrajectoryGeneralMellowmax(AbstractBalance):
    """TGM (Jiralerspong et al. 2025, arXiv:2506.17007): `Var_batch[sum term - log_reward]`, the population variance.

    The defaults are the single setting of it that did best where the score is a wrong proxy (`docs/robustness_results.md`).

    Args:
        omega: inverse temperature of the regularisation, > 0.
        alpha: inverse temperature of the reference policy, >= 0.
        q: pull towards the reference policy, in [0, 1]; 0 is a GFlowNet.
        dag_correction: count the backward policy (tgm 1.3); the paper's tasks are trees, where it is zero. For q > 0
            the distribution that is learned depends on the backward policy, and a learned one is whatever training made of it.
    """

    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=1.0, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)

    @property
    def form(self) -> Form:
        return Form(one_player(self.omega, self.alpha, self.q, self.dag_correction), TRAJECTORY, VARIANCE)


def one_player(omega: float, alpha: float, q: float, dag_correction: bool) -> OnePlayer:
    """Return a single player's turns; ValueError for parameters that are none of an operator."""
    return OnePlayer(GeneralMellowmax(omega, alpha, q), dag_correction)


def step_terms(operator: GeneralMellowmax, path: Path, dag_correction: bool) -> Float[Array, "time *batch"]:
    """Return `(1/omega) (log pi - q log d - log P_B)` of each step, zero after the end.

    The forward logits are the policy's, `(q alpha + omega) Q`, so the reference's are a fraction of them.
    """
    terms = path.log_pi
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


def root_residual(steps: Steps, log_reward: Float[Array, ""], root: Float[Array, ""]) -> Residual:
    """Return `V(root) + sum term - log_reward` of one trajectory."""
    return Residual((root + jnp.sum(steps.terms) - log_reward)[None], jnp.ones(1))


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


TRAJECTORY: Final = Span(lambda steps, log_reward, root: trajectory_residual(steps, log_reward), needs_flow=False)
"""The whole trajectory, up to the value of the root, which a variance takes out."""

FROM_ROOT: Final = Span(root_residual, needs_flow=False)
"""The whole trajectory, with a learned value of the root."""

TRANSITIONS: Final = Span(lambda steps, log_reward, root: transition_residual(steps, log_reward), needs_flow=True)
"""Every transition."""


def segments(lambda_: float) -> Span:
    """Return the span of every segment, weighted by `lambda_^length`; ValueError unless that is positive and finite."""
    if not 0.0 < lambda_ < float("inf"):
        raise ValueError(f"lambda_ must be positive and finite, got {lambda_}. 0.9 is usual.")
    return Span(lambda steps, log_reward, root: segment_residual(steps, log_reward, lambda_), needs_flow=True)
