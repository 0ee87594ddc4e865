"""Substitution against plain loops over the rules, and against the two published noises that it generalises."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from narrows.envs import BitSequence, Hypergrid, Sequence, Subsets
from narrows.envs.play import play
from narrows.noise import Substitution

RULES = [Sequence("ACG", 1, 3), Subsets(3, 1, 2), Hypergrid(3, 3), BitSequence(4, 2)]


@eqx.filter_jit
def log_laws(kernel, states):
    num = kernel.env.num_actions
    rows = jax.vmap(jax.vmap(kernel.log_probs, (None, 0)), (0, None))(states, jnp.arange(num, dtype=jnp.int32))
    return jax.vmap(kernel.all_log_probs)(states), rows


def laws(kernel, states):
    """Return `all_log_probs` and, row by row, `log_probs`, as probabilities `[state, asked, came]`."""
    together, rows = log_laws(kernel, jax.tree.map(jnp.asarray, states))
    return np.exp(np.asarray(together)), np.exp(np.asarray(rows))


def by_hand(legal, ends, asked, rate):
    """Return the law of one action: a coin is thrown, then one of the like is taken."""
    choices = [action for action in legal if ends[action] == ends[asked]]
    law = np.zeros(len(ends))
    law[asked] += 1.0 - rate
    for choice in choices:
        law[choice] += rate / len(choices)
    return law


@pytest.mark.parametrize("env", RULES, ids=str)
def test_the_law_is_what_its_description_says(env):
    states, _ = play(env, 6, np.random.default_rng(0))
    read = jax.jit(lambda state, action: (env.action_mask(state), env.is_terminal(env.step(state, action))))
    for rate in (0.0, 0.3, 1.0):
        together, apart = laws(Substitution(env, rate), states)
        for row in range(0, len(together), 2):
            state = jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row]), states)
            facts = [read(state, jnp.asarray(action, jnp.int32)) for action in range(env.num_actions)]
            legal, ends = np.flatnonzero(np.asarray(facts[0][0])).tolist(), [bool(end) for _, end in facts]
            for asked in legal:
                expected = by_hand(legal, ends, asked, rate)
                np.testing.assert_allclose(together[row, asked], expected, atol=1e-6)
                np.testing.assert_allclose(apart[row, asked], expected, atol=1e-6)
                assert (together[row, asked] > 0).tolist() == (expected > 0).tolist()
    assert len(together) > 6


@pytest.mark.parametrize(("rate", "size"), [(0.1, 4), (0.25, 4), (0.5, 4), (0.7, 1)])
def test_on_sequences_it_is_the_noise_of_the_binding_task(rate, size):
    env = Sequence("ACGTUV"[:size], 3, 3)
    law, _ = laws(Substitution(env, rate), jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], env.reset()))
    expected = (1.0 - rate) * np.eye(size) + rate / size  # eflow 4.1
    np.testing.assert_allclose(law[0, :size, :size], expected, atol=1e-6)
    assert (law[0, :size, size] == 0.0).all()


def test_on_a_grid_it_is_the_published_noise():
    env, rate = Hypergrid(2, 8), 0.25
    axis = np.arange(8)
    coordinates = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    states = env.reset()._replace(coordinates=jnp.asarray(coordinates, jnp.int32), is_done=jnp.zeros(64, bool))
    law, _ = laws(Substitution(env, rate), states)
    for row, (x, y) in enumerate(coordinates.tolist()):
        assert law[row, 2].tolist() == [0.0, 0.0, 1.0]  # a stop is always a stop
        for asked, position in enumerate((x, y)):
            if position == 7:
                continue  # not a legal move
            expected = np.eye(3)[asked]
            if x < 7 and y < 7:  # away from the borders: a uniform choice of the two moves, now and then
                expected = (1.0 - rate) * expected + rate * np.array([0.5, 0.5, 0.0])
            np.testing.assert_allclose(law[row, asked], expected, atol=1e-6)


def test_rates_at_the_ends_are_certain_and_uniform():
    env = Sequence("ACGT", 4, 4)
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], env.reset())
    assert laws(Substitution(env, 0.0), start)[0][0, :4].tolist() == np.eye(4, 5).tolist()
    np.testing.assert_allclose(laws(Substitution(env, 1.0), start)[0][0, :4, :4], 0.25, atol=1e-7)


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\], got"):
        Substitution(RULES[0], rate)


def test_asking_what_ends_an_object_writes_no_tokens():
    # Every action is stepped to see whether the object ends; compiled, nothing of these steps may be left but that.
    def written(max_length):
        env = Sequence("ACDEFGHIKLMNPQRSTVWY", 1, max_length)
        kernel, state = Substitution(env), jax.tree.map(jnp.asarray, env.reset())
        cost = jax.jit(kernel.all_log_probs).lower(state).compile().cost_analysis()
        assert cost is not None
        return cost["flops"]

    assert written(400) < 1.5 * written(4)
