"""What is guessed of a table, and that what is given stands."""

import gzip
from pathlib import Path

import pytest

from narrows.data import TableSettings, check_table, space
from narrows.data.guess import guess_space, guess_table, is_better_when_lower

REAL = Path(__file__).parents[2].parent / "shared" / "data"
USUAL = TableSettings()


@pytest.fixture
def write(tmp_path):
    def write_table(text, name="t.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_table


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ACGU", "GGAU", "AAAA"], "rna"),
        (["ACGT", "GGAT"], "dna"),
        (["ACG", "GGA"], "dna"),
        (["acgu", "ggau"], "rna"),
        (["MKVLAW", "GGST"], "protein"),
        ([*["MKVLAWGGST"] * 9, "MKX"], "protein"),
        ([*["MKVLAWGGST"] * 8, "MKX", "OOO"], "letters:AGKLMOSTVWX"),
        (["HPPH", "HHPP"], "letters:HP"),
        (["0110", "1"], "letters:01"),
        (["c1ccccc1", "CCO"], "letters:1COc"),
    ],
)
def test_the_space_is_that_of_nearly_all_rows(words, expected):
    name, reason = guess_space(words, USUAL)
    assert name == expected and "wrong if" in reason
    space(name)  # it can be asked for


def test_letters_of_mutants_are_those_of_the_parent():
    assert guess_space(["A2C", "WT"], TableSettings(parent="MAYKLVT"))[0] == "protein"
    assert guess_space(["A2C", "WT"], TableSettings(parent="ACGT"))[0] == "dna"
    assert guess_space(["A2C", "WT"], TableSettings(parent="parent.fasta"))[0] == "protein"


def test_columns_with_the_usual_names_are_not_guessed(write):
    guess = guess_table(write("sequence,score,other\nACGU,1,2\nACGA,2,5\n"))
    assert guess.settings == USUAL and guess.space == "rna" and set(guess.reasons) == {"space"}


def test_columns_are_guessed_by_cells_and_names(write):
    rows = [f"{place},{word},uM,{place % 2}.5,{place}.25,x y" for place, word in enumerate(["MKVL", "AWGG", "STPQ", "RRNE"])]
    guess = guess_table(write("\n".join([",variants,unit,std,log IC50,note", *rows])))
    assert (guess.settings.sequence_column, guess.settings.score_column) == ("variants", "log IC50")
    assert "numbers are also in '#1', 'std'" in guess.reasons["score_column"]
    assert guess.settings.score_sense == "lower" and "'log IC50'" in guess.reasons["score_sense"]


def test_without_a_name_that_says_so_the_fullest_column_of_numbers_is_the_score(write):
    guess = guess_table(write("peptide,a,b\nMKVL,1,\nAWGG,2,3\nSTPQ,,4\nRRNE,>8,2\nHHHH,1,1\n"))
    assert guess.settings.score_column == "a"
    assert "'b'" in guess.reasons["score_column"]


def test_columns_of_one_name_are_called_by_position(write):
    guess = guess_table(write("8-mer\t8-mer\tE-score\tZ-score\nACGT\tACGT\t0.5\t3\nAAGG\tCCTT\t0.1\t7\n"))
    assert (guess.settings.sequence_column, guess.settings.score_column) == ("#1", "E-score")


def test_the_name_of_the_file_says_the_sense_where_that_of_the_column_does_not(write):
    text = "sequence,E_coli\nMKVLAW,1\nGGSTPQ,2\n"
    assert guess_table(write(text, "mic.csv")).settings.score_sense == "lower"
    assert guess_table(write(text, "table.csv")).settings.score_sense == "higher"
    for name in ("IC50 (nM)", "log10_MIC", "Kd", "dG"):
        assert is_better_when_lower(name)
    for name in ("pKd", "fitness", "E_coli"):
        assert not is_better_when_lower(name)


def test_words_for_inactive_are_found(write):
    guess = guess_table(write("sequence,score\nMKVLAW,1\nGGSTPQ,inactive\nGGSTPW,Not active\nGGSTPR,n.d.\n"))
    assert guess.settings.inactive == ("inactive", "Not active") and "2 rows" in guess.reasons["inactive"]


def test_what_is_given_stands(write):
    given = TableSettings(sequence_column="b", score_column="n", score_sense="lower", inactive=("x",))
    guess = guess_table(write("sequence,b,n,score\nACGU,AAAC,1,2\nACGA,GGGG,2,5\n"), "letters:ACG", given)
    assert (guess.space, guess.settings, guess.reasons) == ("letters:ACG", given, {})
    transformed = TableSettings(score_transform="-log10")
    assert guess_table(write("sequence,ic50\nACGU,2\nACGA,5\n"), None, transformed).settings == transformed


@pytest.mark.parametrize("text", ["", "ACGU,1\nACGG,2\n", "only\nACGU\n", "a,b,c\nx y,z z,q q\n", "sequence;score,x\n1,2\n"])
def test_what_is_no_table_is_left_to_the_check(write, text):
    path = write(text)
    guess = guess_table(path)
    assert guess.settings == USUAL or guess.reasons
    assert check_table(path, space(guess.space), guess.settings).is_unreadable
    assert guess_table(path.with_name("none.csv")).settings == USUAL


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gb1/gb1_four_sites.csv.gz", ("protein", None, None, "higher")),
        ("amp/mic.csv", ("protein", "Sequence", "E_coli", "lower")),
        ("amp/hemolysis.csv", ("protein", "Sequence", "log10_HC50", "higher")),
        ("tfbind8/SIX6_REF_R1_8mers.txt", ("dna", "#1", "E-score", "higher")),
        ("rna/rna1_start.csv", ("rna", None, None, "higher")),
    ],
)
def test_real_tables_are_guessed_as_a_person_would(tmp_path, name, expected):
    source = REAL / name
    if not source.is_file():
        pytest.skip(f"the real table is not there: {source}")
    opened = gzip.open(source, "rt", newline="") if name.endswith(".gz") else open(source, newline="", encoding="utf-8")
    with opened as stream:
        text = stream.read()
    ends = "\r" if "\n" not in text else "\n"
    path = tmp_path / Path(name).name.removesuffix(".gz")
    path.write_text(ends.join(text.split(ends)[:2000]), encoding="utf-8", newline="")  # enough of it, in a tenth of the time
    guess = guess_table(path)
    settings = guess.settings
    assert (guess.space, settings.sequence_column, settings.score_column, settings.score_sense) == expected
