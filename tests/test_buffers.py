"""The replay ring against a Python list, and the frequencies with which it is drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from narrows.training.replay import Replay
from narrows.trajectories import NO_ACTION, Trajectory


def _batch(names, log_reward):
    """Return trajectories that carry a number of their own in every leaf."""
    names = jnp.asarray(names, jnp.int32)
    return Trajectory(
        names[:, None] * jnp.ones(2, jnp.int32), jnp.stack([names] * 3, axis=1), jnp.asarray(log_reward, jnp.float32)
    )


REWARDS = st.one_of(st.floats(-3, 3, width=32), st.sampled_from([np.nan, np.inf, -np.inf]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(REWARDS, min_size=6, max_size=6), min_size=1, max_size=4), st.sampled_from([4, 7]))
def test_ring_keeps_the_newest_finite_items(batches, capacity):
    replay = Replay(capacity, batch_size=2)
    state = replay.init(_batch(range(6), [0.0] * 6))
    kept, name = [], 0
    for rewards in batches:
        names = list(range(name, name + 6))
        name += 6
        state = _add(replay, state, _batch(names, rewards))
        kept += [(one, reward) for one, reward in zip(names, rewards, strict=True) if np.isfinite(reward)]
    newest = kept[-capacity:]
    assert state.size == len(newest)
    ring = state.trajectories
    stored = list(zip(ring.actions[: len(newest), 0].tolist(), ring.log_reward[: len(newest)].tolist(), strict=True))
    assert sorted(stored) == sorted(newest)
    assert np.array_equal(ring.terminal[:, 0][: len(newest)], ring.actions[:, 0][: len(newest)])
    assert np.all(np.isfinite(ring.log_reward))


_add = jax.jit(lambda replay, state, batch: replay.add(state, batch), static_argnums=0)


@pytest.mark.parametrize("prioritised", [False, True])
def test_an_empty_ring_gives_trajectories_without_steps_or_rewards(prioritised):
    replay = Replay(8, 5, prioritised)
    state = replay.init(_batch([1, 2], [0.0, 0.0]))
    state = replay.add(state, _batch([1, 2], [np.nan, -np.inf]))
    drawn = replay.sample(jax.random.key(0), state)
    assert state.size == 0
    assert np.all(drawn.actions == NO_ACTION) and drawn.actions.shape == (5, 3)
    assert np.all(np.isnan(drawn.log_reward))


@pytest.mark.parametrize("num_stored", [5, 8])
@pytest.mark.parametrize("prioritised", [False, True])
def test_draws_are_uniform_or_by_rank(prioritised, num_stored):
    num = 20_000
    replay = Replay(8, num, prioritised)
    rewards = np.array([0.3, -5.0, 700.0, 0.1, 0.2, 9.0, -0.5, 1.0])[:num_stored]
    state = replay.add(replay.init(_batch([0], [0.0])), _batch(np.arange(num_stored), rewards))
    drawn = jax.jit(lambda key: replay.sample(key, state))(jax.random.key(0))
    assert np.array_equal(drawn.log_reward, rewards.astype(np.float32)[drawn.actions[:, 0]])
    rank = 1 + np.argsort(np.argsort(-rewards))
    weights = 1.0 / rank if prioritised else np.ones(num_stored)
    counts = np.bincount(drawn.actions[:, 0], minlength=num_stored)
    # Uniform under the stated law; far below 0.001 under another one. The seed is stated.
    assert chisquare(counts, num * weights / np.sum(weights)).pvalue > 1e-3


def test_settings_are_checked():
    with pytest.raises(ValueError, match="capacity and batch_size must be at least 1, got 0 and 16"):
        Replay(capacity=0)
    with pytest.raises(ValueError, match="got 10000 and -1"):
        Replay(batch_size=-1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=4),
    st.lists(REWARDS, min_size=10, max_size=10),
    st.sampled_from([4, 12]),
)
def test_the_best_are_kept_once_each_in_order(batches, rewards, capacity):
    replay = Replay(capacity, batch_size=2, keep="best")
    state = replay.init(_batch(range(6), [0.0] * 6))
    kept = []  # best first, of equal ones the newest first
    for names in batches:
        state = _add(replay, state, _batch(names, [rewards[name] for name in names]))
        new = [name for place, name in enumerate(names) if np.isfinite(rewards[name]) and name not in names[:place]]
        kept = sorted([*new, *(name for name in kept if name not in new)], key=lambda name: -rewards[name])[:capacity]
    ring = state.trajectories
    assert state.size == len(kept)
    assert ring.actions[: len(kept), 0].tolist() == kept
    assert np.array_equal(ring.terminal[:, 0][: len(kept)], kept)
    assert np.array_equal(ring.log_reward[: len(kept)], np.array([rewards[name] for name in kept], np.float32))
    assert np.all(ring.actions[len(kept) :] == NO_ACTION) and np.all(np.isfinite(ring.log_reward))
