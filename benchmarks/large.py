"""Large spaces: calls of a score until the whole list is at the optimum, beside genetic algorithms."""

import functools
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Texts
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from benchmarks.harness.case import Case, chosen, prose
from benchmarks.harness.places import digest, remembered, workplace
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.tables import Found as Rows
from benchmarks.harness.tables import counts, lines, part_of, plain, verdict
from narrows.config import Job, build, build_env, build_reward, dump_job, parse_job
from narrows.distance import EDITS, AbstractDistance
from narrows.envs import BitSequence, Sequence
from narrows.outcomes.scoring import scores_of_texts
from narrows.rewards.analytic import BitModes
from narrows.search import Found, Problem, Space, genetic_algorithm
from narrows.search.problem import Asked
from narrows.search.variation import crossed_at_a_point
from narrows.selection.diverse import choose_diverse
from narrows.training import Chunk, objects_of
from narrows.training import run as train

K: Final = 24
APART: Final = 4
GOAL: Final = 0.99
"""Mean score of a list that is at the optimum, which is 1 in every task."""
_LOOK = 200
"""Calls between two looks at the list."""
_OF_A_MODE = 28
"""Edits from a mode within which an object has found it, as published."""
CALLS, MEAN, MODES, THERE = "calls until the list is at the optimum", "mean of the list", "modes found", "runs that got there"
OURS_BY = "Recombination"
OURS, SCRATCH, HOUSE, TRUNCATION = "Narrows", "from scratch", "genetic algorithm", "truncation"
SAYS = prose("large")


class Task(NamedTuple):
    """A space and a score of it: tables of a job, of which `[reward] seed` is the run's."""

    env: dict[str, Any]
    reward: dict[str, Any]


TASKS: Final = {
    "Ehrlich": Task(
        {"name": "Sequence", "alphabet": "ACDEFGHIKLMNPQRSTVWY", "min_length": 32, "max_length": 32},
        {"name": "Ehrlich", "num_motifs": 4, "motif_length": 4, "quantization": 4, "beta": 16.0},
    ),
    "bits": Task({"name": "BitSequence", "num_bits": 120}, {"name": "BitModes", "beta": 128.0}),
}


@dataclass(frozen=True)
class Plan:
    """How much is measured: seeds, the budget of calls, and the calls after which the list is looked at."""

    seeds: tuple[int, ...]
    budget: int
    looks: tuple[int, ...]
    scratch_seeds: tuple[int, ...] = ()


FULL: Final = Plan(tuple(range(10)), 64_000, (10_000, 64_000), tuple(range(2)))
QUICK: Final = Plan((0,), 6_400, (3_200, 6_400))


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the tasks that were asked for; of those runs that there are when Ctrl-C ends the measuring."""
    asked, plan = chosen(context.cases, TASKS), QUICK if context.quick else FULL
    runs = [(seed, task, name) for seed in plan.seeds for task in asked for name in METHODS if seed in _seeds(plan, name)]
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    with workplace(context) as folder:
        try:
            # What is there already counts also where the measuring is ended soon; the control, which takes longest, comes last.
            for seed, task, name in sorted(runs, key=lambda one: (not _kept(folder, plan, *one).is_file(), one[2] == SCRATCH)):
                found.setdefault((task, name), {})[seed] = _outcome(folder, plan, seed, task, name)
        except KeyboardInterrupt:
            tell("stopped; the rows are of what is measured. With --data, the same command goes on.")
    for task in asked:
        yield from _rows(context, plan, task, {name: found[task, name] for name in METHODS if (task, name) in found})


def _seeds(plan: Plan, name: str) -> tuple[int, ...]:
    return plan.scratch_seeds if name == SCRATCH else plan.seeds


def _kept(folder: Path, plan: Plan, seed: int, task: str, name: str) -> Path:
    return folder / f"{task}-{name}-{seed}-{digest((plan.budget, plan.looks, dump_job(job_of(task, seed))))}.json"


def _outcome(folder: Path, plan: Plan, seed: int, task: str, name: str) -> dict[str, float]:
    """Return what a run comes to, found again where it was measured before."""

    def compute() -> dict[str, float]:
        outcome = outcome_of(METHODS[name](task, seed, plan.budget), task, seed, plan)
        tell(f"{task}, {name}, seed {seed}: {outcome}")
        return outcome

    return remembered(_kept(folder, plan, seed, task, name), compute)


def outcome_of(found: Found, task: str, seed: int, plan: Plan) -> dict[str, float]:
    """Return when the list was at the optimum, how good it was at each look, and of modes how many were found in all."""
    job = job_of(task, seed)
    distance, reward = build_env(job).distance, build_reward(job, build_env(job))
    reached = calls_until(found, distance)
    outcome = {CALLS: float(plan.budget if reached is None else reached), THERE: float(reached is not None)}
    outcome |= {f"{MEAN}, {calls}": mean_of_list(found, calls, distance) for calls in plan.looks}
    if isinstance(reward, BitModes):
        least = 1.0 - (_OF_A_MODE + 0.5) / reward.num_bits
        near = [text for text, score in zip(*found, strict=True) if score > least]
        outcome[MODES] = float(np.sum(EDITS.nearest(reward.modes, near).distance <= _OF_A_MODE)) if near else 0.0
    return outcome


def calls_until(found: Found, distance: AbstractDistance) -> int | None:
    """Return after how many calls the list was at the optimum, None where it never was."""
    num_good = np.cumsum(found.scores >= GOAL)
    for calls in range(_LOOK, len(found.scores) + _LOOK, _LOOK):
        calls = min(calls, len(found.scores))
        if num_good[calls - 1] >= K and mean_of_list(found, calls, distance) >= GOAL:
            return calls
    return None


def mean_of_list(found: Found, calls: int, distance: AbstractDistance) -> float:
    """Return the mean score of the list after so many calls; a row that it lacks counts as 0."""
    scores = found.scores[:calls]
    best = np.argsort(-scores, kind="stable")[:20_000]
    objects = [found.objects[place] for place in best.tolist()]
    kept = choose_diverse(objects, scores[best], k=K, min_distance=APART, distance=distance).kept
    return float(np.sum(scores[best][kept]) / K)


# --- the methods ---

_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "exploration": {"epsilon": 0.01},
    "replay": {"keep": "best", "capacity": 400, "batch_size": 64, "prioritised": True},
}


def job_of(task: str, seed: int, exploration: str = OURS_BY) -> Job:
    """Return the job of a task, whose seed is also that of its score."""
    about = TASKS[task]
    document = {
        **_SETTINGS,
        "seed": seed,
        "env": about.env,
        "reward": {**about.reward, "seed": seed},
        "exploration": {**_SETTINGS["exploration"], "name": exploration},
        "train": {"batch_size": 64, "every": 5},
    }
    return parse_job(document, Path())


def _trained(task: str, seed: int, budget: int, exploration: str = OURS_BY) -> Found:
    """Return what a run asks for until its list is at the optimum, or its budget is spent."""
    job = job_of(task, seed, exploration)
    parts, seen = build(job), {}
    trainer = parts.trainer(job)

    def look(chunk: Chunk) -> dict[str, int | float]:
        scores = np.asarray(chunk.info.log_reward, np.float64).reshape(-1) / parts.beta
        for text, score in zip(objects_of(chunk.info, parts.env), scores.tolist(), strict=True):
            seen.setdefault(text, score)
        return {}

    def is_over() -> bool:
        found = _found(seen, budget)
        is_there = np.sum(found.scores >= GOAL) >= K and mean_of_list(found, budget, parts.env.distance) >= GOAL
        return len(seen) >= budget or bool(is_there)

    # Objects that come twice are no calls, and a sampler that repeats itself for ever is stopped.
    most = 2 * budget // job.train.batch_size
    train(trainer, trainer.init(jax.random.key(seed)), most, every=job.train.every, observers=[look], should_stop=is_over)
    return _found(seen, budget)


def _found(seen: dict[str, float], budget: int) -> Found:
    return Found(tuple(seen)[:budget], np.array(list(seen.values())[:budget], np.float64))


def _problem(task: str, seed: int) -> Problem:
    job = job_of(task, seed)
    env = build_env(job)
    reward = build_reward(job, env)
    letters, lengths = ("01", (env.num_bits,) * 2) if isinstance(env, BitSequence) else ("", (0, 0))
    if isinstance(env, Sequence):
        letters, lengths = env.alphabet, (env.min_length, env.max_length)

    def score(texts: Texts[str]) -> Float[np.ndarray, " text"]:
        return scores_of_texts(reward, env, texts)

    return Problem(score, Space(letters, *lengths))


def _evolved(task: str, seed: int, budget: int) -> Found:
    return genetic_algorithm(_problem(task, seed), budget, seed)


def _truncated(task: str, seed: int, budget: int) -> Found:
    """Return what the plainest genetic algorithm asks for: 1,000 random objects, then children of the best 200."""
    problem, rng = _problem(task, seed), np.random.default_rng(seed)
    asked, space = Asked(problem, budget), problem.space
    population, scores, idle = [], np.zeros(0), 0
    children = space.write(space.drawn(rng, 1000))
    while not asked.is_spent and idle < 20:
        before = asked.num
        every = list(dict.fromkeys([*population, *children]))
        scores = asked(every)
        population = [every[place] for place in np.argsort(-scores, kind="stable")[:200].tolist()]
        first, second = (space.read(population)[rng.integers(0, len(population), 1000)] for _ in range(2))
        rows = crossed_at_a_point(rng, first, second, space, 1.0)
        anew = rng.random(rows.shape) < 1.5 / rows.shape[1]
        children = space.write(np.where(anew, space.drawn(rng, len(rows)), rows).astype(np.int32))
        idle = 0 if asked.num > before else idle + 1
    return asked.found()


METHODS: Final[dict[str, Callable[[str, int, int], Found]]] = {
    OURS: _trained,
    HOUSE: _evolved,
    TRUNCATION: _truncated,
    SCRATCH: functools.partial(_trained, exploration="FromScratch"),
}


# --- the rows and the page ---


def _rows(context: Context, plan: Plan, task: str, found: dict[str, dict[int, dict[str, float]]]) -> Iterator[Row]:
    def values(name: str, metric: str) -> list[float]:
        return [outcome[metric] for outcome in found[name].values()]

    rivals = [name for name in (HOUSE, TRUNCATION) if name in found]
    for name in found:
        case, seeds = f"large/{task}/{name}", tuple(found[name])
        best = min((float(np.median(values(rival, CALLS))) for rival in rivals), default=None)
        yield context.row(case, CALLS, values(name, CALLS), seeds=seeds)
        yield context.row(case, THERE, [float(np.sum(values(name, THERE)))])
        for metric in next(iter(found[name].values())):
            if metric not in (CALLS, THERE):
                yield context.row(case, metric, values(name, metric), seeds=seeds)
        if name == OURS and best is not None:
            ours = float(np.median(values(name, CALLS)))
            yield context.row(f"large/{task}", RATIO, [ours / best], target=Target("<", 1.0))


RATIO = "calls of Narrows to those of the better genetic algorithm, medians"


def tables(rows: Texts[Row]) -> str:
    """Return the section: a line a method, task by task."""
    found = Rows(rows)
    parts = []
    for task in dict.fromkeys(part_of(row.case, 1) for row in rows):
        cases = found.cases(f"large/{task}", 3)
        looks = dict.fromkeys(row.metric for row in rows if row.case in cases and row.metric.startswith(MEAN))
        columns = [
            ("method", lambda case: part_of(case, 2)),
            ("seeds", found.cell(CALLS, lambda row: str(len(row.seeds)))),
            (CALLS, found.cell(CALLS, counts)),
            (THERE, found.cell(THERE, plain, 2)),
            *((f"{look} calls", found.cell(look, plain)) for look in looks),
            (MODES, found.cell(MODES, counts)),
        ]
        told = [f"### {task}", lines(cases, columns, drops_empty=True)]
        ratio = found.get((f"large/{task}", RATIO))
        if ratio is not None:
            told.append(f"{RATIO[0].upper()}{RATIO[1:]}: {plain(ratio, 2)} (target {ratio.target}: {verdict(ratio)}).")
        parts += told
    return "\n\n".join(parts)


CASE = Case("Large spaces", SAYS["text"], measure, tables, "large_results", takes=("--case",))
