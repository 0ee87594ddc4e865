"""The worst case from samples, against the exact one on environments small enough to list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.cases import case_of
from tests.reference.small_envs import Hops
from tests.reference.solution_model import random_model
from tests.slowly import slowly

from narrows.envs import Sequence, Subsets, TicTacToe, perturbed
from narrows.exact import model_log_backward, model_log_policy, softmax_reference, worst_case
from narrows.metrics.worst_case import object_changes, sampled_worst_case
from narrows.noise import Substitution
from narrows.operators import GeneralMellowmax, soft_bellman, soft_mellowmax
from narrows.policies.base import Model, Scaled, Uniform

TREE = Sequence("AB", 1, 3)
NOISY = perturbed(Sequence("AB", 1, 2), Substitution(Sequence("AB", 1, 2), 0.4))
SETS = (GeneralMellowmax(2.0, 1.0, 0.5), soft_bellman(3.0), soft_mellowmax(1.0, 2.0))
SCALE = 2.5
"""What a model trained with the first set multiplies its values by."""


def model_of(env, *, seed=3, backward=False):
    tables = random_model(env, seed, backward=backward)
    tables = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tables)
    return Model(Scaled(tables.policy, SCALE), tables.log_z)


def table_reward(case):
    """Return the case's random rewards as a reward would give them."""

    def reward(states):
        return case.log_reward[np.searchsorted(case.graph.terminals, case.graph.index(jax.tree.map(np.asarray, states)))]

    return reward


def exactly(case, model, operator, *, dag_correction=None, log_backward=None):
    """Return the exact worst case with the model's own reference."""
    log_policy = model_log_policy(model, case.env, case.graph)
    return worst_case(
        case.graph,
        log_policy,
        case.log_reward,
        operator,
        log_reference=softmax_reference(case.graph, log_policy, operator.alpha / SCALE),
        dag_correction=dag_correction,
        log_backward=log_backward,
    )


@pytest.mark.parametrize(
    "env",
    [NOISY, *slowly("other rules; noisy letters guard the law quickly", TREE, Subsets(3), Hops(5, coin=True))],
    ids=repr,
)
def test_samples_agree_with_the_exact_worst_case(env):
    case, model = case_of(env), model_of(env)
    found = sampled_worst_case(
        jax.random.key(0), model, env, table_reward(case), SETS, policy_scale=SCALE, num=8000, dag_correction=True
    )
    assert found.num == 8192 == jax.tree.leaves(found.terminal)[0].shape[0]
    differences = []
    for operator, value in zip(SETS, found.values, strict=True):
        exact = exactly(case, model, operator)
        assert 0.0 < value.standard_error < 0.05
        assert abs(value.value - exact.value) < 4.0 * value.standard_error
        assert abs(found.mean_reward.value - exact.mean_reward) < 4.0 * found.mean_reward.standard_error
        differences.append(abs(exact.value - exact.mean_reward) / value.standard_error)
    assert max(differences) > 5.0  # so many samples tell the worst case from the mean


def test_a_learned_backward_policy_counts():
    env = Subsets(3)
    case, model = case_of(env), model_of(env, seed=6, backward=True)  # it is far from the uniform one on average, too
    log_backward = model_log_backward(model, env, case.graph)
    reward, operator = table_reward(case), SETS[0]
    found = sampled_worst_case(jax.random.key(1), model, env, reward, (operator,), policy_scale=SCALE, num=8192).values[0]
    exact = exactly(case, model, operator, log_backward=log_backward)
    assert abs(found.value - exact.value) < 4.0 * found.standard_error
    assert abs(found.value - exactly(case, model, operator).value) > 10.0 * found.standard_error


def test_a_run_without_the_correction_counts_trajectories():
    env = Subsets(3)
    case, model, operator = case_of(env), model_of(env), SETS[0]
    given = {"policy_scale": SCALE, "num": 8192, "dag_correction": False}
    found = sampled_worst_case(jax.random.key(1), model, env, table_reward(case), SETS, **given).values[0]
    assert abs(found.value - exactly(case, model, operator, dag_correction=False).value) < 4.0 * found.standard_error
    assert abs(found.value - exactly(case, model, operator).value) > 10.0 * found.standard_error


def test_the_standard_error_is_that_of_repetitions():
    case, model = case_of(TREE), model_of(TREE)
    found = [
        sampled_worst_case(jax.random.key(seed), model, TREE, table_reward(case), SETS, policy_scale=SCALE, num=256).values[0]
        for seed in range(60)
    ]
    spread, claimed = np.std([one.value for one in found], ddof=1), np.mean([one.standard_error for one in found])
    # The standard deviation of 60 values is known to about 9 %.
    assert 0.7 * claimed < spread < 1.3 * claimed


def test_objects_of_a_tree_have_the_exact_change():
    case, model = case_of(TREE), model_of(TREE)
    found = object_changes(model, TREE, case.graph.terminal_states, SETS, policy_scale=SCALE)
    for operator, changes in zip(SETS, found.changes, strict=True):
        exact = exactly(case, model, operator)
        assert exact.object_rewards is not None
        np.testing.assert_allclose(changes, exact.object_rewards, atol=2e-4)
        np.testing.assert_allclose(found.log_probs, exact.log_probs, atol=1e-4)


def test_what_is_refused():
    model, case = model_of(TREE), case_of(TREE)
    with pytest.raises(ValueError, match="at least 2 trajectories"):
        sampled_worst_case(jax.random.key(0), model, TREE, table_reward(case), SETS, policy_scale=SCALE, num=1)
    with pytest.raises(ValueError, match="256 of 256 sampled objects have no finite reward"):
        sampled_worst_case(
            jax.random.key(0), model, TREE, lambda states: np.full(256, np.nan), SETS, policy_scale=SCALE, num=256
        )
    for env in (Subsets(3), NOISY):
        states = case_of(env).graph.terminal_states
        with pytest.raises(ValueError, match="made in several ways"):
            object_changes(model_of(env), env, states, SETS, policy_scale=SCALE)
    game = TicTacToe()
    with pytest.raises(ValueError, match="two players"):
        uniform = Model(Uniform(game.num_actions), jnp.zeros(()))
        sampled_worst_case(jax.random.key(0), uniform, game, lambda states: np.zeros(256), SETS[1:2], policy_scale=1.0, num=256)
