"""The unadjusted adversarial flow network: each player has a flow and takes the other for chance (eflow eqs. 3.1, 3.2)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.adversarial import is_without_chance, signs
from narrows.objectives.base import NO_CONTEXT, AbstractObjective, LossContext, Needs, usable
from narrows.objectives.children import children_along
from narrows.objectives.reductions import weighted_mean
from narrows.operators import GeneralMellowmax, masked_log_softmax, masked_logsumexp, soft_bellman
from narrows.policies.base import Model
from narrows.trajectories import Trajectory, follow, gather, shift_back


class UnadjustedExpectedDetailedBalance(AbstractObjective):
    """Expected detailed balance of each player with the other for an environment, without branch adjustment.

    `log F_i(s) + log pi(s'|s) = log sum_s'' pi(s''|s') F_i(s'')` for player i's move and the other's reply to it, whose policy
    takes no gradient here: each player's policy is trained by that player's constraint only (eflow eqs. 3.1 and 3.2, the flow
    at the other's turn inserted). Where a move ends the game, `F_i` of that end is i's reward.

    So the flow of a player is needed where that player moves and nowhere else, and one flow head that sees the board as the
    player to move does holds both players' flows, though neither determines the other. Players must take turns. The flow head
    is asked for every state one move away, which takes a policy without memory and a reward in JAX. `log_z` is not trained.
    """

    @property
    def operator(self) -> GeneralMellowmax:
        return soft_bellman()

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
        sign, log_policy = signs(path.turn), masked_log_softmax(path.forward_logits, path.action_mask)
        replies = jnp.where(children.is_legal, jax.lax.stop_gradient(log_policy) + children.values_of_waiting(sign), 0.0)
        expected = masked_logsumexp(replies, children.is_legal | ~path.is_valid[..., None])  # rows after the end stay finite
        is_own = shift_back(path.turn) == path.turn
        after = jnp.where(is_own, shift_back(path.log_flow), shift_back(expected))
        is_last = ~shift_back(path.is_valid)
        error = path.log_flow + gather(log_policy, path.actions) - jnp.where(is_last, sign * batch.log_reward, after)
        error = jnp.where(path.is_valid, error, 0.0)
        return weighted_mean(error**2, (path.is_valid & is_usable).astype(error.dtype), context.total)
