"""Tables of free texts, and of classes in place of scores."""

import pytest

from narrows.data import DataError, TableSettings, accept_table, check_table, space


@pytest.fixture
def check(tmp_path):
    def look(text, name="text", has_classes=False, **options):
        path = tmp_path / "t.csv"
        path.write_text(text, encoding="utf-8")
        return check_table(path, space(name), TableSettings(**options), has_classes=has_classes)

    return look


def test_any_text_will_do_and_blanks_around_it_come_off(check):
    found = check('text,score\n"Hello, wörld!  ",1\n  CCO ,2\n')
    assert found.table.sequences == ("Hello, wörld!", "CCO")
    assert [finding.kind for finding in found.findings] == ["whitespace"]
    assert found.table.scores.tolist() == [1.0, 2.0]


def test_a_text_of_several_lines_is_one_text(check):
    found = check('sentence,label\n"one\ntwo, three\nfour",a\nfive,b\n', has_classes=True)
    assert found.table.sequences == ("one\ntwo, three\nfour", "five")
    assert not found.errors
    assert [finding.kind for finding in found.warnings] == ["line_breaks"]


def test_a_quote_that_never_closes_costs_its_row_alone(check):
    found = check('text,score\n"one,1\ntwo,2\nthree,3\n')
    assert found.table.sequences == ("two", "three")
    assert [rejected.row for rejected in found.rejected] == [2]


def test_empty_texts_and_empty_classes_are_named(check):
    found = check("text,label\n,a\nx,\ny,b\n", has_classes=True)
    assert [(finding.row, finding.kind) for finding in found.errors] == [(2, "empty_sequence"), (3, "empty_score")]
    with pytest.raises(DataError, match="row 3, column 'label': the cell of the class is empty"):
        accept_table(found)


def test_classes_are_sorted_numbers_as_numbers(check):
    found = check("text,label\na,10\nb,9\nc,10\nd,no\n", has_classes=True)
    assert found.table.classes == ("9", "10", "no")
    assert found.table.scores.tolist() == [1.0, 0.0, 1.0, 2.0]
    assert found.to_dict()["classes"] == {"9": 1, "10": 2, "no": 1}
    assert "9 1  10 2  no 1" in found.summary()
    assert "letters" not in found.summary().replace("any letters", "")


def test_a_text_of_two_classes_is_a_conflict_and_of_one_a_duplicate(check):
    found = check("text,label\na,x\na,y\nb,x\nb,x\n", has_classes=True)
    assert found.table.sequences == ("b",)
    assert [finding.kind for finding in found.errors] == ["conflict", "conflict"]
    assert "mean" not in found.errors[0].message
    assert found.num_duplicates == 1


def test_one_class_alone_teaches_nothing(check):
    assert "constant_score" in [finding.kind for finding in check("text,label\na,x\nb,x\n", has_classes=True).warnings]


def test_lengths_of_texts_may_be_bounded(tmp_path):
    (tmp_path / "t.csv").write_text("text,score\nabc,1\nabcdef,2\n")
    found = check_table(tmp_path / "t.csv", space("text", 1, 4))
    assert found.table.sequences == ("abc",)
    assert found.errors[0].kind == "length"


def test_classes_have_no_sense(check):
    with pytest.raises(ValueError, match="classes have none"):
        check("text,label\na,x\n", has_classes=True, score_sense="lower")


def test_usual_names_win_over_names_of_texts_and_labels(check):
    found = check("text,sequence,label,score\nz,AC,q,1\n", "dna")
    assert found.table.sequences == ("AC",)
    assert found.table.scores.tolist() == [1.0]


def test_a_misspelt_text_is_no_alphabet():
    with pytest.raises(ValueError, match="Did you mean 'text'"):
        space("texts")
    assert space("TEXT") == space("text")
