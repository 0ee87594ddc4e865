"""From the numbers of a file to scores: transformed, higher is better, words for inactive ones at the worst of them."""

from dataclasses import dataclass

import numpy as np

from narrows.data.findings import Finding, error
from narrows.data.rows import GoodRow
from narrows.data.settings import AbstractTableSettings, ScoreTransform
from narrows.printing import quote

_CURES = {
    "log10": "only numbers above 0 have a logarithm. Leave the row out, or give the limit of detection as a bound such as <0.1",
    "logit": "only shares between 0 and 1, without the ends, have a logit. Divide percentages by 100; give the ends as bounds",
}


@dataclass(frozen=True)
class Scores:
    """The scores of rows, higher is better: `values` float64 `[n]`, `bounds` int8 `[n]` as in `Table`."""

    values: np.ndarray
    bounds: np.ndarray


def to_scores(rows: list[GoodRow], settings: AbstractTableSettings) -> Scores:
    """Return the scores of rows that all have one, `problems_of` having found the others.

    The ranks of n numbers are (r - 1/2) / n, r counted from 1 and shared by equal ones.
    """
    raw = np.array([np.nan if row.measured.score is None else row.measured.score for row in rows], np.float64)
    bounds = np.array([row.measured.bound for row in rows], np.int8)
    sign = -1 if settings.is_lower_better else 1
    is_word = np.isnan(raw)
    if is_word.any():
        raw[is_word] = sign * (sign * raw[~is_word]).min()
    bounds = np.where(is_word, -1, sign * bounds).astype(np.int8)
    values = _transform(raw, settings.score_transform)
    # 0 - score, not -score: a zero stays a zero without a sign.
    values = 0.0 - values if settings.score_sense == "lower" else values
    return Scores(values, np.zeros_like(bounds) if settings.censored == "value" else bounds)


def problems_of(rows: list[GoodRow], settings: AbstractTableSettings, column: str) -> dict[int, Finding]:
    """Return what is wrong with the scores of rows as a whole, by the place of the row: no transform, no worst number."""
    problems: dict[int, Finding] = {}
    transform = settings.score_transform
    for place, (row, measured) in enumerate(rows):
        score = measured.score
        if isinstance(score, float) and not _has_transform(score, transform):
            cure = _CURES[transform.removeprefix("-")]
            message = f"score {quote(score)} has no {transform}: {cure}"
            problems[place] = error(row, column, "no_transform", message)
    if all(measured.score is None or place in problems for place, (_, measured) in enumerate(rows)):
        for place, (row, measured) in enumerate(rows):
            if measured.score is None:
                message = "this word stands for the worst number of the column, and no row has a number"
                problems[place] = error(row, column, "no_worst", message)
    return problems


def _has_transform(score: float, transform: ScoreTransform) -> bool:
    if transform in ("log10", "-log10"):
        return score > 0
    return transform != "logit" or 0 < score < 1


def _transform(raw: np.ndarray, transform: ScoreTransform) -> np.ndarray:
    if transform in ("log10", "-log10"):
        # 0 - score, not -score: a zero stays a zero without a sign.
        return np.log10(raw) if transform == "log10" else 0.0 - np.log10(raw)
    if transform == "logit":
        return np.log(raw) - np.log1p(-raw)
    if transform == "rank":
        _, places, counts = np.unique(raw, return_inverse=True, return_counts=True)
        return ((np.cumsum(counts) - counts / 2) / max(len(raw), 1))[places]
    return raw
