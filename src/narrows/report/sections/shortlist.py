"""The shortlist: the rows, what they have in common, how different they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup, escape
from rapidfuzz.distance import Levenshtein

from narrows.distance import AbstractDistance
from narrows.report.canvas import Picture
from narrows.report.content import ReportData, Selection
from narrows.report.letters import tint_of, tinted
from narrows.report.logos import axis_end, draw_logo, fewest_for_logo, information
from narrows.report.plots import Cloud, histogram, scatter
from narrows.report.sections.outcomes import MOST_RANKS, expected_score_picture, outcome_sentences
from narrows.report.statistics import column, finite, largest, pairwise_distances
from narrows.report.words import UNKNOWN, count, decimals_for, fixed, number, percent, plural, printable
from narrows.selection.rows import ShortlistRow

LONG = 20
"""Above this many letters a sequence is broken into tens, and a row with a measured one beside it is a card, not a line."""

WIDE_LOGO = 40
"""Above this many positions a logo takes the whole width."""

MOST_CLUSTER_LOGOS = 4
MOST_POSITIONS = 480
"""Positions drawn in all logos together, so that long sequences do not make a heavy page."""


@dataclass(frozen=True)
class Line:
    """One row of the table as it is shown."""

    rank: int
    sequence: Markup
    mean: str
    std: str
    lower: str
    expected: str
    spread: str
    as_asked: str
    true: str
    nearest: Markup
    nearest_score: str
    distance: str
    cluster: str
    why: str
    origin: str


@dataclass(frozen=True)
class ShortlistView:
    """The section: sentences, table, figures."""

    summary: tuple[str, ...]
    lines: tuple[Line, ...]
    score: str
    has_truth: bool
    has_std: bool
    has_lower: bool
    has_outcomes: bool
    has_measured: bool
    is_long: bool
    is_cards: bool
    pictures: tuple[Picture, ...]


def shortlist_view(data: ReportData) -> ShortlistView | None:
    """Return the section's content, `None` without a shortlist."""
    if data.selection is None:
        return None
    rows = data.selection.rows
    has_measured = any(row.nearest_measured is not None or row.distance_to_measured is not None for row in rows)
    is_long = any(len(row.sequence) > LONG for row in rows)
    return ShortlistView(
        summary=tuple(_summary(data.selection, data.distance)),
        lines=_lines(data.selection, tint_of(_alphabet(data))),
        score=data.guide.score.capitalize(),
        has_truth=any(value is not None for value in data.selection.true_scores.values()),
        has_std=finite([row.score_std for row in rows]).size > 0,
        has_lower=finite([row.lower_bound for row in rows]).size > 0,
        has_outcomes=any(row.asked is not None for row in rows),
        has_measured=has_measured,
        is_long=is_long,
        is_cards=is_long and has_measured,
        pictures=_pictures(data, data.selection) if rows else (),
    )


def _alphabet(data: ReportData) -> str:
    if data.space is not None:
        return data.space.alphabet
    return "".join(sorted({letter for row in data.selection.rows for letter in row.sequence} if data.selection else ()))


def _summary(selection: Selection, distance: AbstractDistance) -> list[str]:
    rows = selection.rows
    of = f" out of {plural(selection.num_considered, 'candidate')}" if selection.num_considered is not None else ""
    least = "" if selection.min_distance is None else distance.amount(selection.min_distance)
    apart = f", each at least {least} from every better row" if selection.min_distance else ""
    sentences = [f"{plural(len(rows), 'row')}{of}, taken from the top by {selection.ranked_by}{apart}."]
    if selection.num_asked is not None and len(rows) < selection.num_asked:
        reason = selection.reason_fewer or "The reason was not recorded."
        sentences.append(f"{count(selection.num_asked)} were asked for. {reason}")
    distances = pairwise_distances([row.sequence for row in rows], distance)
    if distances.size:
        average = f"{number(float(distances.mean()))} {distance.unit} on average"
        sentences.append(f"Two rows differ by {average} and by {distances.min()} at least.")
    if rows:
        sentences.append(f"The rows fall into {plural(len({row.cluster for row in rows}), 'cluster')}.")
    if len(_origins(rows)) == 1 and rows[0].run:
        sentences.append(f"All come from one source: {_origin(rows[0])}.")
    return [*sentences, *outcome_sentences(selection)]


def _origins(rows: tuple[ShortlistRow, ...]) -> set[str]:
    return {_origin(row) for row in rows}


def _origin(row: ShortlistRow) -> str:
    """Return the run that saw a row first, with its seed."""
    return ", ".join(part for part in (row.run, f"seed {row.seed}" if row.seed is not None else "") if part)


def _lines(selection: Selection, tints: Mapping[str, int]) -> tuple[Line, ...]:
    rows, truth = selection.rows, selection.true_scores
    scores = _score_decimals(selection)
    measured = decimals_for([row.nearest_measured_score for row in rows])
    is_one_run = len(_origins(rows)) == 1  # of which the summary speaks

    def line(row: ShortlistRow) -> Line:
        origin = ["" if is_one_run else _origin(row), f"step {row.step:,}" if row.step is not None else ""]
        return Line(
            rank=row.rank,
            sequence=tinted(row.sequence, tints),
            mean=fixed(row.score, scores),
            std=fixed(row.score_std, scores),
            lower=fixed(row.lower_bound, scores),
            expected=fixed(row.expected_mean, scores),
            spread=fixed(row.expected_std, scores),
            as_asked=percent(row.prob_as_asked),
            true=fixed(truth.get(row.sequence), scores),
            nearest=with_differences(row.nearest_measured, row.sequence),
            nearest_score=fixed(row.nearest_measured_score, measured),
            distance=UNKNOWN if row.distance_to_measured is None else str(row.distance_to_measured),
            cluster=str(row.cluster),
            why=row.why[:1].upper() + row.why[1:],
            origin=" · ".join(part for part in origin if part),
        )

    return tuple(line(row) for row in rows)


def _score_decimals(selection: Selection) -> int:
    """Return the decimals that tell the rows apart, but no more than the uncertainty leaves any sense to."""
    rows, truth = selection.rows, selection.true_scores
    stds = finite([row.score_std for row in rows])
    known = [score for row in rows for score in (row.score, row.expected_mean, truth.get(row.sequence))]
    apart = decimals_for(known)
    typical = float(np.median(stds)) if stds.size else 0.0
    return min(apart, max(0, 1 - math.floor(math.log10(typical)))) if typical > 0 else apart


def with_differences(nearest: str | None, sequence: str) -> Markup:
    """Return `nearest` as HTML with the letters marked that an edit into `sequence` replaces or removes.

    Where most letters change, marks would tell nothing, and there are none.

    >>> with_differences("ACGU", "ACAU")
    Markup('AC<b>G</b>U')
    """
    if nearest is None:
        return Markup(UNKNOWN)
    changed = {edit.src_pos for edit in Levenshtein.editops(nearest, sequence) if edit.tag != "insert"}
    if 2 * len(changed) > len(nearest):
        return escape(printable(nearest))
    runs = groupby(range(len(nearest)), key=changed.__contains__)
    parts = (
        Markup("<b>{}</b>" if marked else "{}").format(printable("".join(nearest[place] for place in places)))
        for marked, places in runs
    )
    return Markup("").join(parts)


def _logos(data: ReportData) -> list[Picture]:
    """Return the logo of the list, then of its largest clusters, as many as fit in `MOST_POSITIONS` drawn positions."""
    selection, alphabet = data.selection, _alphabet(data)
    assert selection is not None
    sequences = [row.sequence for row in selection.rows]
    sizes = Counter(row.cluster for row in selection.rows)
    large = [cluster for cluster, size in sizes.most_common() if size >= fewest_for_logo(alphabet) and len(sizes) > 1]
    shown = large[: max(1, min(MOST_CLUSTER_LOGOS, MOST_POSITIONS // max(1, *map(len, sequences)) - 1))]
    explanation = _explanation(alphabet)
    if len(shown) < len(large):
        explanation += f" Below are the largest {len(shown)} of {len(large)} clusters that are large enough for a logo."
    pictures = [_logo("logo", "Whole shortlist", sequences, alphabet, explanation)]
    for cluster in shown:
        members = [row.sequence for row in selection.rows if row.cluster == cluster]
        title = f"Cluster {cluster}, {plural(len(members), 'row')}"
        pictures.append(_logo(f"logo-{len(pictures)}", title, members, alphabet, "Read as the logo of the whole list."))
    return pictures


def _explanation(alphabet: str) -> str:
    return (
        "At each position the letters are stacked, the most frequent on top; the height of a stack says how much the "
        f"sequences agree there, in bits: {number(_most(alphabet))} if all had the same letter, 0 if all letters were "
        "equally common. The list was made diverse on purpose, so low stacks are no fault; tall ones are what good "
        "sequences share."
    )


def _logo(name: str, title: str, sequences: list[str], alphabet: str, explanation: str) -> Picture:
    logo = information(sequences, alphabet)
    reading = [explanation]
    if logo.correction.size:
        bits = number(float(logo.correction[0]), 2)
        reading.append(
            f"Small-sample correction: {bits} bits are subtracted, as {plural(len(sequences), 'sequence')} agree a little "
            "by chance."
        )
        if axis_end(logo) < _most(alphabet) - 1e-9:
            reading.append(f"The axis ends at {number(axis_end(logo))} bits.")
    if len({len(sequence) for sequence in sequences}) > 1:
        reading.append(
            "The sequences differ in length; they are written from the left without alignment, and a stack is lowered "
            "by the share of sequences that end before it."
        )
    if len(sequences) < fewest_for_logo(alphabet):
        reading.append(f"With fewer than {fewest_for_logo(alphabet)} sequences this logo says little.")
    return Picture(name, title, draw_logo(name, logo), " ".join(reading), wide=logo.bits.shape[0] > WIDE_LOGO)


def _most(alphabet: str) -> float:
    return math.log2(max(len(alphabet), 2))


def _pictures(data: ReportData, selection: Selection) -> tuple[Picture, ...]:
    """Return what can be drawn of the rows: what they share, how good they are, how they differ."""
    logos = _logos(data) if data.space is not None else []
    pictures = [
        *logos,
        expected_score_picture(selection.rows),
        _score_against_distance(data),
        _spread(selection, data.distance),
    ]
    return tuple(picture for picture in pictures if picture is not None and picture.svg is not None)


def _score_against_distance(data: ReportData) -> Picture:
    selection = data.selection
    assert selection is not None
    rows = selection.rows
    distance = column([row.distance_to_measured for row in rows]).tolist()
    mean, std = [row.score for row in rows], [row.score_std for row in rows]
    # Distances are whole numbers: a golden-ratio shift sideways keeps rows of one distance from hiding each other.
    shifted = [value + ((row.rank * 0.618034) % 1.0 - 0.5) * 0.6 for value, row in zip(distance, rows, strict=True)]
    ranks = tuple(str(row.rank) for row in rows) if len(rows) <= MOST_RANKS else ()
    cloud = Cloud("shortlist", shifted, mean, error=std, text=ranks)
    along = f"{data.distance.unit} to the nearest measured sequence"
    drawing = scatter("score-distance", [cloud], x=along, y=data.guide.score, whole_x=True)
    best = largest(data.data.scores) if data.data is not None else None
    compared = "" if best is None else f"The best measured score is {number(best)}."
    spread = f"; the line through it is ± one standard deviation of the {data.guide.noun}" if finite(std).size else ""
    far, dreams = "", ""
    if data.guide.is_proxy:
        far = ", and further from what the proxy knows"
        dreams = "High scores only far to the right, with long lines: the proxy may be dreaming. "
    return Picture(
        "score-distance",
        f"{data.guide.score.capitalize()} and distance to the data",
        drawing,
        f"Each point is a row{', with its rank' if ranks else ''}{spread}. To the right: more novel{far}; points of one "
        f"distance are spread sideways. {compared}",
        f"{dreams}Points at distance 0 were measured already.",
    )


def _spread(selection: Selection, distance: AbstractDistance) -> Picture:
    distances = pairwise_distances([row.sequence for row in selection.rows], distance)
    marks = {} if selection.min_distance is None else {"smallest allowed": float(selection.min_distance)}
    between = f"{distance.unit} between two rows"
    drawing = histogram("spread", distances, x=between, y="pairs of rows", whole=True, marks=marks)
    return Picture(
        "spread",
        "How different the rows are",
        drawing,
        f"Every pair of rows is counted once, by the {distance.unit} between them ({plural(distances.size, 'pair')}). A wide "
        "hill to the right is a diverse list.",
        "A pile at the smallest allowed distance: the list is one family, shaved apart by the rule.",
    )
