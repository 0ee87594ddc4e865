"""From a file to its physical lines: bytes in, nothing guessed, nothing replaced."""

import gzip
import hashlib
import io
import os
import re
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

from narrows.data.columns import MOST_BYTES, SAVE_AS, lines_of_workbook
from narrows.data.findings import FileRefused, Finding, count, warning
from narrows.printing import printable, quote

DELIMITERS: dict[str, str] = {",": "comma", ";": "semicolon", "\t": "tab"}

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
# The line that spreadsheets read and write first: `sep=;`, perhaps in quotes, perhaps filled up with separators by another one.
_SEPARATOR_LINE = re.compile(r"""[ ]*(["']?)sep=(?P<named>\\t|[^\w"\r\n])?\1[,;\t ]*[\r\n]*""", re.IGNORECASE)
_SAMPLE = 8192
_GZIP, _WORKBOOKS = b"\x1f\x8b", (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_SIGNATURES: dict[bytes, str] = {
    b"BZh91AY&SY": "is compressed with bzip2. Unpack it first (bunzip2).",
    b"\xfd7zXZ": "is compressed with xz. Unpack it first (unxz).",
    b"%PDF-": "is a PDF, not a text table. Export the table as CSV in UTF-8.",
}


@dataclass(frozen=True)
class Text:
    """The physical lines of a file, line ends included, and what was found on the way.

    A byte that is not UTF-8 stays in its line as a lone surrogate (`surrogateescape`), so that it can be named and is
    never shown as another letter. `suspect` holds the indices of lines with such a byte or with a NUL. `separator` is what
    a first line such as `sep=;` names; that line then stands blank in `lines`, so that the others keep their numbers.
    """

    lines: list[str]
    suspect: frozenset[int]
    findings: tuple[Finding, ...]
    sha256: str | None
    separator: str | None = None

    @property
    def delimiters(self) -> tuple[str, ...]:
        """Return what may separate the cells: what the file names itself, else whatever we know."""
        return tuple(DELIMITERS) if self.separator is None else (self.separator,)

    @property
    def separators(self) -> str:
        """The separators that the cells may have, in words."""
        return "comma, semicolon or tab" if self.separator is None else f"{DELIMITERS[self.separator]}, as its first line says"


def read_text(path: str | os.PathLike[str]) -> Text:
    """Read a text file, which may be packed with gzip, or the first sheet of a workbook, into its lines.

    A line ends with LF, CRLF or a lone CR; a row of a workbook is a line, whatever its cells hold.

    Raises FileRefused for what is no readable text: missing, a folder, binary, UTF-16, empty, FASTA; and for a first line that
    names a separator which tables may not have.
    """
    data = _read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(_WORKBOOKS):
        lines, told = lines_of_workbook(data)
        return Text(lines, frozenset(), told, digest)
    if data.startswith(_GZIP):
        data = _unpacked(data)
    findings: list[Finding] = []
    if data.startswith(_UTF8_BOM):
        data = data[len(_UTF8_BOM) :]
        findings.append(warning(1, None, "bom", "the file starts with a UTF-8 byte order mark, which was passed over"))
    _refuse_binary(data)
    # newline="" makes LF, CRLF and CR line ends without translating them; str.splitlines would also split at
    # form feeds and at U+2028, and so lose count of the lines that an editor shows.
    with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape", newline="") as stream:
        lines = list(stream)
    separator = _named_separator(lines[0]) if lines else None
    if separator is not None:
        lines[0] = ""
        what = f"the first line names the separator ({DELIMITERS[separator]}) and is no row"
        findings.append(warning(1, None, "separator_line", what))
    if not any(map(str.strip, lines)):
        raise FileRefused("empty_file", "the file is empty. Expected a header line and one row for each sequence.")
    _refuse_fasta(lines)
    return Text(lines, _suspect_lines(data, lines), tuple(findings), digest, separator)


def bad_byte(line: str) -> str | None:
    """Describe the first byte of `line` that is not text, or return None.

    >>> bad_byte("AC\\udce9U")
    "byte 0xE9 at position 3 of the line is not UTF-8 (in latin-1 it would be 'é')"
    """
    for position, letter in enumerate(line, start=1):
        if letter == "\0":
            return f"NUL byte (0x00) at position {position} of the line"
        if "\udc80" <= letter <= "\udcff":
            byte = ord(letter) - 0xDC00
            guess = f" (in latin-1 it would be {chr(byte)!r})" if byte >= 0xA0 else ""
            return f"byte 0x{byte:02X} at position {position} of the line is not UTF-8{guess}"
    return None


def escape_bytes(text: str) -> str:
    r"""Write bytes that are not text as `\xNN`, so that any text can be stored as UTF-8.

    >>> escape_bytes("AC\udce9U")
    'AC\\xe9U'
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise FileRefused("directory", "this is a folder. Name the table inside it.")
        if not stat.S_ISREG(mode):
            # A pipe or a device may never end, and its rows could not be looked at again.
            raise FileRefused("not_a_file", "this is a pipe or a device. Write the table to a file and name that.")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise FileRefused("missing_file", f"no such file (looked from {printable(Path.cwd(), None)})") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL byte in the path itself
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise FileRefused("unreadable_file", f"the file cannot be read: {reason}") from None


def _unpacked(data: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            unpacked = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as problem:
        message = f"this file is packed with gzip and damaged ({problem}). Get it again, or unpack what can be saved."
        raise FileRefused("binary_file", message) from None
    if len(unpacked) > MOST_BYTES:
        raise FileRefused("too_large", f"this file unpacks to more than {MOST_BYTES:,} bytes. Keep what is needed of it.")
    return unpacked


def _refuse_fasta(lines: list[str]) -> None:
    first, second = [*filter(None, map(str.strip, lines[:1000])), "", ""][:2]
    if first.startswith(">") and re.fullmatch(r"[A-Za-z*.-]+", second):
        scored = " Their numbers belong into a column of their own." if re.search("[0-9]", first) else ""
        message = (
            f"this is a FASTA file, not a table: its records have a name, such as {quote(first)}, and a sequence. Write a "
            f"table with the line sequence,score first and a line for each record.{scored}"
        )
        raise FileRefused("fasta", message)


def _named_separator(line: str) -> str | None:
    """Return the separator that a first line such as `sep=;` names, None for any other line."""
    found = _SEPARATOR_LINE.fullmatch(line)
    if found is None:
        return None
    separator = "\t" if found["named"] == "\\t" else found["named"]
    if separator not in DELIMITERS:
        cure = "Name a comma, a semicolon or a tab there, whichever the table has, or take that line out."
        raise FileRefused("separator_line", f"the first line {quote(line.strip())} names no separator of ours. {cure}", 1)
    return separator


def _refuse_binary(data: bytes) -> None:
    for signature, message in _SIGNATURES.items():
        if data.startswith(signature):
            raise FileRefused("binary_file", f"this {message}")
    sample = data[:_SAMPLE]
    if data.startswith(_UTF16_BOMS) or sample.count(0) * 3 > len(sample):
        raise FileRefused("utf16", f"this is UTF-16 text or a binary file. {SAVE_AS}")
    control = sum(byte < 32 and byte not in b"\t\n\r\f\v\x1a" for byte in sample)
    if control > 4 and control * 20 > len(sample):  # a stray control byte or two is a matter for its row
        message = f"this is a binary file ({count(control, 'control byte')} in the first {len(sample):,}). {SAVE_AS}"
        raise FileRefused("binary_file", message)


def _suspect_lines(data: bytes, lines: list[str]) -> frozenset[int]:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        if b"\0" not in data:
            return frozenset()
    return frozenset(index for index, line in enumerate(lines) if bad_byte(line) is not None)
