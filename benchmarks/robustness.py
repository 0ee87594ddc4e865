"""Whose shortlist is better when the score is wrong: TGM, its controls and other methods, on proxies made to be wrong."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks._robustness import controls, jobs
from benchmarks._robustness.plan import FULL, GFLOWNET, METHODS, QUICK, TGMS, TWINS, Place, Plan, controlled_by
from benchmarks._robustness.reporting import Scores, grid_rows, overall_rows, proxy_rows, task_rows
from benchmarks._robustness.tables import PICTURE, SAYS, draw, tables
from benchmarks._robustness.tasks import FAMILIES, present
from benchmarks.harness.case import Case, chosen
from benchmarks.harness.places import TFBIND8, workplace
from benchmarks.harness.processes import done
from benchmarks.harness.rows import Context, Row

Trained = dict[str, Sequence[Sequence[jobs.Outcome]]]


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the families of tasks that were asked for; ValueError for an unknown one."""
    yield from measure_tasks(context, QUICK if context.quick else FULL)


def measure_tasks(context: Context, plan: Plan) -> Iterator[Row]:
    """Yield the rows of a plan: scores and differences of each task, how wrong its proxies are, and last over all tasks."""
    asked = [name for family in chosen(context.cases, FAMILIES) for name in plan.of_family(family)]
    tables_at = TFBIND8 if context.data is None or not any(context.data.glob("*_8mers.txt")) else context.data
    names = present(asked, tables_at)
    if not names:
        raise ValueError("nothing that was asked for can be measured here. What is missing is told above.")
    with workplace(context) as folder:
        each = []
        found, by_task = _found(plan, Place(Path(tables_at), folder), names)
        for scores, doubts in found.values():
            each.append(scores)
            yield from task_rows(context, scores)
            yield from proxy_rows(context, scores, doubts)
        if len(each) > 1:
            yield from overall_rows(context, each)
        yield from grid_rows(context, plan, by_task)


def _found(plan: Plan, place: Place, names: Sequence[str]) -> tuple[dict[str, tuple[Scores, Any]], Trained]:
    """Return of each task what counts and how wrong its proxies are, and everything that was trained but controls.

    Three rounds of jobs, each on what came before.
    """
    doubts = dict(zip(names, done([functools.partial(jobs.proxy_job, plan, place, name) for name in names]), strict=True))
    kinds = [method.name for method in METHODS]
    # The longest objects first, so that no core is left with them in the end.
    order = sorted(names, key=lambda name: name != "ehrlich/long")
    trained = done(
        [functools.partial(jobs.method_job, plan, place, name, kind) for name in order for kind in kinds]
        + [functools.partial(jobs.random_job, plan, place, name) for name in order]
    )
    by_task: Trained = {
        name: [*trained[row * len(kinds) : (row + 1) * len(kinds)], trained[len(order) * len(kinds) + row]]
        for row, name in enumerate(order)
    }
    tuned = {name: controls.summarised(plan, by_task[name]) for name in names}
    pairs = [(name, twin) for name in names for twin in TWINS]
    last: list[Callable[[], Any]] = []
    for name, twin in pairs:
        each, best = tuned[name]
        ours = [one for one in each if one.outcome.method in controlled_by(twin)]
        ours += [one for one in best if one.outcome.method in controlled_by(twin) and one not in ours]
        plain = by_task[name][kinds.index(twin)]
        last.append(functools.partial(controls.control_job, plan, place, name, ours, plain))
    listed = [name for name in names if name.startswith("tfbind8")]
    for name in listed:
        solved = [one for one in tuned[name][0] if one.outcome.method in {GFLOWNET, *(one.name for one in TGMS)}]
        last.append(functools.partial(controls.exact_job, plan, place, name, solved))
    finished = done(last)
    exact = dict(zip(listed, finished[len(pairs) :], strict=True))
    found = {}
    for name in names:
        each, best = tuned[name]
        matched = [one for pair, ones in zip(pairs, finished, strict=False) if pair[0] == name for one in ones]
        renamed = controls.with_chosen_controls([*matched, *(one.outcome for one in each)], best)
        outcomes = [*(one.outcome for one in each), *renamed, *matched, *exact.get(name, [])]
        found[name] = (Scores.of(plan, name, outcomes), doubts[name])
    return found, by_task


CASE = Case(
    *("When the score is wrong", SAYS["text"], measure, tables, "robustness_results", {PICTURE: draw}), takes=("--case",)
)
