"""Exact laws, learned laws and the controls of tgm 6.4."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import root_scalar
from scipy.special import log_softmax

from narrows.envs import AbstractReversibleEnvironment
from narrows.exact import Graph, enumerate_graph, model_distribution
from narrows.metrics.exact import LogProbs, entropy, mass_by_quantile, mean_score
from narrows.objectives import TrajectoryGeneralMellowmax
from narrows.policies import AbstractPolicy
from narrows.policies.base import Model
from narrows.rewards import AbstractReward, Tempered
from narrows.training import run, trainer
from narrows.trajectories import Trajectory, log_probs_along, sample, sample_backward
from narrows.trajectories.behaviour import Behaviour

CHOSEN = "TGM, q chosen"
TEMPERATURE, ENTROPY = "temperature-matched GFlowNet", "entropy-matched GFlowNet"
NATS, OFF = "entropy", "entropy, distance from what was to be matched"
_BLOCK = 4096
_MAX_INVERSE_TEMPERATURE = 1e4
_NEARLY_ZERO = 0.02


def tgm_name(q: float) -> str:
    """Return what rows call the TGM of a q."""
    return f"TGM, q = {q:g}"


def control_name(control: str, method: str) -> str:
    """Return what rows call the control of a method."""
    return f"{control} of {method}"


class Truth(NamedTuple):
    """A space whose every object has a known score, and the target's inverse temperature."""

    env: AbstractReversibleEnvironment
    graph: Graph
    reward: Tempered
    scores: Float[np.ndarray, " terminal"]

    @property
    def log_reward(self) -> Float[np.ndarray, " terminal"]:
        return self.reward.beta * self.scores


class Shape(NamedTuple):
    """Where a law puts its probability: entropy in nats, mean score, and the mass of each tenth of the objects by score."""

    entropy: float
    mean_score: float
    deciles: tuple[float, ...]

    @property
    def top_decile(self) -> float:
        """The mass of the best-scored tenth."""
        return self.deciles[-1]


class Learned(NamedTuple):
    """What training left: the exact law of the model, its own estimate of the root's value, and how long it took."""

    log_probs: LogProbs
    root_value: float
    seconds: float


@dataclass(frozen=True)
class Recipe:
    """How a policy is trained; one recipe serves every operator."""

    name: str  # what the rows call the policy
    make: Callable[[AbstractReversibleEnvironment, PRNGKeyArray], AbstractPolicy]  # the policy of an environment
    batch_size: int  # trajectories a step, all fresh
    num_steps: int  # training steps
    learning_rate: float  # Adam's after a warm-up over a twentieth of the steps; it falls by a cosine to a hundredth
    temperature: float  # of the behaviour while training. Above 1 it keeps objects in sight that the model underrates.

    def optimizer(self) -> optax.GradientTransformation:
        """Return clipped Adam with the recipe's schedule."""
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, self.num_steps // 20, self.num_steps, end_value=self.learning_rate / 100.0
        )
        return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule))


def list_truth(env: AbstractReversibleEnvironment, reward: AbstractReward, beta: float) -> Truth:
    """Score every object of an environment."""
    graph = enumerate_graph(env)
    return Truth(env, graph, Tempered(reward, beta), np.asarray(reward(graph.terminal_states), np.float64))


def shape_of(log_probs: LogProbs, scores: Float[np.ndarray, " terminal"]) -> Shape:
    """Return where a law puts its probability."""
    return Shape(entropy(log_probs), mean_score(log_probs, scores), tuple(mass_by_quantile(log_probs, scores).tolist()))


def gibbs(inverse_temperature: float, scores: Float[np.ndarray, " terminal"]) -> LogProbs:
    """Return the law proportional to `exp(inverse_temperature Phi)`: a GFlowNet's, on a tree."""
    return log_softmax(inverse_temperature * scores)


def matching_inverse_temperature(nats: float, scores: Float[np.ndarray, " terminal"]) -> float:
    """Return the inverse temperature at which the Gibbs law has a given entropy, between the uniform law's and 0."""
    bracket = (0.0, _MAX_INVERSE_TEMPERATURE)
    return float(root_scalar(lambda beta: entropy(gibbs(beta, scores)) - nats, bracket=bracket, xtol=1e-9).root)


def matching_beta(curve: Sequence[tuple[float, float]], nats: float) -> float:
    """Return the exponent at which a curve of (exponent, entropy) has so many nats: linear between the logarithms of exponents.

    Trainings scatter: those of one exponent count by their mean, and where a sharper one has the larger entropy, the curve is
    held where it was. Beyond its sharpest point the last slope goes on, at most to four times that exponent.

    >>> round(matching_beta([(1.0, 8.0), (4.0, 4.0)], 6.0), 6)
    2.0
    """
    betas, values = np.asarray(curve, np.float64).T
    own = np.unique(betas)
    logs = np.log(np.maximum(own, _NEARLY_ZERO))
    values = np.minimum.accumulate([np.mean(values[betas == beta]) for beta in own])
    if nats < values[-1] and len(own) > 1:
        slope = min((values[-1] - values[-2]) / (logs[-1] - logs[-2]), -1e-3)
        return float(np.exp(logs[-1] + min((nats - values[-1]) / slope, np.log(4.0))))
    return float(np.exp(np.interp(-nats, -values, logs)))


def policy_entropy(key: PRNGKeyArray, model: Model, env: AbstractReversibleEnvironment, num: int) -> float:
    """Return an estimate of a policy's entropy in nats: `-mean log P` of so many trajectories; on a tree, of its objects."""
    batch = sample(key, model, env, num)
    return -float(np.mean(np.asarray(_log_probs(model, env, batch), np.float64)))


@eqx.filter_jit
def _log_probs(model: Model, env: AbstractReversibleEnvironment, batch: Trajectory) -> Float[Array, " batch"]:
    return jnp.sum(log_probs_along(model, env, batch).log_pf, axis=-1)


def train(truth: Truth, objective: TrajectoryGeneralMellowmax, recipe: Recipe, seed: int) -> Learned:
    """Train a policy by a recipe and read its law off the model, without sampling noise. Seconds include compilation."""
    training = trainer(
        truth.env,
        lambda key: recipe.make(truth.env, key),
        truth.reward,
        objective,
        recipe.optimizer(),
        batch_size=recipe.batch_size,
        behaviour=Behaviour(temperature=recipe.temperature),
    )
    state = training.init(jax.random.key(seed))
    began = time.perf_counter()
    state, _ = run(training, state, recipe.num_steps, every=recipe.num_steps)
    seconds = time.perf_counter() - began
    log_probs = model_distribution(state.model, truth.env, truth.graph)
    error = np.asarray(residuals(truth, objective, state.model), np.float64)
    return Learned(log_probs, -float(np.sum(np.exp(log_probs) * error)), seconds)


def residuals(truth: Truth, objective: TrajectoryGeneralMellowmax, model: Model) -> Float[Array, " terminal"]:
    """Return rho of every object (tgm 3.2): minus the root's value wherever the model is exact."""
    log_reward = jax.numpy.asarray(truth.log_reward, jax.numpy.float32)
    # In a tree there is one way back, whatever the key.
    trajectories = sample_backward(jax.random.key(0), model, truth.env, truth.graph.terminal_states, log_reward)
    return _residuals(objective, model, truth.env, trajectories)


@eqx.filter_jit
def _residuals(
    objective: TrajectoryGeneralMellowmax, model: Model, env: AbstractReversibleEnvironment, trajectories: Trajectory
) -> Float[Array, " terminal"]:
    def one(item: Trajectory) -> Float[Array, ""]:
        return objective.residuals(model, env, jax.tree.map(lambda leaf: leaf[None], item)).error[0, 0]

    return jax.lax.map(one, trajectories, batch_size=_BLOCK)
