"""Sampling forward and backward, and replaying: against exact laws, frequencies and plain loops."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare
from tests.reference.brute_force import stack
from tests.reference.cases import case_of, quick_jit
from tests.reference.small_envs import Hops
from tests.reference.solution_model import table
from tests.slowly import slowly

from narrows.envs import BitSequence, Hypergrid, Sequence, Subsets
from narrows.exact import model_distribution, model_log_backward
from narrows.metrics import empirical_distribution, total_variation
from narrows.policies import Tabular, Transformer, sizes_of
from narrows.policies.base import Model, Scaled
from narrows.trajectories import NO_ACTION, Trajectory, follow, log_probs_along, sample, sample_backward
from narrows.trajectories.behaviour import Behaviour, on_policy

NUM = 8192


def _table(env, seed=0, scale=1.0, *, backward=False):
    sizes = sizes_of(env, learned_backward=backward, flow_head=True)
    policy = Tabular(sizes, init_scale=scale, key=jax.random.key(seed))
    return Model(policy, jnp.zeros(()))


def _fits(frequencies, law):
    """Return whether NUM draws fit a law: the p-value, uniform for a right sampler, is far below 0.001 for a wrong one."""
    law = np.asarray(law, np.float64)
    return chisquare(NUM * frequencies / np.sum(frequencies), NUM * law / np.sum(law)).pvalue > 1e-3


@pytest.mark.parametrize(
    "env",
    [
        Hypergrid(2, 4),
        Hops(5, coin=True),
        *slowly("other rules; a grid and a coin guard the law quickly", Sequence("AB", 0, 3), Subsets(4)),
    ],
    ids=repr,
)
def test_frequencies_of_samples_follow_the_exact_law(env):
    case, model = case_of(env), _table(env)
    batch = jax.jit(lambda key: sample(key, model, env, NUM))(jax.random.key(0))
    log_probs, log_frequencies = model_distribution(model, env, case.graph), empirical_distribution(case.graph, batch.terminal)
    assert _fits(np.exp(log_frequencies), np.exp(log_probs))
    # E |f - p| <= sqrt(p / n) for each object, so the mean total variation is at most half of this.
    assert total_variation(log_frequencies, log_probs) < np.sum(np.sqrt(np.exp(log_probs) / NUM))


@pytest.mark.parametrize("env", [Sequence("AB", 1, 3), Subsets(4, min_size=2)], ids=repr)
def test_samples_are_legal_complete_trajectories(env):
    batch = jax.jit(lambda key: sample(key, _table(env), env, 64))(jax.random.key(1))
    assert batch.actions.shape == (64, env.max_steps) and batch.actions.dtype == jnp.int32
    assert np.all(np.isnan(batch.log_reward))
    legal = {tuple(row) for row in np.asarray(case_of(env).batch.actions).tolist()}
    assert {tuple(row) for row in np.asarray(batch.actions).tolist()} <= legal
    graph = case_of(env).graph
    ends = []
    for row in np.asarray(batch.actions):
        state = env.reset()
        for action in row[row != NO_ACTION]:
            state = env.step(state, jnp.asarray(action))
        ends.append(state)
    assert np.array_equal(graph.index(stack(ends)), graph.index(batch.terminal))


def test_sampling_depends_on_the_key_alone():
    env = Hypergrid(2, 4)
    draw = jax.jit(lambda key: sample(key, _table(env), env, 16).actions)
    one, again, other = draw(jax.random.key(0)), draw(jax.random.key(0)), draw(jax.random.key(1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    eager = sample(jax.random.key(0), _table(env), env, 16).actions
    assert np.array_equal(one, eager)


@pytest.mark.parametrize("behaviour", [Behaviour(temperature=2.0), Behaviour(epsilon=0.3), Behaviour(0.5, 1.0)], ids=repr)
def test_behaviours_sample_their_own_law(behaviour):
    env = Hypergrid(2, 3)
    case, model = case_of(env), _table(env)
    batch = jax.jit(lambda key: sample(key, model, env, NUM, behaviour=behaviour))(jax.random.key(2))

    def mixed(logits):  # a table of the behaviour's own log-probabilities, mixed over legal actions in plain NumPy
        inner = np.flatnonzero(~case.graph.is_terminal)
        for state in inner:
            row = int(np.dot(case.graph.states.coordinates[state], env.num_values ** np.arange(env.num_features)))
            mask = case.graph.children[state] >= 0
            p = np.where(mask, np.exp(logits[row] / behaviour.temperature), 0.0)
            logits[row] = np.log((1 - behaviour.epsilon) * p / p.sum() + behaviour.epsilon * mask / mask.sum() + 1e-30)
        return jnp.asarray(logits)

    acted = eqx.tree_at(lambda model: model.policy.forward_logits, model, mixed(np.array(table(model).forward_logits)))
    law = np.exp(model_distribution(acted, env, case.graph))
    frequencies = np.exp(empirical_distribution(case.graph, batch.terminal))
    assert _fits(frequencies, law)
    assert total_variation(np.log(law), model_distribution(model, env, case.graph)) > 0.05  # another law than the policy's


def test_behaviour_is_a_distribution_over_legal_actions():
    mask = jnp.array([True, False, True, False])
    for behaviour in (on_policy, Behaviour(0.5, 0.25), Behaviour(1.0, 1.0)):
        weights = behaviour(jnp.array([3.0, 1e9, -2.0, 0.0]), mask)
        assert np.array_equal(weights > 0.0, mask) and np.all(np.isfinite(weights))
        assert np.array_equal(behaviour(jnp.zeros(4), jnp.zeros(4, bool)), np.zeros(4))
    for setting, message in [({"temperature": 0.0}, "temperature must be positive"), ({"epsilon": 1.5}, "epsilon must lie")]:
        with pytest.raises(ValueError, match=message):
            Behaviour(**setting)


@pytest.mark.parametrize(
    ("env", "backward"),
    [
        (Hypergrid(2, 4), True),
        *slowly(
            "other rules, and a uniform policy; a learned one on a grid guards the law quickly",
            *((Hypergrid(2, 4), False), (Subsets(4), True), (Subsets(4), False)),
        ),
    ],
    ids=repr,
)
def test_backward_sampling_follows_the_backward_policy(env, backward):
    """From one object, each of its walks comes as often as the product of its backward probabilities says."""
    case, model = case_of(env), _table(env, backward=backward)
    ends = case.graph.index(case.batch.terminal)
    crowded = np.bincount(ends).argmax()
    rows = np.flatnonzero(ends == crowded)
    assert rows.size > 5
    scores = quick_jit(lambda model, batch: log_probs_along(model, env, batch).log_pb)
    law = np.exp(np.sum(scores(model, case.batch._replace(log_reward=np.zeros(ends.size))), axis=1))[rows]
    terminal = jax.tree.map(lambda leaf: jnp.repeat(leaf[rows[:1]], NUM, axis=0), case.batch.terminal)
    batch = jax.jit(lambda key: sample_backward(key, model, env, terminal, jnp.arange(float(NUM))))(jax.random.key(3))
    assert np.array_equal(batch.log_reward, np.arange(NUM))
    assert np.array_equal(case.graph.index(batch.terminal), np.full(NUM, crowded))
    row_of = {tuple(row): number for number, row in enumerate(np.asarray(case.batch.actions)[rows].tolist())}
    counts = np.bincount([row_of[tuple(row)] for row in np.asarray(batch.actions).tolist()], minlength=rows.size)
    assert abs(np.sum(law) - 1.0) < 1e-5
    assert _fits(counts / NUM, law)
    if backward:  # the exact backward policy is another way to the same probabilities
        log_backward = model_log_backward(model, env, case.graph)
        for number, row in enumerate(rows):
            ids = case.graph.index(stack(case.walks[row].states))
            assert abs(np.exp(np.sum(log_backward[ids, case.walks[row].actions])) - law[number]) < 1e-5


def test_backward_sampling_of_a_tree_is_the_one_path():
    env = Sequence("AB", 0, 4)
    batch = case_of(env).batch
    rewards = jnp.zeros(batch.actions.shape[0])
    back = jax.jit(lambda key: sample_backward(key, _table(env), env, batch.terminal, rewards))(jax.random.key(0))
    assert np.array_equal(back.actions, batch.actions)


@pytest.mark.parametrize(
    ("env", "make"),
    [
        (Sequence("AB", 0, 4), Transformer),
        *slowly("a policy without memory; memory guards the law", (Subsets(4), Tabular)),
    ],
    ids=repr,
)
def test_t11_rollout_log_probs_equal_train_time_log_probs(env, make):
    """What `score` reads in one pass is what `sample` drew from, step by step."""
    policy, scale = Tabular(sizes_of(env), 1.0, key=jax.random.key(0)), 1.0
    if make is Transformer:  # far from the uniform policy that it starts as
        policy, scale = Transformer(sizes_of(env), layers=2, width=8, heads=2, feed_forward=8, key=jax.random.key(0)), 100.0
    model = Model(Scaled(policy, scale), jnp.zeros(()))

    @jax.jit
    def replay(actions):
        def step(loop, action):
            state, carry = loop
            output, carry = model.policy.step(carry, env.observe(state))
            weights = on_policy(output.forward_logits, env.action_mask(state))
            log_prob = jnp.log(weights[jnp.maximum(action, 0)] / jnp.sum(weights))
            after = jax.tree.map(lambda old, new: jnp.where(action < 0, old, new), state, env.step(state, action))
            return (after, carry), jnp.where(action < 0, 0.0, log_prob)

        return jax.lax.scan(step, (env.reset(), model.policy.start()), actions)[1]

    batch = jax.jit(lambda key: sample(key, model, env, 32))(jax.random.key(0))
    scores = jax.jit(lambda batch: log_probs_along(model, env, batch))(batch)
    assert np.any(np.abs(scores.log_pf) > 0.1)
    assert np.max(np.abs(scores.log_pf - jax.vmap(replay)(batch.actions))) < 1e-5


def test_scores_of_one_trajectory_in_plain_sight():
    env = Subsets(3)
    model = _table(env, backward=True)
    walk = Trajectory(env.from_text(["110"]), jnp.array([[1, 0, 3, NO_ACTION]], jnp.int32), jnp.zeros(1))
    scores = jax.tree.map(lambda leaf: leaf[0], quick_jit(lambda walk: log_probs_along(model, env, walk))(walk))
    assert np.array_equal(scores.is_valid, [True, True, True, False])
    assert np.array_equal(scores.num_legal, [4, 3, 2, 0])
    log_flow = np.asarray(table(model).log_flow)
    assert np.array_equal(scores.log_flow, [*log_flow[[0, 2, 3]], 0.0])
    heads = np.asarray(table(model).backward_logits)[3, :2]  # {0, 1} was reached by adding 0; {1} and the end have one parent
    assert np.allclose(scores.log_pb, [0.0, heads[0] - np.log(np.sum(np.exp(heads))), 0.0, 0.0], atol=1e-6)
    assert scores.log_pf[3] == 0.0 and np.all(scores.log_pf[:3] < 0.0)


@pytest.mark.parametrize(
    "env",
    [Sequence("AB", 1, 3), *slowly("other rules; sequences guard the law", BitSequence(num_bits=4, word_bits=2))],
    ids=repr,
)
def test_trees_have_no_backward_term(env):
    case = case_of(env)
    model = _table(env, backward=True)
    path = quick_jit(lambda actions: follow(model, env, actions))(case.batch.actions)
    assert np.all(path.log_pb == 0.0)
    assert np.all(np.isfinite(path.forward_logits))


def test_a_policy_with_memory_is_not_read_backwards():
    env = Hypergrid(2, 3)
    sizes = sizes_of(env, learned_backward=True)
    policy = Transformer(sizes, layers=1, width=8, heads=1, feed_forward=8, key=jax.random.key(0))
    with pytest.raises(ValueError, match="cannot be read backwards"):
        sample_backward(jax.random.key(0), Model(policy, jnp.zeros(())), env, env.from_text(["1 1"]), jnp.zeros(1))
