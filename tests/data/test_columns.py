"""Tables that are no text: dictionaries, frames, workbooks; and packed files."""

import gzip
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest

from narrows.data import DataError, Table, TableSettings, check_table, columns, read_table, space

COLUMNS = {"sequence": ["ACGU", "ACG", "AC"], "score": [1.5, -2.0, 1 / 3], "note": ["a", None, 'x,"\r\n']}


def frames():
    import pandas
    import polars

    return {"dict": COLUMNS, "pandas": pandas.DataFrame(COLUMNS), "polars": polars.DataFrame(COLUMNS)}


@pytest.mark.parametrize("kind", ["dict", "pandas", "polars"])
def test_a_frame_is_read_like_a_file(kind: str):
    frame = frames()[kind]
    table = Table.of(frame, space=space("rna"))
    assert table.sequences == ("ACGU", "ACG", "AC") and table.scores.tolist() == [1.5, -2.0, 1 / 3]
    assert table.rows == (2, 3, 4) and table.path == "the table"
    check = check_table(frame, space("rna"), TableSettings(score_column="score", score_sense="lower"))
    assert check.sha256 is None and check.table.scores.tolist() == [-1.5, 2.0, -1 / 3]


def test_sequences_and_scores_of_any_kind_make_a_table():
    table = Table.of(np.array(["AC", "AG", "AC"]), np.array([1, 2, 4], np.int32))
    assert table.scores.tolist() == [2.5, 2.0] and table.counts.tolist() == [2, 1]
    assert Table.of(["any text", "b"], (score for score in (1.0, 2.0))).scores.tolist() == [1.0, 2.0]
    assert Table.of(["AC", "AG"], [np.float32(0.1), 1e300]).scores.tolist() == [float(np.float32(0.1)), 1e300]


def test_what_is_wrong_with_a_frame_is_named_by_its_row(tmp_path: Path):
    bad = {"sequence": ["AC", "AX", None], "score": [1.0, float("nan"), 3.0]}
    with pytest.raises(DataError, match="the table: 2 of 3 rows cannot be used") as refused:
        Table.of(bad, space=space("rna"))
    assert {finding.row for finding in refused.value.findings} == {3, 4}
    skipping = TableSettings(on_invalid="skip")
    assert read_table(bad, space("rna"), skipping).rows == (2,) and not list(tmp_path.iterdir())
    read_table(bad, space("rna"), skipping, rejected_path=tmp_path / "left out.csv")
    assert (tmp_path / "left out.csv").read_text().count("\n") == 3
    with pytest.raises(ValueError, match="one length"):
        Table.of(["AC"], [1.0, 2.0])
    with pytest.raises(TypeError, match="dataframe"):
        Table.of(3)  # pyright: ignore[reportArgumentType]


def write_workbook(path: Path, sheets: dict[str, list[list[object]]]) -> None:
    """Write the least that Excel calls a workbook, every text in its cell."""
    named = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    linked = "".join(
        f'<Relationship Id="r{n}" Type="{kind}/worksheet" Target="worksheets/s{n}.xml"/>' for n in range(1, len(sheets) + 1)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types"/>')
        start = f'<Relationship Id="r0" Type="{kind}/officeDocument" Target="xl/workbook.xml"/>'
        book.writestr("_rels/.rels", f'<Relationships xmlns="{package}/relationships">{start}</Relationships>')
        book.writestr("xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{kind}"><sheets>{named}</sheets></workbook>')
        book.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}/relationships">{linked}</Relationships>')
        for n, rows in enumerate(sheets.values(), 1):
            lines = "".join(f'<row r="{r}">{"".join(map(_cell, row))}</row>' for r, row in enumerate(rows, 1))
            book.writestr(f"xl/worksheets/s{n}.xml", f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>')


def _cell(value: object) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return f"<c><v>{value}</v></c>"


def test_a_workbook_is_read_by_its_first_sheet(tmp_path: Path):
    pytest.importorskip("python_calamine", reason="the extra excel is not installed")
    rows = [
        ["sequence", "score", "note"],
        ["ACGU", 1, "two\nlines"],
        ["ACG", 0.25, ""],
        ["AXG", ">3", 'a "b", c'],
        ["", "", ""],
    ]
    write_workbook(tmp_path / "m.xlsx", {"Data": [*rows, ["acgc", ">8", ""]], "Notes": [["x"]]})
    found = check_table(tmp_path / "m.xlsx", space("rna"))
    assert found.table.sequences == ("ACGU", "ACG", "ACGC") and found.table.rows == (2, 3, 6)
    assert found.table.scores.tolist() == [1.0, 0.25, 8.0] and found.table.bounds.tolist() == [0, 0, 1]
    assert [(finding.row, finding.kind) for finding in found.errors] == [(4, "bad_symbol")]
    assert "the first of 2 sheets is read, 'Data'" in found.list_findings() and found.num_blank == 1


def test_workbooks_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "m.xlsx"
    write_workbook(path, {"Data": [["sequence", "score"], ["AC", 1]]})
    with monkeypatch.context() as patched:
        patched.setitem(__import__("sys").modules, "python_calamine", None)
        with pytest.raises(DataError, match=r'Excel workbook, not a text table.*pip install "narrows\[excel\]".*CSV UTF-8'):
            read_table(path, space("rna"))
    with monkeypatch.context() as patched:
        patched.setattr(columns, "MOST_BYTES", 100)
        with pytest.raises(DataError, match="unpacks to more than 100 bytes"):
            read_table(path, space("rna"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="damaged zip archive or Excel workbook"):
        read_table(path, space("rna"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m.csv", "sequence,score\nAC,1\n")
    with pytest.raises(DataError, match="zip archive and no Excel workbook. Unpack it"):
        read_table(path, space("rna"))
    path.write_bytes(b"\xd0\xcf\x11\xe0" + b"old" * 100)
    with pytest.raises(DataError, match="Excel workbook"):
        read_table(path, space("rna"))


def test_a_packed_file_is_unpacked_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, content = tmp_path / "m.csv.gz", b"sequence,score\nAC,1\nAG,2\n"
    path.write_bytes(gzip.compress(content))
    assert read_table(path, space("rna")).sequences == ("AC", "AG")
    path.write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(DataError, match="packed with gzip and damaged"):
        read_table(path, space("rna"))
    path.write_bytes(gzip.compress(content))
    monkeypatch.setattr("narrows.data.text.MOST_BYTES", len(content))
    assert read_table(path, space("rna")).rows == (2, 3)
    monkeypatch.setattr("narrows.data.text.MOST_BYTES", len(content) - 1)
    with pytest.raises(DataError, match="unpacks to more than 24 bytes"):
        read_table(path, space("rna"))


@pytest.mark.parametrize("content", [">one score=0.5\nACGU\n>two\nAC\n", "\n> one, 2\n\nMKV*\nAC\n"])
def test_a_fasta_file_is_named_as_what_it_is(tmp_path: Path, content: str):
    (tmp_path / "m.fasta").write_text(content)
    found = check_table(tmp_path / "m.fasta", space("rna"))
    assert found.is_unreadable and found.errors[0].kind == "fasta"
    assert "FASTA" in found.errors[0].message and "sequence,score" in found.errors[0].message
    assert "column of their own" in found.errors[0].message
