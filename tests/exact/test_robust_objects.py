"""The sets of steps and of objects: how the ones compose to the others, and how far the reward as it is lies outside."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp
from tests.exact.test_robust_sets import COIN, GRAPH, NOISY, SETS, TREE, WALK, of_objects, random_rows
from tests.reference.cases import case_of
from tests.reference.small_envs import HandTree
from tests.test_robust import EXPONENTS

from narrows.envs import CHANCE
from narrows.exact import solve, worst_case, worst_rewards
from narrows.operators import GeneralMellowmax, soft_bellman


@pytest.mark.parametrize("operator", SETS, ids=repr)
def test_step_sets_compose_to_the_set_of_objects_and_back(operator):
    case = case_of(TREE)
    graph, log_reference = case.graph, random_rows(case.graph, 7)
    log_weights = operator.q * np.where(graph.children >= 0, log_reference, 0.0) + np.where(graph.children >= 0, 0.0, -np.inf)
    weights = worst_case(graph, random_rows(graph, 0), case.log_reward, operator, log_reference=log_reference)
    for seed in range(10):
        steps = worst_rewards(random_rows(graph, seed), log_weights, operator.omega)  # random points of the borders
        sums = np.zeros(graph.num_states)
        for state in range(graph.num_states):
            for action in np.flatnonzero(graph.children[state] >= 0):
                sums[graph.children[state, action]] = sums[state] + steps[state, action]
        composed = sums[graph.terminals]
        mass = np.sum(np.exp(weights.log_object_weights - operator.omega * composed))
        assert mass == pytest.approx(1.0, abs=1e-9)
        # Back: a random change of objects on the border is the sum of changes on the borders of steps.
        law = np.random.default_rng(seed).dirichlet(np.ones(graph.terminals.size))
        objects = worst_rewards(np.log(law), weights.log_object_weights, operator.omega)
        potential = np.zeros(graph.num_states)
        potential[graph.terminals] = objects
        for state in reversed(np.flatnonzero(~graph.is_terminal).tolist()):
            legal = np.flatnonzero(graph.children[state] >= 0)
            after = potential[graph.children[state, legal]]
            potential[state] = -logsumexp(log_weights[state, legal] - operator.omega * after) / operator.omega
        assert potential[0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("env", [TREE, COIN, NOISY], ids=repr)
def test_the_margin_is_the_smallest_raise_that_steps_compose_to(env):
    """State by state: raises of what follows, and the least one above them that a root finder sees enter the set."""
    case, operator = case_of(env), GeneralMellowmax(2.0, 1.0, 0.5)
    graph, log_reference = case.graph, random_rows(case.graph, 8)
    log_chance = np.zeros(graph.children.shape) if graph.chance_log_probs is None else graph.chance_log_probs
    found = worst_case(graph, random_rows(graph, 0), case.log_reward, operator, log_reference=log_reference)

    def raised(state):
        if graph.is_terminal[state]:
            return 0.0
        legal = np.flatnonzero(graph.children[state] >= 0)
        after = np.array([raised(child) for child in graph.children[state, legal]])
        if graph.is_chance[state]:
            return np.max(after[log_chance[state, legal] > -np.inf])
        weights = np.exp(0.5 * log_reference[state, legal])
        return brentq(lambda c: np.sum(weights * np.exp(-2.0 * (c - after))) - 1.0, -20.0, 20.0, xtol=1e-12)

    assert found.margin == pytest.approx(raised(0), abs=1e-9)


@pytest.mark.parametrize("env", [HandTree(), TREE, GRAPH, WALK, COIN, NOISY], ids=repr)
@pytest.mark.parametrize("omega", [0.3, 1.0, 20.0])
def test_a_gflownets_set_never_holds_the_reward_as_it_is(env, omega):
    case = case_of(env)
    found = worst_case(case.graph, random_rows(case.graph, 0), case.log_reward, soft_bellman(omega))
    assert not found.contains_zero
    if not np.any(case.graph.is_chance):
        assert found.margin == pytest.approx(np.log(case.graph.terminals.size) / omega, abs=1e-9)


@pytest.mark.parametrize("env", [HandTree(), TREE, COIN], ids=repr)
def test_margins_shrink_as_q_grows_and_end_at_none(env):
    case = case_of(env)
    margins, least, most = [], [], []
    for q in EXPONENTS:
        operator = GeneralMellowmax(2.0, 1.0, q)
        found = worst_case(
            case.graph, random_rows(case.graph, 0), case.log_reward, operator, log_reference=random_rows(case.graph, 9)
        )
        margins.append(found.margin)
        least.append(found.state_margins.min())
        num = np.maximum(np.sum(case.graph.children >= 0, axis=1), 1)
        most.append(np.max(found.state_margins - (1.0 - q) * np.log(num) / 2.0))
        assert found.contains_zero == (q == 1.0)
    assert np.all(np.diff(margins) < 0.0) and margins[-1] == pytest.approx(0.0, abs=1e-12)
    assert min(least) >= -1e-12 and max(most) <= 1e-12


def test_chance_in_a_tree_leaves_objects_the_sum_of_the_players_steps():
    # The tree of tgm T4 whose child is nature's: the root's choice is the only one.
    plain = case_of(HandTree())
    child = int(np.flatnonzero(~plain.graph.is_terminal)[1])
    chance = np.full(plain.graph.children.shape, -np.inf)
    chance[child] = np.log([0.2, 0.3, 0.5])
    graph = dataclasses.replace(plain.graph, turn=np.where(np.arange(6) == child, CHANCE, 0), chance_log_probs=chance)
    operator, log_policy, log_reference = SETS[3], random_rows(graph, 1), random_rows(graph, 2)
    found = worst_case(graph, log_policy, plain.log_reward, operator, log_reference=log_reference)
    step = worst_rewards(log_policy[0, :2], 0.5 * log_reference[0, :2], 2.0)
    changes, object_value = of_objects(found)
    np.testing.assert_allclose(changes, [step[0], step[1], step[1], step[1]], atol=1e-12)
    assert object_value == pytest.approx(found.value, abs=1e-12)
    assert np.all(found.step_rewards[child] == 0.0) and found.state_margins[child] == 0.0
    best = solve(graph, plain.log_reward, operator, averaging="value")
    assert worst_case(graph, log_policy, plain.log_reward, operator).best_value == pytest.approx(best.root_value, abs=1e-9)
