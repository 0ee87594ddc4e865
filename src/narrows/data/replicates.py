"""Rows of one sequence: exact repeats are kept once, measurements of it are joined."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from narrows.data.cells import Measured
from narrows.data.findings import Finding, count, error, name_rows, warning
from narrows.data.layout import Layout
from narrows.data.records import read_records
from narrows.data.rows import GoodRow
from narrows.data.scores import Scores
from narrows.data.settings import Replicates
from narrows.data.text import Text
from narrows.printing import quote


@dataclass(frozen=True, eq=False)
class Joined:
    """What became of rows: the `places` of those that are kept, with their `scores` and the measurements each stands for.

    `counts` are these numbers of measurements, int64. `conflicts` says of rows, by their place, why they could not be joined.
    """

    places: np.ndarray
    scores: Scores
    counts: np.ndarray
    measurement_std: float | None
    num_duplicates: int
    findings: tuple[Finding, ...]
    conflicts: dict[int, Finding]


def join(rows: list[GoodRow], scores: Scores, how: Replicates, text: Text, layout: Layout) -> Joined:
    """Join the rows of each sequence to the first of them.

    Rows that repeat sequence, score and whatever else the row says are kept once: somebody copied a line. Rows that only agree
    in sequence and score are two measurements, unless replicates are refused, where nothing would come of counting them. Rows
    that spell a sequence in different cases are joined, and tell nothing of the error of measurement.
    Which of two scores is right cannot be told from the table, so where replicates are refused neither is taken; nor can a
    bound from above and one from below be joined.
    """
    values, bounds, counts = scores.values.copy(), scores.bounds.copy(), np.ones(len(rows), np.int64)
    kept, findings, conflicts = np.ones(len(rows), bool), list[Finding](), dict[int, Finding]()
    squares, freedom, num_duplicates, mixed = 0.0, 0, 0, list[int]()
    for group in _repeats(rows):
        copies = _copies(group, rows, scores, text, None if how == "refuse" else layout)
        if how == "refuse" and len(copies) < len(group) - 1:
            copies = {}
        findings += [_repeated(rows[first], rows[place]) for place, first in copies.items()]
        num_duplicates += len(copies)
        kept[group[1:]] = False
        group = [place for place in group if place not in copies]
        if len(group) == 1:
            continue
        joined = None if how == "refuse" else _joined(_JOIN[how], scores.values[group], scores.bounds[group])
        if joined is None:
            kept[group[0]] = False
            conflicts.update(zip(group, _conflicts([rows[place] for place in group], how), strict=True))
            continue
        findings.append(_replicates([rows[place] for place in group], how))
        (values[group[0]], bounds[group[0]]), counts[group[0]] = joined, len(group)
        plain = scores.values[group][scores.bounds[group] == 0]
        if len({rows[place].measured.spelling for place in group}) > 1:
            mixed.append(rows[group[0]].row)  # what differs may be more than the error of measurement
        elif len(plain) > 1:
            with np.errstate(over="ignore"):
                squares += float(np.square(plain - _mean(plain)).sum())
            freedom += len(plain) - 1
    if mixed:
        message = f"{count(len(mixed), 'sequence')} in upper and in lower case joined as replicates: {name_rows(mixed)}"
        findings.append(warning(mixed[0], None, "mixed_case", f"{message}. --case keep keeps them apart"))
    places = np.flatnonzero(kept)
    std = math.sqrt(squares / freedom) if freedom and math.isfinite(squares) else None
    return Joined(
        places, Scores(values[places], bounds[places]), counts[places], std, num_duplicates, tuple(findings), conflicts
    )


def _mean(values: np.ndarray) -> float:
    # Scaled by a power of two, which is exact: the sum of finite scores may overflow.
    scale = 2.0 ** math.ceil(math.log2(len(values)))
    return fmean((values / scale).tolist()) * scale


def _median(values: np.ndarray) -> float:
    return 2 * float(np.median(values / 2))


def _best(values: np.ndarray) -> float:
    return float(values.max())


_JOIN: dict[str, Callable[[np.ndarray], float]] = {"mean": _mean, "median": _median, "best": _best}


def _joined(of: Callable[[np.ndarray], float], values: np.ndarray, bounds: np.ndarray) -> tuple[float, int] | None:
    """Return the joined score and its bound: the side to which it moves where bounded scores go as far as they may.

    None where it may move to both sides.
    """
    joined = of(values)
    if not bounds.any():
        return joined, 0
    is_least = of(np.where(bounds > 0, np.inf, values)) > joined
    is_most = of(np.where(bounds < 0, -np.inf, values)) < joined
    return None if is_least and is_most else (joined, int(is_least) - int(is_most))


def _repeats(rows: list[GoodRow]) -> list[list[int]]:
    """Return the places of the rows of each sequence that has several."""
    first: dict[str, int] = {}
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        earlier = first.setdefault(row.measured.sequence, place)
        if earlier != place:
            groups.setdefault(row.measured.sequence, [earlier]).append(place)
    return list(groups.values())


def _copies(group: list[int], rows: list[GoodRow], scores: Scores, text: Text, layout: Layout | None) -> dict[int, int]:
    """Return the rows of a group that repeat another one, each with the first that it repeats.

    Without a layout the other cells do not count.
    """
    firsts: dict[tuple[object, ...], int] = {}
    copies: dict[int, int] = {}
    alike: dict[tuple[float, int], list[int]] = {}
    for place in group:
        alike.setdefault((float(scores.values[place]), int(scores.bounds[place])), []).append(place)
    for score, places in alike.items():
        for place in places:
            others = () if layout is None or len(places) == 1 else _other_cells(text, layout, rows[place])
            first = firsts.setdefault((*score, rows[place].measured.spelling, *others), place)
            if first != place:
                copies[place] = first
    return copies


def _other_cells(text: Text, layout: Layout, row: GoodRow) -> tuple[str, ...]:
    if len(layout.header) == 2:
        return ()
    cells = next(read_records(text.lines, layout.delimiter, row.row - 1)).fields
    return tuple(cell.strip() for place, cell in enumerate(cells) if place not in (layout.sequence, layout.score))


def _repeated(kept: GoodRow, row: GoodRow) -> Finding:
    sequence, score = quote(row.measured.sequence), _shown(row.measured)
    return warning(
        row.row, None, "duplicate", f"sequence {sequence} was on row {kept.row} with the same score {score}; kept once"
    )


def _replicates(group: list[GoodRow], how: Replicates) -> Finding:
    ordered = sorted(
        (row.measured for row in group), key=lambda measured: -math.inf if measured.score is None else measured.score
    )
    scores = dict.fromkeys((_shown(ordered[0]), _shown(ordered[-1])))
    rows = name_rows([row.row for row in group])
    taken = "the best is taken" if how == "best" else f"their {how} is taken"
    message = f"sequence {quote(group[0].measured.sequence)} has scores {' to '.join(scores)} on {rows}: {taken}"
    return warning(group[0].row, None, "replicates", message)


def _conflicts(group: list[GoodRow], how: Replicates) -> Iterator[Finding]:
    """Yield a finding for each row of one sequence, which names the first row with another score."""
    first = group[0]
    second = next((row for row in group if row.measured[1:3] != first.measured[1:3]), group[1])
    everywhere = f" (it is on {name_rows([row.row for row in group])})" if len(group) > 2 else ""
    cure = "Keep the right one."
    if how != "refuse":
        cure = "A bound from above and one from below cannot be joined. " + cure
    elif not isinstance(first.measured.score, str):
        cure = "Keep the right one, or join them with --replicates mean."
    for row in group:
        other = second if row.measured[1:3] == first.measured[1:3] else first
        scores = f"{_shown(row.measured)} here and {_shown(other.measured)} on row {other.row}"
        yield error(
            row.row, None, "conflict", f"sequence {quote(row.measured.sequence)} has score {scores}{everywhere}. {cure}"
        )


def _shown(measured: Measured) -> str:
    if measured.score is None:
        return "inactive"
    return ("", ">", "<")[measured.bound] + quote(measured.score)
