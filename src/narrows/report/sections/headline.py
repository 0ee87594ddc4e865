"""The top of the page: what was searched, what came out, what to worry about."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from narrows.data import Space
from narrows.distance import AbstractDistance
from narrows.proxies.quality import WORTHLESS
from narrows.report.cautions import Caution, cautions, checks_made
from narrows.report.content import ReportData, Selection, Truth
from narrows.report.sections.outcomes import describe_noise
from narrows.report.statistics import finite, largest, num_objects, pairwise_distances
from narrows.report.stream import stream
from narrows.report.words import UNKNOWN, count, duration, listing, number, percent, plural
from narrows.selection.guide import Guide

_KINDS = {"rna": "RNA sequences", "dna": "DNA sequences", "protein": "peptides"}


@dataclass(frozen=True)
class Fact:
    """A figure of the headline with its name and a word of context."""

    value: str
    name: str
    context: str = ""


@dataclass(frozen=True)
class Headline:
    """The top of the page: sentences, the stages of the narrowing, key figures, worries."""

    lede: tuple[str, ...]
    stream: Markup | None
    stages: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    cautions: tuple[Caution, ...]
    looked_at: str
    not_looked_at: str

    @property
    def mood(self) -> str:
        """Return the look of the box of worries: `caution`, only `notes`, or `calm`."""
        if any(caution.level == "caution" for caution in self.cautions):
            return "caution"
        return "notes" if self.cautions or not self.looked_at else "calm"


def headline(data: ReportData) -> Headline:
    """Return the page's news: what was searched, how far the search saw, what it kept, what to doubt."""
    stages = _stages(data)
    made, not_made = checks_made(data)
    sizes = [size for size, _ in stages]
    return Headline(
        lede=tuple(_lede(data)),
        stream=stream("stream", sizes) if len(sizes) > 1 else None,
        stages=tuple(fact for _, fact in stages) if len(sizes) > 1 else (),
        facts=tuple(_facts(data)),
        cautions=cautions(data),
        looked_at=listing(made),
        not_looked_at=listing(not_made),
    )


def _lede(data: ReportData) -> list[str]:
    table = f" learned from {plural(data.data.num_used, 'measurement')}" if data.data and data.data.num_used else ""
    searched = describe_space(data.space) if data.space else "a set of objects too large to list"
    wanted = f"those that a proxy{table} scores highest" if data.guide.is_proxy else "those with the highest score"
    sentences = [f"This run searched {searched} for {wanted}."]
    if data.proxy is not None and not data.proxy.beats_mean:
        sentences.insert(0, f"Caution: {WORTHLESS}")
    if data.noise is not None:
        sentences.append(describe_noise(data.noise))
    if data.search and data.search.num_distinct is not None:
        sentences.append(f"It saw {plural(data.search.num_distinct, 'distinct object')}{_share_seen(data)}.")
    if data.selection is not None:
        sentences.append(_selection_sentence(data.selection, data.guide, data.distance))
    return sentences


def describe_space(space: Space) -> str:
    """Return in words which set a space is.

    >>> describe_space(Space("rna", "ACGU", 14, 14))
    'all RNA sequences of 14 letters'
    """
    kind = _KINDS.get(space.name, f"sequences over {space.alphabet}")
    if space.min_length == space.max_length:
        return f"all {kind} of {plural(space.max_length, 'letter')}"
    return f"all {kind} of {space.min_length} to {space.max_length} letters"


def _share_seen(data: ReportData) -> str:
    if data.space is None or data.search is None or data.search.num_distinct is None:
        return ""
    possible = num_objects(data.space)
    share = data.search.num_distinct / possible if possible < 10**300 else 0.0
    shown = percent(share, 3 if share < 0.01 else 1) if share > 1e-5 else "a vanishing part"
    return f" of {count(possible)} possible ({shown})"


def _selection_sentence(selection: Selection, guide: Guide, distance: AbstractDistance) -> str:
    rows = selection.rows
    if not rows:
        return "The shortlist is empty."
    means = finite([row.score for row in rows])
    scores = f" with {guide.score}s from {number(float(means.min()))} to {number(float(means.max()))}" if means.size else ""
    distances = pairwise_distances([row.sequence for row in rows], distance)
    apart = f", any two at least {distance.amount(int(distances.min()))} apart" if distances.size else ""
    return f"It kept {plural(len(rows), 'sequence')}{scores}{apart}."


def _stages(data: ReportData) -> list[tuple[int, Fact]]:
    stages = []
    if data.space is not None:
        possible = num_objects(data.space)
        stages.append((possible, Fact(count(possible), "possible")))
    if data.search is not None and data.search.num_distinct:
        stages.append((data.search.num_distinct, Fact(count(data.search.num_distinct), "distinct seen")))
    if data.selection is not None and data.selection.rows:
        stages.append((len(data.selection.rows), Fact(count(len(data.selection.rows)), "shortlisted")))
    return stages


def _facts(data: ReportData) -> list[Fact]:
    facts = []
    if data.selection is not None and data.selection.rows:
        means = finite([row.score for row in data.selection.rows])
        best = largest(data.data.scores) if data.data is not None else None
        context = "" if best is None else f"best measurement: {number(best)}"
        facts.append(Fact(number(float(means.mean())) if means.size else UNKNOWN, f"mean {data.guide.score}", context))
        facts += _expected_facts(data.selection)
    if data.truth is not None:
        facts += _truth_facts(data.truth)
    if data.proxy is not None and data.proxy.spearman is not None:
        facts.append(Fact(number(data.proxy.spearman, 2), "proxy rank agreement", "1 is perfect, on held-out data"))
    if data.search is not None and data.search.seconds is not None:
        steps = plural(data.search.num_steps, "step") if data.search.num_steps is not None else ""
        facts.append(Fact(duration(data.search.seconds), "computing time", steps))
    return facts


def _expected_facts(selection: Selection) -> list[Fact]:
    expected = finite([row.expected_mean for row in selection.rows])
    if not expected.size:
        return []
    return [Fact(number(float(expected.mean())), "mean expected score", "of what comes out under noise")]


def _truth_facts(truth: Truth) -> list[Fact]:
    groups = {group.role: group for group in truth.groups if finite(group.true_scores).size}
    if "shortlist" not in groups:
        return []
    mean = number(float(finite(groups["shortlist"].true_scores).mean()))
    if "measured" not in groups:
        return [Fact(mean, "mean true score")]
    other = groups["measured"]
    return [Fact(mean, "mean true score", f"{other.label}: {number(float(finite(other.true_scores).mean()))}")]
