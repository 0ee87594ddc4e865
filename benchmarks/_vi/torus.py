"""Value prediction on the torus: transitions, gradient steps and seconds to an error, for TD(0) and for surrogates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from benchmarks._vi.torus_training import BATCH, CHECK_EVERY, OPTIMIZERS, Method, Trained, seconds_of, side_by_side, train
from benchmarks.rows import Context, Row, Target

LEVELS = (8.0, 6.0, 4.0)
AT = LEVELS[1]
SAMPLES = tuple(f"samples to RMSE {level:g}" for level in LEVELS)
GRADIENTS, SECONDS, TIME = f"gradient steps to RMSE {AT:g}", f"seconds to RMSE {AT:g}", "time an outer step"
REACHED, RATE, RMSE, LATE = f"share of seeds that reach RMSE {AT:g}", "learning rate", "RMSE", "late RMSE"
SAVED, SAVED_EACH = "how many times fewer samples than TD(0)", "how many times fewer samples than TD(0), seed by seed"
COST = "gradient steps to those of TD(0)"
LATE_RATIO = "late RMSE to that at eta = 1"
MANY, NO_MORE, LOWER = Target(">=", 20.0), Target("<=", 1.0), Target("<", 1.0)
TUNED = "tuned"

SPECIFIED: Final = {
    ("Adam", 1): (1820, 2720, 4480),
    ("Adam", 5): (320, 450, 680),
    ("Adam", 20): (80, 110, 160),
    ("Adam", 50): (60, 80, 160),
    ("SGD", 1): (1650, 1970, 2640),
    ("SGD", 5): (320, 420, 540),
    ("SGD", 20): (80, 100, 160),
    ("SGD", 50): (60, 80, 160),
}
"""Outer steps to the errors, medians of 5 seeds of an independent program (surrogate 6.4)."""


LATE_SPECIFIED: Final = {1: 1.9, 5: 3.2, 20: 4.1, 50: 5.2}
"""The error late in trainings with SGD, by inner steps."""
ETA_SPECIFIED: Final = {1.0: 4.0, 0.3: 2.6, 0.1: 1.8}
"""The error late in trainings with Adam and 20 inner steps, by eta."""


class Effort(NamedTuple):
    """How much is trained.

    Args:
        seeds: that are reported.
        tuning_seeds: on which learning rates are chosen.
        optimizers: inside.
        inner_steps: of the surrogates.
        gradient_steps: of a training at the specification's learning rates, and of one for the choice or at the chosen rate.
        grids: learning rates to choose from, the same for all methods of an optimiser; empty for no choice.
        step_sizes: eta, tried with Adam and 20 inner steps for so many outer steps.
        step_size_outer: outer steps of these.
        windows: timed windows of each method.
        points: of a curve in the picture.
    """

    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    optimizers: tuple[str, ...]
    inner_steps: tuple[int, ...]
    gradient_steps: tuple[int, int]
    grids: dict[str, tuple[float, ...]]
    step_sizes: tuple[float, ...]
    step_size_outer: int
    windows: int
    points: int


_GRIDS = {"Adam": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), "SGD": (3e-3, 1e-2, 3e-2, 0.1, 0.3)}
FULL = Effort(
    seeds=(0, 1, 2, 3, 4),
    tuning_seeds=(100, 101),
    optimizers=("Adam", "SGD"),
    inner_steps=(1, 5, 20, 50),
    gradient_steps=(20_000, 6000),
    grids=_GRIDS,
    step_sizes=(1.0, 0.3, 0.1),
    step_size_outer=2000,
    windows=9,
    points=16,
)
QUICK = Effort((0, 1), (100,), ("Adam",), (20,), (3000, 3000), {"Adam": (1e-3, 1e-2)}, (), 0, 3, 8)


def torus_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield what all methods need at the specification's learning rates and at chosen ones, and the effect of eta."""
    for optimizer in effort.optimizers:
        methods = [Method(None), *map(Method, effort.inner_steps)]
        seconds = seconds_of(optimizer, methods, effort.windows)
        given = OPTIMIZERS[optimizer][1]
        plain = [train(one, optimizer, given, effort.seeds, effort.gradient_steps[0]) for one in methods]
        yield from comparison_rows(context, f"vi/torus/{optimizer} {given:g}", plain, seconds, effort.points, optimizer)
        if optimizer in effort.grids:
            best = [_best(one, optimizer, effort) for one in methods]
            yield from comparison_rows(context, f"vi/torus/{optimizer} {TUNED}", best, seconds, effort.points)
    if effort.step_sizes:
        yield from _eta_rows(context, effort)


def comparison_rows(
    context: Context,
    case: str,
    trained: Sequence[Trained],
    seconds: Mapping[str, Sequence[float]],
    points: int,
    specified: str | None = None,
) -> Iterator[Row]:
    """Yield the rows of trainings with one optimiser, TD(0) first.

    Args:
        context: of the run.
        case: that all rows begin with.
        trained: of each method.
        seconds: that an outer step of each takes, a number a window.
        points: of a curve.
        specified: the optimiser whose figures in the specification belong to these; None for none.
    """
    base = trained[0]
    for one in trained:
        of = f"{case}/{one.method.name}"
        yield context.row(of, RATE, [one.rate])
        yield context.row(of, TIME, [1e3 * each for each in seconds[one.method.name]], unit="ms", windows=True)
        yield from _reach_rows(context, of, one, seconds[one.method.name], specified)
        late = np.mean(one.errors[:, -max(1, one.errors.shape[1] // 10) :], 1)
        if np.isfinite(late).all():
            known = LATE_SPECIFIED.get(one.method.gradients) if specified == "SGD" else None
            against = None if known is None else "specification"
            yield context.row(of, LATE, late.tolist(), seeds=one.seeds, against=against, peer=known)
        if one is not base and one.method.gradients > 1:
            yield from _saving_rows(context, of, base, one)
        yield from _curve_rows(context, of, one, points)


def _reach_rows(context: Context, case: str, one: Trained, seconds: Sequence[float], specified: str | None) -> Iterator[Row]:
    known = None if specified is None else SPECIFIED.get((specified, one.method.gradients))
    for place, (metric, level) in enumerate(zip(SAMPLES, LEVELS, strict=True)):
        reached = [count for count in one.hits(level) if count is not None]
        if level == AT:
            yield context.row(case, REACHED, [len(reached) / len(one.seeds)])
        if len(reached) < len(one.seeds):
            continue
        against, peer = (None, None) if known is None else ("specification", float(BATCH * known[place]))
        samples = [float(BATCH * count) for count in reached]
        yield context.row(case, metric, samples, seeds=one.seeds, against=against, peer=peer)
        if level == AT:
            yield context.row(case, GRADIENTS, [float(one.method.gradients * count) for count in reached], seeds=one.seeds)
            count = float(np.median(reached))
            yield context.row(case, SECONDS, [count * each for each in seconds], unit="s", windows=True)


def _saving_rows(context: Context, case: str, base: Trained, one: Trained) -> Iterator[Row]:
    """Yield by how much a surrogate's medians are below those of TD(0).

    A training of TD(0) that never arrives counts as all of its steps, and a surrogate that does not has saved nothing.
    """
    ends = [CHECK_EVERY * (each.errors.shape[1] - 1) for each in (base, one)]
    theirs = [ends[0] if count is None else count for count in base.hits(AT)]
    ours, arrives = [ends[1] if count is None else count for count in one.hits(AT)], [c is not None for c in one.hits(AT)]
    their, our = float(np.median(theirs)), float(np.median(ours))
    asked = one.method.inner_steps == 20
    saved = their / our if 2 * sum(arrives) > len(arrives) else 0.0
    yield context.row(case, SAVED, [saved], target=MANY if asked else None)
    cost = one.method.gradients * our / (base.method.gradients * their)
    yield context.row(case, COST, [cost], target=NO_MORE if asked else None)
    each = [one / two if is_there else 0.0 for one, two, is_there in zip(theirs, ours, arrives, strict=True)]
    yield context.row(case, SAVED_EACH, each, seeds=one.seeds)


def _curve_rows(context: Context, case: str, one: Trained, points: int) -> Iterator[Row]:
    """Yield the error at times that are evenly spaced in the logarithm."""
    last = one.errors.shape[1] - 1
    for check in np.unique(np.geomspace(1, last, points).round().astype(int)):
        values = one.errors[:, check]
        if np.isfinite(values).all():
            yield context.row(f"{case}/after {CHECK_EVERY * check}", RMSE, values.tolist(), seeds=one.seeds)


def _eta_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield what a lower eta does to the error that is left late, and to the way there."""
    method, rate = Method(20), OPTIMIZERS["Adam"][1]
    first = None
    for eta in effort.step_sizes:
        found = train(method, "Adam", rate, effort.seeds, method.gradients * effort.step_size_outer, eta)
        case = f"vi/torus/eta/eta = {eta:g}"
        late = np.mean(found.errors[:, -max(1, found.errors.shape[1] // 10) :], 1)
        known = ETA_SPECIFIED.get(eta)
        against = None if known is None else "specification"
        yield context.row(case, LATE, late.tolist(), seeds=found.seeds, against=against, peer=known)
        reached = [float(BATCH * count) for count in found.hits(AT) if count is not None]
        if len(reached) == len(found.seeds):
            yield context.row(case, SAMPLES[1], reached, seeds=found.seeds)
        first = late if first is None else first
        if late is not first:
            ratios = [float(one / two) for one, two in zip(late, first, strict=True)]
            yield context.row(case, LATE_RATIO, ratios, seeds=found.seeds, target=LOWER)


def _best(method: Method, optimizer: str, effort: Effort) -> Trained:
    """Return the trainings at the learning rate with the fewest samples to RMSE 6 on other seeds."""
    steps, seeds = effort.gradient_steps[1], effort.tuning_seeds
    trials = side_by_side(method, optimizer, effort.grids[optimizer], seeds, steps)

    def badness(one: Trained) -> tuple[float, float]:
        counts = [np.inf if count is None else count for count in one.hits(AT)]
        # A tie is decided by how far the training came on the way.
        return float(np.median(counts)), float(np.median(np.nan_to_num(one.errors, nan=np.inf).min(1)))

    return train(method, optimizer, min(trials, key=badness).rate, effort.seeds, steps)
