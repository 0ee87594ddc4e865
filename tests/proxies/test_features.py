"""The numbers that describe sequences, against plain loops."""

import itertools

import numpy as np
import pytest

from narrows.data import Space
from narrows.proxies.features import Letters, Pairs, Words, describe_all, described, is_protein, read_features, similar_letters
from narrows.proxies.fitted import encode

PROTEIN = "ACDEFGHIKLMNPQRSTVWY"
SPACE = Space("dna", "ACGT", 2, 6)
TEXTS = ["ACGT", "TT", "GATTAC", "AAAAAA", "CG"]


def tokens():
    return encode(TEXTS, SPACE)


def test_words_are_counted_as_by_hand():
    found = describe_all(Words(4, 3, 5.0), tokens())
    for row, text in zip(found, TEXTS, strict=True):
        expected = [len(text) / 5.0]
        for letters in (1, 2, 3):
            words = [text[i : i + letters] for i in range(len(text) - letters + 1)]
            counts = [words.count("".join(word)) for word in itertools.product("ACGT", repeat=letters)]
            expected += list(np.array(counts) / np.sqrt(max(len(words), 1)))
        np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_words_longer_than_every_sequence_are_never_there():
    space = Space("dna", "ACGT", 2, 2)
    found = describe_all(Words(4, 3, 2.0), encode(["AC"], space))
    assert found.shape == (1, 1 + 4 + 16 + 64)
    assert found[0, -64:].sum() == 0


def test_letters_and_pairs_are_those_of_loops():
    space = Space("dna", "ACGT", 4, 4)
    texts = ["ACGT", "TTGA"]
    places = (0, 2, 3)
    single = describe_all(Letters(4, places), encode(texts, space))
    pairs = describe_all(Pairs(4, places), encode(texts, space))
    for row, both, text in zip(single, pairs, texts, strict=True):
        ones = [float(text[place] == letter) for place in places for letter in "ACGT"]
        twos = [
            float((text[left], text[right]) == (one, other))
            for left, right in itertools.combinations(places, 2)
            for one in "ACGT"
            for other in "ACGT"
        ]
        np.testing.assert_array_equal(row, ones)
        np.testing.assert_array_equal(both, ones + twos)


def test_letters_that_are_alike_are_near():
    vectors = similar_letters(PROTEIN)
    distance = {
        (one, other): float(((vectors[PROTEIN.index(one)] - vectors[PROTEIN.index(other)]) ** 2).sum())
        for one in PROTEIN
        for other in PROTEIN
    }
    np.testing.assert_allclose((vectors**2).sum(axis=1), 1.0, rtol=1e-5)
    assert distance["I", "V"] < distance["I", "D"]
    assert distance["K", "R"] < distance["K", "W"]
    assert distance["F", "Y"] == min(distance["F", other] for other in PROTEIN if other != "F")
    assert is_protein(PROTEIN)
    assert not is_protein("ACGT")


@pytest.mark.parametrize("features", [Letters(4, (0, 3)), Pairs(4, (0, 1, 5)), Words(4, 2, 4.0)], ids=lambda it: it.name)
def test_features_are_read_back(features):
    plain = described(features)
    assert read_features(plain, 4, 6) == features
    assert features.num == describe_all(features, tokens()).shape[1]
    for broken in ({**plain, "num_letters": 5}, {**plain, "more": 1}, {**plain, "kind": "other"}, "letters", None):
        with pytest.raises(ValueError, match="no features"):
            read_features(broken, 4, 6)


@pytest.mark.parametrize(
    "plain",
    [
        {"kind": "words", "num_letters": 4, "longest": 30, "typical": 4.0},
        {"kind": "letters", "num_letters": 4, "places": [6], "alike": None},
        {"kind": "letters", "num_letters": 4, "places": [-1], "alike": None},
        {"kind": "letters", "num_letters": 4, "places": [0], "alike": "AC?T"},
        {"kind": "pairs", "num_letters": 4, "places": list(range(6)) * 9},
    ],
)
def test_features_that_the_space_does_not_have_are_refused(plain):
    with pytest.raises(ValueError, match="features"):
        read_features(plain, 4, 6)
