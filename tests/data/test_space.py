import pytest

from narrows.data import OpenSpace, Space, space


def test_named_spaces_have_their_alphabets():
    assert space("rna", 1, 9) == Space("rna", "ACGU", 1, 9)
    assert space("dna", 1, 9).alphabet == "ACGT"
    assert space("protein", 1, 9).alphabet == "ACDEFGHIKLMNPQRSTVWY"
    assert space("RNA", 1, 9) == space(" rna ", 1, 9)


def test_own_letters_and_the_name_that_brings_them_back():
    for asked, letters in (("HP", "HP"), ("01", "01"), ("letters:ab", "ab"), ("letters:RNA", "RNA"), ("AC-", "AC-")):
        made = space(asked, 2, 3)
        assert made.alphabet == letters
        assert space(made.name, 2, 3) == made


@pytest.mark.parametrize("name", ["protien", "Dnaa", "abc", "", "  "])
def test_unknown_name_answers_with_the_known_ones(name: str):
    with pytest.raises(ValueError, match="unknown space .*rna, dna, protein.*letters:"):
        space(name)


def test_unknown_name_offers_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'protein'"):
        space("protien")


@pytest.mark.parametrize(
    ("letters", "reason"),
    [("ACCA", "distinct letters.*'A', 'C'"), ("A C", "visible letters"), ("A\tC", "visible"), ("letters:", "at least one")],
)
def test_bad_alphabets_are_refused(letters: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        space(letters)


@pytest.mark.parametrize(
    ("lengths", "reason"),
    [((5, 4), "must not exceed.*5 and 4"), ((-1, 4), "at least 0, got -1"), ((0, 0), "at least 1, got 0")],
)
def test_bad_lengths_are_refused(lengths: tuple[int, int], reason: str):
    with pytest.raises(ValueError, match=reason):
        space("rna", *lengths)
    with pytest.raises(ValueError, match=reason):
        Space("rna", "ACGU", *lengths)


def test_open_lengths_come_from_sequences_and_given_ones_stay():
    sequences = ["ACG", "ACGUU", "A"]
    assert space("rna").closed_over(sequences) == space("rna", 1, 5)
    assert space("rna", max_length=9).closed_over(sequences) == space("rna", 1, 9)
    assert space("rna", min_length=0).closed_over(sequences) == space("rna", 0, 5)
    assert space("rna", 2, 9).closed_over(sequences) == space("rna", 2, 9)
    assert isinstance(space("rna", max_length=9), OpenSpace)


def test_no_sequence_gives_no_length():
    with pytest.raises(ValueError, match="no sequence to take them from"):
        space("rna").closed_over([])


def test_lengths_in_words():
    assert space("rna").lengths == "any"
    assert space("rna", min_length=3).lengths == "at least 3"
    assert space("rna", max_length=3).lengths == "at most 3"
    assert (space("rna", 3, 3).lengths, space("rna", 3, 4).lengths) == ("3", "3 to 4")
