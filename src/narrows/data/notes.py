"""What is told of rows that can be used, summed over the file: blanks taken off, letters folded, scores that are bounds."""

from dataclasses import dataclass, field

from narrows.data.cells import Measured, Rules
from narrows.data.findings import Finding, count, name_rows, warning
from narrows.data.records import Record
from narrows.data.settings import Censored
from narrows.data.spaces import NAMED_ALPHABETS
from narrows.printing import quote


@dataclass(frozen=True)
class Notes:
    """The rows that something is told of, each list in the order of the file."""

    blank: list[int] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)
    broken: list[Record] = field(default_factory=list)
    folded: list[int] = field(default_factory=list)
    bounds: list[tuple[int, str]] = field(default_factory=list)
    inactive: list[tuple[int, str]] = field(default_factory=list)

    def take(self, record: Record, rules: Rules, measured: Measured) -> None:
        """Note what is to be told of a row that is used."""
        if measured.spelling is not None:
            self.folded.append(record.row)
        if measured.bound or measured.score is None:
            told = self.inactive if measured.score is None else self.bounds
            told.append((record.row, record.fields[rules.layout.score].strip()))

    def findings(self, rules: Rules, censored: Censored) -> list[Finding]:
        """Return a warning for each kind of row, and for each row over several lines."""
        layout = rules.layout
        sequence, score = layout.header[layout.sequence], layout.header[layout.score]
        found = [
            self._of(self.blank, None, "blank_line", f"{count(len(self.blank), 'blank line')} passed over: "),
            self._of(self.padded, None, "whitespace", f"blanks around cells taken off in {count(len(self.padded), 'row')}: "),
            self._of(self.folded, sequence, "case", self._of_lower_case(rules)),
        ]
        if self.bounds:
            rows, cells = [row for row, _ in self.bounds], quote(self.bounds[0][1])
            what = "" if censored == "bound" else " taken as values"
            message = f"bounds such as {cells}{what} in {count(len(rows), 'row')}: "
            found.append(self._of(rows, score, "bound", message))
        if self.inactive:
            rows, cells = [row for row, _ in self.inactive], quote(self.inactive[0][1])
            what = "a bound at " if censored == "bound" else ""
            message = (
                f"words such as {cells}, which stand for {what} the worst number of the column, in {count(len(rows), 'row')}: "
            )
            found.append(self._of(rows, score, "inactive", message))
        for record in self.broken:
            message = f"one row over lines {record.row} to {record.end}: a quoted cell holds line breaks"
            found.append(warning(record.row, None, "line_breaks", message))
        return [finding for finding in found if finding is not None]

    @staticmethod
    def _of(rows: list[int], column: str | None, kind: str, message: str) -> Finding | None:
        return warning(rows[0], column, kind, message + name_rows(rows)) if rows else None

    def _of_lower_case(self, rules: Rules) -> str:
        told = f"lower case read as upper case in {count(len(self.folded), 'row')}"
        if rules.space.alphabet == NAMED_ALPHABETS["protein"]:
            told += " (does it mean D-amino acids? --case keep makes letters of their own of them)"
        return f"{told}: "
