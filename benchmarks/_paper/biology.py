"""The biological tasks: every method on a proxy of the published architecture, and the two controls of the best TGM."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks._games.training import workplace
from benchmarks._paper.controls import Control, control_job
from benchmarks._paper.plan import CONTROLS, GFN, MAIN_SHARE, PUBLISHED, SHARES, TGMS, Plan, Size
from benchmarks._paper.trainings import TASKS, Outcome, Tuned, method_job, proxy_job
from benchmarks._robustness.methods import CHOSEN, ENTROPY, control_name
from benchmarks._robustness.reporting import NATS, OFF
from benchmarks._stochastic.workers import side_by_side
from benchmarks.rows import Context, Row

SCORE, KEPT, TRUE = "score Phi of the kept", "kept", "true score of the kept"
BEST = "average mode reward"
TAKEN = ("beta taken", "learning rate taken")
Q_TAKEN = "q taken"
OVER_GRID = "average mode reward over the grid"
AHEAD = "average mode reward, difference"
RANKS, HIGHEST = "rank agreement on held-out rows", "highest reward of held-out rows"


class Contest(NamedTuple):
    """What is compared on a task.

    Attributes:
        each: every method, tuned.
        best: the name of the TGM whose q does best on the seed that chooses; None where no TGM was asked for.
        controls: of that TGM, for each seed that is reported; none without a GFlowNet to make them of.
    """

    each: dict[str, Tuned]
    best: str | None
    controls: list[dict[str, Control]]


def reward_at(share: float) -> str:
    """Return what the average mode reward is called at a least distance."""
    return f"{BEST}, {share:.0%} apart"


def biology_rows(context: Context, plan: Plan) -> Iterator[Row]:
    """Yield, task by task, what the proxy knows and what every method's shortlist is worth to it and to the truth."""
    with workplace(context) as folder:
        with side_by_side([functools.partial(proxy_job, size, folder) for size in plan.sizes]) as futures:
            facts = {size: future.result() for size, future in zip(plan.sizes, futures, strict=True)}
        # The longest objects first, so that no core is left with them in the end.
        order = sorted(plan.sizes, key=lambda size: -TASKS[size.name].max_length)
        asks = [(size, name) for size in order for name in plan.methods]
        with side_by_side([functools.partial(method_job, plan, folder, *ask) for ask in asks]) as futures:
            found = {ask: future.result() for ask, future in zip(asks, futures, strict=True)}
        contests = {size: Contest(each := _of(found, plan, size), chosen(each), []) for size in order}
        tasks = {
            (size, seed): functools.partial(
                control_job, plan, folder, size, contest.best, contest.each[contest.best], contest.each[GFN], seed
            )
            for size, contest in contests.items()
            if contest.best is not None and GFN in contest.each
            for seed in plan.seeds
        }
        with side_by_side(list(tasks.values())) as futures:
            for (size, _), future in zip(tasks, futures, strict=True):
                contests[size].controls.append(future.result())
        for size in plan.sizes:
            yield from _task_rows(context, plan, size, facts[size], contests[size])


def chosen(each: dict[str, Tuned]) -> str | None:
    """Return the name of the TGM that does best on the seed that chooses."""
    return max((name for name in each if name in TGMS), key=lambda name: each[name].chosen, default=None)


def _of(found: dict[tuple[Size, str], Tuned], plan: Plan, size: Size) -> dict[str, Tuned]:
    return {name: found[size, name] for name in plan.methods}


def _task_rows(context: Context, plan: Plan, size: Size, facts: dict[str, Any], contest: Contest) -> Iterator[Row]:
    head = f"paper/biology/{size.name}"
    if facts["ranks"] is not None:
        yield context.row(f"{head}/proxy", RANKS, [facts["ranks"]])
    yield context.row(f"{head}/proxy", HIGHEST, [facts["highest"]])
    published = PUBLISHED[size.name] if facts["is_published"] else {}
    for name, tuned in contest.each.items():
        yield from _outcome_rows(context, plan, f"{head}/{name}", tuned.found, published.get(name))
        for metric, value in zip(TAKEN, tuned.best, strict=True):
            yield context.row(f"{head}/{name}", metric, [value])
        yield _grid_row(context, f"{head}/{name}", tuned)
    if contest.best is None:
        return
    ours = contest.each[contest.best].found
    yield from _outcome_rows(context, plan, f"{head}/{CHOSEN}", ours, published.get(CHOSEN))
    yield context.row(f"{head}/{CHOSEN}", Q_TAKEN, [TGMS[contest.best]])
    rivals = {name: tuned.found for name, tuned in contest.each.items() if name not in TGMS}
    for control in CONTROLS if contest.controls else ():
        name, of = control_name(control, CHOSEN), [by_control[control] for by_control in contest.controls]
        rivals[name] = [one.outcome for one in of]
        yield from _outcome_rows(context, plan, f"{head}/{name}", rivals[name], None)
        yield context.row(f"{head}/{name}", TAKEN[0], [one.beta for one in of], seeds=plan.seeds)
        if control == ENTROPY:
            off = [abs(one.outcome.entropy - wanted.entropy) for one, wanted in zip(of, ours, strict=True)]
            yield context.row(f"{head}/{name}", OFF, off, unit="nat", seeds=plan.seeds)
    for name, others in rivals.items():
        ahead = [one.rewards[MAIN_SHARE] - other.rewards[MAIN_SHARE] for one, other in zip(ours, others, strict=True)]
        yield context.row(f"{head}/{CHOSEN} less {name}", AHEAD, ahead, seeds=plan.seeds)


def _outcome_rows(context: Context, plan: Plan, case: str, found: Sequence[Outcome], published: float | None) -> Iterator[Row]:
    for place, share in enumerate(SHARES):
        peer = published if place == MAIN_SHARE else None
        against = None if peer is None else "published"
        values = [one.rewards[place] for one in found]
        yield context.row(case, reward_at(share), values, seeds=plan.seeds, against=against, peer=peer)
    yield context.row(case, SCORE, [one.scores[MAIN_SHARE] for one in found], seeds=plan.seeds)
    yield context.row(case, KEPT, [float(one.kept[MAIN_SHARE]) for one in found], seeds=plan.seeds)
    true = [one.true for one in found if one.true is not None]
    if len(true) == len(found):
        yield context.row(case, TRUE, true, seeds=plan.seeds)
    yield context.row(case, NATS, [one.entropy for one in found], unit="nat", seeds=plan.seeds)


def _grid_row(context: Context, case: str, tuned: Tuned) -> Row:
    grid = [one.rewards[MAIN_SHARE] for one in tuned.grid.values()]
    row = context.row(case, OVER_GRID, [float(np.median(grid))])
    low, high = (context.row(case, OVER_GRID, [end]).value for end in (min(grid), max(grid)))
    return replace(row, low=low, high=high)
