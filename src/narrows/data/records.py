"""From physical lines to records: CSV that never loses count of lines, and never loses a line."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from narrows.data.findings import Finding, error
from narrows.data.text import Text, bad_byte


class Record(NamedTuple):
    """The cells of one record and the half-open range of line indices it was read from.

    `problem` says why the cells cannot be trusted; the cells are then the raw first line.
    """

    start: int
    end: int
    fields: list[str]
    problem: str | None = None

    @property
    def row(self) -> int:
        """Return the line number, counted from 1, where the record starts."""
        return self.start + 1


def read_records(
    lines: Sequence[str],
    delimiter: str,
    start: int = 0,
    *,
    is_runaway: Callable[[list[str], list[str]], bool] = lambda fields, lines: False,
) -> Iterator[Record]:
    """Yield the records of `lines[start:]`; a quoted cell may hold line breaks, the row is where its record starts.

    A record with broken quoting gives a `problem` for its first line alone, and reading goes on at the very next
    line: one stray quote costs one row, not the rest of the file. So does a record of several lines for which
    `is_runaway(fields, lines after its first)` holds.
    """
    while start < len(lines):
        # Indexing, not slicing or islice: to start again costs the same wherever in the file it happens.
        reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), delimiter=delimiter, strict=True)
        base = start
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as problem:
                yield _broken(lines, start, _in_words(problem))
                break
            end = base + reader.line_num
            if end - start > 1 and is_runaway(fields, [lines[index] for index in range(start + 1, end)]):
                yield _broken(lines, start, f"a quote that opens here runs on to row {end}, over rows of their own")
                break
            yield Record(start, end, fields)
            start = end
        start += 1


def is_blank(fields: list[str]) -> bool:
    """Return whether a record holds nothing: an empty line, or one of blanks and separators only."""
    return not any(field and not field.isspace() for field in fields)


def first_line(lines: Sequence[str]) -> int | None:
    """Return the index of the first line that has more than blanks and separators, None where there is none."""
    return next((index for index, line in enumerate(lines) if not is_blank(re.split(r"[,;\t]", line))), None)


def damage_of(text: Text, record: Record) -> Finding | None:
    """Return why the cells of a record cannot be trusted, None where they can."""
    for index in range(record.start, record.end) if text.suspect else ():
        if index in text.suspect:
            problem = bad_byte(text.lines[index]) or ""
            if problem.startswith("NUL"):
                return error(index + 1, None, "nul", f"{problem}. The file is damaged here; write the row again.")
            return error(index + 1, None, "encoding", f"{problem}. Save the file as UTF-8.")
    if record.problem is None:
        return None
    return error(record.row, None, "quote", f'{record.problem}. Close the quote, or write "" for a quote sign.')


def _broken(lines: Sequence[str], start: int, problem: str) -> Record:
    return Record(start, start + 1, [lines[start].rstrip("\r\n")], problem)


def _in_words(problem: csv.Error) -> str:
    text = str(problem)
    if "unexpected end of data" in text:
        return "a quote opens here and never closes"
    if "field larger" in text:
        return f"a cell that starts here is longer than {csv.field_size_limit():,} characters (a quote that never closes?)"
    if "expected after" in text:
        return "text follows right after a closing quote"
    return f"broken quoting ({text})"
