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
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.base import CHANCE, AbstractEnvironment
from narrows.envs.turns import turns_of
from narrows.objectives.balance import FROM_ROOT, TRAJECTORY, TRANSITIONS, AbstractBalance, Form, Steps, segments
from narrows.objectives.base import NO_CONTEXT, AbstractObjective, LossContext, Needs, usable
from narrows.objectives.children import children_along
from narrows.objectives.reductions import VARIANCE, regression, weighted_mean
from narrows.operators import GeneralMellowmax, masked_log_softmax, masked_logsumexp, mellowmax, soft_bellman
from narrows.policies.base import Model
from narrows.trajectories import Path, Trajectory, follow, gather

Reference: TypeAlias = Callable[[Any], Float[Array, " action"]]
"""A policy to stay near: one state to its actions' log-probabilities, finite where an action is legal. It is never trained."""


class TwoPlayers(eqx.Module):
    """The turns of both players of a zero-sum game, or of one alone.

    Args:
        branch_adjusted: count the number of legal moves.
        reference: another policy than the uniform one to count.

    Raises ValueError for a reference policy that would not be read.
    """

    branch_adjusted: bool = eqx.field(static=True)
    reference: Reference | None

    def __check_init__(self) -> None:
        if self.reference is not None and not self.branch_adjusted:
            raise ValueError("a reference policy has no meaning with branch_adjusted=False. Leave one of them out.")

    @property
    def operator(self) -> GeneralMellowmax:
        """The operator of player 0's moves: log-mean-exp of log-flows, or log-sum-exp without branch adjustment."""
        return mellowmax() if self.branch_adjusted else soft_bellman()

    @property
    def trains_backward(self) -> bool:
        return False

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return is_without_chance(env)

    def steps(self, path: Path) -> Steps:
        return adversarial_steps(path.turn, path.log_pi, gather(self.log_mu(path), path.actions), path.log_flow, path.is_valid)

    def log_mu(self, path: Path) -> Float[Array, "time *batch action"]:
        """Return `log mu` of every action at each step; zeros where branches are not counted. No gradient flows into it."""
        mask = path.action_mask
        if not self.branch_adjusted:
            return jnp.zeros(mask.shape)
        if self.reference is None:
            num_legal = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1)
            return jnp.broadcast_to(-jnp.log(num_legal), mask.shape)
        reference = self.reference
        for _ in path.turn.shape:
            reference = jax.vmap(reference)
        return jax.lax.stop_gradient(reference(path.before))


class AdversarialTrajectoryBalance(AbstractBalance):
    """Trajectory balance of a zero-sum game (eflow eq. 3.7): `(log_z + sum sigma (log pi - log mu) - log_reward)^2`.

    Args:
        branch_adjusted: count the number of legal moves. Without it another game is learned, one with entropy bonuses, which
            serves as a comparison (eflow 3.3).
        reference: another policy than the uniform one to count; it cannot be named in a job.
        huber: violation from which the loss grows linearly, > 0; None for squares throughout.
    """

    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None
    huber: float | None = eqx.field(default=None, static=True)

    @property
    def form(self) -> Form:
        return Form(TwoPlayers(self.branch_adjusted, self.reference), FROM_ROOT, regression(self.huber))


class AdversarialDetailedBalance(AbstractBalance):
    """Detailed balance of a zero-sum game (eflow eq. 3.8): the squared violation of every move.

    Args:
        branch_adjusted, reference, huber: as for `AdversarialTrajectoryBalance`.
    """

    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None
    huber: float | None = eqx.field(default=None, static=True)

    @property
    def form(self) -> Form:
        return Form(TwoPlayers(self.branch_adjusted, self.reference), TRANSITIONS, regression(self.huber))


class AdversarialSubTrajectoryBalance(AbstractBalance):
    """Sub-trajectory balance of a zero-sum game (eflow 3.4): every segment, weighted by `lambda_^length`.

    The weights of a game's segments sum to one.

    Args:
        lambda_: weight of a segment per move of its length, > 0; near 0 it is detailed balance.
        branch_adjusted, reference, huber: as for `AdversarialTrajectoryBalance`.
    """

    lambda_: float = eqx.field(default=0.9, static=True)
    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None
    huber: float | None = eqx.field(default=None, static=True)

    @property
    def form(self) -> Form:
        return Form(TwoPlayers(self.branch_adjusted, self.reference), segments(self.lambda_), regression(self.huber))


class AdversarialVarGrad(AbstractBalance):
    """Trajectory balance of a zero-sum game without a learned `log_z`: the variance of its violations over the batch.

    Args:
        branch_adjusted, reference: as for `AdversarialTrajectoryBalance`.
    """

    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None

    @property
    def form(self) -> Form:
        return Form(TwoPlayers(self.branch_adjusted, self.reference), TRAJECTORY, VARIANCE)


class AdversarialFlowMatching(AbstractObjective):
    """Flow matching of a zero-sum game (eflow 3.4): `U(s) = sigma log sum_s' mu(s'|s) exp(sigma U(s'))`.

    The flow head is asked for every state one move away, which takes a policy without memory and a reward in JAX, and costs as
    many looks as there are moves. The policy is the one read off the flows, in proportion to `mu exp(sigma U(s'))`; the policy
    head is fitted to it in the same step, so that play needs to look at no children.

    Args:
        branch_adjusted, reference: as for `AdversarialTrajectoryBalance`.
    """

    branch_adjusted: bool = eqx.field(default=True, static=True)
    reference: Reference | None = None

    def __check_init__(self) -> None:
        _ = self.players  # refuses a reference policy that would not be read

    @property
    def players(self) -> TwoPlayers:
        return TwoPlayers(self.branch_adjusted, self.reference)

    @property
    def operator(self) -> GeneralMellowmax:
        return self.players.operator

    @property
    def needs(self) -> Needs:
        return Needs(flow=True)

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return is_without_chance(env)

    def loss(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Float[Array, ""]:
        batch, is_usable = usable(batch)
        path = follow(model, env, batch.actions, context.cache)
        children = children_along(env, model.policy, path, context.reward)
        assert path.log_flow is not None, "children_along has refused a policy without a flow head"
        log_mu, is_legal = self.players.log_mu(path), children.is_legal
        inflow = jnp.where(is_legal, signs(path.turn)[..., None] * children.values + log_mu, 0.0)
        flow = masked_logsumexp(inflow, is_legal | ~path.is_valid[..., None])  # rows after the end stay finite
        error = jnp.where(path.is_valid, path.log_flow - flow, 0.0)
        read_off = jax.lax.stop_gradient(masked_log_softmax(inflow, is_legal))
        misfit = masked_log_softmax(path.forward_logits, is_legal) - jnp.where(is_legal, read_off, 0.0)
        misfit = jnp.sum(jnp.where(is_legal, jnp.exp(read_off) * jnp.where(is_legal, misfit, 0.0) ** 2, 0.0), axis=-1)
        return weighted_mean(error**2 + misfit, (path.is_valid & is_usable).astype(error.dtype), context.total)


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


def is_without_chance(env: AbstractEnvironment) -> bool:
    """Return whether chance never moves."""
    return CHANCE not in turns_of(env)
