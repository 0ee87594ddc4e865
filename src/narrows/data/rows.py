"""From records to rows: what can be used, what is set aside, and what repeats."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from narrows.data.cells import Rules, explain_row, read_row, strip_cells
from narrows.data.check import Rejected
from narrows.data.findings import Finding, count, error, name_rows, warning
from narrows.data.records import Record, damage_of, is_blank, read_records
from narrows.data.text import Text
from narrows.printing import quote


class GoodRow(NamedTuple):
    """One row that can be used: the line number where it starts, its sequence and its score, or class, as in the file."""

    row: int
    sequence: str
    score: float | str


@dataclass(frozen=True)
class SortedRows:
    """The rows of a file by their fate, each list in the order of the file."""

    good: list[GoodRow] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_blank: int = 0


def read_rows(text: Text, rules: Rules) -> SortedRows:
    """Read every record after the header; each is good, rejected with a finding for every reason, or blank."""
    rows = SortedRows()
    blank, padded, broken = [], [], []
    layout = rules.layout
    for record in read_records(text.lines, layout.delimiter, layout.body, is_runaway=_runaway(rules)):
        if record.end - record.start > 1:
            broken.append(record)
        if damage := damage_of(text, record):
            _reject(rows, record, [damage])
        elif pair := read_row(rules, record):
            rows.good.append(GoodRow(record.row, *pair))
        elif is_blank(record.fields):
            blank.append(record.row)
        elif pair := read_row(rules, stripped := strip_cells(record)):
            padded.append(record.row)
            rows.good.append(GoodRow(record.row, *pair))
        else:
            _reject(rows, record, explain_row(rules, stripped))
    named = text.separator is not None  # by the first line, which is no blank one
    blank = [*range(2 if named else 1, layout.header_row), *blank]
    rows.findings.extend(_notes(blank, padded, broken))
    return SortedRows(rows.good, rows.rejected, rows.findings, len(blank))


def merge_duplicates(rows: SortedRows, text: Text, delimiter: str) -> SortedRows:
    """Keep one row of each sequence whose rows agree on the score, and reject every row of one whose rows do not.

    Which of two scores is right cannot be told from the table, so neither is taken.
    """
    dropped: set[int] = set()
    findings: list[Finding] = []
    rejected: list[Rejected] = []
    for group in _repeats(rows.good):
        if len({row.score for row in group}) == 1:
            dropped.update(row.row for row in group[1:])
            findings.extend(_repeated(group[0], row) for row in group[1:])
            continue
        dropped.update(row.row for row in group)
        for row, finding in zip(group, _conflicts(group), strict=True):
            findings.append(finding)
            record = next(read_records(text.lines, delimiter, row.row - 1))
            rejected.append(Rejected(row.row, finding.message, tuple(record.fields)))
    good = [row for row in rows.good if row.row not in dropped] if dropped else rows.good
    everything = sorted([*rows.rejected, *rejected], key=lambda entry: entry.row)
    return SortedRows(good, everything, [*rows.findings, *findings], rows.num_blank)


def _reject(rows: SortedRows, record: Record, findings: list[Finding]) -> None:
    assert findings, f"row {record.row} was rejected without a reason"
    rows.findings.extend(findings)
    reason = "; ".join(finding.message for finding in findings)
    rows.rejected.append(Rejected(record.row, reason, tuple(record.fields)))


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


def _notes(blank: list[int], padded: list[int], broken: list[Record]) -> list[Finding]:
    notes: list[Finding] = []
    if blank:
        notes.append(
            warning(blank[0], None, "blank_line", f"{count(len(blank), 'blank line')} passed over: {name_rows(blank)}")
        )
    if padded:
        message = f"blanks around cells taken off in {count(len(padded), 'row')}: {name_rows(padded)}"
        notes.append(warning(padded[0], None, "whitespace", message))
    for record in broken:
        message = f"one row over lines {record.row} to {record.end}: a quoted cell holds line breaks"
        notes.append(warning(record.row, None, "line_breaks", message))
    return notes


def _repeats(rows: Sequence[GoodRow]) -> list[list[GoodRow]]:
    first: dict[str, GoodRow] = {}
    groups: dict[str, list[GoodRow]] = {}
    for row in rows:
        earlier = first.setdefault(row.sequence, row)
        if earlier is not row:
            groups.setdefault(row.sequence, [earlier]).append(row)
    return list(groups.values())


def _repeated(kept: GoodRow, row: GoodRow) -> Finding:
    message = f"sequence {quote(row.sequence)} was on row {kept.row} with the same score {quote(row.score)}; kept once"
    return warning(row.row, None, "duplicate", message)


def _conflicts(group: list[GoodRow]) -> Iterator[Finding]:
    """Yield a finding for each row of one sequence, which names the first row with another score."""
    first = group[0]
    second = next(row for row in group if row.score != first.score)
    everywhere = f" (it is on {name_rows([row.row for row in group])})" if len(group) > 2 else ""
    cure = "Keep the right one." if isinstance(first.score, str) else "Keep the right one, or put one row with their mean."
    for row in group:
        other = second if row.score == first.score else first
        scores = f"{quote(row.score)} here and {quote(other.score)} on row {other.row}"
        yield error(row.row, None, "conflict", f"sequence {quote(row.sequence)} has score {scores}{everywhere}. {cure}")
