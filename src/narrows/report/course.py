"""Worries about the course of a run, which its progress line tells while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from narrows.report.content import Caution, ReportData
from narrows.report.statistics import finite, finite_together, num_objects
from narrows.report.words import count, number, percent, plural

FEWEST_REPEATS_SHARE = 0.1
STALLED_GROWTH = 0.01
FEWEST_LOOKS = 10
"""Rows of the history that say something of a course."""
LEAST_RISE = 0.1
"""Share of the way from what was sampled at first to the best ten that the mean score has risen by at least."""
STILL_NEW = 0.3
"""Share of distinct objects among the newest ones that a policy makes which hardly prefers any."""
_WIDER = "A lower [reward] beta, or an [exploration] epsilon above 0, looks wider."


def _collapse(data: ReportData) -> Iterator[Caution]:
    """Worry about a sampler that makes a few objects again and again; one sentence, by the plainest sign."""
    sign = _sign_of_collapse(data)
    if sign is not None:
        yield Caution("caution", f"{sign} {_WIDER}", "run")


def _sign_of_collapse(data: ReportData) -> str | None:
    search, history = data.search, data.history
    if search is not None and search.is_listed:
        return None
    apart = None if search is None else search.apart
    if apart is not None and apart.num < apart.enough and 2 * apart.num < apart.at_random:
        return (
            f"The sampler has collapsed: of all that it saw, {plural(apart.num, 'object')} are "
            f"{data.distance.amount(apart.distance)} apart; of as many drawn at random, {count(apart.at_random)} are."
        )
    possible = num_objects(data.space) if data.space is not None else None
    distinct = finite(history.num_distinct) if history is not None else np.empty(0)
    if distinct.size >= FEWEST_LOOKS and distinct[-1] > 0 and not _nearly_all(int(distinct[-1]), possible):
        growth = (distinct[-1] - distinct[-1 - distinct.size // 5]) / distinct[-1]
        if growth < STALLED_GROWTH:
            return "The sampler found almost nothing new in the last fifth of the run: it has collapsed."
    if search is not None and search.num_distinct and search.num_sampled:
        share = search.num_distinct / search.num_sampled
        is_few = search.enough is None or search.num_distinct < search.enough
        if is_few and share < FEWEST_REPEATS_SHARE and not _nearly_all(search.num_distinct, possible):
            seen = f"{count(search.num_distinct)} distinct objects in {count(search.num_sampled)} made ({percent(share)})"
            return f"The sampler repeats itself: {seen}."
    return None


def _nearly_all(seen: int, possible: int | None) -> bool:
    """Return whether so much has been seen that repeats are no sign of a collapse."""
    return possible is not None and 2 * seen >= possible


def _score(data: ReportData) -> Iterator[Caution]:
    """Worry about a sampler that is hardly guided: ever new objects, and no better ones than at the start."""
    history = data.history
    if history is None:
        return
    mean, top, distinct, made = finite_together(
        history.mean_score, history.top_score, history.num_distinct, history.num_sampled
    )
    fifth = mean.size // 5
    if mean.size < FEWEST_LOOKS or made[-1] <= made[-1 - fifth]:
        return
    first, last, best = float(np.median(mean[:fifth])), float(np.median(mean[-fifth:])), float(top[-1])
    is_new = (distinct[-1] - distinct[-1 - fifth]) / (made[-1] - made[-1 - fifth]) > STILL_NEW
    if is_new and last - first < LEAST_RISE * (best - first):
        yield Caution(
            "caution",
            f"The {data.guide.score} does not move: what is sampled has {number(last)} on average, {number(first)} at the "
            f"beginning, and the ten best {number(best)}. A higher [reward] beta or [optimizer] learning_rate, or more [train] "
            "num_steps, lets it be guided.",
            "run",
        )


def _loss(data: ReportData) -> Iterator[Caution]:
    if data.history is None or len(data.history.loss) == 0:
        return
    loss = finite(data.history.loss)
    missing = len(data.history.loss) - loss.size
    if missing:
        yield Caution("caution", f"The loss was not a finite number at {plural(missing, 'logged step')}.", "run")
    if loss.size >= 20:
        tenth = loss.size // 10
        end, best = float(np.median(loss[-tenth:])), min(float(np.median(b)) for b in np.array_split(loss, 10))
        if end > 2 * best > 0:
            yield Caution(
                "note",
                f"The loss ended at {number(end)}, more than twice its lowest tenth ({number(best)}): training had not "
                "settled, or came apart again.",
                "run",
            )


COURSE: Final = (_collapse, _score, _loss)
"""The checks of a course: each takes the page's data and has at most one caution."""
