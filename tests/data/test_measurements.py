"""Scores and sequences as people write them: bounds, words, scales, lower case, mutations of a parent."""

from pathlib import Path

import numpy as np
import pytest
from tests.data.conftest import Checker

from narrows.data import DataError, TableSettings, check_table, read_table, space

PARENT = "MSYK"


@pytest.mark.parametrize(
    ("cell", "score", "bound"),
    [(">128", 128, 1), ("> 128", 128, 1), (">=5", 5, 1), ("≥ 5", 5, 1), ("=>5", 5, 1), (">>5", 5, 1)]
    + [("<0.5", 0.5, -1), ("< -1e3", -1000, -1), ("<= 5", 5, -1), ("≤5", 5, -1), ("=<5", 5, -1), (" <5 ", 5, -1), ("5", 5, 0)],
)
def test_bounds_are_read_and_turn_with_the_sense(check: Checker, cell: str, score: float, bound: int):
    content = f"sequence,score\nAC,{cell}\n"
    table = check(content).table
    assert (table.scores.tolist(), table.bounds.tolist()) == ([score], [bound])
    turned = check(content, score_sense="lower").table
    assert (turned.scores.tolist(), turned.bounds.tolist()) == ([-score], [-bound])
    value = check(content, censored="value").table
    assert (value.scores.tolist(), value.bounds.tolist()) == ([score], [0])


def test_bounds_are_summed_up(check: Checker):
    found = check("sequence,score\nAC,>128\nAG,5\nAU,<0.5\nAA,>=9\n")
    assert [finding.message for finding in found.warnings] == ["bounds such as '>128' in 3 rows: rows 2, 4 and 5"]
    assert "bounds          at most the score in 1 row, at least the score in 2" in found.summary()
    assert found.to_dict()["num_bounds"] == 3


def test_dropped_bounds_are_no_mistake_and_are_listed(tmp_path: Path):
    path = tmp_path / "m.csv"
    path.write_text("sequence,score\nAC,>128\nAG,5\nAU,n.d.\n")
    settings = TableSettings(censored="drop", inactive=("N.D.",))
    found = check_table(path, space("rna"), settings)
    assert not found.errors and [entry.row for entry in found.rejected] == [2, 4]
    assert "2 with a bound, dropped: rows 2 and 4" in found.summary()
    assert read_table(path, space("rna"), settings).sequences == ("AG",)
    assert read_table(path, space("rna"), TableSettings(censored="drop", inactive=("n.d.",), on_invalid="skip")).rows == (3,)
    assert "'>128' is a bound" in (tmp_path / "rejected.csv").read_text()
    path.write_text("sequence,score\nAC,>128\n")
    with pytest.raises(DataError, match="no row is left: all 1 row were rejected"):
        read_table(path, space("rna"), settings)


@pytest.mark.parametrize(
    ("options", "scores", "bounds"),
    [
        ({}, [1, 4, 9, 1], [0, 0, 1, -1]),
        ({"score_sense": "lower"}, [-1, -4, -9, -9], [0, 0, -1, -1]),
        ({"score_transform": "-log10"}, [0, -np.log10(4), -np.log10(9), -np.log10(9)], [0, 0, -1, -1]),
        ({"score_transform": "log10"}, [0, np.log10(4), np.log10(9), 0], [0, 0, 1, -1]),
        ({"score_transform": "rank"}, [1 / 4, 5 / 8, 7 / 8, 1 / 4], [0, 0, 1, -1]),
        ({"censored": "value"}, [1, 4, 9, 1], [0, 0, 0, 0]),
    ],
)
def test_words_stand_for_the_worst_number_of_the_column(check: Checker, options, scores, bounds):
    found = check("sequence,score\nAC,1\nAG,4\nAU,>9\nAA,Inactive\n", inactive=("inactive", "n.d."), **options)
    assert found.table.scores.tolist() == pytest.approx(scores) and found.table.bounds.tolist() == bounds
    assert "worst number of the column, in 1 row: row 5" in found.list_findings()


def test_words_without_a_number_or_a_name_are_errors(check: Checker):
    found = check("sequence,score\nAC,n.d.\nAG,0\n", inactive=("n.d.",), score_transform="log10")
    assert [(finding.row, finding.kind) for finding in found.errors] == [(2, "no_worst"), (3, "no_transform")]
    assert "--inactive 'weak'" in check("sequence,score\nAC,weak\n").errors[0].message


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("none", [0.5, 0.25, 0.125]),
        ("log10", np.log10([0.5, 0.25, 0.125])),
        ("-log10", -np.log10([0.5, 0.25, 0.125])),
        ("logit", np.log([1, 1 / 3, 1 / 7])),
        ("rank", [5 / 6, 3 / 6, 1 / 6]),
    ],
)
def test_scales(check: Checker, transform: str, expected):
    content = "sequence,score\nAC,0.5\nAG,0.25\nAU,0.125\n"
    assert check(content, score_transform=transform).table.scores.tolist() == pytest.approx(list(expected))
    turned = check(content, score_transform=transform, score_sense="lower").table.scores
    assert turned.tolist() == pytest.approx([-score for score in expected])


@pytest.mark.parametrize(
    ("transform", "bad"), [("log10", ["0", "-1"]), ("-log10", ["0", "<0"]), ("logit", ["0", "1", "1.5", "-0.1"])]
)
def test_a_score_without_a_transform_is_an_error_of_its_row(check: Checker, transform: str, bad: list[str]):
    lines = "".join(f"A{'C' * place},{cell}\n" for place, cell in enumerate(bad))
    found = check(f"sequence,score\nG,0.5\n{lines}", score_transform=transform)
    assert found.table.rows == (2,) and {finding.kind for finding in found.errors} == {"no_transform"}
    assert len(found.rejected) == len(bad) and f"has no {transform}" in found.errors[0].message


def test_ranks_are_shared_by_equal_scores(check: Checker):
    found = check("sequence,score\nAC,7\nAG,7\nAU,1\nAA,9\n", score_transform="rank")
    assert found.table.scores.tolist() == [0.5, 0.5, 0.125, 0.875]


def test_the_sense_of_a_concentration_is_asked_about_and_said(check: Checker):
    content = "sequence,MIC\nAC,1\nAG,4\n"
    asked = check(content).warnings[0].message
    assert "--score-sense lower" in asked and "--score-transform=-log10" in asked
    assert not check(content, score_transform="-log10").warnings
    twice = check(content, score_transform="-log10", score_sense="lower")
    assert "large ones are best now" in twice.warnings[0].message and twice.table.scores.tolist() == pytest.approx(
        [0, np.log10(4)]
    )
    assert "-log10 taken, of which lower is better" in twice.summary()


def test_classes_have_no_scale(tmp_path: Path):
    (tmp_path / "t.csv").write_text("text,label\na,x\n")
    with pytest.raises(ValueError, match="classes have none"):
        check_table(tmp_path / "t.csv", space("text"), TableSettings(score_transform="rank"), has_classes=True)


def test_lower_case_is_read_as_upper_case_and_counted(check: Checker):
    found = check("sequence,score\nacGU,1\nACGA,2\n acgc,3\n")
    assert found.table.sequences == ("ACGU", "ACGA", "ACGC")
    assert "lower case read as upper case in 2 rows: rows 2 and 4" in found.list_findings()
    peptides = check("sequence,score\nklM,1\nKLM,2\n", "protein")
    assert "D-amino acids" in peptides.list_findings() and peptides.table.counts.tolist() == [2]
    assert "1 sequence in upper and in lower case joined as replicates: row 2" in peptides.list_findings()
    assert peptides.table.measurement_std is None
    assert check("sequence,score\nklm,1\nKLM,1\nKLM,1\n", "protein").table.counts.tolist() == [2]


def test_lower_case_may_be_refused_or_kept(check: Checker):
    content = "sequence,score\nklM,1\nKLM,2\nkxM,3\n"
    refused = check(content, "protein", case="refuse")
    assert [(finding.row, finding.kind) for finding in refused.errors] == [(2, "case"), (4, "bad_symbol")]
    assert "--case upper" in refused.errors[0].message and refused.table.sequences == ("KLM",)
    kept = check(content, "protein", case="keep")
    assert kept.table.sequences == ("klM", "KLM") and kept.space is not None
    assert kept.space.alphabet == "ACDEFGHIKLMNPQRSTVWYacdefghiklmnpqrstvwy"
    assert space(kept.space.name, 3, 3) == kept.space


def test_letters_that_a_space_has_in_both_cases_stay_apart(check: Checker):
    for case in ("upper", "keep"):
        assert check("sequence,score\nab,1\nAB,2\n", "letters:abAB", case=case).table.sequences == ("ab", "AB")
    assert check("sequence,score\nCCO,1\ncco,2\n", "text").table.sequences == ("CCO", "cco")
    assert check("sequence,score\nß,1\n", "protein").errors[0].kind == "bad_symbol"


MUTATIONS = {
    "WT": "MSYK",
    "wt": "MSYK",
    "_wt": "MSYK",
    "p.=": "MSYK",
    "S2A": "MAYK",
    "s2a": "MAYK",
    "S2A:K4R": "MAYR",
    "K4R/S2A": "MAYR",
    '"S2A,K4R"': "MAYR",
    "S2A;K4R": "MAYR",
    "S2A K4R": "MAYR",
    "S2A+K4R": "MAYR",
    "p.Ser2Ala": "MAYK",
    "p.(Ser2Ala)": "MAYK",
    '"p.Ser2Ala, p.Lys4Arg"': "MAYR",
    "p.[Ser2Ala;Lys4Arg]": "MAYR",
    "Ser2=": "MSYK",
    "S2S": "MSYK",
    "MSYR": "MSYR",
}


@pytest.mark.parametrize(("cell", "sequence"), MUTATIONS.items())
def test_mutations_are_read(check: Checker, cell: str, sequence: str):
    found = check(f"sequence,score\n{cell},1\n", "protein", parent=PARENT)
    assert found.table.sequences == (sequence,) and not found.findings


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("A2C", "position 2 is S in the parent, not A"),
        ("p.Ala2Cys", "position 2 is S in the parent, not A"),
        ("S5A", "position 5 is outside the parent, which has positions 1 to 4"),
        ("S0A", "position 0 is outside"),
        ("S2A:S2C", "position 2 is changed twice"),
        ("S2X", "'X' is no letter of the space"),
        ("S2*", "stop"),
        ("p.Ser2Ter", "stop"),
        ("p.Ser2del", "no substitution such as V39C"),
        ("S2_Y3insA", "no substitution such as V39C"),
        ("p.Ser2fs", "no substitution such as V39C"),
        ("2A", "no substitution such as V39C"),
        ("S" + "2" * 50_000 + "A", "no substitution such as V39C"),
    ],
)
def test_mutations_that_do_not_fit_are_named(check: Checker, cell: str, said: str):
    found = check(f"sequence,score\n{cell},1\n", "protein", parent=PARENT)
    assert [(finding.row, finding.kind) for finding in found.errors] == [(2, "mutation")]
    assert said in found.errors[0].message and len(found.errors[0].message) < 300


def test_mutations_are_counted_from_where_the_parent_starts(check: Checker):
    assert check("sequence,score\nS40A,1\n", "protein", parent=PARENT, parent_start=39).table.sequences == ("MAYK",)
    assert "39 to 42" in check("sequence,score\nS2A,1\n", "protein", parent=PARENT, parent_start=39).errors[0].message


def test_mutations_without_a_parent_are_recognised(check: Checker):
    assert "--parent" in check("sequence,score\nS2A,1\n", "protein").errors[0].message


def test_a_parent_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "m.csv").write_text("sequence,score\nS2A,1\n")
    (tmp_path / "wt.fasta").write_text(">wild type\nMS\nyk\n")
    monkeypatch.chdir(tmp_path)
    settings = TableSettings(parent="wt.fasta")
    assert read_table("m.csv", space("protein"), settings).sequences == ("MAYK",)
    for content, said in [
        (">a\nMT\n>b\nMK\n", "several sequences"),
        (">a\nM1K\n", "no sequence of the letters"),
        ("", "no seq"),
    ]:
        (tmp_path / "wt.fasta").write_text(content)
        with pytest.raises(DataError, match=said):
            read_table("m.csv", space("protein"), settings)
    with pytest.raises(DataError, match="neither a sequence of the letters ACDEFGHIKLMNPQRSTVWY nor a FASTA file"):
        read_table("m.csv", space("protein"), TableSettings(parent="none.fasta"))
    with pytest.raises(DataError, match="space with letters"):
        read_table("m.csv", space("text"), TableSettings(parent="MSYK"))


@pytest.mark.parametrize("name", ["replicates", "censored", "case", "score_transform", "score_sense", "on_invalid"])
def test_settings_are_one_of_a_few(name: str):
    with pytest.raises(ValueError, match=f"{name} must be '.* or '.*', got 'other'"):
        TableSettings(**{name: "other"})  # pyright: ignore[reportArgumentType]  # that is what is tested


def test_other_columns_of_numbers_are_told_and_an_index_is_none(check: Checker):
    found = check(",sequence,score,count,note,mic\n0,AC,1,5,x,\n1,AG,2,9,1,0.5\n2,AU,3,5,y,2\n")
    assert [finding.kind for finding in found.warnings] == ["other_scores"]
    assert "'count', 'mic'" in found.warnings[0].message and "'note'" not in found.warnings[0].message
