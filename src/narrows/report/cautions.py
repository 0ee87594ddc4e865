"""Worries of a reader: automatic checks, each with its threshold, each said in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from narrows.report.content import Caution, ReportData
from narrows.report.course import COURSE
from narrows.report.statistics import bootstrap_difference, finite, finite_together, largest
from narrows.report.words import count, number, percent, plural

WEAK_SPEARMAN = 0.5
USELESS_RMSE_RATIO = 0.95
OVERCONFIDENT_COVERAGE = 0.55
SMALL_TABLE = 200
AT_THE_BOUND = 0.9
"""Share of rows of one length, the longest or the shortest allowed, from which on that is a worry."""
RARELY_AS_ASKED = 0.5
FAR_BELOW = 1.0
"""Standard deviations of the outcomes by which an object's own score may exceed the expected one."""


def cautions(data: ReportData) -> tuple[Caution, ...]:
    """Return every worry the data gives cause for, the serious ones first."""
    checks: tuple[Callable[[ReportData], Iterator[Caution]], ...] = (
        _unfinished,
        _truth,
        _proxy,
        *COURSE,
        _selection,
        *LIST,
        _promises,
        _table,
        _set_aside,
    )
    found = [caution for check in checks for caution in check(data)]
    return tuple(sorted(found, key=lambda caution: caution.level != "caution"))


def checks_made(data: ReportData) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return in words what `cautions` could look at, and what it could not for want of data."""
    proxy, truth, history = data.proxy, data.truth, data.history
    of_proxy = {
        "rank agreement and error of the proxy": proxy is not None and proxy.spearman is not None,
        "honesty of its uncertainty": proxy is not None and proxy.coverage_1std is not None,
        "distance of the shortlist from the data": data.selection is not None
        and proxy is not None
        and len(proxy.test_distance) > 0,
    }
    of_table = {
        "promises beyond any measurement": data.selection is not None and data.data is not None,
        "rejected data": data.data is not None,
    }
    has_lengths = data.space is not None and data.space.min_length < data.space.max_length
    possible = {
        **(of_proxy if data.guide.is_proxy else {}),
        "collapse of the sampler": data.search is not None or (history is not None and len(history.num_distinct) > 0),
        "movement of the score": history is not None and len(history.mean_score) > 0,
        "the loss": history is not None and len(history.loss) > 0,
        "rows asked for and rows delivered": data.selection is not None,
        **({"lengths of the rows": data.selection is not None and data.data is not None} if has_lengths else {}),
        **(of_table if data.guide.is_proxy or data.data is not None else {}),
        f"{data.guide.noun} against truth": truth is not None,
    }
    if data.noise is not None:
        rows = () if data.selection is None else data.selection.rows
        possible["what noise does to the rows"] = any(row.prob_as_asked is not None for row in rows)
    made = tuple(check for check, could in possible.items() if could)
    return made, tuple(check for check, could in possible.items() if not could)


def _unfinished(data: ReportData) -> Iterator[Caution]:
    search = data.search
    if search is None or search.status not in ("running", "stopped"):
        return
    of = f" of {count(search.planned_steps)}" if search.planned_steps else ""
    state = "was still going" if search.status == "running" else "was stopped before its end"
    yield Caution("note", f"The run {state} when this page was made, at step {count(search.num_steps)}{of}.", "run")


def _proxy(data: ReportData) -> Iterator[Caution]:
    proxy = data.proxy
    if proxy is None:
        return
    if proxy.other_rows:
        yield Caution("caution", f"{proxy.other_rows[:1].upper()}{proxy.other_rows[1:]}.", "proxy")
    spearman, rmse, baseline = proxy.spearman, proxy.rmse, proxy.rmse_of_mean
    if spearman is not None and not math.isfinite(spearman):
        yield Caution("caution", "The proxy's rank agreement could not be computed on the held-out data.", "proxy")
    elif spearman is not None and spearman < WEAK_SPEARMAN:
        yield Caution(
            "caution",
            f"The proxy is weak: on held-out objects its ranking agrees with the measured one by only "
            f"{number(spearman, 2)} (Spearman; 1 is perfect). Treat the order of the shortlist as a hint.",
            "proxy",
        )
    if proxy.beats_mean and rmse is not None and baseline is not None and rmse >= USELESS_RMSE_RATIO * baseline:
        yield Caution(
            "caution",
            f"The proxy's error ({number(rmse)}) is no better than predicting the mean for everything ({number(baseline)}).",
            "proxy",
        )
    if proxy.coverage_1std is not None and proxy.coverage_1std < OVERCONFIDENT_COVERAGE:
        yield Caution(
            "note",
            f"The proxy is surer than it should be: {percent(proxy.coverage_1std)} of held-out truths fall within one "
            "standard deviation, 68 % would be honest. Read ± as too small.",
            "proxy",
        )


def _selection(data: ReportData) -> Iterator[Caution]:
    selection = data.selection
    if selection is None:
        return
    asked, got = selection.num_asked, len(selection.rows)
    if asked is not None and got < asked:
        because = selection.reason_fewer.rstrip(".") or "the reason was not recorded"
        yield Caution(
            "caution", f"The shortlist has {plural(got, 'row')}, {count(asked)} were asked for: {because}.", "shortlist"
        )


def _lengths(data: ReportData) -> Iterator[Caution]:
    """Worry about rows that are all as long, or as short, as the job allows, where few of the measured ones are."""
    rows, space = () if data.selection is None else data.selection.rows, data.space
    measured = finite(() if data.data is None else data.data.lengths)
    if not rows or space is None or space.min_length == space.max_length or not measured.size:
        return
    lengths = np.array([len(row.sequence) for row in rows])
    for bound, word in ((space.max_length, "max_length"), (space.min_length, "min_length")):
        num, usual = int(np.sum(lengths == bound)), float(np.mean(measured == bound))
        if num >= AT_THE_BOUND * len(rows) and usual < 0.5 * num / len(rows):
            yield Caution(
                "caution",
                f"{plural(num, 'row')} of {count(len(rows))} in the shortlist {'has' if num == 1 else 'have'} "
                f"{plural(bound, 'letter')}, which is [env] {word}, and {percent(usual)} of what was measured: the "
                f"{data.guide.noun} takes length for merit. Set {word} to what you would make.",
                "shortlist",
            )


def _outcomes(data: ReportData) -> Iterator[Caution]:
    """Worry about rows that hardly come out, and about rows that are good only if they do."""
    rows = () if data.selection is None else data.selection.rows
    probabilities = [row.prob_as_asked for row in rows if row.prob_as_asked is not None]
    rare = [value for value in probabilities if value < RARELY_AS_ASKED]
    if rare:
        comes = "comes" if len(rare) == 1 else "come"
        of = f"{plural(len(rare), 'row')} of {count(len(probabilities))} in the shortlist"
        yield Caution(
            "caution",
            f"{of} {comes} out as something else more often than as asked (least likely: {percent(min(rare))} as asked). "
            "Go by the expected score, and look at what was delivered.",
            "shortlist",
        )
    known = [
        (row.score - row.expected_mean, row.expected_std, row.score)
        for row in rows
        if row.expected_mean is not None and row.expected_std is not None
    ]
    # A rounded digit is no drop.
    far = [drop for drop, spread, own in known if drop > FAR_BELOW * spread + 1e-4 * abs(own)]
    if far:
        yield Caution(
            "caution",
            f"For {plural(len(far), 'row')} of {count(len(known))} what comes out is expected to score far below the sequence "
            f"asked for: by {number(max(far))} at most, more than one standard deviation of the outcomes. Such a row is good "
            "only if it comes out right.",
            "shortlist",
        )


def _promises(data: ReportData) -> Iterator[Caution]:
    if data.selection is None or data.data is None:
        return
    means, measured = finite([row.score for row in data.selection.rows]), finite(data.data.scores)
    above = int((means > measured.max()).sum()) if means.size and measured.size else 0
    if 2 * above > means.size:
        yield Caution(
            "note",
            f"{plural(above, 'row')} of {count(means.size)} {'has' if above == 1 else 'have'} a {data.guide.score} above the "
            f"best measurement ({number(float(measured.max()))}): no measurement backs a score that high.",
            "shortlist",
        )


def _extrapolation(data: ReportData) -> Iterator[Caution]:
    if data.selection is None or data.proxy is None:
        return
    distances = finite([row.distance_to_measured for row in data.selection.rows])
    tested, limit = largest(data.proxy.test_distance), data.proxy.trusted_distance
    if limit is not None:
        of_it = f"where this proxy was no better than the mean. To stay nearer: [near] limit = {limit}."
    elif tested is not None:
        limit, of_it = tested, "farther than anything that the proxy was tested on: its quality there is unknown."
    else:
        return
    beyond = int((distances > limit).sum())
    if beyond:
        yield Caution(
            "caution",
            f"{plural(beyond, 'row')} of {count(distances.size)} in the shortlist {'is' if beyond == 1 else 'are'} more than "
            f"{number(float(limit))} {data.distance.unit} from every measured object, {of_it}",
            "shortlist",
        )


def _table(data: ReportData) -> Iterator[Caution]:
    table = data.data
    if table is None:
        return
    if table.num_rejected:
        yield Caution(
            "note",
            f"{plural(table.num_rejected, 'row')} of the data did not pass the check and "
            + ("did not train the proxy." if data.guide.is_proxy else "were left out."),
            "data",
        )
    if data.guide.is_proxy and table.num_used is not None and table.num_used < SMALL_TABLE:
        yield Caution("note", f"The proxy learned from few measurements ({count(table.num_used)}).", "data")


def _set_aside(data: ReportData) -> Iterator[Caution]:
    num = data.num_set_aside if data.num_set_aside is not None else len(data.set_aside)
    if num:
        was = "was" if num == 1 else "were"
        yield Caution("note", f"{plural(num, 'item')} with a number that is not finite {was} set aside.", "set-aside")


def _truth(data: ReportData) -> Iterator[Caution]:
    if data.truth is None:
        return
    groups = {group.role: group for group in data.truth.groups}
    shortlist = groups.get("shortlist")
    if shortlist is None:
        return
    if "measured" in groups:
        gain = bootstrap_difference(shortlist.true_scores, groups["measured"].true_scores)
        if gain.high < 0:
            yield Caution(
                "caution",
                f"By the true score the shortlist is worse on average than the best measured sequences "
                f"(by {number(-gain.mean)}).",
                "truth",
            )
    truth, mean = finite_together(shortlist.true_scores, shortlist.scores)
    spread = finite(groups["measured"].true_scores) if "measured" in groups else truth
    if truth.size and float(np.mean(mean - truth)) > max(float(np.std(truth)), float(np.std(spread)), 1e-12):
        yield Caution(
            "note",
            f"The {data.guide.noun} promised too much: on the shortlist it is {number(float(np.mean(mean - truth)))} above the "
            "truth on average.",
            "truth",
        )


LIST: Final = (_lengths, _outcomes, _extrapolation)
"""The checks of a list that the terminal tells beside those of the course; how many rows it has, its summary says."""
