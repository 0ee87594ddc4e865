"""Files that are no table, and bytes that are no text."""

import os
import zipfile
from pathlib import Path

import pytest
from tests.data.conftest import Checker

from narrows.data import DataError, TableSettings, accept_table, check_table, read_table, space

RNA = space("rna")


def only_finding(path: str | Path) -> str:
    """Return the kind of the one finding of a file that cannot be read, after checking how it is told."""
    found = check_table(path, RNA)
    assert found.is_unreadable and found.layout is None and found.space is None
    assert (len(found.table), found.num_rows, found.num_rejected) == (0, 0, 0)
    (finding,) = found.findings
    assert finding.severity == "error"
    for policy in ("refuse", "skip"):
        with pytest.raises(DataError) as caught:
            accept_table(check_table(path, RNA, TableSettings(on_invalid=policy)))
        assert finding.message in str(caught.value)
        assert "--on-invalid" not in str(caught.value)  # leaving rows out would not help
    assert found.summary() and found.to_dict()["num_rows"] == 0
    return finding.kind


def test_missing_file(tmp_path: Path):
    assert only_finding(tmp_path / "absent.csv") == "missing_file"


def test_folder(tmp_path: Path):
    assert only_finding(tmp_path) == "directory"


def test_pipe_is_refused_without_waiting_for_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert only_finding(tmp_path / "pipe") == "not_a_file"


def test_unreadable_file(tmp_path: Path):
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    assert only_finding(loop) == "unreadable_file"
    assert only_finding("a\0b.csv") == "unreadable_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_forbidden_file(tmp_path: Path):
    path = tmp_path / "closed.csv"
    path.write_text("sequence,score\nACGU,1\n")
    path.chmod(0)
    assert only_finding(path) == "unreadable_file"


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\n"])
def test_empty_file(tmp_path: Path, content: bytes):
    path = tmp_path / "empty.csv"
    path.write_bytes(content)
    assert only_finding(path) == "empty_file"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (bytes(range(256)) * 64, "binary_file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89", "utf16"),
        (b"\x1f\x8b\x08\0abc", "binary_file"),
        (b"%PDF-1.7\n", "binary_file"),
        ("sequence,score\nACGU,1\n".encode("utf-16"), "utf16"),
        ("sequence,score\nACGU,1\n".encode("utf-16-le"), "utf16"),
    ],
)
def test_binary_file(tmp_path: Path, content: bytes, kind: str):
    path = tmp_path / "binary.csv"
    path.write_bytes(content)
    assert only_finding(path) == kind


def test_spreadsheet_is_named_as_one(tmp_path: Path):
    path = tmp_path / "book.xlsx"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match="damaged zip archive or Excel workbook|Excel workbook.*CSV UTF-8"):
        read_table(path, RNA)


def test_byte_order_mark_is_accepted_and_told(check: Checker):
    found = check("\ufeffsequence,score\nACGU,1\n")
    assert [(finding.kind, finding.severity) for finding in found.findings] == [("bom", "warning")]
    assert found.table.sequences == ("ACGU",) and found.table.rows == (2,)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_change_nothing(check: Checker, end: str):
    found = check(end.join(["sequence,score", "ACGU,1", "ACG,x", "AC,2", ""]))
    assert found.table.sequences == ("ACGU", "AC") and found.table.rows == (2, 4)
    assert [(finding.row, finding.kind) for finding in found.findings] == [(3, "non_numeric_score")]
    assert check(end.join(["sequence,score", "ACGU,1"])).table.rows == (2,)


def test_other_separators_of_unicode_end_no_line(check: Checker):
    found = check("sequence,score,note\nACGU,1,a\u2028b\x0bc\x0cd\x85\nACG,2,e\n")
    assert found.table.rows == (2, 3) and not found.findings


def test_latin1_byte_is_named_and_never_read_as_another_letter(check: Checker):
    found = check("sequence,score,note\nACGU,1,plain\nACG,2,caf\u00e9\nAC,3,caf\u00e9\n".encode("latin-1"))
    assert found.table.rows == (2,)
    assert [(finding.row, finding.kind) for finding in found.errors] == [(3, "encoding"), (4, "encoding")]
    assert "byte 0xE9 at position 10" in found.errors[0].message and "'é'" in found.errors[0].message
    assert "utf-8" in found.errors[0].message.lower()


def test_utf8_notes_are_fine(check: Checker):
    assert not check("sequence,score,note\nACGU,1,café ✓\n").findings


def test_latin1_header_is_refused(check: Checker):
    found = check("séquence,score\nACGU,1\n".encode("latin-1"))
    assert found.is_unreadable
    assert [(finding.row, finding.kind) for finding in found.errors] == [(1, "encoding")]


def test_nul_byte_costs_its_row(check: Checker):
    found = check(b"sequence,score\nACGU,1\nAC\0G,2\nACG,\0\nAC,3\n")
    assert found.table.rows == (2, 5)
    assert [(finding.row, finding.kind) for finding in found.errors] == [(3, "nul"), (4, "nul")]


def test_bad_byte_inside_a_quoted_cell_is_named_by_its_own_line(check: Checker):
    found = check(b'sequence,score,note\nACGU,1,"one\ntw\xff"\nAC,3,x\n')
    assert found.table.rows == (4,)
    assert [(finding.row, finding.kind) for finding in found.errors] == [(3, "encoding")]
    assert found.rejected[0].row == 2
