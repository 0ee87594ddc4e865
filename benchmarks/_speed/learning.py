"""Does speed cost learning? The law after the same number of trajectories, on both sides, beside the exact one."""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from benchmarks._speed import problem as given
from benchmarks._speed.measure import with_versions
from benchmarks._speed.plan import Lesson
from benchmarks._speed.problem import Problem
from benchmarks._speed.workers import OURS, at_work
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row, Target
from narrows.envs import Hypergrid
from narrows.envs.hypergrid import HypergridState
from narrows.rewards import HypergridReward

Law = Float[np.ndarray, " object"]


def exact_law(problem: Problem) -> Law:
    """Return the probability of every object, in the order of `places`; ValueError for a space that is not listed here."""
    log_reward = _log_rewards(problem)
    weights = np.exp(log_reward - log_reward.max())
    return weights / weights.sum()


def total_variation(law: Law, objects: Int[np.ndarray, "num place"], base: int) -> float:
    """Return half the sum of differences between a law and the frequencies of objects written in numbers below `base`."""
    if objects.min() < 0 or objects.max() >= base:
        raise ValueError(f"expected objects of numbers in [0, {base}), got {objects.min()} to {objects.max()}.")
    places = objects @ (base ** np.arange(objects.shape[1] - 1, -1, -1))
    return float(0.5 * np.abs(np.bincount(places, minlength=law.size) / len(places) - law).sum())


def sampling_floor(law: Law, num: int, seed: int = 0) -> float:
    """Return the total variation that `num` samples of the law itself are at."""
    counts = np.random.default_rng(seed).multinomial(num, law)
    return float(0.5 * np.abs(counts / num - law).sum())


def base_of(problem: Problem) -> int:
    """Return one more than the largest number in an object."""
    return problem.size if problem.space == "hypergrid" else problem.num_letters


def _log_rewards(problem: Problem) -> Float[np.ndarray, " object"]:
    if problem.space == "dna8":
        assert problem.table is not None, "whoever asks for dna8 names its table"
        return given.DNA_EXPONENT * np.load(problem.table).astype(np.float64)
    base, length = base_of(problem), problem.num_places
    objects = np.stack(np.unravel_index(np.arange(base**length), (base,) * length), axis=1)
    if problem.space == "hypergrid":
        reward = HypergridReward(Hypergrid(length, base), **given.HYPERGRID_REWARD)
        return np.asarray(reward(HypergridState(jnp.asarray(objects), jnp.ones(len(objects), bool))), np.float64)
    if problem.space == "letters":
        table = np.asarray(given.pair_scores(base))
        return given.PAIR_EXPONENT / length * table[objects[:, :-1], objects[:, 1:]].sum(axis=1)
    raise ValueError(f"the objects of {problem.space} are not listed: expected hypergrid, letters or dna8.")


TOLERANCE = 0.01
"""The most by which our median may exceed the peer's: about what another seed changes."""


def measure_lesson(context: Context, lesson: Lesson, peers: Sequence[str], seeds: Sequence[int]) -> Iterator[Row]:
    """Yield each side's total variation, a value a seed, the floor that sampling sets, and ours less each peer's."""
    law, names = exact_law(lesson.problem), [OURS, *peers]
    found: dict[str, list[float]] = {name: [] for name in names}
    for seed in seeds:
        tell(f"learning, {lesson.name}, seed {seed}: {', '.join(names)}")
        with at_work(names, replace(lesson.problem, seed=seed)) as workers, tempfile.TemporaryDirectory() as folder:
            context = with_versions(context, workers)
            for worker in workers:
                worker.ask("train", count=lesson.trained)
                path = Path(folder) / f"{worker.name}.npy"
                worker.ask("objects", num=lesson.num, path=str(path))
                found[worker.name].append(total_variation(law, np.load(path), base_of(lesson.problem)))
    case, unit = f"speed/learning: {lesson.name}", f"{lesson.trained * lesson.problem.batch:,} trajectories"
    for name in names:
        yield context.row(f"{case}/{name}", f"total variation after {unit}", found[name], seeds=seeds)
    yield context.row(f"{case}/exact law", f"total variation of {lesson.num:,} samples", [sampling_floor(law, lesson.num)])
    ours = statistics.median(found[OURS])
    for name in peers:
        excess = ours - statistics.median(found[name])
        target = Target("<=", TOLERANCE)
        yield context.row(f"{case}/{OURS}", "total variation less the peer's", [excess], against=name, target=target)
