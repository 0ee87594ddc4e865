"""From records to rows: what can be used, and what is set aside."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from narrows.data.cells import Measured, Rules, explain_row, read_row, strip_cells
from narrows.data.findings import DROPPED, Finding, Rejected, warning
from narrows.data.notes import Notes
from narrows.data.records import Record, damage_of, is_blank, read_records
from narrows.data.settings import Censored
from narrows.data.text import Text
from narrows.printing import quote


class GoodRow(NamedTuple):
    """One row that can be used: the line number where it starts, and its cells."""

    row: int
    measured: Measured


@dataclass(frozen=True)
class SortedRows:
    """The rows of a file by their fate, each list in the order of the file."""

    good: list[GoodRow] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_blank: int = 0


def read_rows(text: Text, rules: Rules, censored: Censored = "bound") -> SortedRows:
    """Read every record after the header; each is good, rejected with a finding for every reason, or blank.

    Where bounds are dropped, they are rejected with a warning in place of an error: the table can be used without them.
    """
    rows, notes = SortedRows(), Notes()
    layout, blank = rules.layout, notes.blank
    for record in read_records(text.lines, layout.delimiter, layout.body, is_runaway=_runaway(rules)):
        if record.end - record.start > 1:
            notes.broken.append(record)
        if damage := damage_of(text, record):
            reject(rows, record, [damage])
            continue
        measured = read_row(rules, record)
        if measured is None:
            if is_blank(record.fields):
                blank.append(record.row)
                continue
            stripped = strip_cells(record)
            measured = read_row(rules, stripped)
            if measured is None:
                reject(rows, record, explain_row(rules, stripped))
                continue
            notes.padded.append(record.row)
        if censored == "drop" and (measured.bound or measured.score is None):
            column = layout.header[layout.score]
            message = f"{quote(record.fields[layout.score].strip())} is a bound, and bounds are dropped"
            reject(rows, record, [warning(record.row, column, DROPPED, message)])
        else:
            notes.take(record, rules, measured)
            rows.good.append(GoodRow(record.row, measured))
    named = text.separator is not None  # by the first line, which is no blank one
    blank[:0] = range(2 if named else 1, layout.header_row)
    rows.findings.extend(notes.findings(rules, censored))
    return SortedRows(rows.good, rows.rejected, rows.findings, len(blank))


def reject(rows: SortedRows, record: Record, findings: list[Finding]) -> None:
    """Set a record aside for the reasons that findings give."""
    assert findings, f"row {record.row} was rejected without a reason"
    rows.findings.extend(findings)
    reason = "; ".join(finding.message for finding in findings)
    rows.rejected.append(Rejected(record.row, reason, tuple(record.fields), findings[0].kind))


def _runaway(rules: Rules) -> Callable[[list[str], list[str]], bool]:
    """Return the test for a quote that was never meant to hold the lines it holds."""
    layout = rules.layout

    def looks_like_row(line: str) -> bool:
        cells = line.split(layout.delimiter)
        return len(cells) == len(layout.header) and rules.legal.fullmatch(cells[layout.sequence].strip()) is not None

    def is_runaway(fields: list[str], inner: list[str]) -> bool:
        if len(fields) != len(layout.header):
            return True
        spread = [index for index, cell in enumerate(fields) if "\n" in cell or "\r" in cell]
        if layout.score in spread:
            return True
        if not rules.space.alphabet:
            return False  # a text may have several lines, and every line reads like a text
        if layout.sequence in spread:
            return True
        # The last line holds the true sequence where the cell with line breaks stands before it.
        swallowed = inner if all(index > layout.sequence for index in spread) else inner[:-1]
        return any(map(looks_like_row, swallowed))

    return is_runaway
