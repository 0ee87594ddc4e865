"""Distances of objects against plain loops, and the distance that each environment has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.lev import levenshtein

from narrows.distance import EDITS, ELEMENTS, FLIPS, STEPS
from narrows.envs import BitSequence, ConnectFour, Hypergrid, Sequence, Subsets, TicTacToe, perturbed
from narrows.noise import Substitution

STRINGS = st.lists(st.text("AC", max_size=5), min_size=1, max_size=20)
BITS = st.lists(st.text("01", min_size=6, max_size=6), min_size=1, max_size=20)
POINTS = st.lists(st.tuples(*[st.integers(0, 12)] * 3).map(lambda point: " ".join(map(str, point))), min_size=1, max_size=20)


def places(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def steps(one, other):
    return sum(abs(int(a) - int(b)) for a, b in zip(one.split(), other.split(), strict=True))


def agree(distance, items, references, loop):
    full = np.array([[loop(item, reference) for reference in references] for item in items])
    assert distance.between(items, references).tolist() == full.tolist()
    found = distance.nearest(items, references)
    assert found.distance.tolist() == full.min(1).tolist()
    assert found.position.tolist() == full.argmin(1).tolist()
    own = np.array([[loop(one, other) for other in items] for one in items])
    assert distance.matrix(items).tolist() == own.tolist()
    if len(items) > 1:
        assert distance.mean(items) == pytest.approx(own[np.triu_indices(len(items), 1)].mean())
    for least in (1, 3):
        assert distance.is_closer(items[0], references, least).tolist() == (full[0] < least).tolist()


@settings(max_examples=40)
@given(STRINGS, STRINGS, st.sampled_from(["", "C" * 70]))  # 64 letters divide two ways of computing
def test_edits_agree_with_plain_loops(items, references, tail):
    agree(EDITS, items, [reference + tail for reference in references], levenshtein)


@settings(max_examples=40)
@given(BITS, BITS)
def test_places_agree_with_plain_loops(items, references):
    agree(FLIPS, items, references, places)


@settings(max_examples=40)
@given(POINTS, POINTS)
def test_steps_agree_with_plain_loops(items, references):
    agree(STEPS, items, references, steps)


@pytest.mark.parametrize("distance", [EDITS, FLIPS, STEPS], ids=str)
def test_distances_in_many_blocks_are_the_same(monkeypatch, distance):
    rng = np.random.default_rng(0)
    items, references = ([" ".join(map(str, row)) for row in rng.integers(0, 9, (num, 4))] for num in (50, 30))
    expected, mean = distance.nearest(items, references), distance.mean(items)
    monkeypatch.setattr("narrows.distance.PAIRS_AT_ONCE", 70)
    found = distance.nearest(items, references)
    assert (found.position == expected.position).all() and (found.distance == expected.distance).all()
    assert distance.mean(items) == mean


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="expected at least one reference"):
        EDITS.nearest(["A"], [])
    with pytest.raises(ValueError, match="at least 2 items, got 1"):
        EDITS.mean(["A"])
    with pytest.raises(ValueError, match=r"expected points as whole numbers with spaces between, got '1 2', 'GUM'\."):
        STEPS.matrix(["1 2", "GUM"])
    for distance in (EDITS, FLIPS, STEPS):
        assert distance.matrix([]).shape == (0, 0) and distance.nearest([], ["1"]).distance.shape == (0,)


@pytest.mark.parametrize(
    ("env", "distance"),
    [
        (Sequence("ACGU", 1, 4), EDITS),
        (BitSequence(16, 4), FLIPS),
        (Hypergrid(2, 4), STEPS),
        (Subsets(4), ELEMENTS),
        (TicTacToe(), EDITS),
        (ConnectFour(), EDITS),
        (perturbed(Subsets(4), Substitution(Subsets(4))), ELEMENTS),
    ],
    ids=str,
)
def test_each_environment_has_its_distance(env, distance):
    assert env.distance == distance
