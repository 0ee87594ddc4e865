"""Bit strings written in words against a brute-force tree."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.graph import count_trajectories, explore, key_of

from narrows.envs import BitSequence

SIZES = [(4, 1), (4, 2), (3, 3), (6, 2)]


@pytest.mark.parametrize(("num_bits", "word_bits"), SIZES)
def test_masks_and_moves_equal_the_tree_of_words(num_bits, word_bits):
    env = BitSequence(num_bits, word_bits)
    num_words, num_tokens = num_bits // word_bits, 2**word_bits
    nodes = explore(env)
    for node in nodes.values():
        length, tokens = int(node.state.length), node.state.tokens.tolist()
        if node.is_terminal:
            assert length == num_words
            assert not node.children
        elif length == num_words:
            assert node.children == {num_tokens: (*tokens, length, True)}
        else:
            written, empty = tokens[:length], tokens[length + 1 :]
            assert node.children == {t: (*written, t, *empty, length + 1, False) for t in range(num_tokens)}
    assert sum(node.is_terminal for node in nodes.values()) == 2**num_bits
    assert len(nodes) == sum(num_tokens**length for length in range(num_words + 1)) + 2**num_bits


@pytest.mark.parametrize(("num_bits", "word_bits"), SIZES)
def test_every_bit_string_is_one_object_with_one_trajectory(num_bits, word_bits):
    env = BitSequence(num_bits, word_bits)
    counts = count_trajectories(explore(env))
    texts = ["".join(bits) for bits in itertools.product("01", repeat=num_bits)]
    states = env.from_text(texts)
    assert env.to_text(states) == texts
    keys = [key_of(jax.tree.map(lambda leaf, row=row: leaf[row], states)) for row in range(len(texts))]
    assert dict.fromkeys(keys, 1) == counts


def test_words_are_written_with_the_most_significant_bit_first():
    env = BitSequence(num_bits=8, word_bits=4)
    state = env.reset()
    for action in (1, 10, 16):
        state = env.step(state, jnp.int32(action))
    assert env.to_text(jax.tree.map(lambda leaf: leaf[None], state)) == ["00011010"]


def test_the_end_is_forced_and_only_after_the_last_word():
    env = BitSequence()
    assert (env.num_actions, env.max_steps, env.num_features, env.num_values) == (257, 16, 15, 257)
    state = env.reset()
    for _ in range(15):
        mask = np.asarray(env.action_mask(state))
        assert mask[:256].all()
        assert not mask[256]
        state = env.step(state, jnp.int32(255))
    mask = np.asarray(env.action_mask(state))
    assert mask[256]
    assert not mask[:256].any()
    assert not env.is_terminal(state)
    state = env.step(state, jnp.int32(256))
    assert not np.asarray(env.action_mask(state)).any()
    assert env.is_terminal(state)


@pytest.mark.parametrize("text", ["", "0101", "01012020", "010101010", "0101 010"])
def test_texts_that_are_no_objects_are_refused(text):
    with pytest.raises(ValueError, match="expected 8 characters, each 0 or 1") as error:
        BitSequence(8, 4).from_text(["01010101", text])
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("arguments", [(8, 0), (8, 17), (8, 3), (0, 1), (-8, 8)])
def test_senseless_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="word_bits"):
        BitSequence(*arguments)
