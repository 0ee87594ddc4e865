"""Tables that are no text, a dictionary, a data frame or a workbook, as lines that are read like those of a file."""

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from narrows.data.findings import FileRefused, Finding, warning
from narrows.printing import name_some

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

SAVE_AS = "Save it as CSV in UTF-8 (in a spreadsheet: Save as, 'CSV UTF-8')."
MOST_BYTES = 1 << 28
"""Bytes that a file may have once it is unpacked."""
_EXACT = 2.0**53


def lines_of(table: "Mapping[str, Iterable[Any]] | IntoDataFrame") -> list[str]:
    """Return a dictionary of columns, or a frame of any library that narwhals knows, as the lines of a CSV file.

    Raises TypeError for what is neither and ValueError for columns of different lengths.
    """
    if isinstance(table, Mapping):
        columns = {str(name): list(column) for name, column in table.items()}
    else:
        import narwhals

        frame = narwhals.from_native(table, eager_only=True)
        columns = {name: frame[name].to_list() for name in frame.columns}
    lengths = {name: len(column) for name, column in columns.items()}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"expected columns of one length, got {lengths}")
    return [_line(columns), *map(_line, zip(*columns.values(), strict=True))]


def lines_of_workbook(data: bytes) -> tuple[list[str], tuple[Finding, ...]]:
    """Return the first sheet of a workbook as the lines of a CSV file, and what is told of the others.

    Raises FileRefused for what is none, or where no library is installed to read it.
    """
    if data.startswith(b"PK"):
        _refuse_zip(data)
    try:
        import python_calamine
    except ImportError:
        cure = f'Reading it takes one more package: pip install "narrows[excel]". Or save it as CSV. {SAVE_AS}'
        raise FileRefused("binary_file", f"this is an Excel workbook, not a text table. {cure}") from None
    try:
        book = python_calamine.load_workbook(io.BytesIO(data))
        names = book.sheet_names
        rows = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (python_calamine.CalamineError, IndexError, OSError) as error:
        raise FileRefused("binary_file", f"this is an Excel workbook that cannot be read ({error}). {SAVE_AS}") from None
    told = f"the first of {len(names):,} sheets is read, {name_some(names[:1])}; put the one you mean first"
    return list(map(_line, rows)), (warning(1, None, "sheets", told),) if len(names) > 1 else ()


def _refuse_zip(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise FileRefused("binary_file", f"this is a damaged zip archive or Excel workbook. {SAVE_AS}") from None
    if not {"xl/workbook.xml", "xl/workbook.bin", "content.xml"} & {entry.filename for entry in entries}:
        raise FileRefused("binary_file", "this is a zip archive and no Excel workbook. Unpack it and name the table in it.")
    if sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise FileRefused("too_large", f"this workbook unpacks to more than {MOST_BYTES:,} bytes. Save the sheet as CSV.")


def _line(cells: Iterable[Any]) -> str:
    stream = io.StringIO(newline="")
    # A cell may hold a lone carriage return, which a reader takes for the end of a line unless it is quoted.
    csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow([_cell(cell) for cell in cells])
    return stream.getvalue()


def _cell(value: Any) -> str:
    """Write a value as a file would: nothing for what is missing, a whole number without a point."""
    if value is None or value != value:
        return ""
    value = value.item() if hasattr(value, "item") else value  # a number of NumPy
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    return str(value)
