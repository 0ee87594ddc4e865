"""The header of a table: the separator, and the columns of the sequence and the score."""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice

from narrows.data.findings import FileRefused, Finding, name_rows, warning
from narrows.data.records import Record, first_line, read_records
from narrows.data.text import DELIMITERS, Text, bad_byte
from narrows.printing import did_you_mean, name_some, quote

# Possessive, for a long run of digits with a mistake at its end would be tried at every cut otherwise.
NUMBER = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?", re.ASCII)

# Each line of names counts only where no column has one of the line before.
_SEQUENCE_NAMES = (
    "sequence sequences seq peptide aptamer oligo aasequence aaseq mutatedsequence rnasequence dnasequence "
    "proteinsequence peptidesequence"
)
_SCORE_NAMES = "score scores value fitness activity affinity measurement reward dmsscore"
_TEXT_NAMES = "text texts sentence sentences smiles variant variants mutant mutants mutation mutations"
_LABEL_NAMES = "label labels class classes target"
_KNOWN: dict[str, tuple[frozenset[str], ...]] = {
    "sequence": (frozenset(_SEQUENCE_NAMES.split()), frozenset(_TEXT_NAMES.split()), frozenset({"x"})),
    "score": (frozenset(_SCORE_NAMES.split()), frozenset(_LABEL_NAMES.split()), frozenset({"y"})),
}
_POSITION = re.compile(r"#([0-9]{1,9})")
# Enough rows to tell which of two columns holds numbers.
_PEEK = 200
_LISTED = 10


@dataclass(frozen=True)
class Layout:
    """The columns of a file: `sequence` and `score` are column indices, data start at line `body`."""

    delimiter: str
    header: tuple[str, ...]
    header_row: int
    body: int
    sequence: int
    score: int
    findings: tuple[Finding, ...] = ()


def find_layout(text: Text, alphabet: str, sequence_column: str | None, score_column: str | None) -> Layout:
    """Read the header of a table, from named columns or by the usual names.

    Raises FileRefused where the columns cannot be told for certain; its message names the columns that are there.
    """
    wanted = {"sequence": sequence_column, "score": score_column}
    delimiter, record = read_header(text, wanted)
    header = tuple(field.strip() for field in record.fields)
    _refuse_number_as_name(header, wanted, record.row)
    body = list(islice(read_records(text.lines, delimiter, record.end), _PEEK))
    sequence, score = _find_columns(header, body, wanted, record.row)
    is_named = _is_named("sequence", wanted, header[sequence])
    _refuse_sequence_as_name(header, sequence, alphabet, is_named, record.row)
    findings = (*_repeated_names(header, record.row), *_other_numbers(header, body, {sequence, score}, record.row))
    return Layout(delimiter, header, record.row, record.end, sequence, score, findings)


def read_header(text: Text, wanted: dict[str, str | None]) -> tuple[str, Record]:
    """Return the separator of a table and the record of its header; `wanted` names columns by their role, as far as asked for.

    Raises FileRefused where there is no header, or more than one way to read it.
    """
    first = first_line(text.lines)
    if first is None:
        raise FileRefused("header", "there are separators and nothing else. Expected a header: sequence,score")
    if first in text.suspect:
        problem = bad_byte(text.lines[first])
        raise FileRefused("encoding", f"the header cannot be read: {problem}. Save the file as UTF-8.", first + 1)
    return _find_delimiter(text, first, wanted)


def _find_delimiter(text: Text, first: int, wanted: dict[str, str | None]) -> tuple[str, Record]:
    """Take the separator that makes the wanted columns appear, then known ones, then most columns."""
    lines = text.lines
    ranked: list[tuple[tuple[int, int, int], str, Record]] = []
    for delimiter in text.delimiters:
        record = next(read_records(lines, delimiter, first))
        if record.problem is not None:
            continue
        names = [field.strip() for field in record.fields]
        named = sum(name.strip() in names for name in wanted.values() if name is not None)
        known = sum(any(_is_known(role, name) for name in names) for role in _KNOWN)
        ranked.append(((named, known, len(names)), delimiter, record))
    if not ranked:
        problem = next(read_records(lines, text.delimiters[0], first)).problem
        raise FileRefused("header", f"the header cannot be read: {problem}. Expected: sequence,score", first + 1)
    ranked.sort(key=lambda entry: entry[0], reverse=True)
    rank, delimiter, record = ranked[0]
    if len(record.fields) < 2:
        shown = quote(lines[first].strip(), 80)
        message = f"the header {shown} has one column. Expected two or more, separated by {text.separators}."
        raise FileRefused("header", message, first + 1)
    if len(ranked) > 1 and ranked[1][0] == rank:
        rivals = f"{DELIMITERS[delimiter]} and {DELIMITERS[ranked[1][1]]}"
        message = f"the header can be cut by {rivals} alike. Name the columns with --sequence-column and --score-column."
        raise FileRefused("delimiter", message, first + 1)
    return delimiter, record


def _find_columns(header: tuple[str, ...], body: list[Record], wanted: dict[str, str | None], row: int) -> tuple[int, int]:
    found: dict[str, int | None] = {}
    for role, name in wanted.items():
        found[role] = _by_usual_name(header, role, row) if name is None else _by_name(header, name, role, row)
    sequence, score = found["sequence"], found["score"]
    if len(header) == 2 and (sequence is None or score is None):
        sequence, score = _fill_pair(body, sequence, score)
    for role, index in (("sequence", sequence), ("score", score)):
        if index is None:
            message = f"no column is known to hold the {role}. {_columns(header)} Name it with --{role}-column NAME."
            raise FileRefused("column", message, row)
    assert sequence is not None and score is not None
    if sequence == score:
        message = f"column {quote(header[score])} was asked for as both sequence and score. {_columns(header)}"
        raise FileRefused("column", message, row)
    return sequence, score


def _by_name(header: tuple[str, ...], name: str, role: str, row: int) -> int:
    matches = [index for index, column in enumerate(header) if column == name.strip()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        columns = name_rows([index + 1 for index in matches]).removeprefix("rows ")
        message = f"columns {columns} are all called {quote(name)}. Choose by position: --{role}-column '#{matches[0] + 1}'"
        raise FileRefused("column", message, row, name)
    position = _POSITION.fullmatch(name.strip())
    if position and 1 <= int(position[1]) <= len(header):
        return int(position[1]) - 1
    guess = did_you_mean(name, header)
    raise FileRefused("column", f"there is no column {quote(name)} for --{role}-column.{guess} {_columns(header)}", row)


def _by_usual_name(header: tuple[str, ...], role: str, row: int) -> int | None:
    for names in _KNOWN[role]:
        matches = [index for index, column in enumerate(header) if _fold(column) in names]
        if len(matches) == 1:
            return matches[0]
        if matches:
            shown = [f"{quote(header[index])} (#{index + 1})" for index in matches[:_LISTED]]
            more = [f"{len(matches) - _LISTED:,} more"] if len(matches) > _LISTED else []
            listed = " and ".join([*shown, *more])
            message = f"more than one column may hold the {role}: {listed}. Choose one with --{role}-column."
            raise FileRefused("column", message, row)
    return None


def _fill_pair(body: list[Record], sequence: int | None, score: int | None) -> tuple[int | None, int | None]:
    """Name the columns of a two-column table: the other one of a named column, or the one that holds numbers."""
    if sequence is not None:
        return sequence, 1 - sequence
    if score is not None:
        return 1 - score, score
    numeric = [index for index in (0, 1) if _is_mostly_numeric(body, index)]
    return (1 - numeric[0], numeric[0]) if len(numeric) == 1 else (None, None)


def _is_mostly_numeric(body: list[Record], index: int) -> bool:
    cells = [record.fields[index].strip() for record in body if len(record.fields) == 2]
    return 2 * sum(NUMBER.fullmatch(cell.replace(",", ".", 1)) is not None for cell in cells) > len(cells)


def _refuse_number_as_name(header: tuple[str, ...], wanted: dict[str, str | None], row: int) -> None:
    is_asked = any(name is not None and name.strip() in header for name in wanted.values())
    if is_asked or all(any(_is_known(role, name) for name in header) for role in _KNOWN):
        return
    number = next((name for name in header if NUMBER.fullmatch(name)), None)
    if number is not None:
        raise FileRefused("no_header", _no_header(header, f"{quote(number)} is a number"), row)


def _refuse_sequence_as_name(header: tuple[str, ...], sequence: int, alphabet: str, is_named: bool, row: int) -> None:
    # Where nothing but its place tells that a line is a header, it must not read like one of the sequences.
    name = header[sequence]
    is_sequence = set(name) <= {*alphabet, *"ACGTU"} or (len(name) > 2 and set(name) <= set("acgtu"))
    if name and not is_named and is_sequence:
        raise FileRefused("no_header", _no_header(header, f"{quote(name)} reads like a sequence"), row)


def _no_header(header: tuple[str, ...], reason: str) -> str:
    line = quote(",".join(header), 60)
    return (
        f"the header is missing: the first line {line} looks like data ({reason}). "
        "Put a line such as sequence,score first; if it is a header, name its columns with "
        "--sequence-column and --score-column."
    )


def _repeated_names(header: tuple[str, ...], row: int) -> tuple[Finding, ...]:
    numbers = Counter(filter(None, header))
    return tuple(
        warning(row, name, "repeated_column", f"{number:,} columns are called {quote(name)}")
        for name, number in numbers.items()
        if number > 1
    )


def _other_numbers(header: tuple[str, ...], body: list[Record], used: set[int], row: int) -> tuple[Finding, ...]:
    """Tell which columns beside that of the score hold numbers in nearly every cell that is filled."""
    others: list[str] = []
    records = [record.fields for record in body if len(record.fields) == len(header)]
    for index, name in enumerate(header):
        cells = [cell for fields in records if (cell := fields[index].strip())]
        numbers = [float(cell) for cell in cells if NUMBER.fullmatch(cell)]
        is_index = numbers == [numbers[0] + place for place in range(len(numbers))] if numbers else False
        is_numeric = 10 * len(numbers) >= 9 * len(cells) and 20 * len(cells) >= len(records) and len(numbers) > 1
        if index not in used and is_numeric and not is_index:
            others.append(name or f"#{index + 1}")
    if not others:
        return ()
    message = (
        f"numbers also stand in {name_some(others, 10)}, of which nothing is learned; name another score with --score-column"
    )
    return (warning(row, None, "other_scores", message),)


def _is_known(role: str, name: str) -> bool:
    return any(_fold(name) in names for names in _KNOWN[role])


def _is_named(role: str, wanted: dict[str, str | None], name: str) -> bool:
    asked = wanted[role]
    return _is_known(role, name) if asked is None else asked.strip() == name


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold())


def _columns(header: tuple[str, ...]) -> str:
    return f"The columns are: {name_some(header)}."
