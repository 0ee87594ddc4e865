"""`narrows check`: look at a table of measurements before anything learns from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from narrows.data import Check, Space, accept_table, check_table
from narrows.data import space as named_space
from narrows.data.spaces import OpenSpace


@dataclass(frozen=True)
class TableSettings:
    """Settings of how a table is read.

    Args:
        sequence_column: name of the column of sequences, or its position such as '#1'; found by its usual names if not given.
        score_column: name of the column of scores, or its position; found by its usual names if not given.
        score_sense: whether a higher or a lower score is better.
        on_invalid: refuse a table with bad rows, or skip them, going on with the rest and writing rejected.csv.
    """

    sequence_column: str | None = None
    score_column: str | None = None
    score_sense: Literal["higher", "lower"] = "higher"
    on_invalid: Literal["refuse", "skip"] = "refuse"

    def check(self, table: Path, within: Space | OpenSpace) -> Check:
        """Return what is found in a table whose sequences should lie in a space."""
        return check_table(
            table,
            within,
            sequence_column=self.sequence_column,
            score_column=self.score_column,
            score_sense=self.score_sense,
        )


USUAL = TableSettings()


def check(
    table: Positional[Path],
    space: str,
    *,
    min_length: int | None = None,
    max_length: int | None = None,
    reading: TableSettings = USUAL,
    rejected: Path | None = None,
) -> Check:
    """Check a table of scored sequences and name every row that cannot be used.

    Args:
        table: CSV file (comma, semicolon or tab) with a header, a column of sequences and a column of scores.
        space: rna, dna, protein, or the letters of an alphabet (letters:abc).
        min_length: shortest sequence allowed; by default the shortest in the table.
        max_length: longest sequence allowed; by default the longest in the table.
        reading: how the table is read.
        rejected: where the rejected rows go; by default rejected.csv beside the table.
    """
    found = reading.check(table, named_space(space, min_length, max_length))
    accept_table(found, on_invalid=reading.on_invalid, rejected_path=rejected)
    return found


def render(found: Check) -> str:
    """Return what the command prints: the summary, the findings and a verdict."""
    findings = found.list_findings()
    verdict = f"OK: {len(found.table):,} rows can be used."
    if found.num_rejected:
        verdict = f"{len(found.table):,} rows can be used; the {found.num_rejected:,} rejected ones were written out."
    return "\n".join(part for part in (found.summary(), findings, verdict) if part)
