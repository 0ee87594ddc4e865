"""Expected flow networks and the formulations they are measured against, on DNA 8-mers in noise: exact and trained."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks._stochastic import methods
from benchmarks._stochastic.frontier import gap
from benchmarks._stochastic.methods import METHODS, NAMES, PLAIN, RIVALS, SPEAKERS
from benchmarks._stochastic.speed import speed_rows
from benchmarks._stochastic.tables import ALONG, AT_END, BEND, DISTANCE, END, METRICS, PICTURE, SAYS, draw, tables
from benchmarks._stochastic.training import FULL, QUICK, SHARP, Found, Plan, References, curve_of, references, train
from benchmarks._stochastic.worlds import FACTOR, Figures, world
from benchmarks.harness.case import Case
from benchmarks.harness.intervals import Interval
from benchmarks.harness.places import TFBIND8, measured_table
from benchmarks.harness.processes import side_by_side
from benchmarks.harness.rows import Context, Row, Target

CLOSE = Target("<=", 0.02)
UNITS = ("", "nat", "", "", "edits")
assert len(METRICS) == len(UNITS) == len(Figures._fields)


def measure(context: Context) -> Iterator[Row]:
    """Yield the timings, then what each rate of noise gives, and last the 2 % claim."""
    plan = QUICK if context.quick else FULL
    path = measured_table(TFBIND8 if context.data is None else context.data, FACTOR)
    yield from speed_rows(context, world(path, plan.claim_alpha), plan.effort)
    jobs = plan.jobs(path)
    tasks: list[Callable[[], Any]] = [functools.partial(references, path, alpha, plan.betas) for alpha in plan.seeds]
    tasks += [functools.partial(train, plan.claim_job(path, seed)) for seed in plan.claim_seeds]
    tasks += [functools.partial(train, job) for job in jobs.values()]
    with side_by_side(tasks) as futures:
        solved = dict(zip(plan.seeds, futures, strict=False))
        claimed = futures[len(solved) : len(solved) + len(plan.claim_seeds)]
        trained = dict(zip(jobs, futures[len(solved) + len(claimed) :], strict=True))
        for alpha, seeds in plan.seeds.items():
            exact: References = solved[alpha].result()
            # Without noise, where many methods are the same, one training stands for all of them.
            learned = {name: trained.get((alpha, name), trained[alpha, PLAIN.name]).result() for name in NAMES}
            yield from law_rows(context, alpha, exact, learned, seeds)
            if alpha > 0.0:
                yield from frontier_rows(context, alpha, exact, learned)
        truth: References = solved[plan.claim_alpha].result()
        yield from claim_rows(context, plan, truth, [found for one in claimed for found in one.result()])


def law_rows(
    context: Context, alpha: float, exact: References, learned: dict[str, list[Found]], seeds: tuple[int, ...]
) -> Iterator[Row]:
    """Yield the figures of every law, exact ones first."""
    for name, found in exact.found.items():
        for one in found:
            yield from _figure_rows(context, f"stochastic/{alpha:g}/{one.beta:g}/exact/{name}", [one.figures], (), None)
    for method in METHODS:
        peers = {one.beta: one.figures for one in exact.found[method.exact]}
        for beta, peer in peers.items():
            figures = [one.figures for one in learned[method.name] if one.beta == beta]
            case = f"stochastic/{alpha:g}/{beta:g}/trained/{method.name}"
            yield from _figure_rows(context, case, figures, seeds, (method.exact, peer))


def frontier_rows(context: Context, alpha: float, exact: References, learned: dict[str, list[Found]]) -> Iterator[Row]:
    """Yield by how much expected flow networks score more than each rival at equal entropy."""
    curves = {}
    for name, found in learned.items():
        seeds = sorted({one.seed for one in found})
        curves[name] = [curve_of(exact.uniform, [one for one in found if one.seed == seed]) for seed in seeds]
    case = f"stochastic/{alpha:g}/frontier"
    yield context.row(case, BEND, [exact.bend])
    for ours in SPEAKERS:
        for rival in RIVALS:
            found = gap(curves[ours], curves[rival])
            of = f"{case}/{ours}/{rival}"
            yield context.row(of, END, [found.end], unit="nat")
            yield from _difference_rows(context, of, ALONG, found.along)
            yield from _difference_rows(context, of, AT_END, found.at_end)


def claim_rows(context: Context, plan: Plan, exact: References, found: Sequence[Found]) -> Iterator[Row]:
    """Yield how near a trained expected flow network comes to its exact law (eflow T15)."""
    peers = {one.beta: one.figures for one in exact.found[methods.EFLOW]}
    for beta in plan.claim_betas:
        figures, peer = [one.figures for one in found if one.beta == beta], peers[beta]
        case = f"stochastic/{plan.claim_alpha:g}/{beta:g}/table/{SHARP}"
        for place, (metric, unit) in enumerate(zip(METRICS[:2], UNITS[:2], strict=True)):
            values = [one[place] for one in figures]
            errors = [abs(value / peer[place] - 1.0) for value in values]
            yield context.row(case, metric, values, unit=unit, seeds=plan.claim_seeds, against=methods.EFLOW, peer=peer[place])
            yield context.row(case, f"relative error of the {metric}", errors, seeds=plan.claim_seeds, target=CLOSE)


def _figure_rows(
    context: Context, case: str, figures: Sequence[Figures], seeds: tuple[int, ...], exact: tuple[str, Figures] | None
) -> Iterator[Row]:
    against, peer = (None, None) if exact is None else exact
    for place, (metric, unit) in enumerate(zip(METRICS, UNITS, strict=True)):
        values = [one[place] for one in figures]
        # A distance that is zero, but for rounding, where there is no noise has no ratio.
        theirs = None if peer is None or metric == DISTANCE else peer[place]
        yield context.row(case, metric, values, unit=unit, seeds=seeds, against=against, peer=theirs)


def _difference_rows(context: Context, case: str, metric: str, found: Interval) -> Iterator[Row]:
    for suffix, value in (("", found.value), (", from", found.low), (", to", found.high)):
        yield context.row(case, f"{metric}{suffix}", [value])


CASE = Case(
    *("Expected flow networks in noise", SAYS["text"], measure, tables, "stochastic_results", {PICTURE: draw}),
)
