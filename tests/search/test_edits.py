"""Edits and variation of many rows at once, beside plain loops over texts."""

import itertools

import numpy as np
import pytest

from narrows.search import Space
from narrows.search.edits import single_edits, substitutions
from narrows.search.variation import crossed_at_a_point, crossed_over, mutated

SPACES = [Space("ACG", 3, 3), Space("ACG", 0, 3), Space("AC", 2, 4), Space("A", 1, 3)]


def everything(space):
    """Every text of a space, as a loop lists them."""
    lengths = range(space.min_length, space.max_length + 1)
    return ["".join(word) for length in lengths for word in itertools.product(space.alphabet, repeat=length)]


def edits_of(text, space):
    """Return the single edits of a text in the order that is promised."""
    places, letters = range(len(text)), space.alphabet
    found = [text[:p] + letter + text[p + 1 :] for p in places for letter in letters if letter != text[p]]
    if space.min_length < len(text):
        found += [text[:p] + text[p + 1 :] for p in places]
    if len(text) < space.max_length and space.min_length < space.max_length:
        found += [text[:p] + letter + text[p:] for p in range(len(text) + 1) for letter in letters]
    return found


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_is_listed_read_and_written(space):
    texts = everything(space)
    rows = space.listed()
    assert space.write(rows) == texts and space.num_objects == len(texts)
    np.testing.assert_array_equal(space.read(texts), rows)
    assert space.lengths(rows).tolist() == [len(text) for text in texts]
    strangers = ["T", "A" * (space.max_length + 1), *(["A" * (space.min_length - 1)] if space.min_length else [])]
    assert space.holds([*texts, *strangers]).tolist() == [True] * len(texts) + [False] * len(strangers)
    with pytest.raises(ValueError, match=r"text 1 .*letters of"):
        space.read([texts[0], strangers[1]])


def test_a_space_needs_letters_and_lengths():
    with pytest.raises(ValueError, match="Write each letter once"):
        Space("AA", 1, 2)
    with pytest.raises(ValueError, match="got 3 and 2"):
        Space("AC", 3, 2)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_single_edits_are_those_of_a_loop(space):
    texts = everything(space)
    expected = [(edit, origin) for origin, text in enumerate(texts) for edit in edits_of(text, space)]
    found = single_edits(space.read(texts), space)
    assert list(zip(space.write(found.rows), found.origin.tolist(), strict=True)) == expected
    replaced = substitutions(space.read(texts), space)
    same_length = [
        (edit, origin)
        for origin, text in enumerate(texts)
        for edit in edits_of(text, Space(space.alphabet, len(text), max(1, len(text))))
        if len(edit) == len(text)
    ]
    assert list(zip(space.write(replaced.rows), replaced.origin.tolist(), strict=True)) == same_length


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_what_is_drawn_mutated_or_crossed_stays_in_the_space(space):
    rng = np.random.default_rng(0)
    first, second = space.drawn(rng, 500), space.drawn(rng, 500)
    assert {*space.write(space.drawn(rng, 3000))} == {*everything(space)}
    one, other = crossed_over(rng, first, second, space, 0.5)
    for rows in (first, mutated(rng, first, space), crossed_at_a_point(rng, first, second, space, 0.8), one, other):
        assert space.holds(space.write(rows)).all()


def test_a_mutation_replaces_each_letter_as_often_as_it_should_and_always_one():
    rng, space = np.random.default_rng(1), Space("ACGU", 5, 5)
    rows = np.zeros((20_000, 5), np.int32)
    changes = mutated(rng, rows, space)
    number = np.sum(changes != 0, axis=1)
    assert number.min() == 1
    # Binomial(5, 1/5), with those that would have none given one.
    expected = np.array([5 * 0.2 * 0.8**4 + 0.8**5, 10 * 0.04 * 0.8**3, 10 * 0.008 * 0.64])
    np.testing.assert_allclose(np.bincount(number)[1:4] / len(rows), expected, atol=0.012)
    np.testing.assert_allclose(np.bincount(changes[changes > 0])[1:] / np.sum(number), 1 / 3, atol=0.012)
    free = Space("ACGU", 4, 6)
    lengths = free.lengths(mutated(rng, free.read(["AAAAA"] * 20_000), free))
    np.testing.assert_allclose(np.bincount(lengths)[4:] / 20_000, [0.09, 0.82, 0.09], atol=0.012)


def test_rows_cross_at_one_point_or_from_place_to_place():
    rng, space = np.random.default_rng(2), Space("ACG", 2, 6)
    first, second = space.read(["AAAA"] * 6000), space.read(["CCCCCC"] * 6000)
    texts = space.write(crossed_at_a_point(rng, first, second, space, 0.8))
    cuts = np.array([len(text) - len(text.lstrip("A")) for text in texts])
    assert texts == ["A" * cut + "C" * (6 - cut) for cut in cuts.tolist()]
    np.testing.assert_allclose(np.bincount(cuts) / 6000, [0.2 + 0.16, 0.16, 0.16, 0.16, 0.16], atol=0.025)
    assert np.bincount([len(text) for text in space.write(crossed_at_a_point(rng, second, first, space, 1.0))]).tolist() == [
        *[0] * 4,
        6000,
    ]
    one, other = (space.write(rows) for rows in crossed_over(rng, first, second, space, 0.3))
    for ours, theirs in zip(one, other, strict=True):
        assert (len(ours), len(theirs)) == (4, 6) and theirs.endswith("CC")
        assert all({mine, yours} == {"A", "C"} for mine, yours in zip(ours, theirs, strict=False))
    swaps = np.mean([[a != b for a, b in itertools.pairwise("A" + text)] for text in one])
    assert swaps == pytest.approx(0.3, abs=0.015)
