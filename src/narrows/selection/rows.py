"""A shortlist as data: its rows, what it was chosen from, and how diverse it is."""

import importlib.util
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from narrows.distance import EDITS
from narrows.selection.digits import rounded
from narrows.selection.guide import SCORE_GUIDE, Guide
from narrows.selection.outcomes import Outcomes, OutcomeSummary

Library = Literal["pandas", "polars"]


@dataclass(frozen=True)
class ShortlistRow:
    """One row of a shortlist; what is not known is `None`.

    Args:
        rank: 1 for the best.
        sequence: the object.
        score: what guided the run says of it: the mean that a proxy predicts, or the score itself.
        score_std: how unsure that is, one standard deviation.
        lower_bound: `score - kappa score_std`.
        nearest_measured: the measured sequence nearest to this one; of several the best scored.
        nearest_measured_score: its score.
        distance_to_measured: its distance.
        cluster: the family of the row, from 1 in order of rank; see `select`.
        why: a sentence that says why the row is here, and what was passed over before it.
        run: the run that saw the object first.
        seed: the seed of that run.
        step: the training step of that run.
        asked: in a run under noise, what to ask for letter by letter so that the object may come out: the sequence itself.
        expected_mean: in a run under noise, the mean score of what comes out.
        expected_std: the standard deviation of that score from one outcome to the next.
        prob_as_asked: the probability that exactly this object comes out.
        caution: what to know of every row before any is made: that the proxy ranks no better than the mean.
    """

    rank: int
    sequence: str
    score: float
    score_std: float | None = None
    lower_bound: float | None = None
    nearest_measured: str | None = None
    nearest_measured_score: float | None = None
    distance_to_measured: int | None = None
    cluster: int = 1
    why: str = ""
    run: str = ""
    seed: int | None = None
    step: int | None = None
    asked: str | None = None
    expected_mean: float | None = None
    expected_std: float | None = None
    prob_as_asked: float | None = None
    caution: str | None = None


@dataclass(frozen=True, eq=False)
class LetterCounts:
    """The counts of letters at each position, sequences aligned at their first letter.

    `counts[p, l]` is how many sequences have letter `letters[l]` at position `p`, int64; a row sums to the number of
    sequences that long.
    """

    letters: str
    counts: np.ndarray


@dataclass(frozen=True)
class Diversity:
    """The differences between rows, in the unit of the distance; `None` where there are too few rows or nothing measured.

    Args:
        mean_distance: mean over all pairs of rows.
        min_distance: least over all pairs of rows.
        novelty: mean over rows of the distance to the nearest measured sequence.
        num_clusters: number of families.
    """

    mean_distance: float | None
    min_distance: int | None
    novelty: float | None
    num_clusters: int


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The rows of a shortlist, best first, and how they were chosen.

    Args:
        rows: at most `k` of them.
        reason_fewer: why there are fewer than `k`, and what would help; `None` when there are `k`.
        k: how many rows were asked for.
        min_distance: what any two rows are apart, at least.
        cluster_distance: rows nearer than this to the head of a cluster belong to it.
        ranked_by: what "better" means here, the name of a ranking.
        kappa: how many standard deviations the lower bound lies below the mean.
        num_candidates: distinct objects that could have been chosen.
        num_considered: how many of those, from the best down, were looked at until the list was complete.
        num_left_out: distinct objects that could not be chosen because they are measured already.
        diversity: how different the rows are.
        letter_counts: letters by position.
        distances: between rows, int64 `[rows, rows]`.
        outcomes: how it was found out what comes out of the rows; `None` where everything comes out as asked.
        guide: what the scores come from.
        unit: what distances count, `edits` for sequences.
        both_strands: whether an object and its reverse complement were one.
    """

    rows: tuple[ShortlistRow, ...]
    reason_fewer: str | None
    k: int
    min_distance: int
    cluster_distance: int
    ranked_by: str
    kappa: float
    num_candidates: int
    num_considered: int
    num_left_out: int
    diversity: Diversity
    letter_counts: LetterCounts
    distances: np.ndarray
    outcomes: OutcomeSummary | None = None
    guide: Guide = SCORE_GUIDE
    unit: str = EDITS.unit
    both_strands: bool = False

    def summary(self) -> str:
        """Return a few lines for a terminal."""
        diversity = self.diversity
        lines = [
            f"{len(self.rows)} rows of {self.k}, from {self.num_candidates:,} candidates "
            f"({self.num_considered:,} looked at, {self.num_left_out:,} left out as measured already)",
            f"{self.unit} between rows: at least {_number(diversity.min_distance)}, on average "
            f"{_number(diversity.mean_distance)}; {diversity.num_clusters} clusters",
        ]
        if diversity.novelty is not None:
            lines.append(f"{self.unit} to the nearest measured sequence, on average: {_number(diversity.novelty)}")
        if self.outcomes is not None:
            lines += [f"noise: {self.outcomes.noise}{self._probabilities()}", *self.outcomes.sentences()]
        return "\n".join([*lines, self.reason_fewer] if self.reason_fewer else lines)

    def to_frame(self, library: Library | None = None) -> Any:
        """Return the rows as a data frame, a column for each field; by default of pandas, or of polars where that is not there.

        Raises ImportError where the library is not installed.
        """
        import narwhals

        libraries: tuple[Library, ...] = ("pandas", "polars") if library is None else (library,)
        found: list[Library] = [name for name in libraries if importlib.util.find_spec(name) is not None]
        if not found:
            message = f"a frame needs {' or '.join(libraries)}, which is not installed: pip install {libraries[0]}"
            raise ImportError(message)
        columns = {field.name: [getattr(row, field.name) for row in self.rows] for field in fields(ShortlistRow)}
        return narwhals.from_dict(columns, backend=found[0]).to_native()

    def _probabilities(self) -> str:
        known = [row.prob_as_asked for row in self.rows if row.prob_as_asked is not None]
        if not known:
            return ""
        shown = _number(min(known)) if min(known) == max(known) else f"{_number(min(known))} to {_number(max(known))}"
        return f"; a row comes out exactly as asked with probability {shown}"


def with_outcomes(shortlist: Shortlist, outcomes: Outcomes | None, summary: OutcomeSummary) -> Shortlist:
    """Return a shortlist whose rows say what comes out of them, to six digits; NaN where it is not known.

    Args:
        shortlist: its rows are objects to ask for.
        outcomes: what comes out of them, in order of rank; None where that is not known at all.
        summary: how it was found out.
    """
    columns = [[None] * len(shortlist.rows)] * 3 if outcomes is None else [_known(column) for column in outcomes]
    rows = (
        replace(row, asked=row.sequence, expected_mean=mean, expected_std=std, prob_as_asked=probability)
        for row, mean, std, probability in zip(shortlist.rows, *columns, strict=True)
    )
    return replace(shortlist, rows=tuple(rows), outcomes=summary)


def _known(values: np.ndarray) -> list[float | None]:
    # Rows of one list may lie close together: three digits tell them apart.
    return [None if np.isnan(value) else value for value in rounded(values, apart=3).tolist()]


def letter_counts(sequences: list[str]) -> LetterCounts:
    """Count letters by position.

    >>> letter_counts(["ACG", "AA"]).counts.tolist()
    [[2, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    letters = "".join(sorted(set("".join(sequences))))
    counts = np.zeros((max(map(len, sequences), default=0), len(letters)), np.int64)
    for sequence in sequences:
        counts[np.arange(len(sequence)), [letters.index(letter) for letter in sequence]] += 1
    return LetterCounts(letters, counts)


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"
