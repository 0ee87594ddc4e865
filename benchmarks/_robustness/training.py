"""Training: one program a method, run for every proxy, seed, exponent and rate; what it gives are samples, with log P."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from benchmarks._robustness.proxies import ProxyReward
from narrows.envs import Sequence
from narrows.objectives.base import AbstractObjective, Passes
from narrows.policies import MLP
from narrows.policies.base import AbstractPolicy
from narrows.training import TrainState, trainer
from narrows.trajectories import log_probs_along, sample


@dataclass(frozen=True)
class Recipe:
    """How every method is trained."""

    width: int = 64  # of both layers of the policy
    batch_size: int = 32  # objects a step, all fresh: each is one call of the proxy
    # after how many training steps, a batch each, objects are drawn: how long to train is tuned like everything else
    stops: tuple[int, ...] = (10, 30, 100)
    # how each batch is used, whatever the objective: as often as PPO uses it by its published defaults
    passes: Passes = Passes(4, 4)
    num_samples: int = 2048  # drawn in the end, which shortlists are chosen from
    at_once: int = 1  # trainings that are advanced together

    @property
    def num_steps(self) -> int:
        """Training steps in all."""
        return self.stops[-1]

    @property
    def num_calls(self) -> int:
        """Calls of the proxy, by training and by the choice."""
        return self.batch_size * self.num_steps + self.num_samples

    def optimizer(self, rate: Float[Array, ""]) -> optax.GradientTransformation:
        """Return clipped Adam; the rate rises over the first batch and stays, since no stop is to be favoured."""
        shape = optax.warmup_constant_schedule(0.0, 1.0, self.passes.num_steps)
        return optax.chain(
            optax.clip_by_global_norm(10.0), optax.scale_by_adam(), optax.scale_by_schedule(lambda step: -rate * shape(step))
        )


class Drawn(NamedTuple):
    """What a trained policy gave: objects, the proxy's standardised score of each, and the policy's log-probability."""

    tokens: Int[Array, "*stop sample place"]
    phi: Float[Array, "*stop sample"]
    log_prob: Float[Array, "*stop sample"]


@eqx.filter_jit
def train(
    env: Sequence,
    rewards: ProxyReward,
    rates: Float[Array, " training"],
    keys: PRNGKeyArray,
    objective: AbstractObjective,
    recipe: Recipe,
) -> Drawn:
    """Train a policy for each of some rewards, whose leaves are `[training, ...]`, and draw from it at each stop.

    Leaves of what is returned are `[training, stop, ...]`.
    """

    def policy(key: PRNGKeyArray) -> AbstractPolicy:
        return MLP(
            objective.sizes(env),
            hidden=recipe.width,
            depth=2,
            key=key,
        )

    def one(inputs: tuple[ProxyReward, Float[Array, ""], PRNGKeyArray]) -> Drawn:
        reward, rate, key = inputs
        start, drawing = jax.random.split(key)
        optimizer = recipe.optimizer(rate)
        training = trainer(env, policy, reward, objective, optimizer, batch_size=recipe.batch_size, passes=recipe.passes)

        def until(state: TrainState, stop: tuple[Int[Array, ""], Int[Array, ""]]) -> tuple[TrainState, Drawn]:
            state = jax.lax.fori_loop(*stop, lambda _, state: training.step(state)[0], state)
            batch = sample(jax.random.fold_in(drawing, stop[1]), state.model, env, recipe.num_samples)
            log_prob = jnp.sum(log_probs_along(state.model, env, batch).log_pf, axis=-1)
            return state, Drawn(batch.terminal.tokens, reward.phi(batch.terminal.tokens), log_prob)

        # One loop over the stops: a step that stood there once for each would take three times as long to compile.
        begins, ends = (jnp.asarray(steps, jnp.int32) for steps in ((0, *recipe.stops[:-1]), recipe.stops))
        return jax.lax.scan(until, training.init(start), (begins, ends))[1]

    return jax.lax.map(one, (rewards, rates, keys), batch_size=recipe.at_once if recipe.at_once > 1 else None)
