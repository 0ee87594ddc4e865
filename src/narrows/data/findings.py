"""Findings about a table, and the error that lists them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from narrows.printing import quote

Severity = Literal["error", "warning"]

# A message names this many rows of one kind; every row of an error has a finding of its own.
_ROWS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong on one row: `row` is a line number of the file (its first line is 1), 0 for the file itself."""

    row: int
    column: str | None
    kind: str
    message: str
    severity: Severity

    @property
    def in_place(self) -> str:
        """The message after the row and the column that it is about."""
        column = "" if self.column is None else f", column {quote(self.column)}"
        return f"row {self.row}{column}: {self.message}" if self.row else self.message

    def __str__(self) -> str:
        place = f"row {self.row}" if self.row else "file"
        return f"{place}: {self.severity}: {self.message}"


@dataclass(frozen=True)
class Rejected:
    """One row kept out of the table: its line number, why, its cells as they stand in the file, and the first reason's kind."""

    row: int
    reason: str
    fields: tuple[str, ...]
    kind: str = ""


class DataError(ValueError):
    """A table that cannot be used as it is; `findings` holds every reason, the message the first ones of each kind."""

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class FileRefused(Exception):
    """The one finding that stops the reading of a file; never leaves this package."""

    def __init__(self, kind: str, message: str, row: int = 0, column: str | None = None) -> None:
        super().__init__(message)
        self.finding = Finding(row, column, kind, message, "error")


def error(row: int, column: str | None, kind: str, message: str) -> Finding:
    """Return a finding that keeps its row out of the table."""
    return Finding(row, column, kind, message, "error")


def warning(row: int, column: str | None, kind: str, message: str) -> Finding:
    """Return a finding that changes nothing a user would miss."""
    return Finding(row, column, kind, message, "warning")


DROPPED = "dropped_bound"
"""The kind of rows that are left out because a user asked for it."""
_KINDS = {
    "bad_symbol": "with a letter outside the alphabet",
    "case": "with letters in the wrong case",
    "conflict": "with another score for the same sequence",
    "decimal_comma": "with a decimal comma",
    DROPPED: "with a bound, dropped",
    "empty_score": "without a score",
    "empty_sequence": "without a sequence",
    "encoding": "with bytes that are not UTF-8",
    "length": "with a length outside the space",
    "mutation": "with mutations that do not fit the parent",
    "no_transform": "with a score that cannot be transformed",
    "no_worst": "with a word for a bound that no number gives",
    "non_finite_score": "with a score that is not finite",
    "non_numeric_score": "with a score that is no number",
    "nul": "with NUL bytes",
    "quote": "with a quote that does not close",
    "ragged": "with too many or too few cells",
}
"""What is wrong with rows that were rejected, by the kind of the finding."""


def sum_up(rejected: Iterable[Rejected]) -> dict[str, str]:
    """Sum up rows that were rejected by the kind of the reason, the most frequent kind first.

    >>> rows = Rejected(2, "", (), "length"), Rejected(4, "", (), "bad_symbol"), Rejected(7, "", (), "bad_symbol")
    >>> list(sum_up(rows).values())
    ['2 with a letter outside the alphabet: rows 4 and 7', '1 with a length outside the space: row 2']
    """
    kinds: dict[str, list[int]] = {}
    for entry in rejected:
        kinds.setdefault(entry.kind, []).append(entry.row)
    ordered = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return {kind: f"{len(rows):,} {_KINDS[kind]}: {name_rows(rows)}" for kind, rows in ordered}


def name_rows(rows: Sequence[int]) -> str:
    """Name rows in words, the first five by number.

    >>> name_rows([7]), name_rows([2, 5, 9])
    ('row 7', 'rows 2, 5 and 9')
    """
    if len(rows) == 1:
        return f"row {rows[0]}"
    if len(rows) > _ROWS_NAMED:
        return f"rows {', '.join(map(str, rows[:_ROWS_NAMED]))} and {len(rows) - _ROWS_NAMED:,} more"
    return f"rows {', '.join(map(str, rows[:-1]))} and {rows[-1]}"


def list_first(findings: Iterable[Finding], write: Callable[[Finding], str] = str) -> list[str]:
    """Write the first five findings of each kind, in their order, and then how many more there are of each."""
    numbers: Counter[tuple[Severity, str]] = Counter()
    lines: list[str] = []
    for finding in findings:
        numbers[finding.severity, finding.kind] += 1
        if numbers[finding.severity, finding.kind] <= _ROWS_NAMED:
            lines.append(write(finding))
    more = {kind: number - _ROWS_NAMED for (_, kind), number in numbers.items() if number > _ROWS_NAMED}
    return [*lines, *(f"and {number:,} more of the kind {kind}" for kind, number in more.items())]


def count(number: int, noun: str) -> str:
    """Write a number with its noun.

    >>> count(1, "row"), count(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
