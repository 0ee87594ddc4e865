"""From a check to a table: refusing, skipping, and what is written."""

import csv
import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.conftest import Checker

from narrows.data import (
    DataError,
    Table,
    TableSettings,
    accept_table,
    check_table,
    read_table,
    space,
    write_rejected,
    write_table,
)
from narrows.files import write_atomically

MESSY = "sequence,score,note\nACGU,1,a\nACTU,2,b\nACG\nAC,3,c,d\nGG,1,e\nGG,2,f\nCC,1,g\nCC,1,h\n"


def read_csv(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream, strict=True))


def test_refusal_names_every_bad_row_and_the_cure(tmp_path: Path):
    path = tmp_path / "m.csv"
    path.write_text(MESSY)
    with pytest.raises(DataError) as caught:
        read_table(path, space("rna"), TableSettings(replicates="refuse"))
    lines = str(caught.value).splitlines()
    assert "5 of 8 rows cannot be used" in lines[0] and "m.csv" in lines[0]
    assert lines[1:-1:2] == [
        "  2 with too many or too few cells: rows 4 and 5",
        "  2 with another score for the same sequence: rows 6 and 7",
        "  1 with a letter outside the alphabet: row 3",
    ]
    assert [line.split(":")[0].split(",")[0] for line in lines[2:-1:2]] == ["    row 4", "    row 6", "    row 3"]
    assert "--on-invalid skip" in lines[-1] and "rejected.csv" in lines[-1]
    assert [finding.row for finding in caught.value.findings] == [3, 4, 5, 6, 7]
    assert os.listdir(tmp_path) == ["m.csv"]


def test_refusal_of_many_rows_is_as_short_as_there_are_kinds(tmp_path: Path):
    path = tmp_path / "m.csv"
    path.write_text("sequence,score\n" + "ACGT,1\n" * 3000 + "AC,x\nAG,1\n")
    with pytest.raises(DataError) as caught:
        read_table(path, space("rna"))
    _, first, example, second, other, cure = str(caught.value).splitlines()
    assert first == "  3,000 with a letter outside the alphabet: rows 2, 3, 4, 5, 6 and 2,995 more" and "row 2," in example
    assert second == "  1 with a score that is no number: row 3002" and "row 3002," in other and "rejected.csv" in cure
    assert len(caught.value.findings) == 3001
    assert read_table(path, space("rna"), TableSettings(on_invalid="skip")).rows == (3003,)
    assert len(read_csv(tmp_path / "rejected.csv")) == 1 + 3001


def test_skip_goes_on_and_writes_every_rejected_row(tmp_path: Path):
    path = tmp_path / "m.csv"
    path.write_text(MESSY)
    settings = TableSettings(on_invalid="skip", replicates="refuse")
    table = read_table(path, space("rna"), settings)
    assert table.sequences == ("ACGU", "CC") and table.rows == (2, 8) and list(table.scores) == [1.0, 1.0]
    header, *rows = read_csv(tmp_path / "rejected.csv")
    assert header == ["row", "reason", "sequence", "score", "note", "extra_1"]
    assert [[row[0], *row[2:]] for row in rows] == [
        ["3", "ACTU", "2", "b", ""],
        ["4", "ACG", "", "", ""],
        ["5", "AC", "3", "c", "d"],
        ["6", "GG", "1", "e", ""],
        ["7", "GG", "2", "f", ""],
    ]
    check = check_table(path, space("rna"), settings)
    for row, entry in zip(rows, check.rejected, strict=True):
        assert row[1] == entry.reason and row[1]


def test_rejected_rows_can_be_mended_and_read_again(tmp_path: Path):
    path = tmp_path / "m.csv"
    path.write_text("sequence,score,row\nACTU,2,9\nAC,1,8\n")
    read_table(path, space("rna"), TableSettings(on_invalid="skip"), rejected_path=tmp_path / "left out.csv")
    mended = (tmp_path / "left out.csv").read_text().replace("ACTU", "ACUU")
    (tmp_path / "mended.csv").write_text(mended)
    assert mended.splitlines()[0] == '"row","reason","sequence","score","row (in the file)"'
    assert read_table(tmp_path / "mended.csv", space("rna")).sequences == ("ACUU",)


def test_skip_without_a_rejected_row_leaves_no_old_list_behind(tmp_path: Path):
    (tmp_path / "rejected.csv").write_text("row,reason\n7,an older reading\n")
    (tmp_path / "m.csv").write_text("sequence,score\nAC,1\n")
    read_table(tmp_path / "m.csv", space("rna"), TableSettings(on_invalid="skip"))
    assert read_csv(tmp_path / "rejected.csv") == [["row", "reason", "sequence", "score"]]


def test_skip_with_no_good_row_left_is_an_error_and_the_list_is_written(tmp_path: Path):
    (tmp_path / "m.csv").write_text("sequence,score\nAC,x\nAG,y\n")
    with pytest.raises(DataError, match="no row is left: all 2 rows were rejected, see .*rejected.csv"):
        read_table(tmp_path / "m.csv", space("rna"), TableSettings(on_invalid="skip"))
    assert [row[0] for row in read_csv(tmp_path / "rejected.csv")] == ["row", "2", "3"]


def test_raw_bytes_quotes_and_line_ends_survive_in_rejected(tmp_path: Path):
    content = b'sequence,score,note\r\nAC\xe9,1,"a ""b"", c"\r\nAG\0,2,x\r\nAU,3,"open\r\nAA,y,"m\rn"\r\nCC,1,z\r\n'
    (tmp_path / "m.csv").write_bytes(content)
    table = read_table(tmp_path / "m.csv", space("rna"), TableSettings(on_invalid="skip"))
    assert table.sequences == ("CC",)
    rows = {row[0]: row[2:] for row in read_csv(tmp_path / "rejected.csv")[1:]}
    assert rows["2"] == ["AC\\xe9", "1", 'a "b", c']
    assert rows["3"] == ["AG\\x00", "2", "x"]
    assert rows["4"] == ['AU,3,"open', "", ""]
    assert rows["5"] == ["AA", "y", "m\rn"]


def test_table_is_never_overwritten_by_its_rejected_rows(tmp_path: Path):
    path = tmp_path / "rejected.csv"
    path.write_text("sequence,score\nAC,x\nAG,1\n")
    with pytest.raises(DataError, match="overwrite the table itself"):
        read_table(path, space("rna"), TableSettings(on_invalid="skip"))
    assert path.read_text() == "sequence,score\nAC,x\nAG,1\n"


def test_unwritable_place_is_an_error_not_a_traceback(tmp_path: Path):
    (tmp_path / "m.csv").write_text("sequence,score\nAC,x\nAG,1\n")
    with pytest.raises(DataError, match="absent/rejected.csv cannot be written: No such file"):
        read_table(
            tmp_path / "m.csv", space("rna"), TableSettings(on_invalid="skip"), rejected_path=tmp_path / "absent/rejected.csv"
        )


def test_policy_is_one_of_two(check: Checker):
    with pytest.raises(ValueError, match="'refuse' or 'skip', got 'drop'"):
        check("sequence,score\nAC,1\n", on_invalid="drop")


def test_writing_stopped_halfway_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "rejected.csv"
    path.write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as refused:
        write_atomically(path, "new")
    assert refused.value.errno == 28 and refused.value.filename == str(path), "not the draft's name, and not none"
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["rejected.csv"]


def test_written_files_have_ordinary_permissions(tmp_path: Path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_table_is_read_only_and_consistent():
    scores = np.array([1.0, 2.0])
    table = Table("m.csv", ("AC", "AG"), scores, (2, 3))
    scores[0] = 9.0
    assert table.scores[0] == 1.0 and len(table) == 2
    with pytest.raises(ValueError, match="read-only"):
        table.scores[0] = 3.0
    with pytest.raises(ValueError, match="one score and one row number for each"):
        Table("m.csv", ("AC",), np.zeros(2), (2,))


def test_one_very_wide_row_does_not_widen_the_rejected_ones_without_bound(tmp_path: Path):
    path = tmp_path / "m.csv"
    path.write_text("sequence,score\n" + "AC,x\n" * 100 + "AG" + ",1" * 20_000 + "\nAU,2\n")
    read_table(path, space("rna"), TableSettings(on_invalid="skip"))
    header, *rows = read_csv(tmp_path / "rejected.csv")
    assert len(header) == len(rows[-1]) == 2 + 20_001 and header[-1] == "extra_19999"
    assert {len(row) for row in rows[:-1]} == {256}


def test_rejected_rows_stay_beside_a_table_whatever_its_folder_is_called(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"caf\xe9 \x1b[2J")
    folder.mkdir()
    (folder / "m.csv").write_text("sequence,score\nAC,x\nAG,1\n")
    check = check_table(folder / "m.csv", space("rna"), TableSettings(on_invalid="skip"))
    with pytest.raises(DataError) as caught:
        read_table(folder / "m.csv", space("rna"))
    for shown in (check.summary(), str(caught.value), json.dumps(check.to_dict(), ensure_ascii=False)):
        assert "\x1b" not in shown and shown.encode("utf-8")
    accept_table(check)
    assert (folder / "rejected.csv").exists()


def test_summary_and_dict_tell_the_same(check: Checker):
    found = check(MESSY, replicates="refuse")
    told = found.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["num_rows"], told["num_good"], told["num_rejected"], told["num_duplicates"]) == (8, 2, 5, 1)
    assert told["lengths"] == {"2": 1, "4": 1}
    assert told["letters"] == {"A": 1 / 6, "C": 3 / 6, "G": 1 / 6, "U": 1 / 6}
    assert told["score_quantiles"]["median"] == 1.0
    assert told["space"] == {
        "name": "rna",
        "alphabet": "ACGU",
        "min_length": 2,
        "max_length": 4,
        "lengths_from_data": True,
    }
    assert [finding["row"] for finding in told["findings"]] == [1, 3, 4, 5, 6, 7, 9]  # 1: equal scores
    summary = found.summary()
    for words in (
        "8: 2 kept, 1 duplicate left out, 5 rejected",
        "2 with too many or too few cells: rows 4 and 5",
        "lengths         2 to 4",
        "C 50.0%",
        "conflict 2",
        "comma",
    ):
        assert words in summary
    assert len(found.list_findings().splitlines()) == len(found.findings)


def test_quantiles_of_the_largest_scores_are_finite(check: Checker):
    quantiles = check("sequence,score\nAC,-1.7e308\nAG,1.7e308\n").to_dict()["score_quantiles"]
    assert (quantiles["min"], quantiles["median"], quantiles["max"]) == (-1.7e308, 0.0, 1.7e308)


def test_dict_without_a_good_row_holds_no_number_that_is_none(check: Checker):
    told = check("sequence,score\nAC,x\n").to_dict()
    assert told["score_quantiles"] == {} and told["lengths"] == {}
    json.dumps(told, allow_nan=False)


ALPHABETS = st.sampled_from(["rna", "dna", "protein", "01", 'AC,;"', "letters:abNA#é"])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=ALPHABETS)
def test_what_is_written_is_read_back(data: st.DataObject, name: str):
    within = space(name, 1, 12)
    sequences = data.draw(st.lists(st.text(within.alphabet, min_size=1, max_size=12), min_size=1, unique=True))
    floats = st.floats(allow_nan=False, allow_infinity=False)
    scores = data.draw(st.lists(floats, min_size=len(sequences), max_size=len(sequences)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        write_table(path, sequences, scores)
        table = read_table(path, within)
    assert table.sequences == tuple(sequences)
    assert table.scores.tolist() == scores
    assert table.rows == tuple(range(2, len(sequences) + 2))


@pytest.mark.parametrize(
    ("sequences", "scores", "reason"),
    [
        (["AC"], [math.nan], "score 0, of 'AC', is nan"),
        (["AC", ""], [1, 2], "sequence 1 is ''"),
        ([" AC"], [1], "blanks around"),
        (["AC"], [1, 2], "one score for each of 1"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, sequences, scores, reason: str):
    with pytest.raises(ValueError, match=reason):
        write_table(tmp_path / "m.csv", sequences, scores)
    assert not os.listdir(tmp_path)


def plain_reading(lines: list[str]) -> tuple[dict[str, tuple[int, float, int, int]], set[int]]:
    """Read unquoted comma lines the slow, obvious way: the row, mean, bound and count of sequences; and the rejected rows."""
    scored: dict[str, dict[tuple[float, int, str], int]] = {}
    rejected: set[int] = set()
    for row, line in enumerate(lines, start=2):
        cells = [cell.strip() for cell in line.split(",")]
        if not any(cells):
            continue
        try:
            sequence, number = cells[0].upper(), float(cells[1].lstrip("<>"))
            if len(cells) != 2 or not cells[0] or set(sequence) - set("ACGU") or not math.isfinite(number):
                raise ValueError
        except (ValueError, IndexError):
            rejected.add(row)
        else:
            # A sequence spelt in another case is no copy of the line.
            scored.setdefault(sequence, {}).setdefault((number, cells[1].count(">") - cells[1].count("<"), cells[0]), row)
    good: dict[str, tuple[int, float, int, int]] = {}
    for sequence, entries in scored.items():
        bounds = {bound for _, bound, _ in entries} - {0}
        if len(bounds) < 2:
            mean = sum(score for score, _, _ in entries) / len(entries)
            good[sequence] = min(entries.values()), mean, max(bounds, default=0), len(entries)
        else:
            rejected.update(entries.values())
    return good, rejected


SEQUENCE_CELLS = st.text("ACGU", max_size=3) | st.sampled_from(["NA", "acgu", "ACgu", " A", "A C", "ACT", "G "])
SCORE_CELLS = st.sampled_from(["1", "2", "0.5", "", "nan", "inf", "x", " 1", "1e400", "-0", "1,5", "<2", ">1", "< nan"])


@settings(max_examples=200, deadline=None)
@given(cells=st.lists(st.tuples(SEQUENCE_CELLS, SCORE_CELLS, st.sampled_from(["", "", "", ",", ",x"])), max_size=12))
def test_reading_agrees_with_the_obvious_one(cells: list[tuple[str, str, str]]):
    lines = [f"{sequence},{score}{more}" for sequence, score, more in cells]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        path.write_text("\n".join(["sequence,score", *lines]) + "\n")
        check = check_table(path, space("rna"))
    good, rejected = plain_reading(lines)
    table = check.table
    columns = zip(table.rows, table.scores.tolist(), table.bounds.tolist(), table.counts.tolist(), strict=True)
    assert dict(zip(table.sequences, columns, strict=True)) == {
        sequence: (row, pytest.approx(score), bound, number) for sequence, (row, score, bound, number) in good.items()
    }
    assert {entry.row for entry in check.rejected} == rejected
    assert rejected == {finding.row for finding in check.errors} - {1}


@settings(max_examples=200, deadline=None)
@given(
    content=st.lists(
        st.sampled_from([b"ACGU", b"AC", b"1", b"2.5", b",", b",", b'"', b"\n", b"\n", b"\r", b"\xe9", b"\0", b" ", b"x"]),
        max_size=60,
    ).map(b"".join)
    | st.binary(max_size=80),
    header=st.sampled_from([b"sequence,score\n", b"sequence,score,note\n", b""]),
)
def test_no_file_brings_it_down_and_every_row_is_accounted_for(content: bytes, header: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        path.write_bytes(header + content)
        check = check_table(path, space("rna"))
        assert check.num_rows == check.table.counts.sum() + check.num_rejected + check.num_duplicates
        assert check.num_rejected <= len(check.errors)
        assert bool(check.errors) or len(check.table)
        json.dumps(check.to_dict(), allow_nan=False)
        check.summary().encode("utf-8")
        check.list_findings().encode("utf-8")
        if check.layout is not None:
            write_rejected(check, Path(folder) / "rejected.csv")
            assert len(read_csv(Path(folder) / "rejected.csv")) == 1 + check.num_rejected
