"""What a benchmark leaves: one row a measurement, a line of JSON each."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness.intervals import Interval
from narrows.files import write_atomically

SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class Row:
    """One measurement."""

    case: str  # what was measured, its parts separated by slashes, the benchmark's name first
    metric: str  # which property of it
    value: float  # the median over the seeds or windows; of an interval the mean
    # low, high: the smallest and largest over the seeds or windows, or the ends of an interval; None for what is exact or was
    # measured once
    low: float | None
    high: float | None
    unit: str  # of `value`, `low` and `high`; empty for a pure number
    against: str | None  # the peer of the same run; None where there is none
    ratio: float | None  # ours to the peer's
    target: str | None  # what was asked for, such as `<= 0.05`; None where nothing was
    met: bool | None  # whether every seed reached the target, or the median over the windows
    seeds: tuple[int, ...]  # of ours; empty for what is exact and for timings
    command: str  # what to type for this row
    versions: dict[str, str]  # of Python and the libraries
    machine: str  # what it ran on, in words

    def to_json(self) -> str:
        """Return the row as one line of JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @property
    def least(self) -> float:
        """The lower end of the range, the value itself where there is none."""
        return self.value if self.low is None else self.low

    @property
    def most(self) -> float:
        """The upper end of the range, the value itself where there is none."""
        return self.value if self.high is None else self.high


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
    """What all rows of one run share, and how it was asked for."""

    quick: bool  # measure the same thing, smaller, within minutes
    data: Path | None  # the folder of the case's data; None for the case's own default
    # command, versions, machine: as in a row
    command: str
    versions: dict[str, str]
    machine: str
    cases: tuple[str, ...] = ()  # the parts to measure, of a benchmark that has parts; empty for its own choice
    against: tuple[str, ...] = ()  # beside which peers; empty for its own choice
    record: bool = False  # keep what is measured as the baseline that later runs are compared with

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
            case, metric, unit: as in a row.
            values: one for each seed, or the one value of something exact; finite.
            seeds: the seeds of `values`; empty for something exact.
            against: as in a row.
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

    def interval_row(self, case: str, metric: str, found: Interval, target: Target | None = None) -> Row:
        """Return the row of a value with an interval of its own; the target is for the value."""
        row = self.row(case, metric, [found.value], target=target)
        return replace(row, low=_rounded(found.low), high=_rounded(found.high))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines, the whole file or nothing; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(f"{row.to_json()}\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file of JSON lines; ValueError names the first line that is not a row."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_parsed(line, f"{path.name}, line {number}") for number, line in enumerate(lines, start=1)]


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
