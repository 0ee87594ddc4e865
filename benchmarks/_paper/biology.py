"""The biological tasks: every method on a proxy of the published architecture, and two controls of the best TGM (tgm 6.4)."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._laws import CHOSEN, ENTROPY, NATS, OFF, TEMPERATURE, control_name, matching_beta
from benchmarks._paper.plan import CONTROLS, GFN, MAIN_SHARE, PUBLISHED, SHARES, TGMS, Plan, Size, temperature_factor
from benchmarks._paper.trainings import TASKS, Outcome, Setting, Tuned, method_job, proxy_job, trained
from benchmarks.harness.intervals import Interval
from benchmarks.harness.places import workplace
from benchmarks.harness.processes import done
from benchmarks.harness.rows import Context, Row


class Control(NamedTuple):
    """A GFlowNet that stands beside a TGM, and the exponent that it was given for it."""

    beta: float
    outcome: Outcome


def control_job(plan: Plan, folder: Path, size: Size, name: str, ours: Tuned, plain: Tuned, seed: int) -> dict[str, Control]:
    """Return the controls of a TGM on one of the seeds that are reported, by what they match.

    Args:
        plan, folder, size: as for every training.
        name: of the TGM.
        ours: what it came to.
        plain: what the GFlowNet came to; the controls learn at its rate.
        seed: one of the plan's.
    """
    place = plan.seeds.index(seed)

    def gflownet(beta: float) -> Control:
        return Control(beta, trained(plan, folder, size, GFN, Setting(beta, plain.best.rate), seed))

    wanted = ours.found[place].entropy
    even = gflownet(ours.best.beta * temperature_factor(TGMS[name]))
    known = [even, Control(plain.best.beta, plain.found[place])]
    # What the exponent does to the entropy is learned from all GFlowNets, and from the one that needs no training: without a
    # reward it has the uniform law.
    elsewhere = [(setting.beta, outcome.entropy) for setting, outcome in plain.grid.items()]
    curve = [(0.0, uniform_entropy(size)), *elsewhere]
    for _ in range(plan.control_rounds):
        points = [*curve, *((one.beta, one.outcome.entropy) for one in known)]
        known.append(gflownet(matching_beta(points, wanted)))
    return {TEMPERATURE: even, ENTROPY: min(known, key=lambda one: abs(one.outcome.entropy - wanted))}


def uniform_entropy(size: Size) -> float:
    """Return the logarithm of how many objects a task has."""
    task = TASKS[size.name]
    lengths = np.arange(task.min_length, task.max_length + 1)
    return float(np.logaddexp.reduce(lengths * np.log(len(task.environment().alphabet))))


SCORE, KEPT, TRUE = "score Phi of the kept", "kept", "true score of the kept"
BEST = "average mode reward"
TAKEN = ("beta taken", "learning rate taken")
Q_TAKEN = "q taken"
OVER_GRID = "average mode reward over the grid"
AHEAD = "average mode reward, difference"
RANKS, HIGHEST = "rank agreement on held-out rows", "highest reward of held-out rows"


class Contest(NamedTuple):
    """What is compared on a task."""

    each: dict[str, Tuned]  # every method, tuned
    best: str | None  # the name of the TGM whose q does best on the seed that chooses; None where no TGM was asked for
    controls: list[dict[str, Control]]  # of that TGM, for each seed that is reported; none without a GFlowNet to make them of


def reward_at(share: float) -> str:
    """Return what the average mode reward is called at a least distance."""
    return f"{BEST}, {share:.0%} apart"


def biology_rows(context: Context, plan: Plan) -> Iterator[Row]:
    """Yield, task by task, what the proxy knows and what every method's shortlist is worth to it and to the truth."""
    with workplace(context) as folder:
        fitted = done([functools.partial(proxy_job, size, folder) for size in plan.sizes])
        facts = dict(zip(plan.sizes, fitted, strict=True))
        # The longest objects first, so that no core is left with them in the end.
        order = sorted(plan.sizes, key=lambda size: -TASKS[size.name].max_length)
        asks = [(size, name) for size in order for name in plan.methods]
        trained = done([functools.partial(method_job, plan, folder, *ask) for ask in asks])
        found = dict(zip(asks, trained, strict=True))
        contests = {}
        for size in order:
            each = {name: found[size, name] for name in plan.methods}
            contests[size] = Contest(each, chosen(each), [])
        tasks = {
            (size, seed): functools.partial(
                control_job, plan, folder, size, contest.best, contest.each[contest.best], contest.each[GFN], seed
            )
            for size, contest in contests.items()
            if contest.best is not None and GFN in contest.each
            for seed in plan.seeds
        }
        for (size, _), control in zip(tasks, done(list(tasks.values())), strict=True):
            contests[size].controls.append(control)
        for size in plan.sizes:
            yield from _task_rows(context, plan, size, facts[size], contests[size])


def chosen(each: dict[str, Tuned]) -> str | None:
    """Return the name of the TGM that does best on the seed that chooses."""
    return max((name for name in each if name in TGMS), key=lambda name: each[name].chosen, default=None)


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
    return context.interval_row(case, OVER_GRID, Interval(float(np.median(grid)), min(grid), max(grid)))
