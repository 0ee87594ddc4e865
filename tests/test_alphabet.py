"""Tables of letters against loops that read one letter at a time: the same tokens, texts and refusals."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.alphabet import UNKNOWN, alphabet_of
from narrows.data import space
from narrows.envs import BitSequence, Sequence, Subsets
from narrows.proxies.fitted import encode

LETTERS = "A\0é\U0001f600\udc80"
"""With a zero, letters of two and four bytes, and a byte that is no text, as in a damaged file."""
TEXTS = st.lists(st.text(LETTERS, max_size=5), max_size=8)
DAMAGED = st.lists(st.text(LETTERS + "Zz\U0010ffff", max_size=6), max_size=8)
BITS = st.lists(st.text("01", min_size=3, max_size=5) | st.text("012\0", max_size=5), max_size=8)


def outcome(function, *arguments) -> Any:
    """Return what a function gives, or the words that it refuses its arguments with."""
    try:
        return function(*arguments)
    except ValueError as error:
        return str(error)


def rows_by_letter(texts):
    rows = []
    for row, text in enumerate(texts):
        for position, letter in enumerate(text, start=1):
            if letter not in LETTERS:
                raise ValueError(
                    f"object {text!r}: {letter!r} at position {position} is not one of {LETTERS!r}. "
                    "Correct the object or the environment's alphabet."
                )
        if not 1 <= len(text) <= 4:
            raise ValueError(
                f"object {row} ({text!r}): expected 1 to 4 tokens, got {len(text)}. "
                "Remove it or change min_length and max_length of the environment."
            )
        rows.append([LETTERS.index(letter) for letter in text] + [5] * (4 - len(text)))
    return rows


@settings(max_examples=200)
@given(TEXTS | DAMAGED)
def test_sequences_are_read_and_refused_as_by_a_loop(texts):
    env = Sequence(LETTERS, 1, 4)
    expected = outcome(rows_by_letter, texts)
    found = outcome(env.from_text, texts)
    if isinstance(expected, str):
        assert found == expected
        return
    assert found.tokens.tolist() == expected and found.tokens.shape == (len(texts), 4)
    assert found.length.tolist() == [len(text) for text in texts] and found.is_done.all()
    assert env.to_text(found) == texts


@settings(max_examples=100)
@given(DAMAGED)
def test_letters_are_found_as_by_a_loop(texts):
    tokens = alphabet_of(LETTERS).read(texts)
    assert tokens.flat.tolist() == [LETTERS.find(letter) for letter in "".join(texts)]
    places = [(row, place) for row, text in enumerate(texts) for place, letter in enumerate(text) if letter not in LETTERS]
    assert tokens.first_unknown() == (places[0] if places else None)
    assert UNKNOWN == "".find("x")


def words_by_bit(texts):
    for text in texts:
        if len(text) != 4 or set(text) - {"0", "1"}:
            raise ValueError(f"object {text!r}: expected 4 characters, each 0 or 1, got {len(text)}.")
    return [[int(text[:2], 2), int(text[2:], 2)] for text in texts]


def items_by_bit(texts):
    for text in texts:
        if len(text) != 4 or set(text) - {"0", "1"} or not 1 <= text.count("1") <= 2:
            raise ValueError(f"object {text!r}: expected 4 characters, each 0 or 1, with 1 to 2 ones.")
    return [[int(bit) for bit in text] for text in texts]


@settings(max_examples=200)
@given(BITS)
def test_bits_are_read_and_refused_as_by_a_loop(texts):
    for env, loop in ((BitSequence(4, 2), words_by_bit), (Subsets(4, 1, 2), items_by_bit)):
        expected, found = outcome(loop, texts), outcome(env.from_text, texts)
        if isinstance(expected, str):
            assert found == expected
            continue
        assert found[0].tolist() == expected
        assert env.to_text(found) == texts


@settings(max_examples=100)
@given(st.lists(st.text("ACGUX", max_size=6) | st.none() | st.integers(), max_size=6))
def test_a_proxy_reads_and_refuses_as_a_loop_does(objects):
    def by_letter(objects):
        rows = []
        for row, text in enumerate(objects):
            if not isinstance(text, str) or not 1 <= len(text) <= 5:
                raise ValueError(f"object {row} ({text!r}): expected a text of 1 to 5 letters. Remove it or fit another proxy.")
            if "X" in text:
                place = f"letter 'X' at position {text.index('X') + 1}"
                raise ValueError(f"object {row} ({text!r}): {place} is not in the alphabet 'ACGU'.")
            rows.append(["ACGU".index(letter) for letter in text] + [4] * (5 - len(text)))
        return rows

    found, expected = outcome(encode, objects, space("rna", 1, 5)), outcome(by_letter, objects)
    assert (found if isinstance(found, str) else found.tolist()) == expected


@pytest.mark.parametrize("env", [Sequence("ACGU", 14, 14), Sequence("ACGU", 5, 14)], ids=str)
def test_a_hundred_thousand_words_take_no_time(env):
    rng = np.random.default_rng(0)
    letters = np.array(list("ACGU"))
    texts = ["".join(letters[rng.integers(4, size=length)]) for length in rng.integers(env.min_length, 15, 100_000)]
    env.to_text(env.from_text(texts[:10]))
    start = time.process_time()
    assert env.to_text(env.from_text(texts)) == texts
    assert time.process_time() - start < 2.0  # letter by letter it was 15 s, by tables it is 0.03 s
