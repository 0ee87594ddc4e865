"""Columns of a small CSV file by their names, every row with its line number, and the error that lists what is wrong."""

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from narrows.data.findings import DataError, FileRefused, Finding, count, error, list_first
from narrows.data.records import Record, damage_of, first_line, is_blank, read_records
from narrows.data.text import Text, read_text
from narrows.printing import printable, quote


class Cells(NamedTuple):
    """One row: its line number in the file and its cells, in the order in which the columns were asked for."""

    row: int
    cells: tuple[str, ...]


class Columns(NamedTuple):
    """The rows of a file; `names` are the columns that were asked for and are there."""

    path: str
    names: tuple[str, ...]
    rows: tuple[Cells, ...]


def read_columns(path: str, required: Sequence[str], optional: Sequence[str] = ()) -> Columns:
    """Read named columns of a CSV file separated by commas, semicolons or tabs; other columns are passed over.

    Names are compared without regard to case, blanks around cells are taken off and blank lines passed over.

    Raises DataError for a file that cannot be read, a header without a required column and every row that is damaged.
    """
    shown = printable(path, None)
    try:
        text = read_text(path)
        delimiter, header = _find_header(text, required)
        names = [field.strip().casefold() for field in header.fields]
        wanted = [*required, *(name for name in optional if name in names)]
        places = [_place(names, name, header.row) for name in wanted]
    except FileRefused as refused:
        refuse(shown, [refused.finding])
    rows: list[Cells] = []
    problems: list[Finding] = []
    for record in read_records(text.lines, delimiter, header.end):
        if problem := _damage(text, record, len(names)):
            problems.append(problem)
        elif not is_blank(record.fields):
            rows.append(Cells(record.row, tuple(record.fields[place].strip() for place in places)))
    if not rows and not problems:
        problems.append(error(header.row, None, "no_rows", "there is a header and no row after it"))
    refuse_any(shown, problems)
    return Columns(shown, tuple(wanted), tuple(rows))


def refuse_any(path: str, problems: Sequence[Finding]) -> None:
    """Raise DataError that lists the problems of a file, if there are any."""
    if problems:
        refuse(path, problems)


def refuse(path: str, problems: Sequence[Finding]) -> NoReturn:
    """Raise DataError that lists the problems of a file, in its order."""
    ordered = sorted(problems, key=lambda problem: problem.row)
    raise DataError("\n".join(f"{path}: {line}" for line in list_first(ordered, lambda problem: problem.in_place)), ordered)


def _find_header(text: Text, required: Sequence[str]) -> tuple[str, Record]:
    """Return the separator for which the first line that is not blank has every required column, and that line."""
    first = first_line(text.lines)
    expected = f"Expected a header with the columns {', '.join(required)}, separated by {text.separators}."
    if first is None:
        raise FileRefused("header", f"there are separators and nothing else. {expected}")
    for delimiter in text.delimiters:
        record = next(read_records(text.lines, delimiter, first))
        if {*required} <= {field.strip().casefold() for field in record.fields}:
            return delimiter, record
    raise FileRefused("header", f"the first line is {quote(text.lines[first].strip(), 80)}. {expected}", first + 1)


def _place(names: list[str], name: str, row: int) -> int:
    if names.count(name) > 1:
        raise FileRefused("header", f"{names.count(name)} columns are called {quote(name)}. Keep one.", row)
    return names.index(name)


def _damage(text: Text, record: Record, width: int) -> Finding | None:
    """Return why the cells of a record cannot be trusted, None where they can."""
    if damage := damage_of(text, record):
        return damage
    if not is_blank(record.fields) and len(record.fields) != width:
        came = count(len(record.fields), "cell")
        return error(record.row, None, "ragged", f"{came} where the header has {width}. A row needs a cell for every column.")
    return None
