"""Training: one program for a method in a world, run for every exponent and seed; laws are read off the models exactly."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from benchmarks._stochastic.methods import Method, named
from benchmarks._stochastic.worlds import Figures, learned_kernel, world
from narrows.envs import perturbed
from narrows.envs.perturbation import AbstractPerturbed, ReversiblePerturbed
from narrows.exact import model_law
from narrows.policies import MLP, Tabular
from narrows.policies.base import AbstractPolicy, Model
from narrows.rewards import UnwrapPerturbed
from narrows.rewards.landscape import Landscape
from narrows.training import trainer
from narrows.trajectories.behaviour import Behaviour

_TRANSITION_SEED = 1000
"""Added to a seed for the transitions that its kernel is learned from."""


@dataclass(frozen=True)
class Recipe:
    """How a policy is trained; one recipe serves every method.

    Args:
        width: of both layers of an MLP; None for a table, which can hold every policy.
        batch_size: trajectories a step, all fresh.
        num_steps: training steps.
        learning_rate: Adam's after a warm-up over a twentieth of the steps, falling to zero along a cosine; that of log Z is
            0.1 from the start.
        temperature: of the behaviour while training.
    """

    width: int | None
    batch_size: int
    num_steps: int
    learning_rate: float
    temperature: float = 1.0

    def policy(self, env: ReversiblePerturbed, learns_backward: bool, key: PRNGKeyArray) -> AbstractPolicy:
        """Return the untrained network."""
        sizes = (env.num_features, env.num_values, env.num_actions)
        backward = env.num_backward_actions if learns_backward else None
        if self.width is None:
            return Tabular(*sizes, num_backward_actions=backward, child_flow_head=True, key=key)
        return MLP(*sizes, hidden=self.width, depth=2, num_backward_actions=backward, child_flow_head=True, key=key)

    def optimizer(self) -> optax.GradientTransformation:
        """Return Adam with the recipe's schedules. Without the warm-up a rate this large lets policies collapse at first."""
        rate = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, max(self.num_steps // 20, 1), self.num_steps)
        log_z_rate = optax.cosine_decay_schedule(0.1, self.num_steps)
        policy = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate))
        return optax.partition({"policy": policy, "log_z": optax.adam(log_z_rate)}, _labels)


class Job(NamedTuple):
    """A method in one world, to be trained for every exponent with every seed, by a process of its own."""

    path: Path
    alpha: float
    method: str
    betas: tuple[float, ...]
    seeds: tuple[int, ...]
    recipe: Recipe


class Found(NamedTuple):
    """What a law is worth: one training's, or an exact one's, whose seed is that of its samples."""

    beta: float
    seed: int
    figures: Figures


def train(job: Job) -> list[Found]:
    """Train all of a job and return its figures, exponent after exponent."""
    began = time.perf_counter()
    here, method = world(job.path, job.alpha), named(job.method)
    found = []
    for seed in job.seeds:
        # A learned kernel is the seed's own, so a seed's exponents are what shares a call.
        believed = (
            perturbed(here.env.inner, learned_kernel(here.env, seed + _TRANSITION_SEED)) if method.learns_kernel else here.env
        )
        scores = jnp.stack([beta * here.reward.scores for beta in job.betas])
        models = _train_all(here.env, believed, here.reward, scores, jax.random.key(seed), method, job.recipe)
        for place, beta in enumerate(job.betas):
            log_law = model_law(jax.tree.map(lambda leaf, place=place: leaf[place], models), here.env, here.graph)
            found.append(Found(beta, seed, here.figures(log_law, beta, seed)))
    seconds = time.perf_counter() - began
    # A full run takes long; whoever waits should see it move.
    print(f"alpha {job.alpha:g}, {job.method}: {len(found)} trainings in {seconds:.0f} s", file=sys.stderr, flush=True)
    return sorted(found)


@eqx.filter_jit
def _train_all(
    env: ReversiblePerturbed,
    believed: AbstractPerturbed,
    reward: Landscape,
    scores: Float[Array, "beta object"],
    key: PRNGKeyArray,
    method: Method,
    recipe: Recipe,
) -> Model:
    """Return the model of each row of log-rewards. They are arguments, not constants, so that all share one program."""

    def one(values: Float[Array, " object"]) -> Model:
        training = trainer(
            env,
            lambda key: recipe.policy(env, method.learns_backward, key),
            UnwrapPerturbed(eqx.tree_at(lambda tree: tree.scores, reward, values)),
            method.objective,
            recipe.optimizer(),
            batch_size=recipe.batch_size,
            behaviour=Behaviour(temperature=recipe.temperature),
            believed=believed,
        )
        state, _ = jax.lax.scan(lambda state, _: (training.step(state)[0], None), training.init(key), length=recipe.num_steps)
        return state.model

    return jax.lax.map(one, scores)


def _labels(model: Model) -> Model:
    """Return which of the two rates each parameter has, in the shape of a model."""
    return Model(jax.tree.map(lambda _: "policy", model.policy), "log_z")  # pyright: ignore[reportArgumentType]
