"""The worst case of a policy: closed forms (tgm T4, T8), every trajectory in plain loops, and a numerical minimiser."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from tests.reference.cases import case_of
from tests.reference.small_envs import HandTree, Hops
from tests.reference.tgm import log_soft, solve_tree
from tests.reference.trees import hand_size_tree
from tests.test_robust import EXPONENTS, Q1, minimise

from narrows.envs import CHANCE, Sequence, Subsets, perturbed
from narrows.exact import (
    second_reward,
    smallest_shift,
    softmax_reference,
    solve,
    uniform_log_backward,
    worst_case,
    worst_rewards,
)
from narrows.noise import Substitution
from narrows.operators import GeneralMellowmax, mellowmax, soft_bellman, soft_mellowmax

TREE, GRAPH, WALK = Sequence("AB", 1, 3), Subsets(3), Hops(5)
COIN, NOISY = Hops(5, coin=True), perturbed(Sequence("AB", 1, 2), Substitution(Sequence("AB", 1, 2), 0.4))
SETS = [soft_bellman(3.0), mellowmax(2.0), soft_mellowmax(1.0, 2.0), GeneralMellowmax(2.0, 1.0, 0.5)]


def random_rows(graph, seed):
    """Return the log-probabilities of a random policy or reference."""
    return softmax_reference(graph, np.random.default_rng(seed).normal(size=graph.children.shape), 1.0)


def of_objects(found):
    """Return the worst case's changes of objects, and what is left of the policy under them."""
    assert found.object_rewards is not None and found.object_value is not None
    return found.object_rewards, found.object_value


@functools.cache
def solution(env, operator):
    case = case_of(env)
    return solve(case.graph, case.log_reward, operator, averaging="value")


# tgm T4, and tgm T8 for the functions of one state.


@pytest.mark.parametrize(("omega", "alpha", "q"), [(1, 1, 0), (1, 1, 0.5), (1, 1, 1), (4, 1, 0.5), (1, 0, 1)])
def test_t4_worst_case_of_the_optimum(omega, alpha, q):
    children, phi = hand_size_tree()
    tables, values, law, reference = solve_tree(children, phi, 2.0, omega, alpha, q)
    names = ("s", "x", "y", "z")
    log_reward = 2.0 * np.array([phi[name] for name in names])
    graph, operator = case_of(HandTree()).graph, GeneralMellowmax(omega, alpha, q)
    found = worst_case(graph, solve(graph, log_reward, operator).log_policy, log_reward, operator)
    assert found.value == pytest.approx(values[""], abs=1e-9) == found.best_value
    assert found.mean_reward == pytest.approx(sum(law[name] * 2.0 * phi[name] for name in names), abs=1e-9)
    # The worst case is flat: every object is worth the same.
    np.testing.assert_allclose(log_reward + of_objects(found)[0], values[""], atol=1e-9)
    np.testing.assert_allclose(found.step_rewards[0, :2], values[""] - tables[""], atol=1e-9)
    weights = np.array([reference[name] for name in names]) ** q
    np.testing.assert_allclose(np.exp(found.log_object_weights), weights, atol=1e-9)
    assert found.margin == pytest.approx(np.log(np.sum(weights)) / omega, abs=1e-9)
    at_root = np.log(np.sum(np.exp(q * log_soft(tables[""], alpha)))) / omega
    assert found.state_margins[0] == pytest.approx(at_root, abs=1e-9)
    assert found.contains_zero == (q == 1)
    assert found.shifted_value == pytest.approx(values[""] - found.margin, abs=1e-9)


def test_the_set_moved_by_its_margin_is_that_of_another_bound():
    """tgm T8: with a bound C in place of 1 the value is less by `(1/omega) log C`, and no change at all has the mass C."""
    case, operator = case_of(HandTree()), SETS[3]
    found = worst_case(case.graph, random_rows(case.graph, 5), case.log_reward, operator)
    weights = np.exp(found.log_object_weights)
    solved = minimise(np.exp(found.log_probs), weights, operator.omega, 1.0, bound=np.sum(weights))
    assert found.mean_reward + solved.fun == pytest.approx(found.shifted_value, abs=1e-6)
    assert found.shifted_value < found.mean_reward


def test_t8_figures_of_one_state():
    log_policy, log_reference = log_soft(Q1, 2.5), log_soft(Q1, 1.0)
    worst = worst_rewards(log_policy, 0.5 * log_reference, 2.0)
    np.testing.assert_allclose(worst, [-0.016529, 0.483471, 1.183471], atol=6e-7)
    margins = [smallest_shift(q * log_reference, 2.0) for q in EXPONENTS]
    np.testing.assert_allclose(margins, [0.549306, 0.401480, 0.260944, 0.127288, 0.0], atol=6e-7)
    # What misses the set by a margin is on the border once shifted by it.
    change = np.array([0.3, -0.2, 0.1])
    missed = smallest_shift(0.5 * log_reference, 2.0, change)
    assert np.sum(np.exp(0.5 * log_reference - 2.0 * (change + missed))) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("log_bound", [0.0, -0.4])
def test_the_border_of_two_actions(log_bound):
    log_weights = 0.5 * np.log([0.7, 0.3])
    lowest = (log_weights[0] - log_bound) / 2.0
    first = np.linspace(lowest + 0.01, lowest + 3.0, 7)
    second = second_reward(first, log_weights, 2.0, log_bound)
    for one, two in zip(first, second, strict=True):
        mass = np.exp(log_weights[0] - 2.0 * one) + np.exp(log_weights[1] - 2.0 * two)
        assert mass == pytest.approx(np.exp(log_bound), abs=1e-12)
    assert np.all(np.isnan(second_reward(np.array([lowest, lowest - 1.0]), log_weights, 2.0, log_bound)))


# Any policy on any graph.


def by_walks(case, log_policy, log_reference, log_factors, operator):
    """Return the worst-case value, log-laws and log-weights of objects from every trajectory, in plain loops."""
    value, laws, weights = 0.0, {}, {}
    log_chance = log_factors if case.graph.chance_log_probs is None else case.graph.chance_log_probs
    for walk, log_reward in zip(case.walks, np.asarray(case.batch.log_reward), strict=True):
        states = [*walk.states, walk.terminal]
        ids = [int(case.graph.index(_batch_of_one(state))[0]) for state in states]
        log_prob = log_weight = change = 0.0
        for state, action in zip(ids[:-1], walk.actions, strict=True):
            step, weight = log_policy[state, action], 0.0
            if case.graph.turn[state] == CHANCE:
                step = weight = log_chance[state, action]
            else:
                weight = operator.q * log_reference[state, action] + log_factors[state, action]
                change -= (step - weight) / operator.omega
            log_prob, log_weight = log_prob + step, log_weight + weight
        value += np.exp(log_prob) * (log_reward + change)
        laws.setdefault(ids[-1], []).append(log_prob)
        weights.setdefault(ids[-1], []).append(log_weight)
    order = case.graph.terminals.tolist()
    return value, [np.array([logsumexp(parts[x]) for x in order]) for parts in (laws, weights)]


def _batch_of_one(state):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], state)


@pytest.mark.parametrize("env", [TREE, GRAPH, WALK, COIN, NOISY], ids=repr)
@pytest.mark.parametrize("operator", SETS, ids=repr)
def test_a_random_policy_against_every_trajectory(env, operator):
    case = case_of(env)
    graph, log_policy, log_reference = case.graph, random_rows(case.graph, 1), random_rows(case.graph, 2)
    has_chance = bool(np.any(graph.is_chance))
    log_factors = np.zeros(graph.children.shape) if has_chance else uniform_log_backward(graph)
    found = worst_case(graph, log_policy, case.log_reward, operator, log_reference=log_reference)
    value, (law, weights) = by_walks(case, log_policy, log_reference, log_factors, operator)
    assert found.value == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(found.log_probs, law, atol=1e-9)
    np.testing.assert_allclose(found.log_object_weights, weights, atol=1e-9)
    assert found.mean_reward == pytest.approx(np.exp(law) @ case.log_reward, abs=1e-9)
    assert found.gap > 0.0
    if has_chance:
        assert found.object_rewards is None and found.object_value is None
        return
    changes, object_value = of_objects(found)
    np.testing.assert_allclose(changes, (weights - law) / operator.omega, atol=1e-9)
    assert found.margin == pytest.approx(logsumexp(weights) / operator.omega, abs=1e-9)
    # An adversary that cannot tell trajectories apart does no more harm; in a tree there are none to tell apart.
    assert object_value >= found.value - 1e-12
    assert (object_value == pytest.approx(found.value, abs=1e-9)) == (env == TREE)


@pytest.mark.parametrize("env", [TREE, GRAPH, WALK, COIN, NOISY], ids=repr)
@pytest.mark.parametrize("operator", SETS, ids=repr)
def test_the_operators_policy_is_the_robust_optimum(env, operator):
    case, solved = case_of(env), solution(env, operator)
    best = worst_case(case.graph, solved.log_policy, case.log_reward, operator)
    assert best.value == pytest.approx(solved.root_value, abs=1e-9)
    assert best.best_value == pytest.approx(solved.root_value, abs=1e-9)
    np.testing.assert_allclose(best.values, solved.values, atol=1e-9)
    for seed in range(5):
        other = worst_case(case.graph, random_rows(case.graph, seed), case.log_reward, operator)
        assert other.value < other.best_value - 1e-3 and other.best_value == best.best_value


def test_without_the_correction_trajectories_count():
    case, operator = case_of(GRAPH), SETS[0]
    solved = solve(case.graph, case.log_reward, operator, dag_correction=False)
    found = worst_case(case.graph, solved.log_policy, case.log_reward, operator, dag_correction=False)
    assert found.value == pytest.approx(solved.root_value, abs=1e-9)
    num = np.exp(found.log_object_weights)  # of trajectories that make each object: orders of its items
    sizes = np.array([text.count("1") for text in case.env.to_text(case.graph.terminal_states)])
    np.testing.assert_allclose(num, np.array([1, 1, 2, 6])[sizes], atol=1e-9)


def test_a_learned_backward_policy():
    case, operator = case_of(GRAPH), SETS[3]
    log_backward = uniform_log_backward(case.graph) - np.where(case.graph.children >= 0, 0.1, 0.0)
    solved = solve(case.graph, case.log_reward, operator, log_backward=log_backward)
    found = worst_case(case.graph, solved.log_policy, case.log_reward, operator, log_backward=log_backward)
    assert found.value == pytest.approx(solved.root_value, abs=1e-9) == found.best_value


def test_a_policy_that_never_takes_an_action():
    case, operator = case_of(TREE), SETS[3]
    graph = case.graph
    best = np.argmax(random_rows(graph, 0), axis=1)
    log_policy = np.where(np.arange(graph.children.shape[1]) == best[:, None], 0.0, -np.inf)
    found = worst_case(graph, log_policy, case.log_reward, operator)
    made = np.isfinite(found.log_probs)
    assert made.sum() == 1 and np.all(np.isinf(of_objects(found)[0][~made])) and np.isfinite(found.value)
    # The one object is worth its reward and what the reference thinks of it.
    expected = case.log_reward[made] + found.log_object_weights[made] / operator.omega
    assert found.value == pytest.approx(float(expected[0]), abs=1e-9) == of_objects(found)[1]
    state = int(np.flatnonzero(~graph.is_terminal)[0])
    assert np.isinf(found.step_rewards[state]).sum() == np.sum(graph.children[state] >= 0) - 1


def test_the_models_own_reference():
    operator = SETS[3]
    graph, solved = case_of(TREE).graph, solution(TREE, operator)
    from_values = softmax_reference(graph, solved.q_values, operator.alpha)
    from_policy = softmax_reference(graph, solved.log_policy, operator.alpha / operator.policy_scale)
    np.testing.assert_allclose(from_policy, from_values, atol=1e-12)
    flat = softmax_reference(graph, np.where(graph.children >= 0, -np.inf, 0.0), 0.0)
    np.testing.assert_allclose(np.sum(np.exp(flat), axis=1)[~graph.is_terminal], 1.0)


# The numerical minimiser.


@pytest.mark.parametrize("env", [HandTree(), Subsets(2), Sequence("AB", 1, 2)], ids=repr)
@pytest.mark.parametrize("operator", SETS[1:], ids=repr)
def test_a_solver_finds_no_worse_step_rewards(env, operator):
    case = case_of(env)
    graph, log_policy, log_reference = case.graph, random_rows(case.graph, 3), random_rows(case.graph, 4)
    found = worst_case(graph, log_policy, case.log_reward, operator, log_reference=log_reference)
    edges = np.argwhere((graph.children >= 0) & (np.sum(graph.children >= 0, axis=1) > 1)[:, None])
    forced = np.argwhere((graph.children >= 0) & (np.sum(graph.children >= 0, axis=1) == 1)[:, None])
    log_weights = operator.q * log_reference + uniform_log_backward(graph)
    reach = np.zeros(graph.num_states)
    reach[0] = 1.0
    for state in range(graph.num_states):
        for action in np.flatnonzero(graph.children[state] >= 0):
            reach[graph.children[state, action]] += reach[state] * np.exp(log_policy[state, action])
    cost = np.array([reach[state] * np.exp(log_policy[state, action]) for state, action in edges])
    # A forced move has its one weight for a bound.
    constant = sum(reach[state] * log_weights[state, action] / operator.omega for state, action in forced)
    weights = np.exp([log_weights[state, action] for state, action in edges])
    groups = [np.flatnonzero(edges[:, 0] == state) for state in np.unique(edges[:, 0])]

    def slack(delta):
        return np.array([1.0 - np.sum(weights[rows] * np.exp(-operator.omega * delta[rows])) for rows in groups])

    def slack_gradient(delta):
        gradient = np.zeros((len(groups), len(delta)))
        for number, rows in enumerate(groups):
            gradient[number, rows] = operator.omega * weights[rows] * np.exp(-operator.omega * delta[rows])
        return gradient

    constraint = {"type": "ineq", "fun": slack, "jac": slack_gradient}
    options = {"ftol": 1e-13, "maxiter": 2000}
    start = np.full(len(edges), np.log(2.0 * len(edges)) / operator.omega)
    solved = minimize(lambda delta: cost @ delta, start, jac=lambda _: cost, constraints=constraint, options=options)
    assert found.mean_reward + solved.fun + constant == pytest.approx(found.value, abs=1e-6)


@pytest.mark.parametrize("env", [HandTree(), Subsets(2), Hops(3)], ids=repr)
@pytest.mark.parametrize("operator", SETS, ids=repr)
def test_a_solver_finds_no_worse_object_rewards(env, operator):
    case = case_of(env)
    log_policy, log_reference = random_rows(case.graph, 5), random_rows(case.graph, 6)
    found = worst_case(case.graph, log_policy, case.log_reward, operator, log_reference=log_reference)
    solved = minimise(np.exp(found.log_probs), np.exp(found.log_object_weights), operator.omega, 1.0, bound=1.0)
    changes, object_value = of_objects(found)
    assert found.mean_reward + solved.fun == pytest.approx(object_value, abs=1e-6)
    np.testing.assert_allclose(solved.x, changes, atol=5e-3)


# What it refuses.


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"log_reward": np.zeros(3)}, "one entry for each terminal state"),
        ({"log_reward": np.array([0.0, np.nan, 0.0, 0.0])}, "finite, got nan for terminal state 1"),
        ({"log_policy": np.zeros((6, 2))}, "log_policy must have one entry"),
        ({"log_policy": np.zeros((6, 3))}, "sum to one, got 2.0 in state 0"),
        ({"log_reference": np.zeros((2, 3))}, "log_reference must have one entry"),
        ({"log_reference": np.zeros((6, 3))}, "reference's probabilities of the legal actions must sum to one"),
        ({"log_reference": np.full((6, 3), -np.inf)}, "every legal action some probability"),
        ({"dag_correction": False, "log_backward": np.zeros((6, 3))}, "no meaning with dag_correction=False"),
    ],
)
def test_mistakes_are_named(change, expected):
    case = case_of(HandTree())
    given = {"log_policy": random_rows(case.graph, 0), "log_reward": case.log_reward, **change}
    with pytest.raises(ValueError, match=expected):
        worst_case(case.graph, operator=GeneralMellowmax(1.0, 1.0, 0.5), **given)


def test_a_reference_does_not_count_at_q_0():
    case = case_of(HandTree())
    given = (case.graph, random_rows(case.graph, 0), case.log_reward, soft_bellman(2.0))
    assert worst_case(*given, log_reference=np.full((6, 3), -np.inf)).value == worst_case(*given).value


def test_chance_has_no_backward_policy_and_games_no_worst_case():
    case = case_of(COIN)
    with pytest.raises(ValueError, match="no backward policy to count"):
        worst_case(case.graph, random_rows(case.graph, 0), case.log_reward, SETS[3], dag_correction=True)
    game = dataclasses.replace(case.graph, turn=np.where(case.graph.is_chance, 1, 0))
    with pytest.raises(ValueError, match="two players"):
        worst_case(game, random_rows(game, 0), case.log_reward, SETS[3])
