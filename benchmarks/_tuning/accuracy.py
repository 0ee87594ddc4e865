"""How well each method learns: tasks made of what every Python brings, on a small encoder that was really pre-trained."""

import importlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks._tuning import names
from benchmarks._tuning.corpus import Data, TaskName, data, sentences
from benchmarks._tuning.costs import Precision
from benchmarks._tuning.training import Job, Result, known_result, run
from benchmarks._tuning.variants import ACCURACY, FULL
from benchmarks.harness.intervals import of_mean
from benchmarks.harness.processes import side_by_side, tell
from benchmarks.harness.rows import Context, Row, Target

_SEEDS_ASKED = 3
AS_GOOD = Target(">=", 0.99)
ABOVE = Target(">", 0.0)
Key = TypeVar("Key")


class TaskPlan(NamedTuple):
    """A task."""

    name: TaskName  # of it
    epochs: int  # passes over its rows
    methods: tuple[str, ...]  # names
    precision: Precision = "fp32"  # of the layers

    @property
    def title(self) -> str:
        """What its results are called."""
        return self.name if self.precision == "fp32" else f"{self.name} in {self.precision}"


class Plan(NamedTuple):
    """What is trained, and on what."""

    tasks: tuple[TaskPlan, ...]  # each with its methods
    seeds: tuple[int, ...]  # of the task, the head, the order of rows
    # learning rates tried, on a split of its own, with one method of each family; the others take what was best there
    rates: dict[str, tuple[float, ...]]
    batch_size: int  # rows a step
    encoder: str | None  # folder; None for the package's


_ALL = tuple(ACCURACY)
_FAR, _LEARNER = "FAR_10 grad_l1", "Learner_64 p=2"
_LORA = "LoRA r=8, query and value (peft)"
RATES: dict[str, tuple[float, ...]] = {
    FULL: (5e-5, 1e-4, 2e-4),
    _FAR: (1e-4, 2e-4, 4e-4),
    "frozen feed-forwards": (1e-4, 2e-4, 4e-4),
    _LEARNER: (1e-4, 3e-4, 1e-3, 2e-3),
    _LORA: (5e-4, 1e-3, 2e-3, 4e-3),
    "BitFit": (1e-3, 2e-3, 4e-3, 1e-2),
    "head only": (1e-3, 3e-3, 1e-2),
}
_MAIN = (FULL, "FAR_10 l1_delta", _FAR, "FAR_10 random", _LEARNER, "frozen feed-forwards", _LORA, "head only")


def family(name: str) -> str:
    """Return the method whose learning rate a method takes: the one of its family that rates are tried with."""
    return _FAR if name.startswith("FAR") else _LEARNER if name.startswith("Learner") else name


FULL_PLAN = Plan(
    (
        TaskPlan("acceptability", 3, _ALL),
        TaskPlan("few", 15, _MAIN),
        TaskPlan("pairs", 3, _MAIN),
        TaskPlan("acceptability", 3, (FULL, _FAR, "FAR_10 frugal", _LEARNER), "bf16"),
    ),
    (0, 1, 2),
    RATES,
    16,
    None,
)


QUICK = Plan(
    (TaskPlan("few", 1, (FULL, "FAR_10 grad_l1", "head only")),),
    (0,),
    {name: rates[:1] for name, rates in RATES.items()},
    16,
    None,
)


def encoder_folder() -> str:
    """Return where the package keeps its encoder; ValueError, with what to do, where it is not installed."""
    try:
        package = importlib.import_module(names.PACKAGE)  # of this benchmark alone
    except ImportError as error:
        raise ValueError(f"{names.INSTALL}.") from error
    return str(package.get_model_path())


def accuracy_rows(context: Context, plan: Plan, folder: Path) -> Iterator[Row]:
    """Yield the chosen rates, then for each task the accuracy of each method, beside full fine-tuning."""
    encoder = encoder_folder() if plan.encoder is None else plan.encoder
    known = sentences()
    yield context.row("tuning/accuracy/corpus", names.SENTENCES, [len(known)])
    rates: dict[str, float] = {}
    for rate_row, name, rate in _chosen(context, plan, encoder, folder, data("acceptability", 100, known)):
        rates[name] = rate
        yield from rate_row
    for task in plan.tasks:
        made = {seed: data(task.name, seed, known) for seed in plan.seeds}
        jobs = {
            (name, seed): _job(task, name, rates[family(name)], seed, made[seed], plan, encoder)
            for name in task.methods
            for seed in plan.seeds
        }
        yield from _task_rows(context, plan, task, trained(jobs, folder))


def trained(jobs: dict[Key, Job], folder: Path) -> dict[Key, Result]:
    """Train what has not been trained yet, a process a core."""
    missing = [job for job in dict.fromkeys(jobs.values()) if known_result(job, folder) is None]
    if missing:
        with side_by_side([partial(run, job, folder) for job in missing]) as futures:
            for number, future in enumerate(futures, start=1):
                result = future.result()
                job = missing[number - 1]
                said = f"{number}/{len(missing)} {job.task} {job.method} {job.learning_rate:g} seed {job.seed}"
                tell(f"{said}: {result.accuracy:.3f} in {result.seconds:.0f} s")
    return {key: run(job, folder) for key, job in jobs.items()}


def _job(task: TaskPlan, name: str, rate: float, seed: int, made: Data, plan: Plan, encoder: str) -> Job:
    return Job(name, rate, seed, made.train, made.test, task.epochs, plan.batch_size, task.precision, encoder, task.title)


def _chosen(context: Context, plan: Plan, encoder: str, folder: Path, made: Data) -> Iterator[tuple[list[Row], str, float]]:
    """Choose each family's rate by the accuracy of one of its methods on rows that judge nothing else."""
    first = plan.tasks[0]
    methods = dict.fromkeys(family(name) for task in plan.tasks for name in task.methods)
    jobs = {
        (name, rate): Job(
            name, rate, 100, made.tune_train, made.tune_test, first.epochs, plan.batch_size, "fp32", encoder, "rates"
        )
        for name in methods
        for rate in plan.rates[name]
    }
    results = trained(jobs, folder)
    for name in methods:
        best = max(plan.rates[name], key=lambda rate, name=name: results[name, rate].accuracy)
        case = f"tuning/rates/{name}"
        found = [context.row(case, names.RATE, [best])]
        found += [context.row(f"{case}/{rate:g}", names.TUNED, [results[name, rate].accuracy]) for rate in plan.rates[name]]
        yield found, name, best


def _task_rows(context: Context, plan: Plan, task: TaskPlan, results: dict[tuple[str, int], Result]) -> Iterator[Row]:
    def of(name: str, field: Callable[[Result], float]) -> list[float]:
        return [field(results[name, seed]) for seed in plan.seeds]

    accuracy = {name: np.asarray(of(name, lambda result: result.accuracy)) for name in task.methods}
    full = accuracy[FULL]
    is_serious = len(plan.seeds) >= _SEEDS_ASKED
    for name in task.methods:
        case = f"tuning/accuracy/{task.title}/{name}"
        yield context.row(case, names.ACCURACY, accuracy[name].tolist(), seeds=plan.seeds)
        yield from _interval_rows(context, case, accuracy[name])
        yield context.row(case, names.CORRELATION, of(name, lambda result: result.correlation), seeds=plan.seeds)
        yield context.row(case, names.SECONDS, of(name, lambda result: result.seconds), unit="s", seeds=plan.seeds)
        yield context.row(case, names.TRAINED, [float(results[name, plan.seeds[0]].trained)])
        if name != FULL:
            is_asked = name in ("FAR_10 grad_l1", "Learner_64 p=2") and task.precision == "fp32" and is_serious
            ratio = float(accuracy[name].mean() / full.mean())
            yield context.row(case, names.RELATIVE, [ratio], target=AS_GOOD if is_asked else None)
        if "head only" in accuracy and name in ("FAR_10 grad_l1", "FAR_10 l1_delta", "FAR_10 random"):
            difference = (accuracy[name] - accuracy["head only"]).tolist()
            yield context.row(case, names.OVER_HEAD, difference, seeds=plan.seeds, target=ABOVE if is_serious else None)
    yield from _selection_rows(context, plan, task, accuracy)


def _selection_rows(context: Context, plan: Plan, task: TaskPlan, accuracy: dict[str, np.ndarray]) -> Iterator[Row]:
    """Yield what a choice of nodes is worth beside random ones, paired by seed."""
    for share, score in itertools.product(("FAR_5", "FAR_10"), ("grad_l1", "l1_delta")):
        name, control = f"{share} {score}", f"{share} random"
        if name in accuracy and control in accuracy:
            difference = accuracy[name] - accuracy[control]
            case = f"tuning/selection/{task.title}/{name}"
            yield context.row(case, names.OVER_RANDOM, difference.tolist(), seeds=plan.seeds)
            yield from _interval_rows(context, case, difference)


def _interval_rows(context: Context, case: str, values: np.ndarray) -> Iterator[Row]:
    _, low, high = of_mean(values)
    yield context.row(case, names.LOW, [low])
    yield context.row(case, names.HIGH, [high])
