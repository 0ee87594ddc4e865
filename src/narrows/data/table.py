"""Tables in: from a file of scored sequences to rows that can be trusted, or to every reason why not."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from narrows.data.cells import Rules
from narrows.data.check import Check, Table
from narrows.data.columns import lines_of
from narrows.data.findings import DROPPED, DataError, FileRefused, Finding, count, error, sum_up, warning
from narrows.data.guess import is_better_when_lower
from narrows.data.layout import NUMBER, Layout, find_layout
from narrows.data.records import read_records
from narrows.data.replicates import join
from narrows.data.rows import GoodRow, SortedRows, read_rows, reject
from narrows.data.scores import Scores, problems_of, to_scores
from narrows.data.settings import USUAL, AbstractTableSettings
from narrows.data.spaces import OpenSpace, Space, as_read
from narrows.data.text import Text, escape_bytes, read_text
from narrows.files import write_atomically
from narrows.printing import printable, quote

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

_FILLED = 256
"""Cells that a rejected row is filled up to: one very wide row would make as many of every other one."""


def check_table(
    source: "str | os.PathLike[str] | Mapping[str, Iterable[Any]] | IntoDataFrame",
    space: Space | OpenSpace,
    settings: AbstractTableSettings = USUAL,
    *,
    has_classes: bool = False,
) -> Check:
    """Read a table of scored sequences and find everything that is wrong with it.

    `source` is a CSV file, which may be packed with gzip, or an Excel workbook (with the extra `excel`), whose first sheet is
    read; or what is at hand: a dictionary of columns, or a frame of pandas, polars or whatever else narwhals knows, whose rows
    are counted as those of a file are, the header being row 1.

    The first line is the header; the separator is a comma, a semicolon or a tab. Columns are named, or given by
    position (`"#2"`), or found by their usual names (sequence, seq, peptide, ...; score, value, fitness, ...; x and y);
    of two columns without such names the one that holds numbers is the score. A row number is always a line number of
    the file, also after quoted line breaks, where it is the line on which the row starts.

    Cells are taken as they stand, but for blanks around them and for what `settings` say of letters in lower case, mutations,
    bounds and words for inactive ones: no text is read as a missing value (`NA` is a peptide). Rows that repeat another one are
    kept once, measurements of one sequence are joined. Higher scores are better in the table, whatever they are in the file.
    With `has_classes` the column of scores names classes: any text but none. Lengths not given in `space` are taken from the
    good rows.

    Returns the `Check`; it never raises for what is in the file or for a file that cannot be read. Raises DataError for a
    parent that cannot be read.
    """
    if has_classes and settings.score_sense == "lower":
        raise ValueError("score_sense='lower' turns the sign of scores, and classes have none; leave it out")
    if has_classes and (settings.score_transform != "none" or settings.inactive):
        raise ValueError("score_transform and inactive are about scores, and classes have none; leave them out")
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    shown = "the table" if path is None else printable(path, None)
    asked = as_read(space, settings.case)
    sha256 = None
    try:
        if isinstance(source, (str, os.PathLike)):
            text = read_text(source)
        else:
            text = Text(lines_of(source), frozenset(), (), None)
        sha256 = text.sha256
        layout = find_layout(text, asked.alphabet, settings.sequence_column, settings.score_column)
    except FileRefused as refused:
        nothing = Table(shown, (), np.zeros(0), ())
        return Check(path, sha256, asked, None, None, settings, nothing, (refused.finding,), 0, 0, 0, ())
    read = read_rows(text, Rules.of(asked, layout, settings, has_classes), settings.censored)
    num_rows = len(read.good) + len(read.rejected)
    if has_classes:
        classes = tuple(sorted({str(row.measured.score) for row in read.good}, key=_class_order))
        scores = _places_of_classes(read.good, classes)
    else:
        classes = ()
        read = _set_aside(read, text, layout, problems_of(read.good, settings, layout.header[layout.score]))
        scores = to_scores(read.good, settings)
    joined = join(read.good, scores, "refuse" if has_classes else settings.replicates, text, layout)
    table = Table(
        shown,
        tuple(read.good[place].measured.sequence for place in joined.places),
        joined.scores.values,
        tuple(read.good[place].row for place in joined.places),
        classes,
        joined.counts,
        joined.scores.bounds,
        joined.measurement_std,
    )
    read = _set_aside(read, text, layout, joined.conflicts)
    findings = [*text.findings, *layout.findings, *read.findings, *joined.findings]
    findings += _about_scores(layout, table, settings, num_rows)
    return Check(
        path=path,
        sha256=sha256,
        asked=asked,
        space=asked.closed_over(table.sequences) if len(table) else None,
        layout=layout,
        settings=settings,
        table=table,
        findings=tuple(sorted(findings, key=lambda finding: finding.row)),
        num_rows=num_rows,
        num_duplicates=joined.num_duplicates,
        num_blank=read.num_blank,
        rejected=tuple(sorted(read.rejected, key=lambda entry: entry.row)),
    )


def read_table(
    source: "str | os.PathLike[str] | Mapping[str, Iterable[Any]] | IntoDataFrame",
    space: Space | OpenSpace,
    settings: AbstractTableSettings = USUAL,
    *,
    rejected_path: str | os.PathLike[str] | None = None,
) -> Table:
    """Return the rows of a table as `check_table` reads them, as `accept_table` takes them."""
    return accept_table(check_table(source, space, settings), rejected_path=rejected_path)


def accept_table(check: Check, *, rejected_path: str | os.PathLike[str] | None = None) -> Table:
    """Return the table of a check: all of it, or with `on_invalid="skip"` in its settings the good rows.

    `skip` writes every rejected row with its reason to `rejected_path` (default: `rejected.csv` beside the table), and a
    file with a header alone where no row was rejected, so that the file always tells of the last reading. The rows of a frame
    are beside nothing, and written only where a path is given.

    Raises DataError naming every bad row, and in either case for a file that is no table or has no good row.
    """
    if check.is_unreadable:
        raise DataError("\n".join(f"{check.table.path}: {finding.in_place}" for finding in check.errors), check.errors)
    where = ""
    beside = None if check.path is None else Path(check.path).with_name("rejected.csv")
    target = beside if rejected_path is None else Path(rejected_path)
    if check.settings.on_invalid == "skip" and target is not None:
        write_rejected(check, target)
        where = f", see {printable(target, None)}"
    if check.settings.on_invalid == "refuse" and check.errors:
        raise DataError(_refusal(check), check.errors)
    if not len(check.table):
        all_rows = count(check.num_rejected, "row")
        raise DataError(f"{check.table.path}: no row is left: all {all_rows} were rejected{where}", check.errors)
    return check.table


def write_rejected(check: Check, path: str | os.PathLike[str]) -> None:
    r"""Write the rejected rows of a check as CSV: `row`, `reason`, then the cells as they stand in the file.

    Cells beyond the header are named `extra_1`, `extra_2`, ...; a line that could not be cut into cells stands in the
    first one; a byte that is not UTF-8 is written as `\xNN`. Rows are filled up with empty cells, to 256 at most.

    Raises DataError where the file cannot be written.
    """
    if check.path is not None and os.path.exists(path) and os.path.exists(check.path) and os.path.samefile(path, check.path):
        raise DataError(
            f"{check.table.path}: the rejected rows would overwrite the table itself. Choose another rejected_path."
        )
    header = () if check.layout is None else check.layout.header
    names = [f"{name} (in the file)" if name in ("row", "reason") else name for name in header]
    width = max((len(entry.fields) for entry in check.rejected), default=0)
    names += [f"extra_{index + 1}" for index in range(width - len(names))]
    lines = [["row", "reason", *names]]
    lines += [[str(entry.row), entry.reason, *map(escape_bytes, entry.fields)] for entry in check.rejected]
    # The writer leaves a lone carriage return bare unless every cell is quoted, and a reader would split the row there.
    filled = min(2 + len(names), _FILLED)
    _write_csv(path, [[*line, *[""] * (filled - len(line))] for line in lines], quote_all=True)


def write_table(path: str | os.PathLike[str], sequences: Sequence[str], scores: Sequence[float] | np.ndarray) -> None:
    """Write scored sequences as a CSV that `read_table` reads back to the same sequences and the same 64-bit scores.

    Raises ValueError for what could not be read back: an empty sequence, blanks around one, a score that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(sequences),):
        raise ValueError(f"expected one score for each of {len(sequences)} sequences, got shape {values.shape}")
    for index, (sequence, value) in enumerate(zip(sequences, values, strict=True)):
        if not sequence or sequence != sequence.strip():
            raise ValueError(f"sequence {index} is {quote(sequence)}: empty, or with blanks around it")
        if not np.isfinite(value):
            raise ValueError(f"score {index}, of {quote(sequence)}, is {value}: only finite scores can be stored")
    rows = [[sequence, repr(float(value))] for sequence, value in zip(sequences, values, strict=True)]
    _write_csv(path, [["sequence", "score"], *rows])


def _set_aside(read: SortedRows, text: Text, layout: Layout, problems: Mapping[int, Finding]) -> SortedRows:
    """Return the rows with those rejected, by their places among the good ones, that have a problem."""
    if not problems:
        return read
    kept = SortedRows([], [*read.rejected], [*read.findings], read.num_blank)
    for place, row in enumerate(read.good):
        if place in problems:
            reject(kept, next(read_records(text.lines, layout.delimiter, row.row - 1)), [problems[place]])
        else:
            kept.good.append(row)
    return kept


def _places_of_classes(rows: Sequence[GoodRow], classes: tuple[str, ...]) -> Scores:
    places = {name: place for place, name in enumerate(classes)}
    values = np.array([places[str(row.measured.score)] for row in rows], np.float64)
    return Scores(values, np.zeros(len(rows), np.int8))


def _class_order(name: str) -> tuple[bool, float, str]:
    """Numbers in their order, before names in theirs."""
    is_name = NUMBER.fullmatch(name) is None
    return (is_name, 0.0 if is_name else float(name), name)


def _about_scores(layout: Layout, table: Table, settings: AbstractTableSettings, num_rows: int) -> list[Finding]:
    column, row = layout.header[layout.score], layout.header_row
    findings: list[Finding] = []
    if num_rows == 0:
        findings.append(error(row, None, "no_rows", "there is a header and no row after it"))
    if len(table) > 1 and (table.scores == table.scores[0]).all():
        what = f"rows are of class {quote(table.classes[0])}" if table.classes else f"scores are {float(table.scores[0])!r}"
        message = f"all {len(table):,} {what}: there is nothing to learn from them"
        findings.append(warning(row, column, "constant_score", message))
    if settings.score_transform == "-log10" and settings.score_sense == "lower":
        message = "-log10 makes small scores the best ones and score_sense 'lower' turns that back: large ones are best now"
        findings.append(warning(row, column, "score_sense", message))
    elif not settings.is_lower_better and not table.classes and is_better_when_lower(column):
        cure = "pass --score-sense lower, or --score-transform=-log10 for a concentration"
        message = f"higher scores are taken as better; if {quote(column)} is better when lower, {cure}"
        findings.append(warning(row, column, "score_sense", message))
    return findings


def _refusal(check: Check) -> str:
    """Say how many rows have which mistake, with one of each kind whole, and what to do."""
    lines: list[str] = []
    for kind, told in sum_up(check.rejected).items():
        example = next((finding for finding in check.errors if finding.kind == kind), None)
        if example is not None:
            lines += [f"  {told}", f"    {example.in_place}"]
    num = sum(entry.kind != DROPPED for entry in check.rejected)
    return (
        f"{check.table.path}: {num:,} of {count(check.num_rows, 'row')} cannot be used "
        f"(row numbers are line numbers of the file).\n" + "\n".join(lines) + "\n"
        "Correct these rows, or leave them out with --on-invalid skip, which writes them to rejected.csv."
    )


def _write_csv(path: str | os.PathLike[str], rows: Sequence[Sequence[str]], *, quote_all: bool = False) -> None:
    stream = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    csv.writer(stream, lineterminator="\n", quoting=quoting).writerows(rows)
    try:
        write_atomically(path, stream.getvalue())
    except OSError as problem:
        raise DataError(f"{printable(path, None)} cannot be written: {problem.strerror}") from None
