"""Backward induction against the specification's figures (tgm 9), the NumPy oracle and plain enumeration."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.brute_force import all_walks, stack
from tests.reference.small_envs import HandTree, Hops
from tests.reference.tgm import solve_tree
from tests.slowly import slowly

from narrows.envs import Hypergrid, Sequence, Subsets
from narrows.exact import enumerate_graph, solve, terminal_distribution, uniform_log_backward
from narrows.metrics import entropy, mean_score, total_variation
from narrows.operators import GeneralMellowmax, soft_bellman

BETA = 2.0
HAND_PHI = np.array([1.0, 0.8, 0.2, -0.5])  # tgm T4: the root's stop, then the child's three
OPERATORS = [(1, 1, 0), (4, 1, 0.5), (1, 0, 1), (0.5, 3, 0.7)]


def _log_sum_exp(values):
    """Return `log sum exp` over the last axis, kept, of values that are not all `-inf`."""
    return np.logaddexp.reduce(values, axis=-1, keepdims=True)


@functools.cache
def _graph(env):
    return enumerate_graph(env)


@functools.cache
def _walks(env):
    return all_walks(env)


# tgm T4, every row.
@pytest.mark.parametrize(
    ("omega", "alpha", "q", "v_child", "v_0", "law", "reference_law"),
    [
        (1, 1, 0, 1.918794, 2.653368, [0.520290, 0.348761, 0.105045, 0.025904], [0.520290, 0.348761, 0.105045, 0.025904]),
        (1, 1, 0.5, 1.610802, 2.184577, [0.641941, 0.302022, 0.049924, 0.006114], [0.596090, 0.293653, 0.088447, 0.021811]),
        (1, 1, 1, 1.373087, 1.823044, [0.777961, 0.202547, 0.018375, 0.001117], [0.651789, 0.253158, 0.076250, 0.018803]),
        (4, 1, 0.5, 1.561279, 1.970301, [0.878066, 0.121385, 0.000548, 0.000001], [0.607954, 0.285027, 0.085849, 0.021170]),
        (1, 0, 1, 0.820182, 1.574843, [0.764915, 0.170913, 0.051478, 0.012694], [1 / 2, 1 / 6, 1 / 6, 1 / 6]),
    ],
)
def test_t4_hand_size_tree(omega, alpha, q, v_child, v_0, law, reference_law):
    graph = _graph(HandTree())
    operator = GeneralMellowmax(omega, alpha, q)
    solution = solve(graph, BETA * HAND_PHI, operator)
    child = graph.index(np.array([1], np.int32))[0]
    objects = graph.index(np.array([2, 3, 4, 5], np.int32))
    assert np.array_equal(objects, graph.terminals)
    assert abs(solution.root_value - v_0) < 1e-6 and abs(solution.values[child] - v_child) < 1e-6
    assert np.allclose(np.exp(solution.log_probs), law, atol=1e-6)
    log_reference_law = terminal_distribution(graph, _log_reference(operator, graph, solution))
    assert np.allclose(np.exp(log_reference_law), reference_law, atol=1e-6)
    closed_form = omega * (BETA * HAND_PHI - solution.root_value) + q * log_reference_law
    assert np.allclose(solution.log_probs, closed_form, atol=1e-12)


def _log_reference(operator, graph, solution):
    """Return log d of every state in float64, in NumPy."""
    with np.errstate(invalid="ignore"):
        logits = np.where(graph.children >= 0, operator.alpha * solution.q_values, -np.inf)
    normaliser = _log_sum_exp(logits[~graph.is_terminal])
    logits[~graph.is_terminal] -= normaliser
    return logits


T6_ENV = Sequence("AB", 1, 3)


def _t6_phi(text):
    return 0.3 * text.count("A") - 0.1 * len(text) + (text == "AB")


def _t6(operator, beta=BETA):
    graph = _graph(T6_ENV)
    texts = T6_ENV.to_text(graph.terminal_states)
    phi = np.array([_t6_phi(text) for text in texts])
    return texts, phi, solve(graph, beta * phi, operator)


# tgm T6, every row: v_0, P(AB), E[Phi], entropy.
@pytest.mark.parametrize(
    ("omega", "alpha", "q", "v_0", "p_ab", "mean", "spread"),
    [
        (1, 1, 0, 3.324609, 0.324780, 0.521433, 2.281743),
        (1, 1, 0.25, 2.779977, 0.427048, 0.624770, 2.048384),
        (1, 1, 0.5, 2.293257, 0.544223, 0.732843, 1.744730),
        (1, 1, 0.75, 1.878161, 0.666741, 0.838096, 1.381711),
        (1, 1, 1, 1.545067, 0.777144, 0.927813, 1.006118),
        (1, 0, 1, 0.588071, 0.278470, 0.460443, 2.322586),
        (4, 1, 0.5, 2.093128, 0.987869, 1.092851, 0.079540),
    ],
)
def test_t6_variable_length_tree(omega, alpha, q, v_0, p_ab, mean, spread):
    texts, phi, solution = _t6(GeneralMellowmax(omega, alpha, q))
    assert len(texts) == 14
    assert abs(solution.root_value - v_0) < 1e-6
    assert abs(math.exp(solution.log_probs[texts.index("AB")]) - p_ab) < 1e-6
    assert abs(mean_score(solution.log_probs, phi) - mean) < 1e-6
    assert abs(entropy(solution.log_probs) - spread) < 1e-6


def test_t6_soft_bellman_at_omega_3():
    _, phi, solution = _t6(GeneralMellowmax(3.0, 1.0, 0.0))
    log_z = _log_sum_exp(6.0 * phi)[0]
    assert np.allclose(solution.log_probs, 6.0 * phi - log_z, atol=1e-12)
    assert abs(solution.root_value - log_z / 3.0) < 1e-12 and abs(solution.root_value - 2.232354) < 1e-6


def test_t6_kl_to_uniform_play_at_omega_3():
    texts, phi, solution = _t6(GeneralMellowmax(3.0, 0.0, 1.0))
    # Uniform over legal actions: two letters first, then two letters or the end, and at length 3 the end is forced.
    uniform = np.array([{1: 1 / 6, 2: 1 / 18, 3: 1 / 18}[len(text)] for text in texts])
    log_probs = np.log(uniform) + 6.0 * phi
    assert np.allclose(solution.log_probs, log_probs - _log_sum_exp(log_probs), atol=1e-12)


def test_t6_equivalent_parameters():
    assert np.allclose(
        _t6(GeneralMellowmax(2.0, 1.0, 0.5), beta=3.0)[2].log_probs,
        _t6(GeneralMellowmax(6.0, 3.0, 0.5), beta=1.0)[2].log_probs,
        atol=1e-12,
    )
    general, soft = _t6(GeneralMellowmax(1.0, 2.0, 0.5))[2], _t6(GeneralMellowmax(2.0, 1.0, 0.0))[2]
    assert np.allclose(general.log_probs, soft.log_probs, atol=1e-12)
    assert abs(general.root_value - soft.root_value) < 1e-12


def test_t6_fixed_length_without_alpha_does_not_depend_on_q():
    graph = enumerate_graph(Sequence("ABC", 3, 3))
    log_reward = np.random.default_rng(0).normal(size=27)
    laws = [solve(graph, log_reward, GeneralMellowmax(2.0, 0.0, q)).log_probs for q in (0.0, 0.3, 1.0)]
    assert np.allclose(laws[0], laws[1], atol=1e-12) and np.allclose(laws[0], laws[2], atol=1e-12)


@pytest.mark.parametrize(("omega", "alpha", "q"), OPERATORS)
@pytest.mark.parametrize("env", [Sequence("ABC", 1, 3), Sequence("AB", 0, 4), Sequence("ABCD", 2, 2)], ids=repr)
def test_trees_against_the_numpy_oracle(env, omega, alpha, q):
    graph = _graph(env)
    rng = np.random.default_rng(0)
    phi = dict(zip(env.to_text(graph.terminal_states), rng.normal(size=graph.terminals.size), strict=True))
    prefixes = {""} | {text[:length] for text in phi for length in range(len(text) + 1)}
    children = {
        prefix: [(letter, prefix + letter) for letter in env.alphabet if prefix + letter in prefixes]
        + ([("end", None)] if prefix in phi else [])
        for prefix in prefixes
    }
    q_values, values, law, _ = solve_tree(children, phi, BETA, omega, alpha, q)
    solution = solve(graph, BETA * np.array(list(phi.values())), GeneralMellowmax(omega, alpha, q))
    assert np.allclose(np.exp(solution.log_probs), [law[text] for text in phi], atol=1e-12)
    for number in np.flatnonzero(~graph.is_terminal):
        length = graph.states.length[number]
        prefix = "".join(env.alphabet[token] for token in graph.states.tokens[number][:length])
        assert abs(solution.values[number] - values[prefix]) < 1e-12
        is_legal = graph.children[number] >= 0
        assert np.allclose(solution.q_values[number][is_legal], q_values[prefix], atol=1e-12)


def _accumulation(num_letters, depth, target_length, beta, operator):
    """Return pi(stop) at the best object's prefix and log P of it (tgm T7), one value for each off-path length."""

    def back_up(values):
        values = jnp.asarray(values)
        mask = jnp.ones(values.shape, bool)
        return float(operator.value(values, mask)), np.asarray(operator.log_policy(values, mask))

    with jax.enable_x64(True):
        off_path = [0.0] * (depth + 2)
        for length in range(depth - 1, -1, -1):
            off_path[length] = back_up([0.0] + [off_path[length + 1]] * num_letters)[0]
        value, log_policy = back_up([beta] + [off_path[target_length + 1]] * num_letters)
        log_stop = log_probs = log_policy[0]
        for length in range(target_length - 1, -1, -1):
            value, log_policy = back_up([0.0, value] + [off_path[length + 1]] * (num_letters - 1))
            log_probs += log_policy[1]
    return math.exp(log_stop), log_probs, value


QS = (0.0, 0.25, 0.5, 0.75, 1.0)


# tgm T7, every row and column; "~0" there is closer to 0 than the sixth digit.
@pytest.mark.parametrize(
    ("setting", "stops", "log_laws"),
    [
        (
            (4, 8, 4, 4, 1, 1),
            (0.138364, 0.366050, 0.785922, 0.976524, 0.998660),
            (-7.378646, -6.109236, -4.109330, -0.779163, -0.009243),
        ),
        ((4, 20, 4, 16, 1, 1), (0.001549, 0.240968, 0.998935, 1.0, 1.0), (-12.013575, -6.707058, -0.083708, 0.0, 0.0)),
        (
            (4, 20, 4, 4, 4, 1),
            (0.001549, 0.260730, 0.994654, 0.999996, 1.0),
            (-12.013575, -6.631673, -0.499294, -5.2e-5, 0.0),
        ),
    ],
)
def test_t7_accumulation_tree(setting, stops, log_laws):
    num_letters, depth, target_length, beta, omega, alpha = setting
    num_objects = (num_letters ** (depth + 1) - 1) // (num_letters - 1)
    for q, stop, log_probs in zip(QS, stops, log_laws, strict=True):
        found_stop, found_law, _ = _accumulation(num_letters, depth, target_length, beta, GeneralMellowmax(omega, alpha, q))
        assert abs(found_stop - stop) < 1e-6, q
        assert abs(found_law - log_probs) < 1e-6, q
        if q == 0.0:
            weight = math.exp(omega * beta)
            assert abs(found_law - math.log(weight / (num_objects - 1 + weight))) < 1e-9
            assert found_stop <= weight / num_letters ** (depth - target_length)  # tgm 1.4; .2133 in the first row


def test_t7_temperature_matched_gflownet_cannot_follow():
    figures = (6.06e-6, 3.31e-4, 1.77e-2, 0.497, 0.982)
    for q, figure in zip(QS, figures, strict=True):
        log_probs = _accumulation(4, 20, 4, (1.0 + q) * 16.0, soft_bellman())[1]
        assert abs(math.exp(log_probs) - figure) < 0.005 * figure


@pytest.mark.parametrize("q", [0.5, *slowly("other exponents; one guards the law", 0.0, 1.0)])
def test_t7_symmetry_equals_full_enumeration(q):
    operator = GeneralMellowmax(1.0, 1.0, q)
    env = Sequence("ACGT", 0, 5)
    graph = _graph(env)
    best = env.to_text(graph.terminal_states).index("CAT")
    log_reward = np.zeros(graph.terminals.size)
    log_reward[best] = 4.0
    solution = solve(graph, log_reward, operator)
    _, log_probs, value = _accumulation(4, 5, 3, 4.0, operator)
    assert abs(solution.log_probs[best] - log_probs) < 1e-12
    assert abs(solution.root_value - value) < 1e-12


DAGS = [Subsets(4), Subsets(4, min_size=1, max_size=3), Hypergrid(2, 4), Hypergrid(3, 2), Hops(6)]


def _random_log_backward(graph, rng):
    """Return a random backward policy over the moves that lead to each state."""
    states, actions = np.nonzero(graph.children >= 0)
    children = graph.children[states, actions]
    logits = rng.normal(size=states.size)
    total = np.full(graph.num_states, -np.inf)
    np.logaddexp.at(total, children, logits)
    log_backward = np.zeros(graph.children.shape)
    log_backward[states, actions] = logits - total[children]
    return log_backward


@pytest.mark.parametrize("omega", [0.5, *slowly("other temperatures; one guards the law", 1.0, 4.0)])
@pytest.mark.parametrize("env", DAGS, ids=repr)
def test_dag_marginal_at_q_0(env, omega):
    graph = _graph(env)
    rng = np.random.default_rng(0)
    log_reward = rng.normal(size=graph.terminals.size)
    ends = graph.index(stack([walk.terminal for walk in _walks(env)]))
    num_walks = np.bincount(ends, minlength=graph.num_states)[graph.terminals]
    target = omega * log_reward - _log_sum_exp(omega * log_reward)
    biased = omega * log_reward + np.log(num_walks)
    operator = soft_bellman(omega)
    uniform = solve(graph, log_reward, operator)
    assert np.max(np.abs(uniform.log_probs - target)) < 1e-12
    assert abs(uniform.root_value - _log_sum_exp(omega * log_reward)[0] / omega) < 1e-12
    learned = solve(graph, log_reward, operator, log_backward=_random_log_backward(graph, rng))
    assert np.max(np.abs(learned.log_probs - target)) < 1e-12
    uncorrected = solve(graph, log_reward, operator, dag_correction=False)
    assert np.max(np.abs(uncorrected.log_probs - (biased - _log_sum_exp(biased)))) < 1e-12
    assert total_variation(uncorrected.log_probs, target) > 0.01


@pytest.mark.parametrize(("omega", "alpha", "q"), OPERATORS)
@pytest.mark.parametrize("env", [Subsets(4), Hypergrid(2, 4), Hops(5), Sequence("AB", 1, 3)], ids=repr)
@pytest.mark.parametrize("correction", ["none", "uniform", "random"])
def test_trajectory_law_and_brute_force_marginal(env, omega, alpha, q, correction):
    graph = _graph(env)
    rng = np.random.default_rng(1)
    log_reward = rng.normal(size=graph.terminals.size)
    log_backward = {
        "none": np.zeros(graph.children.shape),
        "uniform": uniform_log_backward(graph),
        "random": _random_log_backward(graph, rng),
    }[correction]
    operator = GeneralMellowmax(omega, alpha, q)
    given = log_backward if correction == "random" else None
    solution = solve(graph, log_reward, operator, dag_correction=correction != "none", log_backward=given)
    log_reference = _log_reference(operator, graph, solution)
    row_of = {number: row for row, number in enumerate(graph.terminals.tolist())}
    law = np.zeros(graph.terminals.size)
    for walk in _walks(env):
        ids, actions = graph.index(stack(walk.states)), np.array(walk.actions)
        row = row_of[int(graph.index(stack([walk.terminal]))[0])]
        log_probs = np.sum(solution.log_policy[ids, actions])
        closed_form = (
            omega * (log_reward[row] - solution.root_value)
            + np.sum(log_backward[ids, actions])
            + q * np.sum(log_reference[ids, actions])
        )
        assert abs(log_probs - closed_form) < 1e-12 * max(1.0, abs(log_probs))
        law[row] += math.exp(log_probs)
    assert np.max(np.abs(law - np.exp(solution.log_probs))) < 1e-12


def test_solution_is_float64_and_consistent():
    graph = enumerate_graph(Hypergrid(2, 4))
    log_reward = np.random.default_rng(0).normal(size=16)
    solution = solve(graph, log_reward, GeneralMellowmax(2.0, 1.0, 0.5))
    assert all(leaf.dtype == np.float64 for leaf in solution)
    assert np.array_equal(solution.values[graph.terminals], log_reward)
    is_legal = graph.children >= 0
    assert np.all(np.isneginf(solution.q_values[~is_legal])) and np.all(np.isneginf(solution.log_policy[~is_legal]))
    assert np.allclose(np.sum(np.exp(solution.log_policy[~graph.is_terminal]), axis=1), 1.0, atol=1e-14)
    assert abs(np.sum(np.exp(solution.log_probs)) - 1.0) < 1e-12
    assert not jax.config.read("jax_enable_x64")  # the switch is only on inside


def test_wrong_input_is_refused():
    graph = enumerate_graph(Hypergrid(2, 4))
    with pytest.raises(ValueError, match=r"\(16,\), got \(15,\)"):
        solve(graph, np.zeros(15), soft_bellman())
    with pytest.raises(ValueError, match="got -inf for terminal state 3"):
        solve(graph, np.where(np.arange(16) == 3, -np.inf, 0.0), soft_bellman())
    with pytest.raises(ValueError, match="Leave one of them out"):
        solve(graph, np.zeros(16), soft_bellman(), dag_correction=False, log_backward=np.zeros((32, 3)))
    with pytest.raises(ValueError, match="two players"):
        solve(dataclasses.replace(graph, turn=np.arange(32) % 2), np.zeros(16), soft_bellman())
