"""The shortlist under noise: what the noise is, what is asked for and what is expected to come out."""

from __future__ import annotations

from narrows.report.canvas import Picture
from narrows.report.content import Noise, Selection
from narrows.report.plots import Cloud, scatter
from narrows.report.statistics import finite
from narrows.report.words import count, number, percent
from narrows.selection.outcomes import OutcomeSummary
from narrows.selection.rows import ShortlistRow

MOST_RANKS = 12
"""Rows up to which each point of a drawing has its rank beside it."""


def describe_noise(noise: Noise) -> str:
    """Return in a sentence what becomes of what is asked for, and the noise with its settings.

    >>> describe_noise(Noise("Substitution", {"rate": 0.1}))
    'What is asked for does not always come out: each letter is drawn anew, all letters alike, with probability 0.1
    (Substitution, rate 0.1).'
    """
    path = f" {noise.settings['path']}" if "path" in noise.settings else ""
    words = {
        "Substitution": f"each letter is drawn anew, all letters alike, with probability {_shown(noise.settings.get('rate'))}",
        "Table": f"each letter turns out as the probabilities of the table{path} say",
        "Observed": f"each letter turns out as was learned from the orders and deliveries in{path or ' a table'}",
    }
    becomes = words.get(noise.name, "noise decides what becomes of each letter")
    return f"What is asked for does not always come out: {becomes} ({listed(noise)})."


def listed(noise: Noise) -> str:
    """Return a noise's name and settings."""
    shown = (f"{name} {_shown(value)}" for name, value in noise.settings.items() if value is not None)
    return ", ".join([noise.name, *shown])


def outcome_sentences(selection: Selection) -> list[str]:
    """Return what the table's columns on outcomes are worth, nothing for a run without noise."""
    probabilities = finite([row.prob_as_asked for row in selection.rows])
    means = finite([row.expected_mean for row in selection.rows])
    sentences = []
    if means.size or probabilities.size:
        sentences.append("Each row is a sequence to ask for, letter by letter; beside it stands what is expected to come out.")
    if probabilities.size:
        low, high = percent(float(probabilities.min())), percent(float(probabilities.max()))
        sentences.append(f"Exactly as asked a row comes out with probability {low if low == high else f'{low} to {high}'}.")
    return [*sentences, *_how_found(selection.outcomes)]


def _how_found(found: OutcomeSummary | None) -> list[str]:
    if found is None:
        return []
    sentences, num = [], count(found.num_outcomes)
    if found.method == "enumerated":
        sentences.append(f"Expected scores are exact: each of {num} outcomes counts by its probability.")
    if found.method == "simulated":
        error = number(found.standard_error, 2)
        sentences.append(
            f"Expected scores are means of {num} simulated outcomes a row; their standard error is at most {error}."
        )
    if found.num_not_ranked:
        sentences.append(
            f"{count(found.num_not_ranked)} candidates with less promise at first sight were not ranked by expected score."
        )
    if found.reason:
        sentences.append(f"{found.reason[:1].upper()}{found.reason[1:]}.")
    return sentences


def expected_score_picture(rows: tuple[ShortlistRow, ...]) -> Picture | None:
    """Return asked scores against expected ones, `None` where no expected score is known."""
    expected = [row.expected_mean for row in rows]
    if not finite(expected).size:
        return None
    ranks = tuple(str(row.rank) for row in rows) if len(rows) <= MOST_RANKS else ()
    spread = [row.expected_std for row in rows]
    cloud = Cloud("shortlist", [row.score for row in rows], expected, error=spread, text=ranks)
    return Picture(
        "expected-score",
        "What is asked for, what comes out",
        scatter("expected-score", [cloud], x="score of what is asked for", y="expected score of what comes out", identity=True),
        f"Each point is a row{', with its rank' if ranks else ''}: across, the score of the sequence itself; up, the mean "
        "score of what comes out when it is asked for. The line through it is ± one standard deviation from one outcome to "
        "the next. On the dashed line noise costs nothing; the further below, the more it costs.",
        "Points far below the line, with long lines: the sequence is good only if every letter comes out right. Points of one "
        "height that lie far apart sideways: their own scores say little about what will be delivered.",
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
