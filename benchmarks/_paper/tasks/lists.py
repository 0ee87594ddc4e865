"""Lists of sequences without scores: a CSV with a column of them, FASTA, or one a line; told apart by what is in the file."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn, get_args

from narrows.data import DataError, Finding, Space
from narrows.data.findings import FileRefused, count, error, list_first
from narrows.data.records import Record, is_blank, read_records
from narrows.data.table import OnInvalid
from narrows.data.text import Text, bad_byte, read_text
from narrows.printing import printable, quote

_COLUMNS = ("sequence", "sequences", "seq", "peptide")
_POINTER = "version https://git-lfs"


class Listed(NamedTuple):
    """The sequences of a file in its order, repeats included, and how many more were too long, or refused and passed over."""

    path: str
    sequences: tuple[str, ...]
    num_long: int
    num_refused: int


class _Entry(NamedTuple):
    row: int
    sequence: str


def read_list(path: str | os.PathLike[str], space: Space, on_invalid: OnInvalid = "refuse") -> Listed:
    """Read the sequences of a file.

    A file that starts with `>` is FASTA, whose sequences may run over several lines; one whose first line has a column called
    sequence, seq or peptide is a table separated by commas, semicolons or tabs; any other holds a sequence a line.

    Raises DataError naming every line with a bad letter or a sequence that is too short; with `on_invalid="skip"` those are
    passed over and counted, as ones that are too long always are.
    """
    if on_invalid not in get_args(OnInvalid):
        raise ValueError(f"on_invalid must be 'refuse' or 'skip', got {on_invalid!r}.")
    shown = printable(path, None)
    try:
        text = read_text(path)
        entries = list(_entries(text))
    except FileRefused as refused:
        _refuse(shown, [refused.finding])
    problems: list[Finding] = []
    kept: list[str] = []
    for entry in entries:
        if problem := _problem(text, entry, space):
            problems.append(problem)
        elif len(entry.sequence) <= space.max_length:
            kept.append(entry.sequence)
    if problems and on_invalid == "refuse":
        _refuse(shown, problems)
    return Listed(shown, tuple(kept), len(entries) - len(kept) - len(problems), len(problems))


def _entries(text: Text) -> Iterator[_Entry]:
    first = next(index for index, line in enumerate(text.lines) if line.strip())  # read_text refuses a blank file
    start = text.lines[first].strip()
    if start.startswith(_POINTER):
        raise FileRefused("git_lfs", "this is a pointer that git LFS puts in a file's place. Fetch the file: git lfs pull")
    if start.startswith(">"):
        return _fasta(text.lines)
    names = [name.strip().strip('"').casefold() for name in re.split(r"[,;\t]", start)]
    if any(name in _COLUMNS for name in names):
        return _column(text, first, start)
    if len(names) > 1:
        raise FileRefused(
            "header", f"the first line is {quote(start, 80)}. Expected a column called {' or '.join(_COLUMNS)}.", first + 1
        )
    return (_Entry(index + 1, line.strip()) for index, line in enumerate(text.lines) if line.strip())


def _fasta(lines: list[str]) -> Iterator[_Entry]:
    row, parts = 0, []
    for index, line in enumerate(map(str.strip, lines), start=1):
        if line.startswith(">"):
            if row:
                yield _Entry(row, "".join(parts))
            row, parts = index, []
        else:
            parts.append(line)
    yield _Entry(row, "".join(parts))


def _column(text: Text, first: int, start: str) -> Iterator[_Entry]:
    delimiter = max(text.delimiters, key=start.count)
    header, *records = read_records(text.lines, delimiter, first)
    names = [name.strip().casefold() for name in header.fields]
    places = [place for place, name in enumerate(names) if name in _COLUMNS]
    if len(places) != 1:
        raise FileRefused("header", f"expected one column called {' or '.join(_COLUMNS)}, got {len(places)}.", header.row)
    for record in records:
        if problem := _damage(record, len(names)):
            raise FileRefused("row", problem, record.row)
        if not is_blank(record.fields):
            yield _Entry(record.row, record.fields[places[0]].strip())


def _damage(record: Record, width: int) -> str | None:
    if record.problem is not None:
        return f'{record.problem}. Close the quote, or write "" for a quote sign.'
    if not is_blank(record.fields) and len(record.fields) != width:
        return f"{count(len(record.fields), 'cell')} where the header has {width}. A row needs a cell for every column."
    return None


def _problem(text: Text, entry: _Entry, space: Space) -> Finding | None:
    """Return what is wrong with a sequence; being too long is not."""
    if entry.row - 1 in text.suspect:
        return error(entry.row, None, "encoding", f"{bad_byte(text.lines[entry.row - 1])}. Save the file as UTF-8.")
    bad = next((place for place, letter in enumerate(entry.sequence) if letter not in space.alphabet), None)
    if bad is not None:
        letter = entry.sequence[bad]
        known = printable(space.alphabet)
        message = f"{quote(entry.sequence)} has {letter!r} at position {bad + 1}; the letters are {known}. Correct it."
        return error(entry.row, None, "bad_symbol", message)
    if len(entry.sequence) < max(space.min_length, 1):
        message = f"{quote(entry.sequence)} has {count(len(entry.sequence), 'letter')}, expected {space.lengths}. Take it out."
        return error(entry.row, None, "length", message)
    return None


def _refuse(path: str, problems: list[Finding]) -> NoReturn:
    raise DataError("\n".join(f"{path}: {line}" for line in list_first(problems, _words)), problems)


def _words(problem: Finding) -> str:
    return f"row {problem.row}: {problem.message}" if problem.row else problem.message
