"""Headers: the separator and the columns are found, or asked for."""

import pytest
from tests.data.conftest import Checker
from tests.data.timing import processor_seconds


def columns(found) -> tuple[str, str, str]:
    assert found.layout is not None, found.list_findings()
    layout = found.layout
    return layout.delimiter, layout.header[layout.sequence], layout.header[layout.score]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("sequence,score", (",", "sequence", "score")),
        ("score,sequence", (",", "sequence", "score")),
        ("Seq;Fitness", (";", "Seq", "Fitness")),
        ("x\ty", ("\t", "x", "y")),
        ("id,sequence,value", (",", "sequence", "value")),
        ("x,y,Sequence,Score", (",", "Sequence", "Score")),
        ("mutated_sequence,DMS_score", (",", "mutated_sequence", "DMS_score")),
        (" sequence , score ", (",", "sequence", "score")),
        ('"sequence","score"', (",", "sequence", "score")),
        ('"sequence","score, log10; mean"', (",", "sequence", "score, log10; mean")),
        ("sequence;score, log10", (";", "sequence", "score, log10")),
        ("sequence,binding", (",", "sequence", "binding")),
        ("ligand,score", (",", "ligand", "score")),
        ("sequence,score,", (",", "sequence", "score")),
    ],
)
def test_usual_headers_are_understood(check: Checker, header: str, expected: tuple[str, str, str]):
    assert columns(check(f"{header}\n")) == expected


def test_two_unknown_columns_are_told_apart_by_their_cells(check: Checker):
    assert columns(check("binder,strength\nACGU,1\nACG,2\n")) == (",", "binder", "strength")
    assert columns(check("strength,binder\n1,ACGU\n2,ACG\n")) == (",", "binder", "strength")
    assert columns(check("strength;binder\n1,5;ACGU\nbad;ACG\n2,5;AC\n")) == (";", "binder", "strength")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,sequence,fit\nq,ACGU,1\n", ["hold the score", "'name', 'sequence', 'fit'", "--score-column"]),
        ("name,rna1,score\nq,ACGU,1\n", ["hold the sequence", "'name', 'rna1', 'score'", "--sequence-column"]),
        ("binder,strength\nACGU,weak\nACG,strong\n", ["'binder', 'strength'", "--sequence-column"]),
        ("seq,sequence,score\nAC,AC,1\n", ["more than one", "'seq' (#1)", "'sequence' (#2)", "--sequence-column"]),
        ("sequence,score,fitness\nAC,1,1\n", ["more than one", "'score' (#2)", "'fitness' (#3)", "--score-column"]),
        ("sequence,sequence,score\nAC,AC,1\n", ["'sequence' (#1)", "'sequence' (#2)"]),
        ("sequence\nACGU\n", ["one column", "comma, semicolon or tab"]),
        ("sequence|score\nACGU|1\n", ["one column", "'sequence|score'"]),
        ("sequence;a,score\nACGU;1,2\n", ["comma and semicolon", "--sequence-column"]),
        ('"sequence,score\nACGU,1\n', ["header cannot be read", "quote"]),
    ],
)
def test_unclear_headers_are_refused_with_the_cure(check: Checker, content: str, said: list[str]):
    found = check(content)
    assert found.is_unreadable and len(found.errors) == 1 and found.errors[0].row == 1
    for words in said:
        assert words in found.errors[0].message


@pytest.mark.parametrize(
    "content",
    [
        "ACGU,1.0\nACG,2\n",
        "1.0;ACGU\n2;ACG\n",
        "ACGT,0.5\nACG,2\n",
        "ACGU,n/a\nACG,2\nAC,3\n",
        "acgu,n/a\nACG,2\nAC,3\n",
        "ACGU,score\nACG,2\n",
        "7,ACGU,0.5\n8,ACG,2\n",
    ],
)
def test_missing_header_is_seen(check: Checker, content: str):
    found = check(content)
    assert [(finding.row, finding.kind) for finding in found.findings] == [(1, "no_header")]
    assert "sequence,score" in found.findings[0].message


def test_missing_header_is_seen_for_peptides_that_spell_a_usual_name(check: Checker):
    assert check("SEQ,0.5\nAAA,0.2\n", "protein").findings[0].kind == "no_header"
    assert check("PEP,0.5\nAAA,0.2\n", "protein").findings[0].kind == "no_header"
    assert check("b,c\nAAA,0.2\n", "protein").layout is not None


def test_positions_do_not_hide_a_missing_header(check: Checker):
    found = check("ACGU,n/a\nACG,2\n", sequence_column="#1", score_column="#2")
    assert found.findings[0].kind == "no_header"


def test_named_columns_win(check: Checker):
    content = "sequence,score,other,2023\nACGU,1,ACC,5\n"
    assert columns(check(content, sequence_column="other", score_column="2023")) == (",", "other", "2023")
    assert columns(check(content, sequence_column="#3", score_column="2023")) == (",", "other", "2023")
    assert columns(check("ACGU,AA\nACG,2\n", sequence_column="ACGU", score_column="AA")) == (",", "ACGU", "AA")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score_column": "scores"}, ["no column 'scores'", "Did you mean 'score'", "'sequence', 'score', 'note'"]),
        ({"score_column": "#4"}, ["no column '#4'"]),
        ({"score_column": "#0"}, ["no column '#0'"]),
        ({"score_column": "sequence"}, ["both sequence and score"]),
        ({"sequence_column": "Sequence"}, ["no column 'Sequence'", "Did you mean 'sequence'"]),
    ],
)
def test_wrong_names_are_answered_with_the_columns(check: Checker, options: dict[str, str], said: list[str]):
    found = check("sequence,score,note\nACGU,1,x\n", **options)
    assert found.is_unreadable and found.errors[0].kind == "column"
    for words in said:
        assert words in found.errors[0].message


def test_repeated_names_need_a_position(check: Checker):
    # The header of published tables of all DNA 8-mers.
    content = "8-mer\t8-mer\tE-score\nAAAAAAAA\tTTTTTTTT\t0.03\nAAAAAAAC\tGTTTTTTT\t-0.12\n"
    refused = check(content, "dna", sequence_column="8-mer", score_column="E-score")
    assert "'#1'" in refused.errors[0].message and refused.is_unreadable
    found = check(content, "dna", sequence_column="#2", score_column="E-score")
    assert found.table.sequences == ("TTTTTTTT", "GTTTTTTT")
    assert [(finding.kind, finding.severity) for finding in found.findings] == [("repeated_column", "warning")]


def test_lines_before_the_header_are_blank_or_it_is_no_header(check: Checker):
    found = check("\n , \nsequence,score\nACGU,1\n")
    assert found.table.rows == (4,)
    assert [(finding.row, finding.kind) for finding in found.findings] == [(1, "blank_line")]
    assert found.num_blank == 2


@pytest.mark.parametrize(
    "first",
    ["sep=;", "SEP=;", '"sep=;"', "'sep=;'", "sep=;;;", "sep=;,,", "\ufeffsep=;", '\ufeff"sep=;"'],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_first_line_that_names_the_separator_is_no_row(check: Checker, first: str, end: str):
    found = check(end.join([first, "sequence;score, log10", "ACGU;1", "ACG;x", "AC;2", ""]))
    assert columns(found) == (";", "sequence", "score, log10")
    assert found.table.rows == (3, 5) and found.errors[0].row == 4 and found.num_blank == 0
    assert [finding.kind for finding in found.warnings if finding.kind != "bom"] == ["separator_line"]


@pytest.mark.parametrize(("first", "separator"), [("sep=,", ","), ("sep=,,,,", ","), ("sep=\t", "\t"), ("sep=\\t", "\t")])
def test_the_named_separator_is_taken_where_others_would_do(check: Checker, first: str, separator: str):
    found = check(f"{first}\nsequence{separator}score\nACGU{separator}1\n")
    assert columns(found) == (separator, "sequence", "score") and found.table.rows == (3,)


def test_a_named_separator_counts_even_where_another_one_would_fit_better(check: Checker):
    assert columns(check("sep=;\na,sequence;b,score\nx,ACGU;1\n", sequence_column="#1", score_column="#2"))[0] == ";"
    found = check("sep=;\nsequence,score\nACGU,1\n")
    assert found.is_unreadable and found.errors[0].row == 2
    assert "one column" in found.errors[0].message and "semicolon, as its first line says" in found.errors[0].message


@pytest.mark.parametrize("first", ["sep=|", "sep=", "sep=:", '"sep= "'])
def test_a_separator_that_is_none_of_ours_is_named(check: Checker, first: str):
    found = check(f"{first}\nsequence|score\nACGU|1\n")
    assert [(finding.row, finding.kind) for finding in found.findings] == [(1, "separator_line")] and found.is_unreadable
    assert "comma, a semicolon or a tab" in found.errors[0].message


def test_a_header_that_starts_alike_is_a_header(check: Checker):
    assert columns(check("sep=,sequence,score\n1,ACGU,1\n")) == (",", "sequence", "score")
    assert check("sequence,score\nsep=;,1\n").errors[0].row == 2


def test_a_named_separator_and_nothing_else_is_an_empty_file(check: Checker):
    assert check("sep=;\r\n\r\n").errors[0].kind == "empty_file"


@pytest.mark.parametrize("names", ["c{0}", "c", "c{0} sequence", "sequence"])
def test_the_work_of_a_header_grows_with_its_columns(check: Checker, names: str):
    """Eight times the columns take eight times as long, not sixty-four times; what is said of them stays short."""

    def seconds(number: int) -> float:
        line = ",".join(["score", *(names.format(place) for place in range(number))])
        content = f"{line}\n{','.join(['1'] * (number + 1))}\n"
        found = check(content)
        assert len(found.list_findings()) + len(found.summary()) < 3000
        return processor_seconds(lambda: check(content))

    assert seconds(16_000) < 30 * seconds(2_000)


def test_header_with_a_line_break_keeps_line_numbers(check: Checker):
    found = check('sequence,score,"note\n(free)"\nACGU,1,a\nACG,x,b\n')
    assert found.table.rows == (3,) and found.errors[0].row == 4


def test_a_score_that_is_better_when_lower_is_asked_about(check: Checker):
    found = check("sequence,binding_energy\nACGU,-1\nACG,0\n", score_column="binding_energy")
    assert found.findings[0].kind == "score_sense" and "--score-sense lower" in found.findings[0].message
    turned = check("sequence,binding_energy\nACGU,-1\nACG,0\n", score_sense="lower")
    assert not turned.findings
    assert list(turned.table.scores) == [1.0, 0.0] and str(turned.table.scores[1]) == "0.0"
    assert "sign turned" in turned.summary()


def test_score_sense_is_one_of_two(check: Checker):
    with pytest.raises(ValueError, match="'higher' or 'lower', got 'best'"):
        check("sequence,score\nACGU,1\n", score_sense="best")
