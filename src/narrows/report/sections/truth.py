"""The run's score against the truth: what the true scorer says of the shortlist and of the groups beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from narrows.report.canvas import Picture
from narrows.report.content import ReportData, Role, ScoreGroup, Truth
from narrows.report.plots import Cloud, Strip, scatter, strips
from narrows.report.statistics import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    finite,
    finite_together,
    rank_correlation,
)
from narrows.report.words import UNKNOWN, count, decimals_for, fixed, number, plural
from narrows.selection.guide import Guide

_TONES: dict[Role, str] = {"shortlist": "accent", "measured": "plum", "search": "ink", "random": "stone", "control": "warm"}
_MARKERS: dict[Role, str] = {"shortlist": "o", "measured": "s", "search": "v", "random": "D", "control": "^"}


@dataclass(frozen=True)
class GroupLine:
    """A group of the table as it is shown."""

    label: str
    note: str
    num: str
    mean: str
    interval: str
    median: str
    best: str
    difference: str


@dataclass(frozen=True)
class TruthView:
    """The section: what it shows in sentences, the groups, the drawings, what could not be scored."""

    scorer: str
    compared: str
    matched: str
    verdict: tuple[str, ...]
    lines: tuple[GroupLine, ...]
    pictures: tuple[Picture, ...]
    failures: tuple[tuple[str, str], ...]


def truth_view(data: ReportData) -> TruthView | None:
    """Return the section's content, `None` before `narrows verify`."""
    truth = data.truth
    if truth is None:
        return None
    return TruthView(
        scorer=truth.scorer,
        compared="the score the proxy stands in for" if data.guide.is_proxy else "to be compared with the score of the run",
        matched="" if truth.matched_inverse_temperature is None else number(truth.matched_inverse_temperature),
        verdict=(*_verdict(truth, data.guide.noun), *_under_noise(data)),
        lines=_lines(truth),
        pictures=(_strips(truth), *_scatter(truth, data.guide)),
        failures=tuple(truth.failures.items()),
    )


def _shortlist(truth: Truth) -> ScoreGroup | None:
    return next((group for group in truth.groups if group.role == "shortlist"), None)


def _verdict(truth: Truth, noun: str) -> list[str]:
    shortlist = _shortlist(truth)
    if shortlist is None or finite(shortlist.true_scores).size == 0:
        return ["No true score of the shortlist is known, so nothing can be said about it."]
    sentences = [_comparison(shortlist, group) for group in truth.groups if group.role != "shortlist"]
    sentences += _bias(shortlist, noun)
    sentences.append(
        "An interval describes the spread between the objects of this one run; another seed gives another list, and how "
        "much that changes is not shown here."
    )
    return [sentence for sentence in sentences if sentence]


def _under_noise(data: ReportData) -> list[str]:
    if data.noise is None:
        return []
    return [
        "These are true scores of sequences exactly as they stand in the table. What comes out when they are asked for under "
        f"noise scores otherwise; its expected score in the shortlist is the {data.guide.noun}'s word, not checked here."
    ]


def _comparison(shortlist: ScoreGroup, group: ScoreGroup) -> str:
    gap = bootstrap_difference(shortlist.true_scores, group.true_scores)
    if not math.isfinite(gap.low):
        return f"Too few true scores to compare the shortlist with “{group.label}”."
    interval = f"95 % interval {number(gap.low)} to {number(gap.high)}"
    if gap.low > 0:
        return f"By mean true score the shortlist is {number(gap.mean)} above “{group.label}” ({interval})."
    if gap.high < 0:
        return f"By mean true score the shortlist is {number(-gap.mean)} below “{group.label}” ({interval} for the gap)."
    sentence = (
        f"By mean true score the shortlist and “{group.label}” cannot be told apart (gap {number(gap.mean)}, {interval})."
    )
    if group.role == "control":
        sentence += " On this evidence the objective gains nothing that a change of temperature would not."
    return sentence


def _bias(shortlist: ScoreGroup, noun: str) -> list[str]:
    truth, mean = finite_together(shortlist.true_scores, shortlist.scores)
    if truth.size == 0:
        return []
    bias = float(np.mean(mean - truth))
    direction = "too high" if bias > 0 else "too low"
    agreement = rank_correlation(truth, mean)
    order = (
        f" Within the list the {noun}'s order agrees with the true one by {number(agreement, 2)} (Spearman)."
        if math.isfinite(agreement)
        else ""
    )
    return [f"On the shortlist the {noun} is {number(abs(bias))} {direction} on average.{order}"]


def _lines(truth: Truth) -> tuple[GroupLine, ...]:
    decimals = decimals_for(np.concatenate([finite(group.true_scores) for group in truth.groups] or [np.empty(0)]))
    return tuple(_line(group, _shortlist(truth), decimals) for group in truth.groups)


def _line(group: ScoreGroup, shortlist: ScoreGroup | None, decimals: int) -> GroupLine:
    values, mean = finite(group.true_scores), bootstrap_mean(group.true_scores)
    missing = len(group.true_scores) - values.size
    gap = bootstrap_difference(shortlist.true_scores, group.true_scores) if shortlist else None
    return GroupLine(
        label=group.label,
        note=group.note,
        num=count(values.size) + (f" ({count(missing)} failed)" if missing else ""),
        mean=fixed(mean.mean, decimals),
        interval=_interval(mean, decimals),
        median=fixed(float(np.median(values)), decimals) if values.size else UNKNOWN,
        best=fixed(float(values.max()), decimals) if values.size else UNKNOWN,
        difference=UNKNOWN
        if gap is None or group.role == "shortlist"
        else f"{fixed(gap.mean, decimals)} ({_interval(gap, decimals)})",
    )


def _interval(interval: Interval, decimals: int) -> str:
    if not math.isfinite(interval.low):
        return UNKNOWN
    return f"{fixed(interval.low, decimals)} to {fixed(interval.high, decimals)}"


def _strips(truth: Truth) -> Picture:
    groups = [Strip(group.label, group.true_scores, _TONES[group.role]) for group in truth.groups]
    return Picture(
        "truth-groups",
        "True scores by group",
        strips("truth-groups", groups, x="true score"),
        "Every point is one object. The upright line is the group's mean, the level line its 95 % bootstrap interval. "
        "Further right is better.",
        "A shortlist that lies among the random sequences, or left of the best measured ones, was not worth its search.",
    )


def _searches_together(groups: Sequence[ScoreGroup]) -> list[ScoreGroup]:
    """Return the groups with those of plain searches as one, in the place of the first: a drawing has room for few marks."""
    found = [group for group in groups if group.role == "search"]
    if not found:
        return list(groups)
    truths, scores = (
        np.concatenate([np.asarray(values, float) for values in columns])
        for columns in ([group.true_scores for group in found], [group.scores for group in found])
    )
    joined = ScoreGroup("search", "searches of the proxy", truths, scores)
    return [joined if group is found[0] else group for group in groups if group is found[0] or group.role != "search"]


def _scatter(truth: Truth, guide: Guide) -> tuple[Picture, ...]:
    """Return what was said against what is true; nothing where nothing was said."""
    shown = sum(finite_together(group.true_scores, group.scores)[0].size for group in truth.groups)
    if shown == 0:
        return ()
    clouds = [
        Cloud(group.label, group.scores, group.true_scores, _TONES[group.role], _MARKERS[group.role])
        for group in _searches_together(truth.groups)
        if len(group.scores) > 0
    ]
    drawing = scatter("truth-proxy", clouds, x=guide.score, y="true score", identity=True)
    picture = Picture(
        "truth-proxy",
        f"What the {guide.noun} said, what is true",
        drawing,
        f"{plural(shown, 'object')} by {guide.score} (across) and true score (up). On the dashed line the two agree; below "
        f"it the {guide.noun} promised too much.",
        "A shortlist that hangs well below the line while the random sequences lie on it: the search has found the "
        f"{guide.noun}'s mistakes.",
    )
    return (picture,)
