"""Parts of objects drawn again: against the law of it in plain NumPy, and what is kept under every rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare
from tests.reference.cases import case_of, quick_jit
from tests.slowly import slowly

from narrows.envs import Sequence, Subsets, perturbed
from narrows.envs.base import CHANCE
from narrows.noise import Substitution
from narrows.policies import MLP, Tabular, sizes_of
from narrows.policies.base import Model
from narrows.trajectories import NO_ACTION, Share, follow, per_step, redraw, redraw_with_cache, sample_with_cache
from narrows.trajectories.behaviour import Behaviour

NUM = 8192
NOISY = perturbed(Sequence("AB", 1, 2), Substitution(Sequence("AB", 1, 2), 0.5))


def _model(env):
    return Model(Tabular(sizes_of(env), init_scale=1.0, key=jax.random.key(0)), jnp.zeros(()))


def _steps_of_every_walk(env, model, behaviour, kept):
    """Return the log-probability of each step of each walk, and which of them the behaviour draws, `[walk, time]`."""
    actions = case_of(env).batch.actions

    def laws(model):
        path = follow(model, env, actions)
        weights = per_step(behaviour)(path.forward_logits, path.action_mask)
        law = weights / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-30)
        is_chance = (path.turn == CHANCE)[..., None]
        return jnp.where(is_chance, jnp.exp(per_step(env.chance_log_probs)(path.before)), law), path

    law_of, path = quick_jit(laws)(model)
    log_probs, is_drawn = np.zeros(actions.shape), np.zeros(actions.shape, bool)
    for walk, row in enumerate(np.asarray(actions)):
        for time in np.flatnonzero(row != NO_ACTION):
            is_ours = path.turn[time, walk] != CHANCE
            wanted = kept[time]
            if is_ours and wanted != NO_ACTION and path.action_mask[time, walk, wanted]:
                log_probs[walk, time] = 0.0 if row[time] == wanted else -np.inf
            else:
                is_drawn[walk, time] = is_ours
                log_probs[walk, time] = np.log(law_of[time, walk, row[time]] + 1e-30)
    return log_probs, is_drawn


@pytest.mark.parametrize(
    ("env", "parent", "where"),
    [
        (Sequence("ABC", 1, 3), [0, 2, 1, 3], [True, False, True, True]),
        (Sequence("ABC", 1, 3), [0, 3, -1, -1], [False, True, True, True]),
        (Subsets(4, min_size=2), [0, 1, 2, 4, -1], [False, True, False, True, True]),
        (NOISY, [0, 1, 1, 1, 2, 2], [True, True, False, False, True, True]),
        *slowly(
            "the other ends of the same; what stands above guards the law quickly",
            (Sequence("ABC", 1, 3), [0, 2, 1, 3], [True] * 4),
            (Sequence("ABC", 1, 3), [0, 2, 1, 3], [False] * 4),
            (Subsets(4, min_size=2), [0, 1, 2, 4, -1], [True, True, False, False, False]),
        ),
    ],
    ids=repr,
)
def test_what_is_drawn_again_follows_its_law(env, parent, where):
    model, behaviour = _model(env), Behaviour(0.8, 0.1)
    kept = np.where(where, parent, NO_ACTION).astype(np.int32)
    batch = jnp.broadcast_to(jnp.asarray(kept), (NUM, env.max_steps))
    found = jax.jit(lambda key: redraw(key, model, env, batch, behaviour=behaviour))(jax.random.key(0))
    log_probs, is_drawn = _steps_of_every_walk(env, model, behaviour, kept)
    law = np.exp(np.sum(log_probs, axis=1))
    assert abs(np.sum(law) - 1.0) < 1e-5
    number_of = {tuple(row): number for number, row in enumerate(np.asarray(case_of(env).batch.actions).tolist())}
    drawn = np.array([number_of[tuple(row)] for row in np.asarray(found.trajectory.actions).tolist()])
    counts, possible = np.bincount(drawn, minlength=len(law)), law > 1e-12
    assert not np.any(counts[~possible])
    assert np.sum(possible) == 1 or chisquare(counts[possible], NUM * law[possible] / np.sum(law)).pvalue > 1e-3
    assert np.array_equal(found.is_drawn, is_drawn[drawn])
    of_drawn = np.where(is_drawn[drawn], log_probs[drawn], 0.0)
    assert np.allclose(np.where(found.is_drawn, found.log_probs, 0.0), of_drawn, atol=1e-5)
    assert np.all(np.isnan(found.trajectory.log_reward))


def test_log_probabilities_of_kept_steps_are_the_behaviours_own():
    env, behaviour = Sequence("AB", 0, 3), Behaviour(2.0, 0.3)
    model, actions = _model(env), case_of(env).batch.actions
    found = jax.jit(lambda key: redraw(key, model, env, actions, behaviour=behaviour))(jax.random.key(0))
    assert np.array_equal(found.trajectory.actions, actions) and not np.any(found.is_drawn)
    log_probs, _ = _steps_of_every_walk(env, model, behaviour, np.full(env.max_steps, NO_ACTION))
    assert np.allclose(found.log_probs, log_probs, atol=1e-5)


def test_keeping_nothing_is_sampling_and_a_share_is_a_part_of_it():
    env = Sequence("ABC", 2, 4)
    model = Model(MLP(sizes_of(env), key=jax.random.key(0)), jnp.zeros(()))
    kept = jnp.full((8, env.max_steps), NO_ACTION, jnp.int32)

    def both(key):
        whole, cache = redraw_with_cache(key, model, env, kept)
        part, _ = redraw_with_cache(key, model, env, kept, share=Share(1, 2))
        return whole, cache, part, sample_with_cache(key, model, env, 8)

    whole, cache, part, (trajectory, same) = jax.jit(both)(jax.random.key(3))
    for one, other in zip(jax.tree.leaves((whole.trajectory, cache)), jax.tree.leaves((trajectory, same)), strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        assert np.array_equal(one[4:], other, equal_nan=True)
