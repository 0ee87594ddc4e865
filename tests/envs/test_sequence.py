"""Sequences against a brute-force tree (tgm T10: the masks at both ends; the end is not counted as length)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.graph import count_trajectories, explore, key_of
from tests.reference.trees import letter_tree

from narrows.envs import Prefix, Sequence

SIZES = [("AB", 1, 3), ("ACG", 2, 2), ("AB", 0, 2), ("A", 0, 1), ("A", 2, 3)]


@pytest.mark.parametrize(("alphabet", "min_length", "max_length"), SIZES)
def test_masks_and_moves_equal_the_tree_of_strings(alphabet, min_length, max_length):
    env = Sequence(alphabet, min_length, max_length)
    tree = letter_tree(alphabet, min_length, max_length)
    num_open, num_done = 0, 0
    for node in explore(env).values():
        tokens, length = node.state.tokens.tolist(), int(node.state.length)
        text = "".join(alphabet[token] for token in tokens[:length])
        # The rest is padding, also after the end: the end token is never written.
        assert tokens[length:] == [len(alphabet)] * (max_length - length)
        assert node.is_terminal == bool(node.state.is_done)
        if node.is_terminal:
            num_done += 1
            assert not node.children
            continue
        num_open += 1
        expected = {(alphabet + "$").index(name if name != "end" else "$"): target for name, target in tree[text]}
        assert node.children.keys() == expected.keys()
        for action, target in expected.items():
            grown = text if target is None else target
            padded = [alphabet.index(letter) for letter in grown] + [len(alphabet)] * (max_length - len(grown))
            assert node.children[action] == (*padded, len(grown), target is None)
    assert num_open == len(tree)
    assert num_done == sum(len(alphabet) ** length for length in range(min_length, max_length + 1))


@pytest.mark.parametrize(("alphabet", "min_length", "max_length"), SIZES)
def test_every_object_has_one_trajectory_and_its_own_text(alphabet, min_length, max_length):
    env = Sequence(alphabet, min_length, max_length)
    counts = count_trajectories(explore(env))
    assert set(counts.values()) == {1}
    lengths = range(min_length, max_length + 1)
    texts = ["".join(letters) for length in lengths for letters in itertools.product(alphabet, repeat=length)]
    states = env.from_text(texts)
    assert env.to_text(states) == texts
    assert {key_of(jax.tree.map(lambda leaf, row=row: leaf[row], states)) for row in range(len(texts))} == set(counts)


def test_t10_masks_at_the_bounds():
    env = Sequence("ACGU", 2, 3)
    letters_only, anything, end_only = [True] * 4 + [False], [True] * 5, [False] * 4 + [True]
    state = env.reset()
    for action, expected in ((2, letters_only), (0, letters_only), (1, anything), (4, end_only)):
        assert env.action_mask(state).tolist() == expected
        assert not env.is_terminal(state)
        state = env.step(state, jnp.int32(action))
    assert env.action_mask(state).tolist() == [False] * 5
    assert env.is_terminal(state)
    assert int(state.length) == 3
    assert env.to_text(jax.tree.map(lambda leaf: leaf[None], state)) == ["GAC"]


def test_a_policy_sees_the_newest_token_and_how_many_there_are():
    env = Sequence("ACGU", 0, 3)
    state, seen = env.reset(), []
    for action in (3, 0, 4):
        seen.append(env.observe(state))
        state = env.step(state, jnp.int32(action))
    seen.append(env.observe(state))
    assert all(isinstance(observation, Prefix) for observation in seen)
    assert [(int(o.last), int(o.position), o.tokens.tolist()) for o in seen] == [
        (4, 0, [4, 4, 4]),
        (3, 1, [3, 4, 4]),
        (0, 2, [3, 0, 4]),
        (0, 2, [3, 0, 4]),
    ]


def test_going_back_retraces_the_only_path():
    env = Sequence("ACGU", 1, 5)
    state = jax.tree.map(lambda leaf: leaf[0], env.from_text(["GAUC"]))
    undone = []
    while env.backward_mask(state).any():
        undone.append(int(env.forward_action(state, jnp.int32(0))))
        state = env.backward_step(state, jnp.int32(0))
    assert undone == [4, 1, 3, 0, 2]
    assert key_of(state) == key_of(env.reset())


def test_an_empty_batch_of_texts_is_an_empty_batch_of_states():
    states = Sequence("AB", 1, 4).from_text([])
    assert states.tokens.shape == (0, 4)
    assert Sequence("AB", 1, 4).to_text(states) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("AXB", "'X' at position 2 is not one of 'AB'"), ("ab", "'a' at position 1"), ("", "got 0"), ("ABABA", "got 5")],
)
def test_texts_that_are_no_objects_are_refused(text, message):
    with pytest.raises(ValueError, match=message) as error:
        Sequence("AB", 1, 4).from_text(["AB", text, "A"])
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("arguments", [("", 1, 2), ("AA", 1, 2), ("AB", -1, 2), ("AB", 3, 2), ("AB", 0, 0)])
def test_senseless_spaces_are_refused(arguments):
    with pytest.raises(ValueError, match="expected|distinct letters"):
        Sequence(*arguments)


def test_sizes():
    env = Sequence("ACGU", 2, 14)
    assert (env.num_actions, env.num_backward_actions, env.max_steps) == (5, 1, 15)
    assert (env.num_features, env.num_values) == (14, 5)
    assert np.asarray(env.reset().tokens).tolist() == [4] * 14
