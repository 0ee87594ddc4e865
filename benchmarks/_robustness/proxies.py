"""Proxies that are wrong on purpose: small ensembles that learned from few, noisy objects, none of which was good."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from benchmarks._robustness.tasks import Task
from narrows.distance import EDITS
from narrows.envs.sequence import SequenceState
from narrows.proxies.bagging import Bags, draw_bags
from narrows.proxies.quality import rank_agreement
from narrows.rewards.base import AbstractReward

ENTRIES = ("mean", "lower", "min")
KAPPA = 1.0
"""How many standard deviations the lower bound lies below the mean."""
_CHUNK = 25
_BATCH = 64


@dataclass(frozen=True)
class Lesson:
    """How a proxy is taught."""

    pool: int = 4000  # random objects that measured ones are taken from
    share: float = 0.6  # which part of the pool may be measured, the lowest-scored first: no proxy has seen a good object
    noise: float = 0.5  # standard deviation of the error of a measurement, in those of the pool
    members: int = 5  # networks of the ensemble
    width: int = 32  # units of both of their layers
    num_steps: int = 600  # training steps; each member keeps what did best on its out-of-bag objects on the way
    num_fresh: int = 1000  # random objects that proxies are judged on


class Measured(NamedTuple):
    """What a proxy learns from."""

    texts: list[str]
    scores: Float[np.ndarray, " row"]


class Scale(NamedTuple):
    """The truth over random objects, the unit of every score that is reported."""

    # mean, std: mean and standard deviation
    mean: float
    std: float
    least: float  # the worst score among them, what an empty place of a shortlist counts as


class Member(eqx.Module):
    """One network: a perceptron of two layers on the letters."""

    rows: Float[Array, "place letter unit"]
    first: Float[Array, " unit"]
    matrix: Float[Array, "unit unit"]
    second: Float[Array, " unit"]
    head: Float[Array, " unit"]
    last: Float[Array, ""]

    def __init__(self, length: int, num_letters: int, width: int, *, key: PRNGKeyArray) -> None:
        rows, matrix, head = jax.random.split(key, 3)
        self.rows = jax.random.normal(rows, (length, num_letters, width), jnp.float32) * (2.0 / length) ** 0.5
        self.matrix = jax.random.normal(matrix, (width, width), jnp.float32) * (2.0 / width) ** 0.5
        self.head = jax.random.normal(head, (width,), jnp.float32) * width**-0.5
        self.first, self.second = jnp.zeros(width, jnp.float32), jnp.zeros(width, jnp.float32)
        self.last = jnp.zeros((), jnp.float32)

    def __call__(self, tokens: Int[Array, "batch place"]) -> Float[Array, " batch"]:
        units = self.first + sum(self.rows[place][tokens[:, place]] for place in range(self.rows.shape[0]))
        units = jax.nn.relu(jax.nn.relu(units) @ self.matrix + self.second)
        return units @ self.head + self.last


class ProxyReward(AbstractReward):
    """`beta (g(f_1(x), .., f_K(x)) - centre) / spread`: what a policy is trained on."""

    members: Member  # the ensemble, stacked
    entry: Int[Array, ""]  # how it enters, the place of a name in `ENTRIES`: an array, so that all share a program
    # centre, spread: mean and standard deviation of g over random objects, so that beta means the same for every proxy
    centre: Float[Array, ""]
    spread: Float[Array, ""]
    beta: Float[Array, ""]  # inverse temperature

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return self.beta * self.phi(states.tokens)

    def phi(self, tokens: Int[Array, "batch place"]) -> Float[Array, " batch"]:
        """Return the standardised score alone."""
        return (entered(eqx.filter_vmap(lambda member: member(tokens))(self.members), self.entry) - self.centre) / self.spread


def entered(outputs: Float[Array, "member batch"], entry: Int[Array, ""]) -> Float[Array, " batch"]:
    """Return what an ensemble says of each object in one number: mean, lower bound or minimum."""
    mean, std = jnp.mean(outputs, axis=0), jnp.std(outputs, axis=0)
    return jnp.stack([mean, mean - KAPPA * std, jnp.min(outputs, axis=0)])[entry]


def scale_of(task: Task, lesson: Lesson) -> Scale:
    """Return the unit of a task's scores."""
    scores = task.truth(task.random(lesson.pool, np.random.default_rng(0)))
    return Scale(float(np.mean(scores)), float(np.std(scores)), float(np.min(scores)))


def measure_some(task: Task, lesson: Lesson, size: int, seed: int) -> Measured:
    """Return the noisy scores of some objects from the lower part of a random pool."""
    rng = np.random.default_rng([seed, size])
    texts = list(dict.fromkeys(task.random(lesson.pool, rng)))
    scores = task.truth(texts)
    # Many objects may share a score, and which of them count as lower is then left to chance.
    order = np.lexsort((rng.random(len(texts)), scores))[: max(size, int(lesson.share * len(texts)))]
    chosen = rng.choice(order, size, replace=False)
    noisy = scores[chosen] + lesson.noise * np.std(scores) * rng.standard_normal(size)
    return Measured([texts[place] for place in chosen], noisy)


def taught(task: Task, lesson: Lesson, measured: Sequence[Measured], seeds: Sequence[int]) -> Member:
    """Return an ensemble a sample, all trained by one program: `[sample, member, ...]`. They speak in standardised scores."""
    longest = max(len(one.texts) for one in measured)
    tokens = [np.resize(task.env.from_text(one.texts).tokens, (longest, task.env.max_length)) for one in measured]
    targets = [np.resize((one.scores - one.scores.mean()) / one.scores.std(), longest) for one in measured]
    bags = [
        draw_bags(np.arange(len(one.texts)), longest, lesson.members, np.random.default_rng([seed, 1]))
        for one, seed in zip(measured, seeds, strict=True)
    ]
    keys = jax.random.split(jax.random.key(0), len(measured))
    inputs = jnp.asarray(np.stack(tokens)), jnp.asarray(np.stack(targets), jnp.float32)
    stacked = Bags(*(np.stack(rows) for rows in zip(*bags, strict=True)))
    return _teach(*inputs, stacked, keys, task.env.num_tokens, lesson.width, lesson.num_steps)


@eqx.filter_jit
def _teach(
    tokens: Array, targets: Array, bags: Bags, keys: PRNGKeyArray, num_letters: int, width: int, num_steps: int
) -> Member:
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-2, num_steps), weight_decay=1e-2)

    def error(member: Member, tokens: Array, targets: Array, weight: Array) -> Float[Array, ""]:
        return jnp.sum(weight * (member(tokens) - targets) ** 2) / jnp.sum(weight)

    def one(tokens: Array, targets: Array, train: Array, held: Array, weight: Array, key: PRNGKeyArray) -> Member:
        made, steps = jax.random.split(key)
        member = Member(tokens.shape[1], num_letters, width, key=made)

        def step(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, None]:
            member, memory = carry
            rows = train[jax.random.randint(key, (_BATCH,), 0, train.shape[0])]
            slope = jax.grad(error)(member, tokens[rows], targets[rows], jnp.ones(_BATCH, jnp.float32))
            updates, memory = optimizer.update(slope, memory, cast(Any, member))
            return (eqx.apply_updates(member, updates), memory), None

        def chunk(carry: tuple, keys: PRNGKeyArray) -> tuple[tuple, None]:
            (member, memory), best, least = carry
            member, memory = jax.lax.scan(step, (member, memory), keys)[0]
            loss = error(member, tokens[held], targets[held], weight)
            best = jax.tree.map(lambda new, old: jnp.where(loss < least, new, old), member, best)
            return ((member, memory), best, jnp.minimum(loss, least)), None

        keys = jax.random.split(steps, (num_steps // _CHUNK, _CHUNK))
        begin = ((member, optimizer.init(cast(Any, member))), member, jnp.asarray(jnp.inf, jnp.float32))
        return jax.lax.scan(chunk, begin, keys)[0][1]

    def ensemble(inputs: tuple) -> Member:
        tokens, targets, bags, key = inputs
        each = jax.random.split(key, bags.train.shape[0])
        return jax.vmap(functools.partial(one, tokens, targets))(bags.train, bags.validation, bags.weight, each)

    return jax.lax.map(ensemble, (tokens, targets, bags, keys))


@eqx.filter_jit
def _outputs(members: Member, tokens: Array) -> Float[Array, "member batch"]:
    return eqx.filter_vmap(lambda member: member(tokens))(members)


def reward_of(task: Task, lesson: Lesson, members: Member, entry: str) -> ProxyReward:
    """Return the reward that an ensemble makes, at inverse temperature 1."""
    texts = task.random(lesson.num_fresh, np.random.default_rng(1))
    place = jnp.asarray(ENTRIES.index(entry), jnp.int32)
    values = np.asarray(entered(_outputs(members, task.env.from_text(texts).tokens), place))
    centre, spread = (jnp.asarray(number, jnp.float32) for number in (values.mean(), max(float(values.std()), 1e-6)))
    return ProxyReward(members, place, centre, spread, jnp.ones((), jnp.float32))


class Wrongness(NamedTuple):
    """How wrong a proxy is about some objects."""

    correlation: float  # Spearman's, of its mean with the truth; 0 where either is constant
    error: float  # root mean square, in standard deviations of the truth over random objects
    coverage: float  # share of the objects whose truth lies within two standard deviations of the members
    sharpness: float  # mean standard deviation of the members, in the same unit as the error
    distance: float  # mean edits to the nearest measured object


def wrongness(task: Task, scale: Scale, members: Member, measured: Measured, texts: Sequence[str]) -> Wrongness:
    """Compare what an ensemble says of some objects with the truth."""
    outputs = np.asarray(_outputs(members, task.env.from_text(texts).tokens), np.float64)
    outputs = measured.scores.mean() + measured.scores.std() * outputs
    mean, std, truth = outputs.mean(axis=0), outputs.std(axis=0), task.truth(texts)
    return Wrongness(
        rank_agreement(mean, truth) or 0.0,
        float(np.sqrt(np.mean((mean - truth) ** 2)) / scale.std),
        float(np.mean(np.abs(mean - truth) <= 2.0 * std)),
        float(np.mean(std) / scale.std),
        float(np.mean(EDITS.nearest(list(texts), measured.texts).distance)),
    )
