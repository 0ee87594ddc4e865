"""The graph against a walk through every trajectory in plain Python, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.brute_force import all_walks, stack
from tests.reference.small_envs import HandTree, Hops
from tests.slowly import slowly

from narrows.envs import CHANCE, BitSequence, Hypergrid, Sequence, Subsets
from narrows.exact import enumerate_graph
from narrows.exact.graph import state_keys

ENVS = [
    Sequence("AB", 0, 3),
    Hypergrid(2, 4),
    Hops(6),
    *slowly(
        "other rules; words, a grid and paths of different lengths guard the law quickly",
        Sequence("ABC", 2, 2),
        BitSequence(num_bits=4, word_bits=2),
        Hypergrid(1, 5),
        Subsets(4),
        Subsets(4, min_size=1, max_size=2),
        HandTree(),
    ),
]


@pytest.mark.parametrize("env", ENVS, ids=repr)
def test_graph_has_every_state_and_move_once(env):
    graph = enumerate_graph(env)
    walks = all_walks(env)
    moves = set()
    for walk in walks:
        ids = graph.index(stack([*walk.states, walk.terminal]))
        assert ids[0] == 0
        assert not np.any(graph.is_terminal[ids[:-1]]) and graph.is_terminal[ids[-1]]
        moves |= set(zip(ids[:-1].tolist(), walk.actions, ids[1:].tolist(), strict=True))
    states, actions = np.nonzero(graph.children >= 0)
    assert moves == set(zip(states.tolist(), actions.tolist(), graph.children[states, actions].tolist(), strict=True))
    num_states = len({number for move in moves for number in (move[0], move[2])})
    assert graph.num_states == num_states == len(set(state_keys(graph.states)))
    assert np.array_equal(graph.num_parents, np.bincount([move[2] for move in moves], minlength=num_states))
    assert graph.num_parents[0] == 0 and np.all(graph.num_parents[1:] > 0)


@pytest.mark.parametrize("env", ENVS, ids=repr)
def test_levels_are_longest_paths(env):
    graph = enumerate_graph(env)
    longest = np.zeros(graph.num_states, int)
    for walk in all_walks(env):
        ids = graph.index(stack([*walk.states, walk.terminal]))
        longest[ids] = np.maximum(longest[ids], np.arange(ids.size))
    for level, (start, stop) in enumerate(zip(graph.level_starts[:-1], graph.level_starts[1:], strict=True)):
        assert np.array_equal(np.flatnonzero(longest == level), np.arange(start, stop))
    assert graph.level_starts[-1] == graph.num_states
    inner = np.concatenate(list(graph.levels()))
    assert np.array_equal(inner, np.flatnonzero(~graph.is_terminal))
    has_child = graph.children >= 0
    assert np.all(graph.children[has_child] > np.nonzero(has_child)[0])


@pytest.mark.parametrize(
    "env", [Hypergrid(2, 4), *slowly("other rules; a grid guards the law", Subsets(4), Sequence("AB", 0, 3))], ids=repr
)
def test_backward_actions_undo(env):
    graph = enumerate_graph(env)
    states, actions = np.nonzero(graph.children >= 0)
    children = graph.rows(graph.children[states, actions])
    back = jax.vmap(env.backward_step)(children, graph.backward_actions[states, actions].astype(np.int32))
    assert np.array_equal(graph.index(back), states)
    # The number of parents is what a uniform backward policy divides by.
    assert np.array_equal(np.sum(jax.vmap(env.backward_mask)(graph.states), axis=1), graph.num_parents)


def test_counts_of_known_spaces():
    graph = enumerate_graph(Sequence("ACGT", 4, 4))
    assert graph.terminals.size == 4**4
    assert graph.num_states == 4**4 + sum(4**length for length in range(5))
    assert enumerate_graph(Hypergrid(3, 5)).terminals.size == 5**3
    assert enumerate_graph(Subsets(6, min_size=2, max_size=3)).terminals.size == 15 + 20


def test_terminal_states_are_named_and_found_again():
    env = Sequence("AB", 1, 3)
    graph = enumerate_graph(env)
    texts = env.to_text(graph.terminal_states)
    assert len(set(texts)) == 14 == graph.terminals.size
    assert np.array_equal(graph.index(env.from_text(texts[::-1])), graph.terminals[::-1])
    assert graph.index(env.from_text([])).shape == (0,)


def test_more_states_than_a_block_keep_their_order():
    env = Sequence("ACGT", 0, 7)  # 21,845 prefixes and as many objects: several blocks of every size
    graph = enumerate_graph(env)
    assert graph.num_states == 2 * 21_845
    assert np.array_equal(graph.children >= 0, jax.vmap(env.action_mask)(graph.states))
    assert np.all(graph.num_parents[1:] == 1)
    states, actions = np.nonzero(graph.children >= 0)
    pick = np.random.default_rng(0).choice(states.size, 500, replace=False)
    stepped = jax.vmap(env.step)(graph.rows(states[pick]), jnp.asarray(actions[pick], jnp.int32))
    assert np.array_equal(graph.index(stepped), graph.children[states[pick], actions[pick]])


def test_chance_turns_are_kept():
    graph = enumerate_graph(Hops(5, coin=True))
    is_chance = graph.turn == CHANCE
    assert 0 < np.sum(is_chance) < graph.num_states
    assert graph.chance_log_probs is not None
    assert np.allclose(np.sum(np.exp(graph.chance_log_probs[is_chance]), axis=1), 1.0, atol=1e-6)
    assert np.all(np.isneginf(graph.chance_log_probs[~is_chance]))
    assert np.array_equal(np.isfinite(graph.chance_log_probs[is_chance]), graph.children[is_chance] >= 0)
    assert enumerate_graph(Hops(5)).chance_log_probs is None


def test_limit_is_named():
    with pytest.raises(ValueError, match="more than limit = 1000 states"):
        enumerate_graph(Sequence("ACGT", 0, 20), limit=1000)


def test_limit_is_inclusive():
    assert enumerate_graph(Hypergrid(2, 4), limit=32).num_states == 32
    with pytest.raises(ValueError, match="limit = 31"):
        enumerate_graph(Hypergrid(2, 4), limit=31)


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="max_steps = 6"):
        enumerate_graph(Hops(5, is_endless=True))


def test_a_dead_end_is_refused():
    with pytest.raises(ValueError, match=r"\[5, 0\] is not terminal and has no legal action"):
        enumerate_graph(Hops(5, dead_end=True))


def test_a_foreign_state_is_refused():
    graph = enumerate_graph(Hypergrid(2, 4))
    other = Hypergrid(2, 5).from_text(["1 1", "4 0"])
    with pytest.raises(ValueError, match="row 1 is not a state of this graph"):
        graph.index(other)
