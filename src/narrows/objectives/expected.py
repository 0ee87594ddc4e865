"""Flow networks with chance turns: expected flow networks, and the formulations they are measured against (eflow 2).

At a player's turn the flow is shared out by the policy, `F(s) pi(a|s) = F(s, a)` (2.1), and at a chance turn it is an average
over the outcomes `o` that each method takes in its own way:

    expected flow network   log F(s, a) = log sum_o P(o) F(s_o)      (2.2), the arithmetic mean; always satisfiable
    soft Q, MaxEnt RL       log F(s, a) = sum_o P(o) log F(s_o)      the geometric mean; always satisfiable
    naive flow network      log F(s, a) = log F(s_o)                 as if the outcome had been the action's doing
    stochastic GFlowNet     log F(s, a) = log F(s_o) + log P_B((s, a)|s_o) - log P(o)      for every outcome that comes

The flows of all outcomes come from one look at the state that a player acts in (`child_log_flow`), so that a step costs what
it costs without noise, and a policy with memory need not branch.
"""

from abc import abstractmethod
from typing import Final, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.base import NO_CONTEXT, AbstractObjective, AbstractRegression, LossContext, Needs, Residual, usable
from narrows.objectives.chance import ChanceTurns, chance_turns
from narrows.objectives.reductions import Total, mean_square, weighted_mean
from narrows.objectives.turns import Terms, Turns, shares_outcomes
from narrows.operators import GeneralMellowmax, masked_log_softmax, masked_logsumexp
from narrows.policies.base import Model
from narrows.sizes import Few
from narrows.trajectories import Trajectory, follow, gather
from narrows.trajectories.draw import draw

SHARE_OF_KERNEL: Final = 0.25
"""How often an outcome is drawn from the kernel as it is, and not in proportion to the flow that is believed to come of it."""

MAX_EXPONENT: Final = 20.0
"""What a drawn flow may exceed its scale by, in nats, so that squares are finite numbers. Beyond it an estimate is too low."""


class AbstractChanceBalance(AbstractObjective):
    """Balance at the players' turns and at chance turns; subclasses say how outcomes are averaged."""

    @property
    def operator(self) -> GeneralMellowmax:
        return GeneralMellowmax(1.0, 0.0, 0.0)

    @property
    def needs(self) -> Needs:
        return Needs(child_flow=True, keys=self.draws, trains_backward=self.trains_backward)

    @property
    def draws(self) -> bool:
        """Whether the loss draws random numbers: by default not."""
        return False

    @property
    def trains_backward(self) -> bool:
        """Whether the loss reads the backward policy: by default not."""
        return False

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return True


class AbstractChanceViolations(AbstractChanceBalance, AbstractRegression):
    """Balance whose loss is the mean square of violations; subclasses give those."""

    @abstractmethod
    def violations(self, turns: Turns, chance: ChanceTurns) -> Terms:
        """Return what is to be zero in each item of the batch."""

    def errors(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Residual:
        batch, is_usable = usable(batch)
        turns = turns_along(model, env, batch, context)
        terms = self.violations(turns, turns.chance)
        if context.reward is None:
            terms = terms.concat(turns.ends())
        return Residual(terms.value, jnp.where(is_usable, terms.weight, 0.0))

    def reduce(self, error: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total) -> Float[Array, ""]:
        return mean_square(error, weight, total)


class ExpectedDetailedBalance(AbstractChanceViolations):
    """Expected detailed balance (eflow eq. 2.5; Jiralerspong et al. 2024, arXiv:2310.02779): every turn, all its outcomes.

    Args:
        actions: `visited` takes the action of the trajectory, `all` every legal one; the latter needs an environment under a
            kernel, where the outcomes of all actions lead to the same states.
    """

    actions: Literal["visited", "all"] = eqx.field(default="visited", static=True)

    def __check_init__(self) -> None:
        if self.actions not in ("visited", "all"):
            raise ValueError(f'actions must be "visited" or "all", got {self.actions!r}.')

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return self.actions == "visited" or shares_outcomes(env)

    def violations(self, turns: Turns, chance: ChanceTurns) -> Terms:
        flows = chance.log_flow(chance.all_outcomes, of_any_action=self.actions == "all")
        arrival = gather(flows, chance.came)
        if self.actions == "visited":
            return turns.errors(arrival, chance.expected(flows))
        choices = turns.choices(flows)
        flow = turns.player_rows(turns.flow(arrival))
        error = flow[..., None] + choices.log_policy - choices.answer
        return choices.terms(error, jnp.ones_like(error))


class ExpectedTrajectoryBalance(AbstractChanceViolations):
    """The trajectory form of expected detailed balance (eflow eq. L3): the sum of the violations along a trajectory, squared.

    `log_z + sum log pi + sum over chance turns of (log F(s_o) - log sum_o P(o) F(s_o)) - log_reward`.
    """

    def violations(self, turns: Turns, chance: ChanceTurns) -> Terms:
        flows = chance.log_flow(chance.all_outcomes)
        errors = turns.errors(gather(flows, chance.came), chance.expected(flows))
        error = jnp.sum(errors.value, axis=0, keepdims=True)
        return Terms(error, jnp.ones_like(error))


class ExpectedFlowMatching(AbstractChanceViolations):
    """Expected flow matching (eflow eq. L2): flows alone, `F(s) = sum_a sum_o P(o|s, a) F(s_o)`.

    The policy is the one read off the flows, `pi(a|s)` in proportion to the inner sum. The policy head is fitted to it in the
    same step, so that sampling needs neither kernel nor rewards. Needs an environment under a kernel, or one without chance.
    """

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        return shares_outcomes(env)

    def violations(self, turns: Turns, chance: ChanceTurns) -> Terms:
        flows = chance.log_flow(chance.all_outcomes, of_any_action=True)
        choices = turns.choices(flows)
        is_turn = jnp.any(choices.is_legal, axis=-1)
        # An all-True stand-in keeps the rows after the end finite.
        inflow = masked_logsumexp(choices.answer, choices.is_legal | ~is_turn[..., None])
        flow = turns.player_rows(turns.flow(gather(flows, chance.came)))
        matching = Terms(jnp.where(is_turn, flow - inflow, 0.0), is_turn.astype(flow.dtype))
        read_off = jax.lax.stop_gradient(masked_log_softmax(choices.answer, choices.is_legal))
        misfit = choices.log_policy - jnp.where(choices.is_legal, read_off, 0.0)
        return matching.concat(choices.terms(misfit, jnp.exp(read_off)))


class SampledExpectedDetailedBalance(AbstractChanceBalance):
    """Expected detailed balance from a few outcomes of each chance turn, where there are thousands (eflow 2.6).

    For a player's turn with `x = log F(s) pi(a|s)`, and outcomes `o_1 .. o_n` drawn independently from a distribution `q` with
    weights `w = P / q`,

        mean over i != j of (e^x - w_i F(o_i)) (e^x - w_j F(o_j)) / c^2

    is an unbiased estimate of `((e^x - sum_o P(o) F(s_o)) / c)^2`, the expectation of a product of independent numbers being
    the product of their expectations; and its gradient is an unbiased estimate of that square's in the player's flow and
    policy, the flows of outcomes being held fixed. The square of a difference of logarithms, or of one drawn outcome, would be
    biased. An estimate may be negative.

    `q` is mostly in proportion to `P(o)` times the flow that the head gives for it, which draws what matters; `c` is between
    `e^x` and the mean of those flows or what came in the trajectory, whichever is larger. Neither depends on the outcomes drawn
    nor takes a gradient. Rewards are asked for the drawn outcomes only, and the head learns them, to draw by them.

    Args:
        num_outcomes: outcomes drawn at each chance turn, >= 2.
    """

    num_outcomes: Few = eqx.field(default=2, static=True)

    def __check_init__(self) -> None:
        if self.num_outcomes < 2:
            raise ValueError(f"num_outcomes must be at least 2, got {self.num_outcomes}: with one the estimate is biased.")

    @property
    def draws(self) -> bool:
        return True

    def loss(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Float[Array, ""]:
        if context.keys is None:
            raise ValueError("this objective draws outcomes and needs a LossContext with a key for each item of the batch.")
        batch, is_usable = usable(batch)
        turns = turns_along(model, env, batch, context)
        terms = self._terms(turns, turns.chance, context.keys)
        if context.reward is None:
            terms = terms.concat(turns.ends().squared())
        return weighted_mean(terms.value, jnp.where(is_usable, terms.weight, 0.0), context.total)

    def _terms(self, turns: Turns, chance: ChanceTurns, keys: Key[Array, " batch"]) -> Terms:
        """Return the estimates of squared violations, and the head's error at the outcomes drawn."""
        log_q, believed = self._proposal(chance)
        outcomes = jnp.concatenate([chance.came[..., None], self._draw(log_q, keys)], axis=-1)
        known, is_known = chance.known(outcomes)
        heads = jnp.take_along_axis(chance.head, outcomes, axis=-1)
        flows = jnp.where(is_known, known, heads)
        log_weight = jnp.take_along_axis(chance.log_probs - log_q, outcomes, axis=-1)
        arrival, drawn = flows[..., 0], jax.lax.stop_gradient(flows + log_weight)[..., 1:]
        direct, is_drawn = turns.errors(arrival, arrival).squared(), turns.is_answered | turns.is_unpaired
        own = jnp.where(turns.is_unpaired, 0.0, turns.path.log_pi) + turns.flow(arrival)
        scale = jax.lax.stop_gradient((own + jnp.logaddexp(own, turns.at_player_turns(jnp.maximum(believed, arrival)))) / 2.0)
        exponents = jnp.concatenate([own[..., None], turns.at_player_turns(drawn)], axis=-1) - scale[..., None]
        exponents = jnp.exp(jnp.minimum(jnp.where(is_drawn[..., None], exponents, 0.0), MAX_EXPONENT))
        gap = exponents[..., :1] - exponents[..., 1:]
        pairs = (jnp.sum(gap, axis=-1) ** 2 - jnp.sum(gap**2, axis=-1)) / (self.num_outcomes * (self.num_outcomes - 1))
        # The weights do not depend on what is drawn, or the mean over them would be biased.
        misfit = jnp.mean(jnp.where(is_known, heads - known, 0.0) ** 2, axis=-1)
        return Terms(jnp.where(is_drawn, pairs + turns.at_player_turns(misfit), direct.value), direct.weight)

    def _proposal(self, chance: ChanceTurns) -> tuple[Float[Array, "turn batch action"], Float[Array, "turn batch"]]:
        """Return the distribution that outcomes are drawn from, and the log-flow that the head expects of them."""
        log_p, head = chance.log_probs, jax.lax.stop_gradient(chance.head)
        believed = chance.expected(head)
        by_flow = log_p + head - believed[..., None]
        return jnp.logaddexp(by_flow + jnp.log1p(-SHARE_OF_KERNEL), log_p + jnp.log(SHARE_OF_KERNEL)), believed

    def _draw(self, log_q: Float[Array, "turn batch action"], keys: Key[Array, " batch"]) -> Int[Array, "turn batch outcome"]:
        uniforms = jax.vmap(lambda key: jax.random.uniform(key, (log_q.shape[0], self.num_outcomes)), out_axes=1)(keys)
        return jax.vmap(jax.vmap(jax.vmap(draw, in_axes=(None, 0))))(jnp.exp(log_q), uniforms)


class SoftQ(AbstractChanceViolations):
    """Soft Q-learning, maximum-entropy RL with reward `log R`, as path consistency (eflow 2.5).

    It averages log-flows where an expected flow network averages flows: `log F(s, a) = sum_o P(o) log F(s_o)`.
    """

    def violations(self, turns: Turns, chance: ChanceTurns) -> Terms:
        flows = chance.log_flow(chance.all_outcomes)
        is_possible = chance.log_probs > -jnp.inf
        answer = jnp.sum(jnp.exp(chance.log_probs) * jnp.where(is_possible, flows, 0.0), axis=-1)
        return turns.errors(gather(flows, chance.came), answer)


class NaiveDetailedBalance(AbstractChanceViolations):
    """Detailed balance that takes the outcome for the action's doing: `F(s) pi(a|s) = F(s_o)` for whatever came (eflow 2.5).

    No policy satisfies it under noise, and where it ends depends on what is sampled: a comparison.
    """

    def violations(self, turns: Turns, chance: ChanceTurns) -> Terms:
        arrival = chance.log_flow(chance.came[..., None])[..., 0]
        return turns.errors(arrival, arrival)


class StochasticDetailedBalance(AbstractChanceViolations):
    """The stochastic GFlowNet (Pan et al. 2023, arXiv:2302.09465): outcomes are edges of fixed probability.

    `F(s) pi(a|s) P(o|s, a) = F(s_o) P_B((s, a)|s_o)`, which asks of a policy that it sample in proportion to the reward.

    Args:
        dag_correction: count the backward policy, uniform or learned, over the actions that may have been asked for. Without
            it histories are told apart (P_B = 1), and under noise no policy satisfies all constraints.
    """

    dag_correction: bool = eqx.field(default=True, static=True)

    @property
    def trains_backward(self) -> bool:
        return self.dag_correction

    def violations(self, turns: Turns, chance: ChanceTurns) -> Terms:
        arrival = chance.log_flow(chance.came[..., None])[..., 0]
        log_prob = jnp.maximum(gather(chance.log_probs, chance.came), jnp.finfo(arrival.dtype).min)
        answer = arrival - log_prob + (chance.log_pb if self.dag_correction else 0.0)
        return turns.errors(arrival, answer)


def turns_along(model: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext) -> Turns:
    """Return the turns of a batch of trajectories, the players' and those of chance."""
    path = follow(model, env, batch.actions, context.cache)
    return Turns(env, path, chance_turns(env, path, context.reward, batch.log_reward), model.log_z)
