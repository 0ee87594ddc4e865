"""Proximal policy optimisation: the largest expected reward, with no distribution of the objects in view."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.base import NO_CONTEXT, AbstractObjective, LossContext, Needs, Passes, usable
from narrows.objectives.reductions import Total, weighted_mean
from narrows.operators import Maximum, masked_log_softmax
from narrows.policies.base import Model
from narrows.trajectories import Path, Trajectory, follow, gather, shift_back


class ProximalPolicy(AbstractObjective):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), clipped, with generalised advantages.

        -E[min(rho A, clip(rho, 1 - clip, 1 + clip) A)] + value_weight E[(V - R)^2] / 2 - entropy_weight E[H(pi)]

    rho being the ratio of an action's probability to what it was when the batch came. Its optimum is the best object alone: an
    entropy bonus at each step keeps it from getting there, but gives no distribution that could be written down. The reward
    comes with the last action and nothing is discounted, for else a longer object would be worth less. Of the published
    defaults those of CleanRL are taken, but for the discount of 0.99.

    Args:
        clip: how far the ratio may go from 1, > 0; values move as far, where `clips_value`.
        trace: lambda of the generalised advantages, in [0, 1]; 1 takes the reward that came, 0 trusts the value head.
        entropy_weight: of the entropy bonus, >= 0.
        value_weight: of the value head's error, >= 0.
        normalises_advantages: bring the advantages of a minibatch to mean 0 and deviation 1.
        clips_value: keep the value head near what it said when the batch came.
        epochs: times that each batch is gone through.
        minibatches: parts in which it is gone through; it must have a multiple of so many trajectories.
    """

    clip: float = eqx.field(default=0.2, static=True)
    trace: float = eqx.field(default=0.95, static=True)
    entropy_weight: float = eqx.field(default=0.01, static=True)
    value_weight: float = eqx.field(default=0.5, static=True)
    normalises_advantages: bool = eqx.field(default=True, static=True)
    clips_value: bool = eqx.field(default=True, static=True)
    epochs: int = eqx.field(default=4, static=True)
    minibatches: int = eqx.field(default=4, static=True)

    def __check_init__(self) -> None:
        if not self.clip > 0.0:
            raise ValueError(f"clip must be positive, got {self.clip}. 0.2 is usual.")
        if not 0.0 <= self.trace <= 1.0:
            raise ValueError(f"trace must lie in [0, 1], got {self.trace}. 0.95 is usual.")
        for name, value in (("entropy_weight", self.entropy_weight), ("value_weight", self.value_weight)):
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, got {value}.")
        for name, value in (("epochs", self.epochs), ("minibatches", self.minibatches)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}. 4 is usual.")

    @property
    def operator(self) -> Maximum:
        return Maximum()

    @property
    def needs(self) -> Needs:
        # The target copy is the policy that sampled: ratios are to its probabilities.
        return Needs(flow=True, on_policy=True, target_period=1, passes=Passes(self.epochs, self.minibatches))

    def loss(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Float[Array, ""]:
        batch, is_usable = usable(batch)
        path, before = follow(model, env, batch.actions, context.cache), follow(target, env, batch.actions)
        weight = (path.is_valid & is_usable).astype(batch.log_reward.dtype)
        old_value = jax.lax.stop_gradient(_value_head(before))
        advantage = generalised_advantages(old_value, batch.log_reward, path.is_valid, self.trace)
        gain = self._policy_gain(path, before, advantage, weight, context.total)
        error = self._value_error(_value_head(path), old_value, old_value + advantage)
        return weighted_mean(0.5 * self.value_weight * error - gain, weight, context.total)

    def _policy_gain(
        self, path: Path, before: Path, advantage: Float[Array, "time batch"], weight: Float[Array, "time batch"], total: Total
    ) -> Float[Array, "time batch"]:
        """Return the clipped surrogate of each action and the entropy bonus of its state."""
        mask = path.mask_or_all
        log_probs = masked_log_softmax(path.forward_logits, mask)
        old = jax.lax.stop_gradient(gather(masked_log_softmax(before.forward_logits, mask), path.actions))
        # A policy that has moved far must not overflow where its ratio is not even used.
        ratio = jnp.exp(jnp.clip(gather(log_probs, path.actions) - old, -_MAX_LOG_RATIO, _MAX_LOG_RATIO))
        if self.normalises_advantages:
            advantage = _normalised(advantage, weight, total)
        clipped = jnp.clip(ratio, 1.0 - self.clip, 1.0 + self.clip)
        return jnp.minimum(ratio * advantage, clipped * advantage) + self.entropy_weight * entropy_of(log_probs, mask)

    def _value_error(
        self, value: Float[Array, "time batch"], old: Float[Array, "time batch"], goal: Float[Array, "time batch"]
    ) -> Float[Array, "time batch"]:
        error = (value - goal) ** 2
        if not self.clips_value:
            return error
        return jnp.maximum(error, (old + jnp.clip(value - old, -self.clip, self.clip) - goal) ** 2)


_MAX_LOG_RATIO = 20.0


class _Backward(NamedTuple):
    """What is carried from a step to the one before it."""

    advantage: Float[Array, " batch"]
    value: Float[Array, " batch"]


def generalised_advantages(
    value: Float[Array, "time batch"], log_reward: Float[Array, " batch"], is_valid: Bool[Array, "time batch"], trace: float
) -> Float[Array, "time batch"]:
    """Return `sum_k trace^k delta_{t+k}` with `delta_t = r_t + V_{t+1} - V_t`, the reward coming with the last step.

    Schulman et al. 2016 (arXiv:1506.02438), eq. 16, undiscounted; zero after the end.
    """
    is_last = is_valid & ~shift_back(is_valid)

    def back(after: _Backward, step: tuple[Array, Array, Array]) -> tuple[_Backward, Array]:
        value, valid, last = step
        delta = jnp.where(last, log_reward, after.value) - value
        advantage = jnp.where(valid, delta + trace * jnp.where(last, 0.0, after.advantage), 0.0)
        return _Backward(advantage, value), advantage

    nothing = jnp.zeros_like(log_reward)
    return jax.lax.scan(back, _Backward(nothing, nothing), (value, is_valid, is_last), reverse=True)[1]


def entropy_of(log_probs: Float[Array, "*rows action"], mask: Bool[Array, "*rows action"]) -> Float[Array, "*rows"]:
    """Return the entropy of each row in nats, its gradient finite at probability 0."""
    safe = jnp.where(mask, log_probs, 0.0)
    return -jnp.sum(jnp.where(mask, jnp.exp(safe) * safe, 0.0), axis=-1)


def _value_head(path: Path) -> Float[Array, "time batch"]:
    if path.log_flow is None:
        raise ValueError("ProximalPolicy needs a policy with a flow head. Construct the policy with flow_head=True.")
    return path.log_flow


def _normalised(
    values: Float[Array, "time batch"], weight: Float[Array, "time batch"], total: Total
) -> Float[Array, "time batch"]:
    sums = total(jnp.stack([jnp.sum(weight * values), jnp.sum(weight * values**2), jnp.sum(weight)]))
    count = jnp.maximum(sums[2], 1.0)
    mean = sums[0] / count
    deviation = jnp.sqrt(jnp.maximum(sums[1] / count - mean**2, 0.0))
    return (values - mean) / (deviation + 1e-8)
