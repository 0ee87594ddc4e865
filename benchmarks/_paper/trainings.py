"""The trainings of the biological tasks: a proxy of the published architecture, then a policy by the published network."""

import functools
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from benchmarks._laws import policy_entropy
from benchmarks._paper.plan import MAIN_SHARE, SHARES, Method, Plan, Size, named
from benchmarks._paper.tasks.data import AMP, GFP, UTR, PublishedData, read_classes, read_design_bench
from benchmarks._paper.tasks.fit import fit_published, load, save
from benchmarks._paper.tasks.stand_ins import Truth, stand_in
from benchmarks.harness.places import digest, remembered
from benchmarks.harness.processes import tell
from narrows.envs import Sequence as Sequences
from narrows.exact.blocks import in_blocks
from narrows.metrics import diverse_top_k, temperature_pool
from narrows.policies import FaithfulTransformer, Transformer
from narrows.rewards import AbstractReward
from narrows.training import TrainState, trainer
from narrows.trajectories.behaviour import Behaviour

TASKS = {task.name: task for task in (UTR, AMP, GFP)}
_FORMAT, _PROXY_FORMAT = 2, 1
_NATS_STREAM = 1000
"""Beyond the streams of a pool's temperatures."""
_KEPT = "found"
"""Where in the folder of data results are kept: apart, for a folder that is named like a task holds its published files."""


class Outcome(NamedTuple):
    """What one training came to."""

    # rewards, scores, kept: mean of `exp(Phi)` over the kept, of `Phi`, and how many those are, for each least distance
    rewards: tuple[float, ...]
    scores: tuple[float, ...]
    kept: tuple[int, ...]
    # mean true score of those at the middle distance, in standard deviations of the data's; None without a truth
    true: float | None
    entropy: float  # of the policy in nats
    seconds: float  # that it took


class Scaled(AbstractReward):
    """A proxy's score times an exponent that programs do not depend on."""

    proxy: AbstractReward
    beta: Float[Array, ""]

    def __call__(self, states: Any) -> Float[Array, " batch"]:
        return self.beta * self.proxy(states)


class Setting(NamedTuple):
    """What of a training is tuned."""

    beta: float
    rate: float


class Given(NamedTuple):
    """Data of a task: the published ones, where they lie in the folder that was named, or a stand-in's with its truth."""

    data: PublishedData
    truth: Truth | None


def given(size: Size, folder: Path) -> Given:
    """Return what a task's proxy learns from. AMP's files are `positive.*` and `negative.*`."""
    task, files = TASKS[size.name], folder / size.name
    if files.is_dir():
        if task.design_bench_order is not None:
            return Given(read_design_bench(task, files), None)
        return Given(read_classes(task, sorted(files.glob("positive*")), sorted(files.glob("negative*"))), None)
    made = stand_in(task, size.num_rows)
    return Given(made.data, made.truth)


class Tuned(NamedTuple):
    """A method on a task: what every setting of the grid came to on the seed that chooses, and the best one on the others."""

    grid: dict[Setting, Outcome]
    best: Setting
    found: list[Outcome]

    @property
    def chosen(self) -> float:
        """The main figure of the best setting on the seed that chose it."""
        return self.grid[self.best].rewards[MAIN_SHARE]


def method_job(plan: Plan, folder: Path, size: Size, name: str) -> Tuned:
    """Train a method with every setting of the grid, then with the best one on the seeds that are reported."""
    one = functools.partial(trained, plan, folder, size, name)
    grid = {Setting(beta, rate): one(Setting(beta, rate), plan.tuning_seed) for beta in size.betas for rate in plan.rates}
    best = max(grid, key=lambda setting: grid[setting].rewards[MAIN_SHARE])
    return Tuned(grid, best, [one(best, seed) for seed in plan.seeds])


def proxy_job(size: Size, folder: Path) -> dict[str, Any]:
    """Fit a task's proxy, or find it fitted; return whether the data are the published ones and how good it is."""
    at = _proxy_folder(size, folder)

    def fit() -> dict[str, Any]:
        task, own = TASKS[size.name], given(size, folder)
        if own.truth is not None:
            rate = task.learning_rate if size.proxy_rate is None else size.proxy_rate
            batch = task.batch if size.proxy_batch is None else size.proxy_batch
            task = replace(task, max_epochs=size.num_epochs, learning_rate=rate, batch=batch)
        fitted = fit_published(task, own.data.sequences, own.data.targets, jax.random.key(0))
        at.parent.mkdir(parents=True, exist_ok=True)
        save(fitted, at)
        report = fitted.report
        tell(f"{size.name}, proxy: {report.seconds:.0f} s, rank agreement {report.spearman}")
        return {"is_published": own.truth is None, "ranks": report.spearman, "highest": report.highest_reward}

    return remembered(at.with_suffix(".json"), fit)


def trained(plan: Plan, folder: Path, size: Size, name: str, setting: Setting, seed: int) -> Outcome:
    """Train a method on a task's proxy and judge what it draws, or find it trained before."""
    at = _proxy_folder(size, folder)
    key = digest((_FORMAT, (plan.batch_size, plan.num_kept), at.name, size, name, setting, seed))

    def judge() -> dict[str, Any]:
        began = time.perf_counter()
        proxy = load(at)
        env = proxy.task.environment()
        beta, rate = (jax.numpy.asarray(value, jax.numpy.float32) for value in setting)
        state = train(env, proxy, beta, rate, jax.random.key(seed), named(name), plan.batch_size, size.num_steps)
        drawing = jax.random.key(seed + 1)
        texts = temperature_pool(drawing, state.model, env, size.num_samples)
        nats = policy_entropy(jax.random.fold_in(drawing, _NATS_STREAM), state.model, env, size.num_samples)
        phi = _in_blocks(proxy, env, texts)
        chosen = [diverse_top_k(texts, phi, min_distance=share * env.max_length, k=plan.num_kept) for share in SHARES]
        is_published = json.loads(at.with_suffix(".json").read_text(encoding="utf-8"))["is_published"]
        outcome = Outcome(
            tuple(one.mean_reward for one in chosen),
            tuple(one.mean_log_reward for one in chosen),
            tuple(one.num_kept for one in chosen),
            None if is_published else _true_score(size, env, [texts[place] for place in chosen[MAIN_SHARE].kept.tolist()]),
            nats,
            time.perf_counter() - began,
        )
        said = f"{size.name}, {name}, beta {setting.beta:g}, rate {setting.rate:g}, seed {seed}"
        tell(f"{said}: {outcome.rewards[MAIN_SHARE]:.3f} in {outcome.seconds:.0f} s")
        return outcome._asdict()

    plain = remembered(folder / _KEPT / size.name / f"{key}.json", judge)
    return Outcome(**{**plain, **{name: tuple(plain[name]) for name in ("rewards", "scores", "kept")}})


def _in_blocks(reward: AbstractReward, env: Sequences, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
    states = jax.tree.map(np.asarray, env.from_text(list(texts)))
    return np.asarray(in_blocks(functools.partial(_scores, reward), states), np.float64)


@eqx.filter_jit
def _scores(reward: AbstractReward, states: Any) -> Float[Array, " batch"]:
    return reward(states)


@functools.cache
def _truth_of(size: Size) -> tuple[Truth, float, float]:
    """Return a stand-in's truth, and its mean and deviation over the data that the environment can make."""
    made, task = stand_in(TASKS[size.name], size.num_rows), TASKS[size.name]
    values = _in_blocks(made.truth, task.environment(), [text for text in made.data.sequences if len(text) >= task.min_length])
    return made.truth, float(np.mean(values)), float(np.std(values))


def _true_score(size: Size, env: Sequences, texts: Sequence[str]) -> float:
    truth, mean, std = _truth_of(size)
    return float((np.mean(_in_blocks(truth, env, texts)) - mean) / std)


def _proxy_folder(size: Size, folder: Path) -> Path:
    fit = (size.name, size.num_rows, size.num_epochs, size.proxy_rate, size.proxy_batch)
    # A proxy of a stand-in, or of files that have changed, must not be taken for one of the files that lie there now.
    files = sorted((folder / size.name).glob("*"))
    facts = ((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files)
    return folder / _KEPT / size.name / f"proxy-{digest((_PROXY_FORMAT, *fit, *facts))}"


@eqx.filter_jit
def train(
    env: Sequences,
    proxy: AbstractReward,
    beta: Float[Array, ""],
    rate: Float[Array, ""],
    key: PRNGKeyArray,
    method: Method,
    batch_size: int,
    num_steps: int,
) -> TrainState:
    """Return what the published network has become after all steps; one program for all settings and seeds of a method."""
    objective = method.objective

    def policy(key: PRNGKeyArray) -> Transformer:
        return FaithfulTransformer(objective.sizes(env), key=key)

    reward = Scaled(proxy, beta * method.factor)
    optimizer = optax.chain(
        optax.clip_by_global_norm(10.0),
        optax.scale_by_adam(),
        optax.add_decayed_weights(1e-4),
        optax.scale_by_schedule(lambda _: -rate),
    )
    # What is on-policy must learn from what its own policy drew.
    behaviour = Behaviour(epsilon=0.0 if objective.needs.on_policy else 0.01)
    training = trainer(env, policy, reward, objective, optimizer, batch_size=batch_size, behaviour=behaviour)

    def step(state: TrainState, _: None) -> tuple[TrainState, None]:
        return training.step(state)[0], None

    return jax.lax.scan(step, training.init(key), length=num_steps)[0]
