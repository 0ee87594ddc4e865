"""Adversarial flow networks: one flow for both players of a zero-sum game (eflow 3; arXiv:2310.02779).

With `U` the log-flow of player 0, `sigma = +1` where player 0 moves and `-1` where player 1 does, and every legal move,

    U(s) + sigma(s) (log pi(s'|s) - log mu(s'|s)) - U(s') = 0        (3.8),

where `U` of a finished game is player 0's log-reward and `mu` is a reference policy, by default uniform over the `b` legal
moves: `-log mu = log b` is the branch adjustment. This is detailed balance with another term, so the residuals are those of
`balance`; summed along a game they are trajectory balance (3.7). Nothing is asked of the policy that played: any that plays
every move will do.

A network sees the board as the player to move does, and so does its flow head: it stands for `u(s) = sigma(s) U(s)`, the
log-flow of whoever moves, and one head serves both players (eflow 3.4). `log_z` is `U` of the initial state. Rules
where a single player has every turn are the case `sigma = +1`: trajectory balance with `omega = 1`, `alpha = 0`, `q = 1` and no
backward policy.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.base import CHANCE, AbstractEnvironment
from narrows.envs.turns import turns_of
from narrows.objectives.balance import (
    AbstractResidualObjective,
    Steps,
    check_segment_weight,
    mean_square,
    segment_residual,
    trajectory_residual,
    transition_residual,
    usable,
    variance,
    weighted_mean,
)
from narrows.objectives.base import ALONE, AbstractObjective, Aids, Residual, Total
from narrows.objectives.children import children_along
from narrows.operators import GeneralMellowmax, masked_log_softmax, masked_logsumexp, mellowmax, soft_bellman
from narrows.policies.base import Model
from narrows.trajectories import Path, Trajectory, follow, gather

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar

Reference: TypeAlias = Callable[[Any], Float[Array, " action"]]
"""A policy to stay near: one state to its actions' log-probabilities, finite where an action is legal. It is never trained."""


class AbstractAdversarialBalance(AbstractResidualObjective):
    """A balance objective of two players; what tells them apart is the reduction along a game."""

    branch_adjusted: AbstractVar[bool]
    reference: AbstractVar[Reference | None]

    def __check_init__(self) -> None:
        check_reference(self.branch_adjusted, self.reference)

    @property
    def operator(self) -> GeneralMellowmax:
        return operator_of(self.branch_adjusted)

    @property
    def trains_backward(self) -> bool:
        return False

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return is_without_chance(env)

    def steps(self, path: Path) -> Steps:
        log_pi = gather(masked_log_softmax(path.forward_logits, path.action_mask), path.actions)
        log_mu = gather(log_reference(path, self.reference, self.branch_adjusted), path.actions)
        return adversarial_steps(path.turn, log_pi, log_mu, path.log_flow, path.is_valid)


class AdversarialTrajectoryBalance(AbstractAdversarialBalance):
    """Trajectory balance of a zero-sum game (eflow eq. 3.7): `(log_z + sum sigma (log pi - log mu) - log_reward)^2`.

    Args:
        branch_adjusted: count the number of legal moves. Without it another game is learned, one with entropy bonuses, which is
            here to be compared with (eflow 3.3).
        reference: another policy than the uniform one to count; it cannot be named in a job.
    """

    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None
    needs_flow: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 1

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        sum_of_terms = trajectory_residual(steps, log_reward)
        return sum_of_terms._replace(error=log_z + sum_of_terms.error)

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        return mean_square(error, weight, total)


class AdversarialDetailedBalance(AbstractAdversarialBalance):
    """Detailed balance of a zero-sum game (eflow eq. 3.8): the squared violation of every move.

    Args:
        branch_adjusted: count the number of legal moves, as in `AdversarialTrajectoryBalance`.
        reference: another policy than the uniform one to count; it cannot be named in a job.
    """

    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None
    needs_flow: ClassVar[bool] = True
    min_batch_size: ClassVar[int] = 1

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        return transition_residual(steps, log_reward)

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        return mean_square(error, weight, total)


class AdversarialSubTrajectoryBalance(AbstractAdversarialBalance):
    """Sub-trajectory balance of a zero-sum game (eflow 3.4): every segment, weighted by `lambda_^length`.

    The weights of a game's segments sum to one.

    Args:
        lambda_: weight of a segment per move of its length, > 0; near 0 it is detailed balance.
        branch_adjusted: count the number of legal moves, as in `AdversarialTrajectoryBalance`.
        reference: another policy than the uniform one to count; it cannot be named in a job.
    """

    lambda_: float = eqx.field(default=0.9, static=True)
    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None
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


class AdversarialVarGrad(AbstractAdversarialBalance):
    """Trajectory balance of a zero-sum game without a learned `log_z`: the variance of its violations over the batch.

    Args:
        branch_adjusted: count the number of legal moves, as in `AdversarialTrajectoryBalance`.
        reference: another policy than the uniform one to count; it cannot be named in a job.
    """

    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None
    needs_flow: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 2

    def residual(self, steps: Steps, log_reward: Float[Array, ""], log_z: Float[Array, ""]) -> Residual:
        return trajectory_residual(steps, log_reward)

    def reduce(
        self, error: Float[Array, "batch violation"], weight: Float[Array, "batch violation"], total: Total
    ) -> Float[Array, ""]:
        return variance(error, weight, total)


class AdversarialFlowMatching(AbstractObjective):
    """Flow matching of a zero-sum game (eflow 3.4): `U(s) = sigma log sum_s' mu(s'|s) exp(sigma U(s'))`.

    The flow head is asked for every state one move away, which takes a policy without memory and a reward in JAX, and costs as
    many looks as there are moves. The policy is the one read off the flows, in proportion to `mu exp(sigma U(s'))`; the policy
    head is fitted to it in the same step, so that play needs to look at no children.

    Args:
        branch_adjusted: count the number of legal moves, as in `AdversarialTrajectoryBalance`.
        reference: another policy than the uniform one to count; it cannot be named in a job.
    """

    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None
    needs_flow: ClassVar[bool] = True
    needs_child_flow: ClassVar[bool] = False
    needs_keys: ClassVar[bool] = False
    target_period: ClassVar[int | None] = None
    trains_backward: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 1

    def __check_init__(self) -> None:
        check_reference(self.branch_adjusted, self.reference)

    @property
    def operator(self) -> GeneralMellowmax:
        return operator_of(self.branch_adjusted)

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return is_without_chance(env)

    def loss(
        self,
        model: Model,
        target: Model,
        env: AbstractEnvironment,
        batch: Trajectory,
        aids: Aids = ALONE,
    ) -> Float[Array, ""]:
        batch, is_usable = usable(batch)
        path = follow(model, env, batch.actions, aids.record)
        children = children_along(env, model.policy, path, aids.reward)
        assert path.log_flow is not None, "children_along has refused a policy without a flow head"
        log_mu, is_legal = log_reference(path, self.reference, self.branch_adjusted), children.is_legal
        inflow = jnp.where(is_legal, signs(path.turn)[..., None] * children.values + log_mu, 0.0)
        # An all-True stand-in keeps the rows after the end finite.
        flow = masked_logsumexp(inflow, is_legal | ~path.is_valid[..., None])
        error = jnp.where(path.is_valid, path.log_flow - flow, 0.0)
        read_off = jax.lax.stop_gradient(masked_log_softmax(inflow, is_legal))
        misfit = masked_log_softmax(path.forward_logits, is_legal) - jnp.where(is_legal, read_off, 0.0)
        misfit = jnp.sum(jnp.where(is_legal, jnp.exp(read_off) * jnp.where(is_legal, misfit, 0.0) ** 2, 0.0), axis=-1)
        return weighted_mean(error**2 + misfit, (path.is_valid & is_usable).astype(error.dtype), aids.total)


def signs(turn: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return sigma, 1 where player 0 moves and -1 where player 1 does."""
    return jnp.where(turn == 0, 1.0, -1.0)


def adversarial_steps(
    turn: Int[Array, "*batch"],
    log_pi: Float[Array, "*batch"],
    log_mu: Float[Array, "*batch"],
    log_flow: Float[Array, "*batch"] | None,
    is_valid: Bool[Array, "*batch"],
) -> Steps:
    """Return the terms `sigma (log pi - log mu)` of moves and player 0's log-flow before each, for any residual of `balance`.

    Args:
        turn: who moves.
        log_pi: the policy's log-probability of the move that was made.
        log_mu: the reference policy's, `-log b` for the uniform one among `b` legal moves.
        log_flow: the flow head's, seen from whoever moves; None for a residual that takes none.
        is_valid: which moves were made; the others count for nothing, whatever their numbers.
    """
    sign = signs(turn)
    terms = jnp.where(is_valid, sign * jnp.where(is_valid, log_pi - log_mu, 0.0), 0.0)
    return Steps(terms, None if log_flow is None else sign * log_flow, is_valid)


def log_reference(path: Path, reference: Reference | None, branch_adjusted: bool) -> Float[Array, "time *batch action"]:
    """Return `log mu` of every action at each step; zeros where branches are not counted. No gradient flows into it."""
    mask = path.action_mask
    if not branch_adjusted:
        return jnp.zeros(mask.shape)
    if reference is None:
        num_legal = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1)
        return jnp.broadcast_to(-jnp.log(num_legal), mask.shape)
    for _ in path.turn.shape:
        reference = jax.vmap(reference)
    return jax.lax.stop_gradient(reference(path.before))


def operator_of(branch_adjusted: bool) -> GeneralMellowmax:
    """Return what turns the log-flows of player 0's moves into that of the state: their log-mean-exp or log-sum-exp."""
    return mellowmax() if branch_adjusted else soft_bellman()


def check_reference(branch_adjusted: bool, reference: Reference | None) -> None:
    """Raise ValueError for a reference policy that would not be read."""
    if reference is not None and not branch_adjusted:
        raise ValueError("a reference policy has no meaning with branch_adjusted=False. Leave one of them out.")


def is_without_chance(env: AbstractEnvironment) -> bool:
    """Return whether nature never moves."""
    return CHANCE not in turns_of(env)
