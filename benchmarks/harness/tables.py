"""The tables of the pages, read off the rows: which cases are its lines, and what each column says of a case."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.harness.intervals import Interval
from benchmarks.harness.rows import Row

Cell = Callable[[str], str]
"""From a case to what stands in its line."""
Column = tuple[str, Cell]
"""A heading and the cells below it."""


class Found(Mapping[tuple[str, str], Row]):
    """Rows by case and metric."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)
        self._known = {(row.case, row.metric): row for row in self.rows}

    def __getitem__(self, place: tuple[str, str]) -> Row:
        return self._known[place]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def told(self, case: str, metric: str, tell: Callable[..., str] | None = None, *args: Any) -> str:
        """Return what a row says, nothing where there is none; by default its value and range."""
        row = self.get((case, metric))
        return "" if row is None else (spread if tell is None else tell)(row, *args)

    def cases(self, start: str, parts: int | None = None) -> list[str]:
        """Return the cases that begin so, or those of so many parts, in the order of the rows."""
        found = dict.fromkeys(row.case for row in self.rows if row.case == start or row.case.startswith(f"{start}/"))
        return [case for case in found if parts is None or case.count("/") + 1 == parts]

    def cell(self, metric: str, tell: Callable[..., str] | None = None, *args: object) -> Cell:
        """Return the cells of a column that tells a metric."""
        return lambda case: self.told(case, metric, tell, *args)

    def judged(self, metric: str) -> list[Column]:
        """Return the two columns that say what was asked of a metric and whether it was met."""
        return [("target", self.cell(metric, lambda row: row.target or "")), ("met", self.cell(metric, verdict))]


def name_of(case: str) -> str:
    """Return the last part of a case."""
    return case.rpartition("/")[2]


def part_of(case: str, place: int) -> str:
    """Return one part of a case, counted from 0."""
    return case.split("/")[place]


def lines(cases: Iterable[str], columns: Sequence[Column], *, drops_empty: bool = False) -> str:
    """Return a table with a line a case; columns in which nothing stands may be dropped."""
    cells = [[cell(case) for _, cell in columns] for case in cases]
    kept = [place for place in range(len(columns)) if not drops_empty or any(line[place] for line in cells)]
    return table([columns[place][0] for place in kept], [[line[place] for place in kept] for line in cells])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that reads well both in a terminal and as Markdown.

    >>> print(table(["a", "metric"], [["1", "x"]]))
    | a | metric |
    |---|--------|
    | 1 | x      |
    """
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    shown = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def plain_table(rows: Sequence[Row]) -> str:
    """Return a table with one line a row, for any benchmark."""
    return table(
        ("case", "metric", "value", "unit", "against", "ratio", "target", "met"),
        [(r.case, r.metric, spread(r), r.unit, r.against or "", ratio(r), r.target or "", verdict(r)) for r in rows],
    )


def in_short(
    rows: Iterable[Row], head: str, tell: Callable[[Row], str], is_figure: Callable[[Row], bool] | None = None, of: str = ""
) -> str:
    """Return every target with what was measured, nothing where there is none.

    Args:
        rows: of one benchmark, whose cases begin with `head`.
        head: what is left out of each case.
        tell: how a value is written.
        is_figure: whether a row asks for a figure of the specification: all of a part's stand in one line.
        of: what those lines are called where the part's own name is not it.
    """
    judged = [row for row in rows if row.target is not None]
    cells = []
    for part in dict.fromkeys(part_of(row.case, 1) for row in judged):
        here = [row for row in judged if part_of(row.case, 1) == part]
        figures = [row for row in here if is_figure is not None and is_figure(row)]
        if figures:
            right = sum(row.met is True for row in figures)
            met = "yes" if right == len(figures) else "**no**"
            cells.append((of or part, "figures as specified", f"{right} of {len(figures)}", "all", met))
        for row in here:
            if row not in figures:
                place = row.case.removeprefix(head).replace("/", ": ")
                cells.append((place, row.metric, tell(row), row.target or "", verdict(row)))
    return "### In short\n\n" + table(("part", "what was asked for", "measured", "target", "met"), cells) if cells else ""


def figure(value: float, digits: int = 3) -> str:
    """Return a number as people read it: `digits` significant digits, no exponent where it can be helped.

    >>> figure(0.012345), figure(1234.5), figure(0.0), figure(2e-7)
    ('0.0123', '1234', '0', '2e-07')
    """
    if value == 0.0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4:
        return f"{value:.{digits}g}"
    return f"{value:.{max(0, digits - 1 - size)}f}"


def plain(row: Row, digits: int = 3) -> str:
    """Return the median of a row alone."""
    return figure(row.value, digits)


def fixed(row: Row, form: str) -> str:
    """Return the median of a row in a form of Python's."""
    return f"{row.value:{form}}"


def spread(row: Row, digits: int = 3) -> str:
    """Return the median of a row and, where there are several seeds, its range: `0.012 (0.010 to 0.015)`."""
    return _ranged(row, lambda value: figure(value, digits))


def count(row: Row) -> str:
    """Return a number of things, the median over seeds."""
    return f"{row.value:,.0f}"


def counts(row: Row) -> str:
    """Return a number of things with its range."""
    return _ranged(row, lambda value: f"{value:,.0f}")


def share(row: Row, digits: int = 1) -> str:
    """Return a share in percent, with its range over seeds where there is one."""
    told = f"{100.0 * row.value:.{digits}f} %"
    if row.low is None or row.high is None:
        return told
    return f"{told} ({100.0 * row.low:.{digits}f} to {100.0 * row.high:.{digits}f})"


def minutes(row: Row) -> str:
    """Return seconds as people say them: 45 s, 32 min."""
    return f"{row.value:.0f} s" if row.value < 600 else f"{row.value / 60:.0f} min"


def ratio(row: Row, digits: int = 3) -> str:
    """Return ours to the peer's."""
    return "" if row.ratio is None else figure(row.ratio, digits)


def peer(row: Row, digits: int = 3, factor: float = 1.0) -> str:
    """Return what the value of the other side was; nothing where there is none."""
    return figure(factor * row.value / row.ratio, digits) if row.ratio else ""


def verdict(row: Row) -> str:
    """Return whether a row met its target, in one word; nothing where there was none."""
    return "" if row.met is None else "yes" if row.met else "**no**"


def with_verdict(row: Row, told: str) -> str:
    """Return what is told of a row, and where a target is set whether it was met."""
    return told if row.target is None else f"{told} (target {row.target}: {verdict(row)})"


def interval_of(row: Row) -> Interval:
    """Return a value and the ends of its interval; ValueError where a row has none."""
    if row.low is None or row.high is None:
        raise ValueError(f"{row.case}: {row.metric} has no interval. Measure it again: `{row.command}`.")
    return Interval(row.value, row.low, row.high)


def _ranged(row: Row, tell: Callable[[float], str]) -> str:
    if row.low is None or row.high is None:
        return tell(row.value)
    return f"{tell(row.value)} ({tell(row.low)} to {tell(row.high)})"
