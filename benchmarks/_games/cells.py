"""What the tables of this benchmark are put together from: rows by name, and how their values are written."""

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.rows import Row, figure, spread, verdict

Known = dict[tuple[str, str], Row]
"""Rows by case and metric."""


def known(rows: Iterable[Row]) -> Known:
    """Return rows by case and metric."""
    return {(row.case, row.metric): row for row in rows}


def cases(rows: Iterable[Row], start: str, parts: int | None = None) -> list[str]:
    """Return the cases that begin so, or of so many parts that their first ones begin so, in the order of the rows."""
    found = dict.fromkeys(row.case for row in rows if row.case == start or row.case.startswith(f"{start}/"))
    return [case for case in found if parts is None or case.count("/") + 1 == parts]


def name_of(case: str) -> str:
    """Return the last part of a case."""
    return case.rpartition("/")[2]


def share(row: Row | None, digits: int = 1) -> str:
    """Return a share in percent, with its range over seeds where there is one; nothing for no row."""
    if row is None:
        return ""
    told = f"{100.0 * row.value:.{digits}f} %"
    if row.low is None or row.high is None:
        return told
    return f"{told} ({100.0 * row.low:.{digits}f} to {100.0 * row.high:.{digits}f})"


def value(row: Row | None, digits: int = 3) -> str:
    """Return a value, with its range where there is one; nothing for no row."""
    return "" if row is None else spread(row, digits)


def count(row: Row | None) -> str:
    """Return a number of things, the median over seeds; nothing for no row."""
    return "" if row is None else f"{row.value:,.0f}"


def minutes(row: Row | None) -> str:
    """Return seconds as people say them: 45 s, 32 min."""
    if row is None:
        return ""
    return f"{row.value:.0f} s" if row.value < 600 else f"{row.value / 60:.0f} min"


def peer(row: Row | None, factor: float = 1.0, digits: int = 3) -> str:
    """Return what the value of the other side was; nothing where there is none."""
    return "" if row is None or not row.ratio else figure(factor * row.value / row.ratio, digits)


def judged(row: Row | None) -> tuple[str, str]:
    """Return the target of a row and whether it was met."""
    return ("", "") if row is None else (row.target or "", verdict(row))


def lines_of(rows: Sequence[Row], start: str) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a case whose metrics begin so, each with the rest of its metric."""
    for row in rows:
        if row.metric.startswith(start):
            yield row.metric.removeprefix(start).strip(), row
