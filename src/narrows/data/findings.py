"""Findings about a table, and the error that lists them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from narrows.printing import quote

Severity = Literal["error", "warning"]

# A message names this many rows of one kind; every row of an error has a finding of its own.
_ROWS_NAMED = 10


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


def name_rows(rows: Sequence[int]) -> str:
    """Name rows in words, the first ten by number.

    >>> name_rows([7]), name_rows([2, 5, 9])
    ('row 7', 'rows 2, 5 and 9')
    """
    if len(rows) == 1:
        return f"row {rows[0]}"
    if len(rows) > _ROWS_NAMED:
        return f"rows {', '.join(map(str, rows[:_ROWS_NAMED]))} and {len(rows) - _ROWS_NAMED:,} more"
    return f"rows {', '.join(map(str, rows[:-1]))} and {rows[-1]}"


def list_first(findings: Iterable[Finding], write: Callable[[Finding], str] = str) -> list[str]:
    """Write the first ten findings of each kind, in their order, and then how many more there are of each."""
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
