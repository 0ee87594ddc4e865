"""From trainings to rows: scores and differences with bootstrap intervals, and how wrong the proxies are."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks._laws import CHOSEN, ENTROPY, NATS, OFF, TEMPERATURE, control_name
from benchmarks._robustness.controls import EXACT
from benchmarks._robustness.jobs import Doubts, Outcome
from benchmarks._robustness.plan import GFLOWNET, LAGGED, METHODS, RANDOM, TGMS, VALUED, Plan
from benchmarks._robustness.proxies import ENTRIES, Wrongness
from benchmarks._robustness.selection import DRAWN, GREEDY, RULES
from benchmarks.harness.intervals import Interval, bootstrap
from benchmarks.harness.rows import Context, Row, Target

SCORE, BY_PROXY, IN_ORDER = "true score", "true score, by the proxy", "true score, in order"
DIVERSITY, NOVELTY = "diversity", "novelty"
BEST, PROXY, FEASIBLE, KEPT, STEPS = "best true score", "proxy's score", "feasible", "kept", "training steps"
AHEAD = "difference of true scores"
POOLED = "all levels"
GRID, OVER_GRID = "whole grid", "true score over the grid"
EVERYWHERE = "all tasks"
WRONG = ("rank correlation", "error", "coverage", "sharpness", "distance from the data")
CORRELATION = WRONG[0]
SUBJECTS = ("random objects", "the nearest third", "the farthest third", "visited objects")
OWN = (VALUED, LAGGED)
"""What was added to find out what helps; no baselines."""
RIVALS = tuple(method.name for method in METHODS if method.q is None and method.name not in OWN)
OURS = (LAGGED, CHOSEN, *(method.name for method in TGMS))
JUDGED = (LAGGED, CHOSEN)
"""What is held to be at or above everything."""
CONTROLS = tuple(control_name(control, name) for name in JUDGED for control in (TEMPERATURE, ENTROPY))
_SHOWN = (*RIVALS, RANDOM, *OWN[:-1], *OURS, *CONTROLS)
"""Of which every level gets rows; the others get those over all levels."""
assert len(WRONG) == len(Wrongness._fields)


class Scores(NamedTuple):
    """All trainings that count, one a method, level and seed, of one task."""

    plan: Plan
    task: str
    found: dict[tuple[str, str, int], Outcome]

    @classmethod
    def of(cls, plan: Plan, task: str, outcomes: Sequence[Outcome]) -> "Scores":
        """Return the trainings by method, level and seed."""
        return cls(plan, task, {(one.method, one.level, one.seed): one for one in outcomes})

    @property
    def methods(self) -> list[str]:
        """The methods, in the order in which they came."""
        return list(dict.fromkeys(method for method, _, _ in self.found))

    def outcomes(self, method: str, level: str) -> list[Outcome]:
        """Return one training a seed."""
        return [self.found[method, level, seed] for seed in self.plan.seeds]

    def table(self, method: str, rule: str = RULES[0]) -> Float[np.ndarray, "level seed"]:
        """Return the true scores of a method's shortlists."""
        levels = [str(level) for level in self.plan.levels]
        return np.array([[one.worth[rule].mean for one in self.outcomes(method, level)] for level in levels])


def task_rows(context: Context, scores: Scores) -> Iterator[Row]:
    """Yield what every method's shortlists are worth on one task, level by level and over all."""
    levels = [str(level) for level in scores.plan.levels]
    for method in scores.methods:
        table = scores.table(method)
        for place, level in enumerate(levels):
            if method in _SHOWN:
                case = f"robustness/{scores.task}/{level}/{method}"
                yield context.interval_row(case, SCORE, bootstrap(table[place : place + 1]))
        yield from _pooled_rows(context, f"robustness/{scores.task}/{POOLED}/{method}", scores, method, levels)
    yield from _difference_rows(context, [scores])


def overall_rows(context: Context, each: Sequence[Scores]) -> Iterator[Row]:
    """Yield the scores of every method that all tasks have, and the differences, over all tasks."""
    for method in each[0].methods:
        if all(method in scores.methods for scores in each):
            table = np.stack([scores.table(method).mean(axis=0) for scores in each])
            case = f"robustness/{EVERYWHERE}/{POOLED}/{method}"
            yield context.interval_row(case, SCORE, bootstrap(table))
            for metric, rule in ((BY_PROXY, GREEDY), (IN_ORDER, DRAWN)):
                table = np.stack([scores.table(method, rule).mean(axis=0) for scores in each])
                yield context.interval_row(case, metric, bootstrap(table))
    yield from _difference_rows(context, each)


def grid_rows(context: Context, plan: Plan, by_task: dict[str, Sequence[Sequence[Outcome]]]) -> Iterator[Row]:
    """Yield how much a method depends on its settings: the median and the ends over the grid of exponents and stops.

    Each setting counts by its mean over levels and seeds, and in the end over tasks.

    Args:
        context, plan: as for every row.
        by_task: of each task, the trainings of each method.
    """
    tables: dict[str, list[list[float]]] = {}
    for task, methods in by_task.items():
        for found in methods:
            scores: dict[tuple[float, int], list[float]] = {}
            for one in found:
                if one.beta in plan.betas:
                    scores.setdefault((one.beta, one.stop), []).append(one.worth[RULES[0]].mean)
            if scores:
                means = [float(np.mean(values)) for _, values in sorted(scores.items())]
                tables.setdefault(found[0].method, []).append(means)
                yield _grid_row(context, task, found[0].method, means)
    if len(by_task) > 1:
        for method, each in tables.items():
            yield _grid_row(context, EVERYWHERE, method, np.mean(each, axis=0).tolist())


def proxy_rows(context: Context, scores: Scores, doubts: dict[tuple[int, int], Doubts]) -> Iterator[Row]:
    """Yield how wrong the proxies of a task are: about random objects, and about what a GFlowNet draws."""
    plan = scores.plan
    for level in plan.levels:
        about = [list(parts) for parts in zip(*(doubts[level.size, seed] for seed in plan.seeds), strict=True)]
        about.append([seen for one in scores.outcomes(GFLOWNET, str(level)) if (seen := one.seen) is not None])
        for subject, found in zip(SUBJECTS, about, strict=True):
            # How a proxy enters changes what a search visits, and nothing of what it says of the others.
            if subject != SUBJECTS[-1] and level.entry != ENTRIES[0]:
                continue
            for place, metric in enumerate(WRONG):
                case = f"robustness/{scores.task}/{level}/proxy/{subject}"
                yield context.row(case, metric, [one[place] for one in found], seeds=plan.seeds)


def _pooled_rows(context: Context, case: str, scores: Scores, method: str, levels: Sequence[str]) -> Iterator[Row]:
    """Yield the rows over all levels; a seed's value is the mean over them."""
    seeds = scores.plan.seeds
    yield context.interval_row(case, SCORE, bootstrap(scores.table(method).mean(axis=0)[None]))
    if method.startswith(EXACT):
        return
    found = [[scores.found[method, level, seed] for level in levels] for seed in seeds]

    def row(metric: str, rule: str, field: str, unit: str = "") -> Row:
        values = [float(np.mean([getattr(one.worth[rule], field) for one in of_seed])) for of_seed in found]
        return context.row(case, metric, values, unit=unit, seeds=seeds)

    yield row(BY_PROXY, GREEDY, "mean")
    yield row(IN_ORDER, DRAWN, "mean")
    yield row(BEST, RULES[0], "best")
    yield row(PROXY, RULES[0], "proxy")
    yield row(DIVERSITY, RULES[0], "diversity", "edits")
    yield row(NOVELTY, RULES[0], "novelty", "edits")
    yield row(FEASIBLE, RULES[0], "feasible")
    yield row(KEPT, RULES[0], "kept")
    yield context.row(case, STEPS, [float(np.mean([one.stop for one in of])) for of in found], seeds=seeds)
    yield context.row(case, NATS, [float(np.mean([one.entropy for one in of])) for of in found], unit="nat", seeds=seeds)
    if all(one.target is not None for of in found for one in of):
        off = [float(np.mean([abs(one.entropy - (one.target or 0.0)) for one in of])) for of in found]
        yield context.row(case, OFF, off, unit="nat", seeds=seeds)


def _difference_rows(context: Context, each: Sequence[Scores]) -> Iterator[Row]:
    """Yield each TGM less the GFlowNet and its own controls; the lagged one and the one whose q was chosen less all."""
    task = each[0].task if len(each) == 1 else EVERYWHERE
    for ours in OURS:
        controls = (control_name(TEMPERATURE, ours), control_name(ENTROPY, ours))
        rivals = (*RIVALS, RANDOM) if ours in JUDGED else RIVALS[:1]
        others = (CHOSEN, VALUED) if ours == LAGGED else ()
        for rival in (*rivals, *controls, *others):
            gaps = np.stack([scores.table(ours) - scores.table(rival) for scores in each])
            case = f"robustness/{task}/{POOLED}/{ours} less {rival}"
            # To be at or above every rival and control is what the benchmark was built to ask.
            target = Target(">=", 0.0) if ours in JUDGED and rival not in others else None
            yield context.interval_row(case, AHEAD, bootstrap(gaps.mean(axis=1)), target)
            if ours in JUDGED:
                for place, level in enumerate(each[0].plan.levels):
                    case = f"robustness/{task}/{level}/{ours} less {rival}"
                    wrongest = target if task == EVERYWHERE and place == 0 else None
                    yield context.interval_row(case, AHEAD, bootstrap(gaps[:, place]), wrongest)


def _grid_row(context: Context, task: str, method: str, means: Sequence[float]) -> Row:
    found = Interval(float(np.median(means)), min(means), max(means))
    return context.interval_row(f"robustness/{task}/{GRID}/{method}", OVER_GRID, found)
