"""A shortlist on disk: CSV that is safe in a spreadsheet and reads back the same, and FASTA."""

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TypeVar
from urllib.parse import quote

import numpy as np

from narrows.files import read_text, write_atomically
from narrows.selection.digits import digits, spread_of
from narrows.selection.rows import Shortlist, ShortlistRow

Number = TypeVar("Number", int, float)

OUTCOME_COLUMNS = ("asked", "expected_mean", "expected_std", "prob_as_asked")
"""Further columns of the table of a run under noise."""

CAUTION_COLUMN = "caution"
"""A further column, the last one, of a table whose reader is to be warned of it."""

_OLD_NAMES = {"proxy_mean": "score", "proxy_std": "score_std"}
"""Names of columns in tables of earlier releases, which are read all the same."""

COLUMNS = tuple(field.name for field in fields(ShortlistRow) if field.name not in (*OUTCOME_COLUMNS, CAUTION_COLUMN))
_LETTERS_A_LINE = 80
_FASTA_SEQUENCE = re.compile(r"[!-:<=?-~]*")

# A spreadsheet takes a cell that starts with = + - @ (or their wide forms, or a tab or line break) for a formula. Where
# its separator is not the comma, a cell also starts behind that separator, perhaps with quotes around nothing. An
# apostrophe before such a letter makes it text; so an apostrophe that stands there by itself gets another one, and
# reading takes exactly one away.
_CELL_START = r"(?:\A|(?<=[;,|\t\r\n]))"
_DANGER = r"(?=\"*['=+\-@\t\r\n＝＋－＠])"
_UNGUARDED = re.compile(_CELL_START + _DANGER)
_GUARD = re.compile(_CELL_START + "'" + _DANGER)


def write_csv(shortlist: Shortlist, path: str | os.PathLike[str]) -> None:
    """Write the rows as UTF-8 CSV with a header, numbers in full precision, empty cells where nothing is known.

    No text cell can act as a formula in a spreadsheet: one that would gets an apostrophe in front, which `read_csv`
    takes away. The file is complete or not there; an older one is replaced. Raises OSError where it cannot be written.
    `OUTCOME_COLUMNS` are there in the shortlist of a run under noise only, `CAUTION_COLUMN` where a row has a caution.
    """
    _write(path, csv_text(shortlist))


def csv_text(shortlist: Shortlist) -> str:
    """Return what `write_csv` writes."""
    columns = COLUMNS if shortlist.outcomes is None else COLUMNS + OUTCOME_COLUMNS
    columns += (CAUTION_COLUMN,) * any(row.caution is not None for row in shortlist.rows)
    rows = [[_cell(getattr(row, column)) for column in columns] for row in shortlist.rows]
    return "".join(map(_line, [columns, *rows]))


def read_csv(path: str | os.PathLike[str]) -> tuple[ShortlistRow, ...]:
    """Return the rows that `write_csv` wrote, equal in every field.

    Raises ValueError that names the file, the row and the column for anything else.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        found = tuple(next(reader, ()))
        header = tuple(_OLD_NAMES.get(name, name) for name in found)
        known = header[:-1] if header[-1:] == (CAUTION_COLUMN,) else header
        if known not in (COLUMNS, COLUMNS + OUTCOME_COLUMNS):
            more = f", with or without {','.join(OUTCOME_COLUMNS)}, and {CAUTION_COLUMN}, after them"
            raise ValueError(f"{path} is not a shortlist: expected the columns {','.join(COLUMNS)}{more}, got {found}.")
        return tuple(_parsed(header, cells, f"{path}, row {reader.line_num}") for cells in reader)
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: not CSV ({error}). Make it again: narrows shortlist RUN.") from None


def write_fasta(shortlist: Shortlist, path: str | os.PathLike[str]) -> None:
    """Write the sequences as FASTA; a header line holds rank, score and origin, lines have at most 80 letters.

    Raises ValueError for a sequence that FASTA cannot hold, one with `>`, `;` or anything that is not a visible ASCII
    letter or sign.
    """
    _write(path, fasta_text(shortlist))


def fasta_text(shortlist: Shortlist) -> str:
    """Return what `write_fasta` writes; ValueError as there."""
    spread = spread_of(np.array([row.score for row in shortlist.rows], np.float64))
    return "".join(_fasta_record(row, spread) for row in shortlist.rows)


def guarded(text: str) -> str:
    """Return text that no spreadsheet takes for a formula; `unguarded` gives the text back.

    >>> guarded("=1+1"), guarded("ACGU"), guarded("'x"), guarded("a;@b")
    ("'=1+1", 'ACGU', "''x", "a;'@b")
    """
    return _UNGUARDED.sub("'", text)


def unguarded(text: str) -> str:
    """Return what was `guarded`."""
    return _GUARD.sub("", text)


def _shown(score: float, spread: float) -> str:
    return f"{score:.{digits(score, spread, apart=3)}g}"


def _line(cells: Sequence[str]) -> str:
    # The csv module leaves a lone carriage return unquoted when lines end with a newline.
    quoted = ['"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\r\n') else cell for cell in cells]
    return ",".join(quoted) + "\n"


def _cell(value: str | float | int | None) -> str:
    if isinstance(value, str):
        return guarded(value)
    return "" if value is None else repr(value)


def _parsed(columns: Sequence[str], cells: Sequence[str], place: str) -> ShortlistRow:
    if len(cells) != len(columns):
        raise ValueError(f"{place}: expected {len(columns)} cells, got {len(cells)}.")
    cell = dict.fromkeys((*OUTCOME_COLUMNS, CAUTION_COLUMN), "") | dict(zip(columns, cells, strict=True))

    def maybe(column: str, kind: Callable[[str], Number]) -> Number | None:
        return number(column, kind) if cell[column] else None

    def number(column: str, kind: Callable[[str], Number]) -> Number:
        try:
            return kind(cell[column])
        except ValueError:
            raise ValueError(f"{place}: column {column} must hold a number, got {cell[column]!r}.") from None

    distance = maybe("distance_to_measured", int)
    return ShortlistRow(
        rank=number("rank", int),
        sequence=unguarded(cell["sequence"]),
        score=number("score", float),
        score_std=maybe("score_std", float),
        lower_bound=maybe("lower_bound", float),
        nearest_measured=None if distance is None else unguarded(cell["nearest_measured"]),
        nearest_measured_score=maybe("nearest_measured_score", float),
        distance_to_measured=distance,
        cluster=number("cluster", int),
        why=unguarded(cell["why"]),
        run=unguarded(cell["run"]),
        seed=maybe("seed", int),
        step=maybe("step", int),
        asked=unguarded(cell["asked"]) if "asked" in columns else None,
        expected_mean=maybe("expected_mean", float),
        expected_std=maybe("expected_std", float),
        prob_as_asked=maybe("prob_as_asked", float),
        caution=unguarded(cell[CAUTION_COLUMN]) or None,
    )


def _fasta_record(row: ShortlistRow, spread: float) -> str:
    if not _FASTA_SEQUENCE.fullmatch(row.sequence):
        raise ValueError(f"row {row.rank}: FASTA cannot hold the sequence {row.sequence!r}. Use the CSV file.")
    about = {
        "score": _shown(row.score, spread),
        "score_std": None if row.score_std is None else f"{row.score_std:.6g}",
        "cluster": row.cluster,
        "run": quote(row.run),
        "seed": row.seed,
        "step": row.step,
        "expected_mean": None if row.expected_mean is None else _shown(row.expected_mean, spread),
        "expected_std": None if row.expected_std is None else f"{row.expected_std:.6g}",
        "prob_as_asked": None if row.prob_as_asked is None else f"{row.prob_as_asked:.6g}",
    }
    words = [f"{name}={value}" for name, value in about.items() if value not in (None, "")]
    starts = range(0, max(1, len(row.sequence)), _LETTERS_A_LINE)
    lines = [row.sequence[start : start + _LETTERS_A_LINE] for start in starts]
    return "\n".join([f">rank_{row.rank} {' '.join(words)}", *lines, ""])


def _write(path: str | os.PathLike[str], text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot write {path}: {reason}. Check the folder and the free space; try again.") from error
