"""`narrows check`: look at a table of measurements before anything learns from it."""

from pathlib import Path

from tyro.conf import Positional

from narrows.data import Check, accept_table, check_table
from narrows.data import TableSettings as TableSettings
from narrows.data import space as named_space
from narrows.data.settings import USUAL


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
        table: CSV file (comma, semicolon or tab; also .gz) or Excel workbook with a header, a column of sequences and a column
            of scores.
        space: rna, dna, protein, or the letters of an alphabet (letters:abc).
        min_length: shortest sequence allowed; by default the shortest in the table.
        max_length: longest sequence allowed; by default the longest in the table.
        reading: how the table is read.
        rejected: where the rejected rows go; by default rejected.csv beside the table.
    """
    found = check_table(table, named_space(space, min_length, max_length), reading)
    accept_table(found, rejected_path=rejected)
    return found


def render(found: Check) -> str:
    """Return what the command prints: the summary, the findings and a verdict."""
    findings = found.list_findings()
    verdict = f"OK: {len(found.table):,} rows can be used."
    if found.num_rejected and found.settings.on_invalid == "skip":
        verdict = f"{len(found.table):,} rows can be used; the {found.num_rejected:,} rejected ones were written out."
    return "\n".join(part for part in (found.summary(), findings, verdict) if part)
