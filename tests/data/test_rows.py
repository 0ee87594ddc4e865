"""Rows: every reason is named, with the row it stands on."""

import pytest
from tests.data.conftest import Checker
from tests.data.timing import processor_seconds

from narrows.data import space


def errors_of(found) -> list[tuple[int, str]]:
    return [(finding.row, finding.kind) for finding in found.errors]


@pytest.mark.parametrize(
    ("within", "sequence", "said"),
    [
        ("rna", "ACTU", ["'T'", "position 3", "T is DNA", "--space dna"]),
        ("dna", "UACG", ["'U'", "position 1", "U is RNA", "--space rna"]),
        ("rna", "ACGt", ["'t'", "T is DNA"]),
        ("rna", "AC GU", ["' '", "position 3", "blank inside"]),
        ("rna", "AC\u00a0GU", ["U+00A0", "NO-BREAK SPACE", "blank inside"]),
        ("rna", "AC\u200bGU", ["U+200B", "ZERO WIDTH SPACE"]),
        ("rna", "\u0410CGU", ["U+0410", "CYRILLIC CAPITAL LETTER A"]),
        ("rna", "AC\x07GU", ["U+0007", "control character"]),
        ("rna", "ACNU", ["'N'", "stands for several"]),
        ("protein", "ACXU", ["'X'", "stands for several"]),
        ("protein", "AC*", ["'*'", "stop"]),
        ("rna", "AC-U", ["'-'", "gap"]),
        ("letters:ab", "aB", ["'B'", "upper case", "'b'"]),
        ("01", "0120", ["'2'", "position 3", "the letters are 01"]),
        ("rna", "NA", ["'N'", "position 1", "missing value"]),
        ("rna", "NULL", ["'N'", "missing value"]),
    ],
)
def test_bad_symbol_is_named_with_its_place_and_a_cure(check: Checker, within: str, sequence: str, said: list[str]):
    found = check(f"sequence,score\n{sequence},1\n", within)
    kind = "case" if "upper case" in said else "bad_symbol"
    assert errors_of(found) == [(2, kind)] and found.errors[0].column == "sequence"
    for words in said:
        assert words in found.errors[0].message


def test_nothing_is_read_as_a_missing_value(check: Checker):
    words = ["NA", "NAN", "NIL", "INF", "TRVE", "FALSE", "A"]
    found = check("sequence,score\n" + "".join(f"{word},{place}\n" for place, word in enumerate(words)), "protein")
    assert not found.findings
    assert found.table.sequences == tuple(words)
    # NULL and NONE hold U and O, which are no amino acids of the alphabet: bad symbols, not missing values.
    assert errors_of(check("sequence,score\nNULL,1\nNONE,1\nNone,1\n", "protein")) == [
        (2, "bad_symbol"),
        (3, "bad_symbol"),
        (4, "bad_symbol"),
    ]
    found = check("sequence,score\nNULL,1\nNONE,2\n", "letters:NULOE".replace("UL", "LU"))
    assert found.table.sequences == ("NULL", "NONE")


@pytest.mark.parametrize("cell", ["0.5", "-0.5", "+.5", "5.", "1e-3", "1E3", "007", "-0", "9" * 30, "1e-999"])
def test_numbers(check: Checker, cell: str):
    found = check(f"sequence,score\nACGU,{cell}\n")
    assert not found.findings and found.table.scores[0] == float(cell)


@pytest.mark.parametrize(
    ("cell", "kind", "said"),
    [
        ("", "empty_score", "empty"),
        ("  ", "empty_score", "empty"),
        ("nan", "non_finite_score", "not finite"),
        ("NaN", "non_finite_score", "not finite"),
        ("inf", "non_finite_score", "not finite"),
        ("-Infinity", "non_finite_score", "not finite"),
        ("1e999", "non_finite_score", "too large"),
        ('"0,5"', "decimal_comma", "write 0.5"),
        ('"1,000"', "decimal_comma", "1000 if the comma groups thousands"),
        ('"1,234.5"', "non_numeric_score", "thousands"),
        ("1_000", "non_numeric_score", "thousands"),
        ("NA", "non_numeric_score", "missing value"),
        ("#N/A", "non_numeric_score", "missing value"),
        ("high", "non_numeric_score", "Expected digits"),
        ('"<0,1"', "decimal_comma", "0.1"),
        ("<", "non_numeric_score", "not a number"),
        ("<>1", "non_numeric_score", "not a number"),
        (">nan", "non_finite_score", "not finite"),
        (">1e999", "non_finite_score", "too large"),
        ("~5", "non_numeric_score", "number alone"),
        ("1.5±0.2", "non_numeric_score", "value alone"),
        ("n.d.", "non_numeric_score", "--inactive 'n.d.'"),
        ("\u22120.5", "non_numeric_score", "minus"),
        ("\u0661", "non_numeric_score", "not a number"),
        ("0x1A", "non_numeric_score", "not a number"),
        ("1e", "non_numeric_score", "not a number"),
        ("5%", "non_numeric_score", "not a number"),
        ("True", "non_numeric_score", "not a number"),
    ],
)
def test_bad_scores(check: Checker, cell: str, kind: str, said: str):
    found = check(f"sequence,score\nACGU,{cell}\n")
    assert errors_of(found) == [(2, kind)] and found.errors[0].column == "score"
    assert said in found.errors[0].message


def test_decimal_commas_in_a_semicolon_table(check: Checker):
    found = check("sequence;score\nACGU;0,5\nACG;1.5\n")
    assert errors_of(found) == [(2, "decimal_comma")] and found.table.rows == (3,)


def test_every_reason_of_a_row_is_named(check: Checker):
    found = check("sequence,score\nACTUU,high\n,\nAC,\n,1\n", space("rna", 1, 4))
    assert errors_of(found) == [
        (2, "bad_symbol"),
        (2, "length"),
        (2, "non_numeric_score"),
        (4, "empty_score"),
        (5, "empty_sequence"),
    ]
    assert found.num_rejected == 3 and found.num_blank == 1


def test_lengths_outside_the_space(check: Checker):
    found = check("sequence,score\nAC,1\nACG,2\nACGU,3\nACGUA,4\n", space("rna", 3, 4))
    assert found.table.rows == (3, 4) and found.space == space("rna", 3, 4)
    assert errors_of(found) == [(2, "length"), (5, "length")]
    assert "2 letters; the space takes 3 to 4" in found.errors[0].message
    half_open = check("sequence,score\nAC,1\nACG,2\nACGU,3\n", space("rna", max_length=3))
    assert errors_of(half_open) == [(4, "length")] and half_open.space == space("rna", 2, 3)


def test_lengths_come_from_the_good_rows_and_it_is_said(check: Checker):
    found = check("sequence,score\nAC,1\nACGU,2\nACGUACGUX,3\n")
    assert found.space == space("rna", 2, 4)
    assert "length 2 to 4, taken from the data" in found.summary()
    assert "taken from the data" not in check("sequence,score\nAC,1\n", space("rna", 2, 4)).summary()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ACGU", "1 cell where the header has 2"),
        ("ACGU,1,x", "3 cells where the header has 2"),
        ("ACGU,0,5", "decimal comma? Write '0.5'"),
        ("ACGU,1,", "3 cells"),
    ],
)
def test_ragged_rows(check: Checker, line: str, said: str):
    found = check(f"sequence,score\nAC,1\n{line}\nAG,2\n")
    assert errors_of(found) == [(3, "ragged")] and said in found.errors[0].message
    assert found.table.rows == (2, 4)


def test_blank_lines_are_counted_and_passed_over(check: Checker):
    found = check("sequence,score\n\nACGU,1\n   \n,\n \t, \nAC,2\n\n")
    assert found.table.rows == (3, 7) and found.num_blank == 5 and found.num_rows == 2
    assert [(finding.row, finding.kind) for finding in found.findings] == [(2, "blank_line")]
    assert "5 blank lines passed over: rows 2, 4, 5, 6 and 8" in found.findings[0].message


def test_blanks_around_cells_are_taken_off_and_counted(check: Checker):
    found = check("sequence,score\n ACGU,1\nACG,\u00a02 \nAC\t,3\nA,4\n")
    assert found.table.sequences == ("ACGU", "ACG", "AC", "A")
    assert [(finding.kind, finding.severity) for finding in found.findings] == [("whitespace", "warning")]
    assert "3 rows: rows 2, 3 and 4" in found.findings[0].message


def test_same_sequence_same_score_is_kept_once(check: Checker):
    found = check("sequence,score\nACGU,0.5\nAC,1\n ACGU,0.50\nACGU,5e-1\n")
    assert found.table.rows == (2, 3) and found.num_duplicates == 2 and found.num_rejected == 0
    duplicates = [finding for finding in found.findings if finding.kind == "duplicate"]
    assert [(finding.row, finding.severity) for finding in duplicates] == [(4, "warning"), (5, "warning")]
    assert all("row 2" in finding.message and "kept once" in finding.message for finding in duplicates)


def test_same_sequence_other_score_rejects_every_row_of_it(check: Checker):
    content = "sequence,score\nACGU,0.5\nAC,1\nACGU,0.7\nACGU,0.5\nACGU,bad\n"
    found = check(content, replicates="refuse")
    assert found.table.rows == (3,)
    assert errors_of(found) == [(2, "conflict"), (4, "conflict"), (5, "conflict"), (6, "non_numeric_score")]
    messages = [finding.message for finding in found.errors]
    assert "score 0.5 here and 0.7 on row 4" in messages[0] and "rows 2, 4 and 5" in messages[0]
    assert "score 0.7 here and 0.5 on row 2" in messages[1] and "--replicates mean" in messages[1]
    assert "score 0.5 here and 0.7 on row 4" in messages[2]


def test_quoted_line_breaks_keep_physical_row_numbers(check: Checker):
    found = check('sequence,score,note\nAC,1,"two\nlines, "" three\n"\nACG,2,x\nACGU,bad,y\n')
    assert found.table.rows == (2, 5) and errors_of(found) == [(6, "non_numeric_score")]
    assert [(finding.row, finding.kind) for finding in found.warnings] == [(2, "line_breaks")]
    assert "lines 2 to 4" in found.warnings[0].message


def test_note_with_line_breaks_before_the_sequence(check: Checker):
    found = check('note,sequence,score\n"one\ntwo",AC,1\nx,ACG,2\n')
    assert found.table.rows == (2, 4) and not found.errors


@pytest.mark.parametrize(
    "first",
    ['"AC,1,x', 'AC,1,"x', '"AC",1,"x', '"AC"x,1,y', '"AC\n",1,y', 'AC,"1,x', 'AC,1,"' + "y" * 140_000],
)
@pytest.mark.parametrize("last", ["GG,4,z", '"GG",4,"z"', 'GG,4,z"'])
def test_a_stray_quote_costs_its_row_and_no_other(check: Checker, first: str, last: str):
    found = check(f"sequence,score,note\n{first}\nACG,2,x\nACGU,3,y\n{last}\nGGG,5,w\n")
    lines = first.count("\n")
    assert found.errors[0].row == 2
    middle = {3 + lines, 4 + lines, 6 + lines}
    assert middle <= set(found.table.rows)
    # Nothing is lost: every line is a row of the table or is rejected.
    told = set(found.table.rows) | {entry.row for entry in found.rejected}
    assert told == set(range(2, 7 + lines))


def test_quotes_inside_a_cell_are_letters(check: Checker):
    found = check('sequence,score,note\nA"C,1,5" tube\nAC,2,5" tube\n')
    assert errors_of(found) == [(2, "bad_symbol")] and found.table.rows == (3,)


def test_header_alone(check: Checker):
    found = check("sequence,score\n\n")
    assert errors_of(found) == [(1, "no_rows")] and found.is_unreadable


def test_equal_scores_are_told(check: Checker):
    found = check("sequence,score\nAC,1\nACG,1\n")
    assert [(finding.kind, finding.severity) for finding in found.findings] == [("constant_score", "warning")]
    assert "all 2 scores are 1.0" in found.findings[0].message


def test_replicates_of_one_sequence_cost_as_much_each_and_name_each_other_briefly(check: Checker):
    content = "sequence,score\n" + "ACGU,1\n" * 2000 + "".join(f"ACGU,{score}\n" for score in range(2, 2002))
    found = check(content, replicates="refuse")
    assert len(found.table) == 0 and found.num_rejected == len(found.errors) == 4000
    assert "score 1.0 here and 2.0 on row 2002 (it is on rows 2, 3, " in found.errors[0].message
    assert "score 2001.0 here and 1.0 on row 2 (it is on " in found.errors[-1].message
    assert found.list_findings().splitlines()[-1] == "and 3,995 more of the kind conflict"


def test_the_work_of_replicates_grows_with_their_number(check: Checker):
    """Eight times the rows take eight times as long, not sixty-four times."""

    def seconds(number: int) -> float:
        return processor_seconds(lambda: check("sequence,score\n" + "ACGU,1\n" * number + "ACGU,2\n"))

    assert seconds(8_000) < 30 * seconds(1_000)


def test_a_long_cell_is_judged_in_one_pass(check: Checker):
    """Digits with a mistake behind them: were every cut of them tried, this would take minutes."""
    ones = "1" * 100_000
    found = check(f'sequence,score\nAC,{ones}x\nAG,{"1,111" * 20_000}\nAU,"1,{ones}"\nA{"X" * 99_999},1\n')
    assert errors_of(found) == [(2, "non_numeric_score"), (3, "ragged"), (4, "decimal_comma"), (5, "bad_symbol")]
    assert max(len(finding.message) for finding in found.findings) < 500
    assert len(found.list_findings()) < 2000


def test_control_characters_never_reach_the_terminal(check: Checker):
    found = check("sequence,score\n\x1b[31mAC,\x1b[0m\nAC,1\n")
    assert "\x1b" not in found.list_findings()
    assert errors_of(found) == [(2, "bad_symbol"), (2, "non_numeric_score")]
