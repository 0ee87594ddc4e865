"""Value prediction on tasks of MuJoCo: TD(0) beside its surrogates, by transitions, gradients, seconds (surrogate 6.3, 6.4)."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks._vi.mujoco_data import Search, Simulated, Task, simulated
from benchmarks._vi.mujoco_training import TD0, Curve, Data, Effort, Method, Setting, prepared, trained
from benchmarks.harness.rows import Context, Row, Target

ERROR: Final = "error after TD(0)'s gradient steps"
CHOSEN_RATE, CHOSEN_ETA = "learning rate chosen", "eta chosen"
REACHED: Final = "seeds that reach TD(0)'s last error"
TRANSITIONS, GRADIENTS, SECONDS = ("transitions to it", "gradient steps to it", "seconds to it")
SAVED, FASTER = "times fewer transitions than TD(0)", "times faster than TD(0)"
NOISE, REMAINING, MEAN, SHARE = "error of the true values", "share left out", "mean value", "episodes that ended"
_SPREADS: Final = "std of returns"


class Study(NamedTuple):
    """A network and the methods that train it."""

    name: str  # part of the rows' case
    tasks: tuple[str, ...]  # by name, of the plan
    methods: tuple[Method, ...]  # beside TD(0)
    rates: tuple[float, ...]  # of Adam, for every method
    etas: tuple[float, ...]  # for every surrogate
    effort: Effort  # of every run
    seeds: tuple[int, ...]  # of what is reported
    patience: int = 2  # how many times TD(0)'s gradient steps a surrogate may take to come down to its error


class Plan(NamedTuple):
    """What one run measures."""

    tasks: tuple[Task, ...]  # to simulate
    studies: tuple[Study, ...]  # on them
    tuning_seed: int  # of the runs that settings are chosen by; none of the reported seeds


class Runs(NamedTuple):
    """The reported runs of a method, one a seed, and the setting that was chosen for it."""

    method: Method
    setting: Setting
    curves: tuple[Curve, ...]


class Crossing(NamedTuple):
    """What it took a run to come down to an error; all of the run where it did not get there."""

    is_reached: bool
    transitions: int
    gradients: int
    seconds: float


def mujoco_rows(context: Context, plan: Plan, folder: Path) -> Iterator[Row]:
    """Yield the rows of a plan: what was simulated, then each study on each of its tasks.

    Args:
        context: of the run.
        plan: `FULL` or `QUICK`.
        folder: where simulations are kept and found again, in a folder `mujoco`.

    Raises ImportError where gymnasium or MuJoCo is missing.
    """
    for task in plan.tasks:
        found = simulated(task, folder / "mujoco")
        yield from _truth_rows(context, task, found)
        data = prepared(found.transitions, found.truth, task.discount)
        for study in plan.studies:
            if task.environment_id in study.tasks:
                yield from study_rows(context, f"vi/mujoco/{task.environment_id}/{study.name}", study, data, plan.tuning_seed)


def study_rows(context: Context, case: str, study: Study, data: Data, tuning_seed: int) -> Iterator[Row]:
    """Yield the rows of one study on one task."""
    usual, *others = measured(study, data, tuning_seed)
    finals, budget = [curve.final for curve in usual.curves], int(usual.curves[0].gradients[-1])
    base = [crossing(curve, final) for curve, final in zip(usual.curves, finals, strict=True)]
    for runs in (usual, *others):
        name = f"{case}/{runs.method.name}"
        crossings = [crossing(curve, final) for curve, final in zip(runs.curves, finals, strict=True)]
        yield context.row(name, CHOSEN_RATE, [runs.setting.learning_rate])
        if runs is not usual:
            yield context.row(name, CHOSEN_ETA, [runs.setting.step_size])
        yield context.row(
            name, ERROR, [_finite(curve.until(budget)) for curve in runs.curves], unit=_SPREADS, seeds=study.seeds
        )
        yield context.row(name, REACHED, [float(sum(one.is_reached for one in crossings))], unit=f"of {len(crossings)}")
        yield from _effort_rows(context, name, study.seeds, crossings, None if runs is usual else base)


def measured(study: Study, data: Data, tuning_seed: int) -> list[Runs]:
    """Return the runs of TD(0), then those of the other methods, each with the setting chosen on the tuning seed.

    The seeds are the outer loop, so that a machine that slows down for a while slows all methods down.
    """
    usual, tried = _usual_setting(study, data, tuning_seed)
    _check_converged(tried)
    settings = {method: _surrogate_setting(study, method, data, tuning_seed, tried.final) for method in study.methods}
    curves = {method: [] for method in (TD0, *study.methods)}
    for seed in study.seeds:
        base = trained(TD0, usual, data, study.effort, seed)
        _check_converged(base)
        curves[TD0].append(base)
        for method, setting in settings.items():
            # At least as long as TD(0), for what is left at equal compute; longer where that error is still to be reached.
            last, steps = base.final, study.effort.num_gradients
            most = study.patience * steps
            run = trained(method, setting, data, study.effort, seed, until=last, at_least=steps, at_most=most)
            curves[method].append(run)
    return [Runs(method, setting, tuple(curves[method])) for method, setting in {TD0: usual, **settings}.items()]


def crossing(curve: Curve, error: float) -> Crossing:
    """Return what it took a run to come down to an error."""
    place = curve.reaches(error)
    at = -1 if place is None else place
    return Crossing(place is not None, int(curve.transitions[at]), int(curve.gradients[at]), float(curve.seconds[at]))


def _check_converged(curve: Curve) -> None:
    if not curve.final < float("inf"):
        raise ValueError("TD(0) diverged, and there is no error to reach. Add a smaller learning rate to the study's rates.")


def _usual_setting(study: Study, data: Data, seed: int) -> tuple[Setting, Curve]:
    """Return TD(0)'s rate with the smallest final error, and its run: what the others are measured by is at its best."""
    found = {rate: trained(TD0, Setting(rate), data, study.effort, seed) for rate in study.rates}
    best = min(found, key=lambda rate: found[rate].final)
    return Setting(best), found[best]


def _surrogate_setting(study: Study, method: Method, data: Data, seed: int, error: float) -> Setting:
    """Return the setting that is the first at TD(0)'s final error; where none gets there, that with the smallest error."""
    best, rank = None, None
    for eta in study.etas:
        for rate in study.rates:
            curve = trained(method, Setting(rate, eta), data, study.effort, seed, until=error)
            found = crossing(curve, error)
            here = (not found.is_reached, found.gradients if found.is_reached else curve.final)
            if rank is None or here < rank:
                best, rank = Setting(rate, eta), here
    assert best is not None, "a study has rates and etas"
    return best


def _effort_rows(
    context: Context, name: str, seeds: Sequence[int], crossings: Sequence[Crossing], base: Sequence[Crossing] | None
) -> Iterator[Row]:
    """Yield what it took to reach TD(0)'s final error on the same seed, and beside TD(0) itself."""
    for metric, unit, place in ((TRANSITIONS, "", 1), (GRADIENTS, "", 2), (SECONDS, "s", 3)):
        values = [float(one[place]) for one in crossings]
        if base is None:
            yield context.row(name, metric, values, unit=unit, seeds=seeds)
        else:
            peer = statistics.median(float(one[place]) for one in base)
            yield context.row(name, metric, values, unit=unit, seeds=seeds, against="TD(0)", peer=peer)
    if base is None:
        return
    pairs = list(zip(crossings, base, strict=True))
    # A run that never gets there has saved nothing, however short it was.
    saved = [theirs.transitions / max(ours.transitions, 1) if ours.is_reached else 0.0 for ours, theirs in pairs]
    faster = [theirs.seconds / max(ours.seconds, 1e-9) if ours.is_reached else 0.0 for ours, theirs in pairs]
    yield context.row(name, SAVED, saved, unit="x", seeds=seeds, target=Target(">=", 3.0))
    yield context.row(name, FASTER, faster, unit="x", seeds=seeds, target=Target(">", 1.0))


def _truth_rows(context: Context, task: Task, found: Simulated) -> Iterator[Row]:
    """Yield what the true values are and how well they are known."""
    case, truth = f"vi/mujoco/{task.environment_id}/truth", found.truth
    spread = float(truth.returns.std())
    yield context.row(case, MEAN, [float(truth.value.mean())])
    yield context.row(case, _SPREADS, [spread])
    yield context.row(case, NOISE, [float((truth.standard_error**2).mean() ** 0.5) / spread], unit=_SPREADS)
    yield context.row(case, REMAINING, [task.remaining])
    yield context.row(case, SHARE, [float(found.transitions.is_terminal.mean())], unit="of transitions")


def _finite(curve: Curve) -> float:
    """Return a run's final error; of one that diverged the largest error that it was seen at while it was a number."""
    return curve.final if curve.final < float("inf") else float(max(error for error in curve.error if error < float("inf")))


_TASKS = ("HalfCheetah-v5", "Ant-v5")
_SEEDS = (0, 1, 2, 3, 4)


def _task(name: str, search: Search) -> Task:
    return Task(name, search, 400_000, num_states=200, num_rollouts=16, num_steps=450, discount=0.99)


def _effort(hidden: tuple[int, ...], batch: int, gradients: int, looks: int = 100) -> Effort:
    return Effort(hidden, batch, num_gradients=gradients, num_looks=looks, discount=0.99)


FULL: Final = Plan(
    tasks=(
        _task(_TASKS[0], Search(100, 16, 8, radius=0.1, rate=0.05, num_steps=200, bonus=0.0, noise=0.2)),
        _task(_TASKS[1], Search(60, 16, 8, radius=0.03, rate=0.015, num_steps=200, bonus=1.0, noise=0.2)),
    ),
    studies=(
        Study(
            *("2x256", _TASKS, (Method(5), Method(20)), (5e-4, 1e-3, 2e-3, 4e-3), (1.0, 0.6)),
            *(_effort((256, 256), 256, 6000), _SEEDS),
        ),
        # A surrogate asks more of a batch than one step does, so a larger one suits it; TD(0) spends more time on each.
        Study(
            *("2x256, batches of 512", _TASKS, (Method(5),), (1e-3, 2e-3, 4e-3, 8e-3), (1.0, 0.6)),
            *(_effort((256, 256), 512, 4000), _SEEDS),
        ),
        Study("16x64", _TASKS[:1], (Method(5),), (1e-3, 2e-3), (1.0,), _effort((64,) * 16, 256, 6000), (0, 1, 2)),
    ),
    tuning_seed=100,
)
_QUICK_SEARCH = Search(5, 4, 2, radius=0.1, rate=0.05, num_steps=100, bonus=0.0, noise=0.2)
QUICK: Final = Plan(
    tasks=(Task(_TASKS[0], _QUICK_SEARCH, 10_000, num_states=10, num_rollouts=4, num_steps=200, discount=0.99),),
    studies=(
        Study(
            *("2x64", _TASKS[:1], (Method(5), Method(20)), (1e-3, 3e-3), (1.0,), _effort((64, 64), 128, 2000, looks=20)),
            seeds=(0, 1),
        ),
    ),
    tuning_seed=100,
)
