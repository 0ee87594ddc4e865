"""The unadjusted adversarial flow network: each player has a flow and takes the other for chance (eflow eqs. 3.1, 3.2)."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.adversarial import is_without_chance, signs
from narrows.objectives.balance import usable, weighted_mean
from narrows.objectives.base import ALONE, AbstractObjective, Aids
from narrows.objectives.children import children_along
from narrows.operators import GeneralMellowmax, masked_log_softmax, masked_logsumexp, soft_bellman
from narrows.policies.base import Model
from narrows.trajectories import Trajectory, follow, gather


class UnadjustedExpectedDetailedBalance(AbstractObjective):
    """Expected detailed balance of each player with the other for an environment, without branch adjustment.

    `log F_i(s) + log pi(s'|s) = log sum_s'' pi(s''|s') F_i(s'')` for player i's move and the other's reply to it, whose policy
    takes no gradient here: each player's policy is trained by that player's constraint only (eflow eqs. 3.1 and 3.2, the flow
    at the other's turn inserted). Where a move ends the game, `F_i` of that end is i's reward.

    So the flow of a player is needed where that player moves and nowhere else, and one flow head that sees the board as the
    player to move does holds both players' flows, though neither determines the other. Players must take turns. The flow head
    is asked for every state one move away, which takes a policy without memory and a reward in JAX. `log_z` is not trained.
    """

    needs_flow: ClassVar[bool] = True
    needs_child_flow: ClassVar[bool] = False
    needs_keys: ClassVar[bool] = False
    target_period: ClassVar[int | None] = None
    trains_backward: ClassVar[bool] = False
    min_batch_size: ClassVar[int] = 1

    @property
    def operator(self) -> GeneralMellowmax:
        return soft_bellman()

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
        sign, log_policy = signs(path.turn), masked_log_softmax(path.forward_logits, path.action_mask)
        replies = jnp.where(children.is_legal, jax.lax.stop_gradient(log_policy) + children.values_of_waiting(sign), 0.0)
        # An all-True stand-in keeps the rows after the end finite.
        expected = masked_logsumexp(replies, children.is_legal | ~path.is_valid[..., None])
        is_own = _onward(path.turn) == path.turn
        after = jnp.where(is_own, _onward(path.log_flow), _onward(expected))
        is_last = ~_onward(path.is_valid)
        error = path.log_flow + gather(log_policy, path.actions) - jnp.where(is_last, sign * batch.log_reward, after)
        error = jnp.where(path.is_valid, error, 0.0)
        return weighted_mean(error**2, (path.is_valid & is_usable).astype(error.dtype), aids.total)


def _onward(numbers: Shaped[Array, "time batch"]) -> Shaped[Array, "time batch"]:
    """Return each time's number of the next time, zero at the last."""
    return jnp.concatenate([numbers[1:], jnp.zeros_like(numbers[:1])])
