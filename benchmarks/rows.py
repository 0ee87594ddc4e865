"""What a benchmark leaves: one row a measurement, as a line of JSON or in a table."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from narrows.files import write_atomically

SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        case: what was measured, its parts separated by slashes, the benchmark's name first.
        metric: which property of it.
        value: the median over the seeds or windows.
        low, high: the smallest and largest over the seeds, or over the windows of a timing, or the ends of the interval where
            `value` is a mean with one, as its case says; None for what is exact or was measured once.
        unit: of `value`, `low` and `high`; empty for a pure number.
        against: the peer of the same run; None where there is none.
        ratio: ours to the peer's.
        target: what was asked for, such as `<= 0.05`; None where nothing was.
        met: whether every seed reached the target, or the median over the windows.
        seeds: the seeds of ours; empty for what is exact and for timings.
        command: what to type for this row.
        versions: of Python and the libraries.
        machine: what it ran on, in words.
    """

    case: str
    metric: str
    value: float
    low: float | None
    high: float | None
    unit: str
    against: str | None
    ratio: float | None
    target: str | None
    met: bool | None
    seeds: tuple[int, ...]
    command: str
    versions: dict[str, str]
    machine: str

    def to_json(self) -> str:
        """Return the row as one line of JSON."""
        return json.dumps(asdict(self), allow_nan=False)


FIELDS = tuple(field.name for field in fields(Row))


@dataclass(frozen=True)
class Target:
    """What a measurement should reach.

    >>> str(Target("<=", 0.05))
    '<= 0.05'
    """

    sense: Literal["<=", ">=", "<", ">"]
    bound: float

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g}"

    def is_met(self, values: Iterable[float]) -> bool:
        """Return whether every one of the values reaches the target."""
        tests = {
            "<=": lambda value: value <= self.bound,
            ">=": lambda value: value >= self.bound,
            "<": lambda value: value < self.bound,
            ">": lambda value: value > self.bound,
        }
        return all(tests[self.sense](value) for value in values)


@dataclass(frozen=True)
class Context:
    """What all rows of one run share, and how it was asked for.

    Attributes:
        quick: measure the same thing, smaller, within minutes.
        data: the folder of the case's data; None for the case's own default.
        command, versions, machine: as in a row.
        cases, against: what to time and beside whom, for the benchmark that has parts; empty for its own choice.
        record: keep what is measured as the baseline that later runs are compared with.
    """

    quick: bool
    data: Path | None
    command: str
    versions: dict[str, str]
    machine: str
    cases: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    record: bool = False

    def row(
        self,
        case: str,
        metric: str,
        values: Sequence[float],
        *,
        unit: str = "",
        seeds: Sequence[int] = (),
        against: str | None = None,
        peer: float | None = None,
        target: Target | None = None,
        windows: bool = False,
    ) -> Row:
        """Return the row of one measurement.

        Args:
            case, metric, unit, against: as in a row.
            values: one for each seed, or the one value of something exact; finite.
            seeds: the seeds of `values`; empty for something exact.
            peer: the peer's value, for the ratio.
            target: what every value should reach, or the median of the windows.
            windows: the values are those of the windows of one timing, not of seeds.

        Raises ValueError for a value that is not finite and for a number of values that is not that of the seeds.
        """
        if not values or (not windows and len(values) != max(len(seeds), 1)):
            raise ValueError(f"{case}, {metric}: expected {max(len(seeds), 1)} values, one a seed, got {len(values)}.")
        if not all(math.isfinite(value) for value in values):
            raise ValueError(f"{case}, {metric}: expected finite values, got {list(values)}. Find out what diverged.")
        value = statistics.median(values)
        is_range = len(values) > 1
        return Row(
            case=case,
            metric=metric,
            value=_rounded(value),
            low=_rounded(min(values)) if is_range else None,
            high=_rounded(max(values)) if is_range else None,
            unit=unit,
            against=against,
            ratio=None if peer is None or peer == 0.0 else _rounded(value / peer),
            target=None if target is None else str(target),
            met=None if target is None else target.is_met([value] if windows else values),
            seeds=tuple(seeds),
            command=self.command,
            versions=self.versions,
            machine=self.machine,
        )


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines, the whole file or nothing; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(f"{row.to_json()}\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file of JSON lines; ValueError names the first line that is not a row."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_parsed(line, f"{path.name}, line {number}") for number, line in enumerate(lines, start=1)]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that reads well both in a terminal and as Markdown.

    >>> print(table(["a", "metric"], [["1", "x"]]))
    | a | metric |
    |---|--------|
    | 1 | x      |
    """
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def plain_table(rows: Sequence[Row]) -> str:
    """Return a table with one line a row, for any benchmark."""
    header = ("case", "metric", "value", "unit", "against", "ratio", "target", "met")
    return table(header, [_cells(row) for row in rows])


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


def spread(row: Row, digits: int = 3) -> str:
    """Return the median of a row and, where there are several seeds, its range: `0.012 (0.010 to 0.015)`."""
    if row.low is None or row.high is None:
        return figure(row.value, digits)
    return f"{figure(row.value, digits)} ({figure(row.low, digits)} to {figure(row.high, digits)})"


def verdict(row: Row) -> str:
    """Return whether a row met its target, in one word; nothing where there was none."""
    return "" if row.met is None else "yes" if row.met else "**no**"


def _cells(row: Row) -> list[str]:
    ratio = "" if row.ratio is None else figure(row.ratio)
    return [row.case, row.metric, spread(row), row.unit, row.against or "", ratio, row.target or "", verdict(row)]


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _parsed(line: str, place: str) -> Row:
    try:
        entry: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not a line of JSON ({error}). Run the benchmark again with --out.") from None
    if not isinstance(entry, dict) or set(entry) != set(FIELDS):
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise ValueError(f"{place}: expected the fields {sorted(FIELDS)}, got {found}. Run the benchmark again with --out.")
    return Row(**{**entry, "seeds": tuple(entry["seeds"])})
