"""Subsets against plain set arithmetic."""

import itertools
import math

import jax
import pytest
from tests.reference.graph import count_trajectories, explore, key_of

from narrows.envs import Subsets

SIZES = [(1, 0, 1), (3, 0, 3), (4, 2, 3), (4, 2, 2), (3, 3, 3), (3, 0, 0)]


def subsets_of(num_items, sizes):
    return [frozenset(c) for size in sizes for c in itertools.combinations(range(num_items), size)]


def key(members, num_items, is_done):
    return (*(int(item in members) for item in range(num_items)), is_done)


@pytest.mark.parametrize(("num_items", "min_size", "max_size"), SIZES)
def test_masks_and_moves_equal_set_arithmetic(num_items, min_size, max_size):
    nodes = explore(Subsets(num_items, min_size, max_size))
    built = subsets_of(num_items, range(max_size + 1))
    finished = subsets_of(num_items, range(min_size, max_size + 1))
    assert set(nodes) == {key(s, num_items, False) for s in built} | {key(s, num_items, True) for s in finished}
    for members in built:
        expected = {}
        if len(members) < max_size:
            expected = {i: key(members | {i}, num_items, False) for i in range(num_items) if i not in members}
        if len(members) >= min_size:
            expected[num_items] = key(members, num_items, True)
        assert nodes[key(members, num_items, False)].children == expected
    for members in finished:
        node = nodes[key(members, num_items, True)]
        assert node.is_terminal
        assert not node.children


@pytest.mark.parametrize(("num_items", "min_size", "max_size"), SIZES)
def test_a_subset_has_factorially_many_trajectories_from_its_members_as_parents(num_items, min_size, max_size):
    env = Subsets(num_items, min_size, max_size)
    nodes = explore(env)
    for terminal, count in count_trajectories(nodes).items():
        assert count == math.factorial(sum(terminal[:-1]))
    mask_of = jax.jit(env.backward_mask)
    for node in nodes.values():
        members = node.state.items.tolist()
        expected = [False] * num_items + [True] if node.is_terminal else [bool(member) for member in members] + [False]
        assert mask_of(node.state).tolist() == expected


def test_by_default_every_subset_is_an_object():
    env = Subsets(3)
    texts = ["".join(bits) for bits in itertools.product("01", repeat=3)]
    states = env.from_text(texts)
    assert env.to_text(states) == texts
    terminal = {k for k, node in explore(env).items() if node.is_terminal}
    assert {key_of(jax.tree.map(lambda leaf, row=row: leaf[row], states)) for row in range(8)} == terminal
    assert env.to_text(env.from_text([])) == []


@pytest.mark.parametrize("text", ["", "010", "01100", "0a10", "1000", "1111"])
def test_texts_that_are_no_objects_are_refused(text):
    with pytest.raises(ValueError, match="expected 4 characters, each 0 or 1, with 2 to 3 ones") as error:
        Subsets(4, 2, 3).from_text(["0110", text])
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("arguments", [(0,), (3, -1), (3, 2, 1), (3, 0, 4), (3, 4)])
def test_senseless_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="expected 0 <= min_size <= max_size <= num_items"):
        Subsets(*arguments)


def test_sizes():
    env = Subsets(5, 1, 3)
    assert (env.num_actions, env.num_backward_actions, env.max_steps) == (6, 6, 4)
    assert (env.num_features, env.num_values) == (5, 2)
