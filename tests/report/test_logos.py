"""Logos against the definition in plain loops, and the drawing against the numbers."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.report.logos import COLUMNS, axis_end, consensus, draw_logo, fewest_for_logo, information

PROTEIN = "ACDEFGHIKLMNPQRSTVWY"


def heights_by_loops(sequences, alphabet, position):
    """Return the heights at one position, straight from Schneider's definition."""
    letters = [sequence[position] for sequence in sequences if len(sequence) > position]
    entropy = 0.0
    for letter in alphabet:
        share = letters.count(letter) / len(letters)
        if share > 0:
            entropy -= share * math.log(share) / math.log(2)
    correction = (len(alphabet) - 1) / (2 * math.log(2) * len(letters))
    bits = max(0.0, math.log(len(alphabet)) / math.log(2) - entropy - correction)
    return [letters.count(letter) / len(letters) * bits * len(letters) / len(sequences) for letter in alphabet]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["01", "ACGU", PROTEIN]).flatmap(
        lambda a: st.tuples(st.just(a), st.lists(st.text(a, min_size=1, max_size=7), min_size=1, max_size=12))
    )
)
def test_information_is_that_of_a_plain_loop(case):
    alphabet, sequences = case
    logo = information(sequences, alphabet)
    assert logo.bits.shape == (max(map(len, sequences)), len(alphabet))
    for position in range(logo.bits.shape[0]):
        np.testing.assert_allclose(logo.bits[position], heights_by_loops(sequences, alphabet, position), atol=1e-12)


def test_known_values():
    """All agree: log2 s minus the correction. All letters equal: nothing. Numbers by hand."""
    same = information(["A"] * 100, "ACGT")
    assert same.correction[0] == pytest.approx(3 / (2 * math.log(2) * 100))
    assert same.bits[0, 0] == pytest.approx(2 - 0.02164042561)
    assert information(list("ACGT") * 5, "ACGT").bits.sum() == 0
    assert information(["AA", "A"], "ACGT").num.tolist() == [2, 1]
    assert information([], "ACGT").bits.shape == (0, 4)


def test_letters_outside_the_alphabet_are_not_counted():
    np.testing.assert_array_equal(information(["AN"] * 9, "ACGU").bits[1], 0)


def test_drawn_letters_are_as_tall_as_their_bits():
    rng = np.random.default_rng(3)
    sequences = ["".join(rng.choice(list("ACGU"), 6, p=[0.7, 0.1, 0.1, 0.1])) for _ in range(40)]
    logo = information(sequences, "ACGU")
    svg = str(draw_logo("logo", logo))
    drawn = re.findall(r'<use href="#logo-g(\d)" transform="matrix\(\S+ 0 0 (\S+) (\S+) (\S+)\)"', svg)
    bottoms = {}
    for letter, scale, x, y in drawn:
        position = round((float(x) - 34.6) / 18)
        tall = float(scale) * 1000
        assert tall == pytest.approx(logo.bits[position, int(letter)] * 120 / 2, abs=0.02)
        bottoms.setdefault(position, []).append((float(y), float(y) + tall))
    for stack in bottoms.values():
        stack.sort(reverse=True)
        assert stack[0][1] <= 132.7
        for (top, _), (_, bottom) in zip(stack, stack[1:], strict=False):
            assert bottom <= top + 0.7, "letters of a stack must not overlap"
    heights = {position: [bottom - top for top, bottom in sorted(stack)] for position, stack in bottoms.items()}
    assert all((np.diff(tall) < 0.02).all() for tall in heights.values()), "the tallest stands on top"


def test_a_long_logo_goes_on_in_lines():
    svg = str(draw_logo("logo", information(["A" * (2 * COLUMNS + 5)] * 9, "ACGU")))
    assert svg.count('class="axis"') == 3 and f">{2 * COLUMNS + 5}</text>" in svg
    assert svg.count("<path id=") == 1, "each letter's outline is stored once"


def test_an_empty_logo_is_not_drawn():
    assert draw_logo("logo", information([], "ACGU")) is None
    assert draw_logo("logo", information([""], "ACGU")) is None


@pytest.mark.parametrize("alphabet", ["<>&", "I1l", " \t", "\u4e16\u754c", "$^"])
def test_any_letters_can_be_drawn(alphabet):
    svg = str(draw_logo("logo", information([alphabet] * 30, alphabet)))
    assert svg.count("<use") == len(alphabet) and "nan" not in svg


def test_the_axis_follows_the_tallest_stack():
    assert axis_end(information(["ACGU"] * 9, "ACGU")) == 2
    assert axis_end(information(list(PROTEIN), PROTEIN)) == 0.5
    assert axis_end(information(["A"] * 99, PROTEIN)) == pytest.approx(math.log2(20))


def test_a_logo_needs_enough_sequences():
    for alphabet in ("ACGU", PROTEIN):
        fewest = fewest_for_logo(alphabet)
        share = information(["A"] * fewest, alphabet).correction[0] / math.log2(len(alphabet))
        assert share <= 0.25 and fewest >= 5


def test_consensus_says_what_stands_out():
    assert consensus(information(["ACA", "ACC", "ACG", "ACU"] * 5, "ACGU")) == "AC."
