"""The bit-parallel distance against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from tests.reference.lev import levenshtein
from tests.slowly import slowly

from narrows.edit_distance import Patterns, distances

WIDTH = 40

one_text = jax.jit(distances)


@st.composite
def cases(draw):
    """A few patterns and a text over a small alphabet; the text may hold tokens that no pattern knows."""
    num_tokens = draw(st.integers(1, 6))
    pattern = st.lists(st.integers(0, num_tokens - 1), max_size=WIDTH)
    patterns = draw(st.lists(pattern, min_size=3, max_size=3))
    text = draw(st.lists(st.integers(0, num_tokens + 1), max_size=WIDTH))
    return patterns, text


def prepare(patterns):
    """Return patterns whose arrays have the same shapes in every example, so that one compilation serves all."""
    filler = [7] * (WIDTH + 1)
    return Patterns([*patterns, filler])


@settings(max_examples=150, deadline=None)
@given(cases())
def test_agrees_with_plain_loops_whatever_the_padding(case):
    patterns, text = case
    expected = [levenshtein(pattern, text) for pattern in patterns]
    for padding in (0, 99, -1):
        tokens = jnp.asarray(text + [padding] * (WIDTH - len(text)), jnp.int32)
        assert one_text(prepare(patterns), tokens, jnp.int32(len(text)))[:3].tolist() == expected


@pytest.mark.parametrize("num_rows", [1, 32, 33, 65, *slowly("other lengths; these guard the law", 31, 63, 64, 96, 128, 240)])
def test_carries_across_words(num_rows):
    generator = np.random.default_rng(num_rows)
    base = generator.integers(0, 2, num_rows)
    near = base.copy()
    near[generator.integers(0, num_rows, 3)] ^= 1
    runs = np.repeat(1, num_rows)
    patterns = [base.tolist(), near.tolist(), runs.tolist(), base[: num_rows // 2].tolist(), []]
    texts = [base, np.delete(base, 0), np.roll(base, 1), np.concatenate([near, base]), runs, runs[1:], 1 - runs]
    prepared = Patterns(patterns)
    for text in texts:
        # A run of ones against a run of ones makes the addition carry through every word.
        expected = [levenshtein(pattern, text.tolist()) for pattern in patterns]
        tokens = jnp.asarray(np.pad(text, (0, 2 * num_rows - text.size)))
        assert one_text(prepared, tokens, jnp.int32(text.size)).tolist() == expected


def test_many_long_texts_at_once_agree_with_rapidfuzz():
    generator = np.random.default_rng(0)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    texts = generator.integers(0, 20, (24, 237))
    lengths = generator.integers(0, 238, 24)
    patterns = [generator.integers(0, 20, size).tolist() for size in (12, 60, 237, 300)]
    ours = jax.jit(jax.vmap(distances, in_axes=(None, 0, 0)))(Patterns(patterns), jnp.asarray(texts), jnp.asarray(lengths))
    words = ["".join(letters[token] for token in row[:length]) for row, length in zip(texts, lengths, strict=True)]
    names = ["".join(letters[token] for token in pattern) for pattern in patterns]
    np.testing.assert_array_equal(ours, cdist(words, names, scorer=Levenshtein.distance))
    assert ours.dtype == jnp.int32


def test_length_may_be_left_out_or_be_a_python_integer():
    patterns, tokens = Patterns([[0, 1, 0]]), jnp.asarray([1, 0, 1, 1])
    assert distances(patterns, tokens).tolist() == distances(patterns, tokens, 4).tolist() == [2]
    assert distances(patterns, tokens, 0).tolist() == distances(patterns, tokens[:0]).tolist() == [3]


def test_patterns_without_a_token():
    assert distances(Patterns([[], []]), jnp.asarray([3, 0])).tolist() == [2, 2]


def test_patterns_refuse_nonsense():
    with pytest.raises(ValueError, match="at least one pattern"):
        Patterns([])
    with pytest.raises(ValueError, match="pattern 1 holds token -2"):
        Patterns([[0], [1, -2]])


def test_t10_the_bit_toy_of_the_specification():
    assert int(distances(Patterns([[0, 1, 0]]), jnp.array([1, 0, 1]))[0]) == 2
