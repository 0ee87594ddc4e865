"""Soft actor-critic for actions that can be listed."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.base import NO_CONTEXT, AbstractObjective, LossContext, Needs, check_target_period, usable
from narrows.objectives.ppo import entropy_of
from narrows.objectives.reductions import weighted_mean
from narrows.operators import GeneralMellowmax, masked_log_softmax
from narrows.policies.base import AbstractPolicy, Critics, Model
from narrows.sizes import Count
from narrows.trajectories import Path, Trajectory, follow, gather, shift_back


class DiscreteSAC(AbstractObjective):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv:1801.01290) over actions that can be listed (Christodoulou 2019).

        critics    (Q_j(s, a) - r - sum_a' pi(a'|s') (min_j Q'_j(s', a') - kappa log pi(a'|s')))^2,   Q' a target copy
        actor      sum_a pi(a|s) (kappa log pi(a|s) - min_j Q_j(s, a))

    With kappa held fixed the optimum is the soft one at omega = 1 / kappa, that of a flow network. Tuned, kappa goes where the
    policy's mean entropy is `target_entropy` of the largest there could be (arXiv:1812.05905), which the reward has no part in:
    near 1, as published for games, a policy hardly prefers anything. Undiscounted.

    Args:
        temperature: kappa, the weight of the entropy in nats of reward, > 0; where it is tuned, what it begins with.
        tunes_temperature: whether kappa is learned.
        target_entropy: share of the uniform policy's entropy that is asked for, in (0, 1). Published: 0.89 and 0.98.
        target_period: updates between renewals of the target copy, >= 1. Published: 400 to 8,000.
        dag_correction: add `kappa log P_B` to the reward of every transition (tgm 1.3).
    """

    temperature: float = eqx.field(default=1.0, static=True)
    tunes_temperature: bool = eqx.field(default=True, static=True)
    target_entropy: float = eqx.field(default=0.89, static=True)
    target_period: Count | None = eqx.field(default=500, static=True)
    dag_correction: bool = eqx.field(default=True, static=True)

    def __check_init__(self) -> None:
        if not 0.0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}. 0.2 and 1 are usual.")
        if not 0.0 < self.target_entropy < 1.0:
            raise ValueError(
                f"target_entropy must lie between 0 and 1, got {self.target_entropy}. It is a share; 0.89 is usual."
            )
        check_target_period(self.target_period)

    @property
    def operator(self) -> GeneralMellowmax:
        return GeneralMellowmax(1.0 / self.temperature, 0.0, 0.0)

    @property
    def needs(self) -> Needs:
        return Needs(critics=True, target_period=self.target_period)

    def loss(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Float[Array, ""]:
        batch, is_usable = usable(batch)
        path = follow(model, env, batch.actions, context.cache)
        weight = (path.is_valid & is_usable).astype(batch.log_reward.dtype)
        kappa = jnp.exp(_critics(model).log_temperature) if self.tunes_temperature else jnp.asarray(self.temperature)
        actor = _actor_of(path)
        values = _action_values(model, env, batch)
        goal = self._goal(actor, _action_values(target, env, batch), path, batch.log_reward, kappa)
        errors = jnp.sum(jnp.stack([(gather(value, path.actions) - goal) ** 2 for value in values]), axis=0)
        least = jax.lax.stop_gradient(jnp.minimum(*values))
        choice = actor.mean(jax.lax.stop_gradient(kappa) * actor.log_probs - least)
        each = errors + choice
        if self.tunes_temperature:
            excess = actor.entropy - self.target_entropy * jnp.log(jnp.maximum(jnp.sum(path.action_mask, axis=-1), 1))
            each = each + kappa * jax.lax.stop_gradient(excess)
        return weighted_mean(each, weight, context.total)

    def _goal(
        self,
        actor: "_Actor",
        target_values: tuple[Array, Array],
        path: Path,
        log_reward: Float[Array, " batch"],
        kappa: Float[Array, ""],
    ) -> Float[Array, "time batch"]:
        """Return what the critics are to say of each action that was taken."""
        soft = actor.mean(jnp.minimum(*target_values) - kappa * actor.log_probs)
        bonus = kappa * path.log_pb if self.dag_correction else 0.0
        return jax.lax.stop_gradient(jnp.where(path.is_last, log_reward, shift_back(soft)) + bonus)


class _Actor(NamedTuple):
    """The policy at every state of a batch; illegal actions count for nothing."""

    log_probs: Float[Array, "time batch action"]
    mask: Bool[Array, "time batch action"]

    @property
    def entropy(self) -> Float[Array, "time batch"]:
        return entropy_of(self.log_probs, self.mask)

    def mean(self, values: Float[Array, "time batch action"]) -> Float[Array, "time batch"]:
        """Return the policy's expectation of a value an action."""
        safe = jnp.where(self.mask, self.log_probs, 0.0)
        return jnp.sum(jnp.where(self.mask, jnp.exp(safe) * values, 0.0), axis=-1)


def _actor_of(path: Path) -> _Actor:
    mask = path.mask_or_all
    # A finite log-probability keeps the products with probability 0 finite.
    return _Actor(jnp.where(mask, masked_log_softmax(path.forward_logits, mask), 0.0), mask)


def _critics(model: Model) -> Critics:
    if model.critics is None:
        raise ValueError("DiscreteSAC needs a model with critics. Let the trainer make it.")
    return model.critics


def _action_values(model: Model, env: AbstractEnvironment, batch: Trajectory) -> tuple[Array, Array]:
    """Return each critic's value of every action along a batch of trajectories, `[time, batch, action]`."""

    def along(network: AbstractPolicy) -> Float[Array, "time batch action"]:
        return follow(Model(network, model.log_z), env, batch.actions).forward_logits

    first, second = _critics(model).networks
    return along(first), along(second)
