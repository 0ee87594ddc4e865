"""Expected flow networks on trees in which nature moves: the worked example and eflow 2.3 by plain enumeration."""

import functools
import itertools
import math

import numpy as np
import pytest
from tests.reference.noisy_tree import (
    EXAMPLE,
    EXAMPLE_REWARDS,
    chance_weight,
    determined,
    determined_flows,
    flows,
    graph_of,
    moves_to,
    random_tree,
    rollout,
)
from tests.reference.small_envs import Hops
from tests.slowly import slowly

from narrows.exact import enumerate_graph, rollout_distribution, solve, solve_stochastic_gflownet
from narrows.operators import GeneralMellowmax, Maximum, soft_bellman

SEEDS = range(24)


@functools.cache
def _case(seed):
    """Return a tree, its graph, and the leaves' log-rewards in the order of the graph's terminals, which is theirs."""
    tree = random_tree(seed)
    graph = graph_of(tree)
    assert graph.terminals.tolist() == tree.leaves
    return tree, graph, np.random.default_rng(seed).normal(scale=2.0, size=len(tree.leaves))


def _rewards(tree, log_reward):
    return dict(zip(tree.leaves, np.exp(log_reward).tolist(), strict=True))


def _kullback_leibler(p, q):
    return sum(p[leaf] * math.log(p[leaf] / q[leaf]) for leaf in p)


# eflow T1, every figure of eflow 2.4.
def test_t1_worked_example():
    graph = enumerate_graph(EXAMPLE)
    log_reward = np.log(EXAMPLE_REWARDS)
    solution = solve(graph, log_reward, soft_bellman())
    assert np.allclose(np.exp(solution.values), [3.8, 2.5, 1.3, *EXAMPLE_REWARDS], atol=1e-12)
    assert np.allclose(np.exp(solution.log_policy[0]), [0.6578947, 0.3421053], atol=1e-7)
    assert np.allclose(np.exp(solution.log_policy[1:3]), [[0.5, 0.5], [0.9, 0.1]], atol=1e-12)
    assert np.allclose(np.exp(solution.log_probs), [0.3289474, 0.3289474, 0.3078947, 0.0342105], atol=1e-7)
    soft = solve(graph, log_reward, soft_bellman(), averaging="value")
    assert np.allclose(np.exp(soft.log_policy[0]), [0.680756, 0.319244], atol=1e-6)
    compromise = solve_stochastic_gflownet(graph, log_reward)
    assert abs(compromise.loss - 6.5030) < 5e-5
    assert np.allclose(np.exp(compromise.log_policy[0]), [0.42358, 0.57642], atol=5e-6)
    # By hand: each of nature's flows is the geometric mean of R / P over its two outcomes.
    by_hand = np.sqrt([4.0 * 6.0, (1.0 / 0.9) * 40.0])
    assert np.allclose(np.exp(compromise.log_flow[1:3]), by_hand, rtol=1e-9)
    assert abs(compromise.loss - (math.log(1.5) ** 2 + math.log(36.0) ** 2) / 2.0) < 1e-9


def test_a_tree_is_enumerated_as_its_table_says():
    tree, built, _ = _case(3)
    graph = enumerate_graph(tree)
    for name in ("states", "children", "backward_actions", "is_terminal", "num_parents", "turn", "level_starts"):
        assert np.array_equal(getattr(graph, name), getattr(built, name)), name
    assert graph.chance_log_probs is not None and built.chance_log_probs is not None
    assert np.allclose(np.exp(graph.chance_log_probs), np.exp(built.chance_log_probs), atol=1e-15)
    total = np.sum(np.exp(graph.chance_log_probs[graph.is_chance]), axis=1)
    assert np.allclose(total, 1.0, atol=1e-15), "float64, although rules count in float32"
    law = solve(built, np.zeros(built.terminals.size), soft_bellman()).log_probs
    assert np.allclose(solve(graph, np.zeros(graph.terminals.size), soft_bellman()).log_probs, law, atol=1e-14)


# eflow T2.
@pytest.mark.parametrize("seed", SEEDS)
def test_t2_flows_and_the_law_of_rollouts(seed):
    tree, graph, log_reward = _case(seed)
    assert 0 < np.sum(graph.is_chance) < np.sum(~graph.is_terminal) and max(tree.depths) == 6
    rewards = _rewards(tree, log_reward)
    flow, solution = flows(tree, rewards), solve(graph, log_reward, soft_bellman())
    assert np.allclose(np.exp(solution.values), [flow[state] for state in range(graph.num_states)], rtol=1e-12)
    policy = np.exp(solution.log_policy)
    for state, children in enumerate(tree.children):
        expected = tree.probs[state] or [flow[child] / flow[state] for child in children]
        assert np.allclose(policy[state, : len(children)], expected, atol=1e-12)
        assert np.all(policy[state, len(children) :] == 0.0)
    law = rollout(tree, policy)
    for row, leaf in enumerate(tree.leaves):
        formula = rewards[leaf] / flow[0]  # (2.4)
        for state, action in moves_to(tree, leaf):
            if tree.probs[state]:
                formula *= tree.probs[state][action] * flow[state] / flow[tree.children[state][action]]
        assert abs(formula - law[leaf]) < 1e-12
        assert abs(formula - math.exp(solution.log_probs[row])) < 1e-12
    log_z = math.log(sum(chance_weight(tree, leaf) * rewards[leaf] for leaf in tree.leaves))
    assert abs(solution.root_value - log_z) < 1e-12
    proportional = {leaf: rewards[leaf] / sum(rewards.values()) for leaf in tree.leaves}
    assert max(abs(law[leaf] - proportional[leaf]) for leaf in tree.leaves) > 1e-3, "not in proportion to the reward"


def _posterior(tree, rewards):
    """Return q*, the law of leaves under nature's probabilities, counted choices of the player and the reward."""
    weights = {leaf: chance_weight(tree, leaf) * rewards[leaf] for leaf in tree.leaves}
    return {leaf: weight / sum(weights.values()) for leaf, weight in weights.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_t2_the_policy_is_the_posterior_at_the_players_states(seed):
    tree, graph, log_reward = _case(seed)
    posterior = _posterior(tree, _rewards(tree, log_reward))
    under = np.zeros(graph.num_states)
    for leaf, prob in posterior.items():
        under[[leaf, *(state for state, _ in moves_to(tree, leaf))]] += prob
    policy = np.exp(solve(graph, log_reward, soft_bellman()).log_policy)
    for state, children in enumerate(tree.children):
        if children and not tree.probs[state]:
            assert np.allclose(policy[state, : len(children)], under[list(children)] / under[state], atol=1e-12)


def _perturbed_policies(graph, log_policy, rng):
    """Yield policies near a policy and far from it."""
    for scale in (1e-3, 0.03, 0.3, 1.0, 3.0):
        for _ in range(4):
            logits = log_policy + scale * rng.normal(size=log_policy.shape)
            total = np.logaddexp.reduce(logits, axis=1, keepdims=True)
            yield np.exp(logits - np.where(np.isfinite(total), total, 0.0))


@pytest.mark.parametrize("seed", [*SEEDS[:6], *slowly("more trees; six guard the law", *SEEDS[6:])])
def test_t2_no_policy_is_nearer_to_the_posterior(seed):
    """Forward divergence is least at the expected flow network, reverse divergence at maximum entropy (eflow 2.3)."""
    tree, graph, log_reward = _case(seed)
    posterior = _posterior(tree, _rewards(tree, log_reward))
    expected, soft = (solve(graph, log_reward, soft_bellman(), averaging=way).log_policy for way in ("flow", "value"))
    forward = _kullback_leibler(posterior, rollout(tree, np.exp(expected)))
    reverse = _kullback_leibler(rollout(tree, np.exp(soft)), posterior)
    for policy in _perturbed_policies(graph, expected, np.random.default_rng(seed)):
        assert _kullback_leibler(posterior, rollout(tree, policy)) > forward - 1e-14
    for policy in _perturbed_policies(graph, soft, np.random.default_rng(seed)):
        assert _kullback_leibler(rollout(tree, policy), posterior) > reverse - 1e-14
    assert _kullback_leibler(posterior, rollout(tree, np.exp(soft))) > forward + 1e-6
    assert _kullback_leibler(rollout(tree, np.exp(expected)), posterior) > reverse + 1e-6


def _few_worlds(num):
    """Yield trees in which nature can decide beforehand in a few dozen to a few hundred ways."""
    trees = (random_tree(seed, depth=4, share_chance=0.3) for seed in itertools.count())
    counted = ((math.prod(len(law) for law in tree.probs if law), tree) for tree in trees)
    yield from itertools.islice((tree for count, tree in counted if 32 < count < 512), num)


@pytest.mark.parametrize("tree", list(_few_worlds(4)), ids=lambda tree: f"{len(tree.children)} states")
def test_t2_flows_are_averages_over_determined_trees(tree):
    graph = graph_of(tree)
    log_reward = np.random.default_rng(0).normal(scale=2.0, size=graph.terminals.size)
    rewards, worlds = _rewards(tree, log_reward), list(determined(tree))
    average = np.zeros(graph.num_states)
    for prob, choice in worlds:
        flow = determined_flows(tree, rewards, choice)
        average += prob * np.array([flow[state] for state in range(graph.num_states)])
    solution = solve(graph, log_reward, soft_bellman())
    assert abs(sum(world.prob for world in worlds) - 1.0) < 1e-12
    assert np.allclose(average, np.exp(solution.values), rtol=1e-11)
    for state, children in enumerate(tree.children):
        if children and not tree.probs[state]:
            expected = average[list(children)] / average[state]
            assert np.allclose(np.exp(solution.log_policy[state, : len(children)]), expected, atol=1e-11)


def _by_recursion(tree, log_reward, player, nature):
    """Return the values of every state under plain functions of a list of children's values and their probabilities."""
    values = dict(zip(tree.leaves, log_reward.tolist(), strict=True))
    for state in reversed(range(len(tree.children))):
        if tree.children[state]:
            below = np.array([values[child] for child in tree.children[state]])
            values[state] = nature(np.array(tree.probs[state]), below) if tree.probs[state] else player(below)
    return [values[state] for state in range(len(tree.children))]


@pytest.mark.parametrize("averaging", ["flow", "value"])
@pytest.mark.parametrize(("omega", "alpha", "q"), [(1.0, 1.0, 0.0), (3.0, 1.0, 0.5), (0.5, 0.0, 1.0)])
def test_every_operator_takes_its_own_temperature_to_chance(omega, alpha, q, averaging):
    tree, graph, log_reward = _case(0)

    def player(below):
        reference = np.exp(alpha * below) / np.sum(np.exp(alpha * below))
        return np.log(np.sum(reference**q * np.exp(omega * below))) / omega

    def nature(probs, below):
        return np.log(probs @ np.exp(omega * below)) / omega if averaging == "flow" else probs @ below

    solution = solve(graph, log_reward, GeneralMellowmax(omega, alpha, q), averaging=averaging)
    assert np.allclose(solution.values, _by_recursion(tree, log_reward, player, nature), atol=1e-12)
    assert np.allclose(solution.log_probs, rollout_distribution(graph, solution.log_policy), atol=1e-14)
    legal = graph.children >= 0
    assert np.array_equal(solution.q_values[legal], solution.values[graph.children[legal]])


def test_the_maximum_is_expectimax_or_the_best_outcome():
    tree, graph, log_reward = _case(1)
    expectimax = solve(graph, log_reward, Maximum(), averaging="value").values
    assert np.allclose(expectimax, _by_recursion(tree, log_reward, np.max, np.dot), atol=1e-12)
    luckiest = solve(graph, log_reward, Maximum(), averaging="flow").values
    assert np.allclose(luckiest, _by_recursion(tree, log_reward, np.max, lambda probs, below: np.max(below)), atol=1e-12)


def test_extreme_rewards_stay_finite():
    graph = graph_of(EXAMPLE)
    for averaging in ("flow", "value"):
        solution = solve(graph, np.array([-3000.0, 900.0, -2000.0, 1000.0]), soft_bellman(), averaging=averaging)
        assert np.all(np.isfinite(solution.values)) and abs(np.sum(np.exp(solution.log_probs)) - 1.0) < 1e-12
    flow = solve(graph, np.array([-3000.0, 900.0, -2000.0, 1000.0]), soft_bellman())
    assert abs(flow.values[2] - (1000.0 + math.log(0.1))) < 1e-9


def test_a_tree_without_chance_is_a_plain_gflownet():
    tree = random_tree(5, depth=4, share_chance=0.0)
    graph = graph_of(tree)
    log_reward = np.random.default_rng(0).normal(size=graph.terminals.size)
    log_z = np.logaddexp.reduce(log_reward)
    for averaging in ("flow", "value"):
        solution = solve(graph, log_reward, soft_bellman(), averaging=averaging)
        assert np.allclose(solution.log_probs, log_reward - log_z, atol=1e-12)
    compromise = solve_stochastic_gflownet(graph, log_reward)
    assert compromise.loss == 0.0 and np.allclose(compromise.log_probs, log_reward - log_z, atol=1e-12)


def test_what_has_no_meaning_with_chance_is_refused():
    graph = graph_of(EXAMPLE)
    for correction, backward in ((True, None), (None, np.zeros((7, 2))), (False, np.zeros((7, 2)))):
        with pytest.raises(ValueError, match="tree of histories"):
            solve(graph, np.zeros(4), soft_bellman(), dag_correction=correction, log_backward=backward)
    with pytest.raises(ValueError, match="averaging must be 'flow' or 'value', got 'geometric'"):
        solve(graph, np.zeros(4), soft_bellman(), averaging="geometric")  # pyright: ignore[reportArgumentType] - that is the test
    off = solve(graph, np.zeros(4), soft_bellman(), dag_correction=False)
    assert np.array_equal(off.values, solve(graph, np.zeros(4), soft_bellman()).values)
    coin = enumerate_graph(Hops(5, coin=True))
    solution = solve(coin, np.zeros(coin.terminals.size), soft_bellman())
    assert abs(np.sum(np.exp(solution.log_probs)) - 1.0) < 1e-12, "several parents are folded histories"


def test_a_policy_that_is_none_is_refused():
    graph = graph_of(EXAMPLE)
    log_policy = np.full((7, 2), np.nan)
    log_policy[0] = np.log([0.25, 0.75])
    assert np.allclose(np.exp(rollout_distribution(graph, log_policy)), [0.125, 0.125, 0.675, 0.075], atol=1e-15)
    with pytest.raises(ValueError, match=r"sum to one, got 1.5 in state 0"):
        rollout_distribution(graph, np.log([[0.75, 0.75]] * 7))
    with pytest.raises(ValueError, match=r"\(7, 2\), got \(7, 3\)"):
        rollout_distribution(graph, np.zeros((7, 3)))


def test_a_law_of_outcomes_that_does_not_sum_to_one_is_refused():
    broken = type(EXAMPLE)(EXAMPLE.children, ((), (0.5, 0.4), (0.9, 0.1), (), (), (), ()))
    with pytest.raises(ValueError, match=r"chance turn 1 must sum to one, got 0.9"):
        enumerate_graph(broken)
