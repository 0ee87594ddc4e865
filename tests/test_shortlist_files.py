"""Shortlists on disk: they read back the same, act as no formula, and are never half-written."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.files import ChangedFile, record_text
from narrows.selection import (
    COLUMNS,
    OUTCOME_COLUMNS,
    Outcomes,
    OutcomeSummary,
    Shortlist,
    ShortlistRow,
    read_csv,
    read_selection,
    select,
    with_outcomes,
    write_csv,
    write_fasta,
    write_selection,
)
from narrows.selection.files import guarded, unguarded

TEXT = st.text(st.one_of(st.sampled_from(list("=+-@'\"\t\r\n;,|\0＝＠A1 ")), st.characters(exclude_categories=["Cs"])))
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(0, 10**18)
FORMULA = tuple("=+-@＝＋－＠\t\r\n")
TEXT_COLUMNS = ("sequence", "nearest_measured", "why", "run", "asked")


@st.composite
def rows(draw) -> ShortlistRow:
    has_std, has_measured, has_origin = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    return ShortlistRow(
        rank=draw(st.integers(1, 1000)),
        sequence=draw(TEXT),
        score=draw(NUMBER),
        score_std=draw(NUMBER) if has_std else None,
        lower_bound=draw(NUMBER) if has_std else None,
        nearest_measured=draw(TEXT) if has_measured else None,
        nearest_measured_score=draw(NUMBER) if has_measured else None,
        distance_to_measured=draw(st.integers(0, 300)) if has_measured else None,
        cluster=draw(st.integers(1, 100)),
        why=draw(TEXT),
        run=draw(TEXT),
        seed=draw(WHOLE) if has_origin else None,
        step=draw(WHOLE) if has_origin else None,
    )


EXAMPLE = select(
    ["ACGU", "ACGA", "UUUUUUUUUU" * 9],
    np.array([0.1 + 0.2, -1e-17, -5.0]),
    np.array([0.25, np.nan, 1.0]),
    k=3,
    min_distance=1,
    measured=["ACCC", "UU"],
    measured_scores=[1.5, -2.0],
)


def with_rows(*changed: ShortlistRow) -> Shortlist:
    return replace(EXAMPLE, rows=tuple(changed))


@given(st.lists(rows(), max_size=4))
def test_csv_reads_back_equal_and_holds_no_formula(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("csv") / "shortlist.csv"
    write_csv(with_rows(*drawn), path)
    assert read_csv(path) == tuple(drawn)
    with path.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            assert not any(cells[column].startswith(FORMULA) for column in TEXT_COLUMNS if column in cells)


@given(st.lists(rows(), max_size=3), st.data())
def test_csv_of_a_noisy_run_reads_back_equal_and_holds_no_formula(tmp_path_factory, drawn, data):
    maybe = st.one_of(st.none(), NUMBER)
    noisy = [
        replace(row, asked=row.sequence, expected_mean=data.draw(maybe), expected_std=data.draw(maybe), prob_as_asked=0.5)
        for row in drawn
    ]
    path = tmp_path_factory.mktemp("csv") / "shortlist.csv"
    write_csv(replace(with_rows(*noisy), outcomes=OutcomeSummary("noise", "unknown")), path)
    assert read_csv(path) == tuple(noisy)
    with path.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert not any(row[column].startswith(FORMULA) for row in cells for column in TEXT_COLUMNS)


def test_a_caution_is_the_last_column_where_there_is_one(tmp_path):
    warned = replace(EXAMPLE, rows=tuple(replace(row, caution="=no better, than the mean") for row in EXAMPLE.rows))
    write_csv(warned, tmp_path / "warned.csv")
    write_csv(EXAMPLE, tmp_path / "plain.csv")
    header, *_ = (tmp_path / "warned.csv").read_text().splitlines()
    assert header.split(",") == [*COLUMNS, "caution"] and "caution" not in (tmp_path / "plain.csv").read_text()
    assert read_csv(tmp_path / "warned.csv") == warned.rows


def test_outcomes_stand_behind_the_other_columns(tmp_path):
    nan = float("nan")
    told = Outcomes(np.array([0.123456789, 2.0, nan]), np.array([0.5, 0.0, nan]), np.array([0.25, 1.0, 0.125]))
    noisy = with_outcomes(EXAMPLE, told, OutcomeSummary("Substitution (rate 0.1)", "simulated", 1000, 0.0158, 7))
    write_csv(noisy, tmp_path / "noisy.csv")
    lines = (tmp_path / "noisy.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == ",".join(COLUMNS) + ",asked,expected_mean,expected_std,prob_as_asked"
    assert lines[1].endswith(",ACGU,0.123457,0.5,0.25") and lines[3].endswith(f",{'U' * 90},,,0.125")
    assert read_csv(tmp_path / "noisy.csv") == noisy.rows
    write_fasta(noisy, tmp_path / "noisy.fasta")
    assert " expected_mean=0.123457 expected_std=0.5 prob_as_asked=0.25\nACGU" in (tmp_path / "noisy.fasta").read_text()
    summary = noisy.summary()
    assert "noise: Substitution (rate 0.1); a row comes out exactly as asked with probability 0.125 to 1" in summary
    assert "means of 1,000 simulated outcomes a row; their standard error is at most 0.016" in summary
    assert "7 candidates with less promise at first sight" in summary
    assert not set(OUTCOME_COLUMNS) & set(COLUMNS)


@given(TEXT)
def test_guarding_is_undone_exactly_and_covers_other_separators(text):
    safe = guarded(text)
    assert unguarded(safe) == text
    for separator in ";\t|\n":
        for cell in safe.split(separator):
            assert not cell.lstrip('"').startswith(tuple("=+-@"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "'=1", "''", "a;=1", "\t=1", ';""=1', "=", "'"])
def test_known_tricks(text):
    assert guarded(text) != text and unguarded(guarded(text)) == text


def test_ordinary_text_stays_as_it_is():
    for text in ("ACGU", "number 6 of 7 by proxy mean; 3 better ones were passed over, closer", "runs/rna-1 (new)", ""):
        assert guarded(text) == text


def test_csv_looks_as_expected(tmp_path):
    path = tmp_path / "shortlist.csv"
    write_csv(EXAMPLE, path)
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[0] == (
        "rank,sequence,score,score_std,lower_bound,nearest_measured,nearest_measured_score,distance_to_measured,"
        "cluster,why,run,seed,step"
    )
    assert lines[1].startswith("1,ACGU,0.30000000000000004,0.25,0.05")
    assert lines[2].startswith("2,ACGA,-1e-17,,,ACCC,1.5,2,")
    assert lines[-1] == "" and len(lines) == 5
    assert "nan" not in path.read_text(encoding="utf-8")
    assert read_csv(path) == EXAMPLE.rows


def test_a_table_of_an_earlier_release_is_read(tmp_path):
    path = tmp_path / "shortlist.csv"
    write_csv(EXAMPLE, path)
    head, rest = path.read_text(encoding="utf-8").split("\n", 1)
    old = head.replace("score,score_std", "proxy_mean,proxy_std")
    assert old != head
    path.write_text(f"{old}\n{rest}", encoding="utf-8")
    assert read_csv(path) == EXAMPLE.rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a shortlist: expected the columns rank,sequence"),
        ("sequence,score\nACGU,1\n", "is not a shortlist"),
        (",".join(COLUMNS) + ",asked\n", "is not a shortlist: .* with or without asked,expected_mean"),
        (",".join(COLUMNS + OUTCOME_COLUMNS) + "\n1,ACGU\n", "row 2: expected 17 cells, got 2"),
        (
            ",".join(COLUMNS + OUTCOME_COLUMNS) + "\n1,A,1.0,,,,,,1,w,r,,,A,1.0,1.0,often\n",
            "row 2: column prob_as_asked must hold a number, got 'often'",
        ),
        (",".join(COLUMNS) + "\n1,ACGU\n", "row 2: expected 13 cells, got 2"),
        (",".join(COLUMNS) + "\n1,ACGU,much,,,,,,1,w,r,,\n", "row 2: column score must hold a number, got 'much'"),
        (",".join(COLUMNS) + "\n1,ACGU,1.0,,,,,,,w,r,,\n", "row 2: column cluster must hold a number, got ''"),
        (",".join(COLUMNS) + "\n1,ACGU,1.0,,,,,,1,w,r,1.5,\n", "row 2: column seed must hold a number, got '1.5'"),
    ],
)
def test_reading_names_file_row_and_column(tmp_path, content, message):
    path = tmp_path / "other.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        read_csv(path)
    assert "other.csv" in str(error.value)


def test_fasta_holds_rank_score_and_origin(tmp_path):
    path = tmp_path / "shortlist.fasta"
    first, second, third = EXAMPLE.rows
    write_fasta(with_rows(first, replace(second, run="my run\n>x", seed=3, step=40), third), path)
    assert path.read_text(encoding="utf-8") == (
        ">rank_1 score=0.3 score_std=0.25 cluster=1\nACGU\n"
        ">rank_2 score=-1e-17 cluster=1 run=my%20run%0A%3Ex seed=3 step=40\nACGA\n"
        f">rank_3 score=-5 score_std=1 cluster=2\n{'U' * 80}\n{'U' * 10}\n"
    )


@pytest.mark.parametrize("sequence", [">ACGU", "AC GU", "AC\nGU", ";A", "Ä"])
def test_fasta_refuses_what_it_cannot_hold(tmp_path, sequence):
    with pytest.raises(ValueError, match="row 1: FASTA cannot hold the sequence"):
        write_fasta(with_rows(replace(EXAMPLE.rows[0], sequence=sequence)), tmp_path / "a.fasta")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", [write_csv, write_fasta])
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, writer):
    path = tmp_path / "shortlist"
    path.write_text("old", encoding="utf-8")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="cannot write .*shortlist: No space left on device"):
                writer(EXAMPLE, path)
        assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("shortlist", "old")]
    with pytest.raises(OSError, match="cannot write .*missing"):
        writer(EXAMPLE, Path(tmp_path) / "missing" / "shortlist")
    writer(EXAMPLE, path)
    assert path.read_text(encoding="utf-8") != "old"


def test_a_selection_that_fasta_cannot_hold_is_in_the_csv_alone(tmp_path):
    """And the FASTA file of the selection before goes with it."""
    csv_file, fasta = tmp_path / "s.csv", tmp_path / "s.fasta"
    assert write_selection(EXAMPLE, csv_file, with_fasta=True).fasta == fasta and fasta.exists()
    odd = with_rows(replace(EXAMPLE.rows[0], sequence="A>B"))
    written = write_selection(odd, csv_file, with_fasta=True)
    assert written.fasta is None and "FASTA cannot hold the sequence 'A>B'" in (written.no_fasta or "") and not fasta.exists()
    rows, record = read_selection(csv_file)
    assert rows == odd.rows and record is not None and record.sha256 is not None and [*record.sha256] == ["s.csv"]


def test_how_a_selection_was_chosen_reads_back_and_foreign_rows_are_told(tmp_path):
    csv_file = tmp_path / "s.csv"
    write_selection(EXAMPLE, csv_file, with_fasta=False)
    rows, record = read_selection(csv_file)
    assert record is not None and record.diversity is not None
    assert (record.k, record.min_distance, record.ranked_by) == (EXAMPLE.k, EXAMPLE.min_distance, EXAMPLE.ranked_by)
    assert record.diversity.min_distance == EXAMPLE.diversity.min_distance and not record.both_strands
    write_selection(replace(EXAMPLE, both_strands=True), tmp_path / "strands.csv", with_fasta=False)
    both = read_selection(tmp_path / "strands.csv")[1]
    assert both is not None and both.both_strands
    csv_file.write_text("".join(csv_file.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    with pytest.warns(ChangedFile, match="s.csv is not the file that s.json was written with"):
        assert read_selection(csv_file)[0] == rows[:1]


def test_what_an_earlier_release_said_of_outcomes_is_read(tmp_path):
    summary = OutcomeSummary("Substitution (rate 0.1)", "simulated", 1000, 0.0158, 7)
    noisy = with_outcomes(EXAMPLE, None, summary)
    write_selection(noisy, tmp_path / "list.csv", with_fasta=False)
    path = tmp_path / "list.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    del facts["checksum"]
    old = facts.pop("outcomes")
    facts["foretold"] = {("num_not_foretold" if name == "num_not_ranked" else name): value for name, value in old.items()}
    path.write_text(record_text(facts), encoding="utf-8")
    record = read_selection(tmp_path / "list.csv")[1]
    assert record is not None and record.outcomes == summary
    path.write_text(record_text({**facts, "foretold": 5}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"list\.json"):
        read_selection(tmp_path / "list.csv")


@pytest.mark.parametrize("library", ["pandas", "polars", None])
def test_a_frame_has_the_rows(library):
    frame = EXAMPLE.to_frame(library)
    assert type(frame).__module__.startswith(library or "pandas")
    assert list(frame.columns) == [*COLUMNS, *OUTCOME_COLUMNS, "caution"]
    assert list(frame["sequence"]) == [row.sequence for row in EXAMPLE.rows] and len(frame) == len(EXAMPLE.rows) > 0
    assert list(frame["score"]) == [row.score for row in EXAMPLE.rows]


def test_a_frame_needs_a_library(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="a frame needs pandas or polars, which is not installed: pip install pandas"):
        EXAMPLE.to_frame()
    with pytest.raises(ImportError, match="needs polars, which is not installed: pip install polars"):
        EXAMPLE.to_frame("polars")
