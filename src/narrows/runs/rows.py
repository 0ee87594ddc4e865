"""Tables of numbers that a run adds to as it goes: history and timing, each row with a checksum."""

import csv
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from narrows.files import read_text, write_atomically

TIMING = ("step", "steps", "seconds")
"""The columns of `timing.csv`."""

_CHECK = "check"
_CURE = "Restore the file from a copy of the run."


def write_rows(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows of numbers as CSV, whole or not at all; the columns are those of all rows, in order of appearance.

    The last column is a checksum of the rest of its row.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*columns, _CHECK])
    for row in rows:
        cells = [repr(row[name]) if name in row else "" for name in columns]
        writer.writerow([*cells, _check(columns, cells)])
    write_atomically(path, stream.getvalue())


def read_rows(path: Path, required: Sequence[str] = ("step",)) -> list[dict[str, float]]:
    """Return what `write_rows` wrote, `[]` for a file that is not there; each row has the required columns.

    Raises ValueError naming the file and the row for anything else.
    """
    try:
        text = read_text(path)
        header, *lines = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except FileNotFoundError:
        return []
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} is no table of numbers ({error}). {_CURE}") from None
    if not text.endswith("\n"):
        raise ValueError(f"{path} is empty or cut short: its last line does not end. {_CURE}")
    columns = header[:-1] if header[-1:] == [_CHECK] else header  # without, it is from before there were checksums
    if lines and (missing := sorted(set(required) - set(columns))):
        raise ValueError(f"{path}: expected a column {missing[0]}, got {', '.join(columns)[:80]!r}. {_CURE}")
    rows = []
    for number, cells in enumerate(lines, 2):
        if len(cells) != len(header):
            raise ValueError(f"{path}, row {number}: expected {len(header)} cells, got {len(cells)}. {_CURE}")
        values = cells[: len(columns)]
        if columns != header and cells[-1] != _check(columns, values):
            raise ValueError(f"{path}, row {number} was changed: its checksum is not that of its cells. {_CURE}")
        row = {name: _number(text, f"{path}, row {number}") for name, text in zip(columns, values, strict=True) if text}
        if missing := sorted(set(required) - set(row)):
            raise ValueError(f"{path}, row {number}: {missing[0]} is empty. {_CURE}")
        rows.append(row)
    return rows


def _check(columns: Sequence[str], cells: Sequence[str]) -> str:
    return f"{zlib.crc32(';'.join(f'{name}={text}' for name, text in zip(columns, cells, strict=True)).encode()):08x}"


def _number(text: str, place: str) -> float:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        raise ValueError(f"{place}: expected a number, got {text[:40]!r}. {_CURE}") from None
