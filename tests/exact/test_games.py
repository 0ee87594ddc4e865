"""Games solved exactly: hand trees, a thousand random ones, and the closed forms of tic-tac-toe and small Connect-4."""

import jax
import numpy as np
import pytest
from tests.reference.game_tree import Tree, adjusted_flow, graph_of, random_tree, unadjusted_flows
from tests.reference.small_envs import Hops
from tests.slowly import slowly

from narrows.envs import ConnectFour, TicTacToe
from narrows.exact import (
    best_response,
    enumerate_graph,
    expected_outcome,
    exploitability,
    hastened,
    minimax,
    optimal_rates,
    regularised_value,
    solve,
    solve_game,
    solve_unadjusted,
)
from narrows.operators import mellowmax, soft_bellman


def outcome_of(env, graph):
    return np.asarray(jax.jit(jax.vmap(env.outcome))(graph.terminal_states)).astype(float)


@pytest.fixture(scope="module")
def tic_tac_toe():
    env = TicTacToe()
    graph = enumerate_graph(env)
    return graph, outcome_of(env, graph)


@pytest.fixture(scope="module")
def connect_four():
    env = ConnectFour(4, 4)
    graph = enumerate_graph(env)
    return graph, outcome_of(env, graph)


def at_leaves(tree, reward):
    return np.array([reward[leaf] for leaf in tree.leaves])


def test_t4_hand_trees():
    first = Tree(((1, 2), (3, 4, 5), (), (), (), ()), (0, 1, 0, 0, 0, 0))
    rewards = {2: 1.0, 3: np.e, 4: 1.0, 5: 1.0 / np.e}
    solution = solve_game(graph_of(first), np.log(at_leaves(first, rewards)))
    assert np.allclose(np.exp(solution.values[:2]), [0.867093, 0.734185], atol=1e-6)
    assert np.allclose(np.exp(solution.log_policy[0]), [0.423360, 0.576640, 0.0], atol=1e-6)
    assert np.allclose(np.exp(solution.log_policy[1]), [0.090031, 0.244728, 0.665241], atol=1e-6)
    both = solution.root_value + solution.log_policy[0, 0] + np.log(2.0), solution.log_policy[1, 0] + np.log(3.0) + 1.0
    assert np.allclose(both, -0.308994, atol=1e-6)
    second = Tree(((1, 2), (3, 4), (5, 6), (), (), (), ()), (0, 1, 1, 0, 0, 0, 0))
    solution = solve_game(graph_of(second), np.log([0.1, 1.0, 1.0, 10.0]))
    assert np.allclose(np.exp(solution.values[:3]), [1.0, 0.181818, 1.818182], atol=1e-6)
    assert np.allclose(np.exp(solution.log_policy[0]), [1 / 11, 10 / 11], atol=1e-6)


def test_t4_a_thousand_random_trees():
    rng = np.random.default_rng(0)
    num_paths, widths = 0, set()
    for number in range(1000):
        tree = random_tree(rng, depth=int(rng.integers(1, 5)), takes_turns=number % 2 == 0)
        graph, log_reward = graph_of(tree), rng.normal(size=len(tree.leaves))
        solution = solve_game(graph, log_reward)
        flow = adjusted_flow(tree, dict(zip(tree.leaves, np.exp(log_reward), strict=True)))
        values = solution.values
        assert np.allclose(values, np.log([flow[node] for node in range(graph.num_states)]), atol=1e-10)
        # Player 1's flow, its own game solved with the players' roles exchanged, is the reciprocal.
        swapped = graph_of(tree._replace(turn=tuple(1 - turn for turn in tree.turn)))
        assert np.allclose(solve_game(swapped, -log_reward).values, -values, atol=1e-12)
        for node, children in enumerate(tree.children):
            if children and tree.turn[node] == 1:  # the other's turn: an expectation (3.4), though nothing asked for it
                expected = sum(np.exp(solution.log_policy[node, a] + values[child]) for a, child in enumerate(children))
                assert abs(expected - np.exp(values[node])) < 1e-10 * np.exp(values[node])
        for path in tree.paths:
            total = values[0]
            for node, child in zip(path[:-1], path[1:], strict=True):
                sign, action = 1 - 2 * tree.turn[node], tree.children[node].index(child)
                total += sign * (solution.log_policy[node, action] + np.log(len(tree.children[node])))
            assert abs(total - log_reward[tree.leaves.index(path[-1])]) < 1e-10
            num_paths += 1
        assert np.allclose(regularised_value(graph, solution.log_policy, log_reward), values, atol=1e-9)
        widths |= {len(children) for children in tree.children}
    assert num_paths > 10_000 and widths == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("branch_adjusted", [True, False])
@pytest.mark.parametrize("has_reference", [False, True])
def test_no_other_policy_is_better_in_the_regularised_game(branch_adjusted, has_reference):
    if has_reference and not branch_adjusted:
        return
    rng = np.random.default_rng(1)
    for _ in range(20):
        tree = random_tree(rng, depth=4, takes_turns=False)
        graph, log_reward = graph_of(tree), 2.0 * rng.normal(size=len(tree.leaves))
        setting = {"branch_adjusted": branch_adjusted, "log_reference": random_policy(rng, graph) if has_reference else None}
        solution = solve_game(graph, log_reward, **setting)
        assert np.allclose(regularised_value(graph, solution.log_policy, log_reward, **setting), solution.values, atol=1e-10)
        for player in (0, 1):
            other = np.where((graph.turn == player)[:, None], random_policy(rng, graph), solution.log_policy)
            change = regularised_value(graph, other, log_reward, **setting)[0] - solution.root_value
            assert (change if player == 1 else -change) > -1e-12


def random_policy(rng, graph):
    logits = np.where(graph.children >= 0, rng.normal(size=graph.children.shape), -np.inf)
    totals = np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return np.where(graph.children >= 0, logits - np.where(np.isfinite(totals), totals, 0.0), -np.inf)


def test_a_uniform_reference_is_the_default_and_another_one_is_not():
    rng = np.random.default_rng(2)
    tree = random_tree(rng, depth=4)
    graph, log_reward = graph_of(tree), rng.normal(size=len(tree.leaves))
    is_legal = graph.children >= 0
    uniform = np.where(is_legal, -np.log(np.maximum(is_legal.sum(axis=1, keepdims=True), 1)), -np.inf)
    plain = solve_game(graph, log_reward)
    assert np.allclose(solve_game(graph, log_reward, log_reference=uniform).values, plain.values, atol=1e-14)
    mu = random_policy(rng, graph)
    solution = solve_game(graph, log_reward, log_reference=mu)
    assert abs(solution.root_value - plain.root_value) > 1e-3
    for node, children in enumerate(tree.children):
        if children:
            sign, actions = 1 - 2 * tree.turn[node], range(len(children))
            weights = [np.exp(mu[node, a] + sign * solution.values[children[a]]) for a in actions]
            assert np.isclose(solution.values[node], sign * np.log(sum(weights)), atol=1e-12)
            assert np.allclose(np.exp(solution.log_policy[node, : len(children)]), np.array(weights) / sum(weights))


def test_one_player_alone_has_the_mellowmax_values():
    graph = enumerate_graph(Hops(5))
    log_reward = np.random.default_rng(3).normal(size=graph.terminals.size)
    solution = solve(graph, log_reward, mellowmax(), dag_correction=False)
    found = solve_game(graph, log_reward)
    assert np.allclose(found.values, solution.values, atol=1e-12) and np.allclose(
        found.log_probs, solution.log_probs, atol=1e-12
    )


@pytest.mark.parametrize("num_players", [2, 3])
def test_unadjusted_flows_equal_plain_recursion(num_players):
    rng = np.random.default_rng(4)
    for _ in range(50):
        tree = random_tree(rng, depth=4, num_players=num_players, takes_turns=False)
        log_rewards = rng.normal(size=(num_players, len(tree.leaves)))
        rewards = {leaf: tuple(np.exp(row)) for leaf, row in zip(tree.leaves, log_rewards.T, strict=True)}
        flows = unadjusted_flows(tree, rewards)
        found = solve_unadjusted(graph_of(tree), log_rewards)
        assert np.allclose(np.exp(found.log_flows).T, [flows[node] for node in range(len(tree.children))], rtol=1e-10)
        for node, children in enumerate(tree.children):
            shares = [flows[child][tree.turn[node]] / flows[node][tree.turn[node]] for child in children]
            assert np.allclose(np.exp(found.log_policy[node, : len(children)]), shares, rtol=1e-10)


def test_a_player_alone_with_nature_has_the_expected_flow_network():
    graph = enumerate_graph(Hops(5, coin=True))
    log_reward = np.random.default_rng(5).normal(size=graph.terminals.size)
    found = solve_unadjusted(graph, log_reward[None])
    solution = solve(graph, log_reward, soft_bellman())
    assert np.allclose(found.log_flows[0], solution.values, atol=1e-12)
    assert np.allclose(found.log_policy, solution.log_policy, atol=1e-12)


# eflow T5 and 7.2: log Z, then shares of wins, draws and losses in self-play, worst cases of either player, rates.
@pytest.mark.parametrize(
    ("scale", "log_z", "results", "worst", "argmax", "mass"),
    [
        (1, 0.268960, (0.573, 0.134, 0.294), (-0.812, 0.982), 0.9947, 0.7341),
        (2, 0.592, (0.600, 0.173, 0.227), (-0.591, 0.935), 0.9982, 0.8624),
        (3, 1.004735, (0.580, 0.281, 0.139), (-0.331, 0.833), 0.9982, 0.9343),
        (4, 1.439, (0.478, 0.451, 0.072), (-0.149, 0.636), 1.0, 0.9699),
        (5, 1.783100, (0.309, 0.655, 0.036), (-0.060, 0.386), 1.0, 0.9871),
        (10, 2.140596, (0.0036, 0.996, 0.0004), (0.000, 0.004), 1.0, 0.9999),
        (20, 2.143859, (0.0, 1.0, 0.0), (0.0, 0.0), 1.0, 1.0),
        (30, 2.1439, (0.0, 1.0, 0.0), (0.0, 0.0), 1.0, 1.0),
    ],
)
def test_t5_tic_tac_toe(tic_tac_toe, scale, log_z, results, worst, argmax, mass):
    graph, outcome = tic_tac_toe
    solution = solve_game(graph, scale * outcome)
    assert solution.root_value == pytest.approx(log_z, abs=1e-5 if scale in (1, 3, 5, 10) else 5e-4)
    law = np.exp(solution.log_probs)
    assert np.allclose([law[outcome == won].sum() for won in (1, 0, -1)], results, atol=6e-4)
    found = [best_response(graph, solution.log_policy, outcome, player).root_value for player in (1, 0)]
    assert np.allclose(found, worst, atol=6e-4)
    assert exploitability(graph, solution.log_policy, outcome) == pytest.approx((found[1] - found[0]) / 2)
    rates = optimal_rates(solution.log_policy, minimax(graph, outcome).is_optimal)
    assert rates.argmax == pytest.approx(argmax, abs=6e-5) and rates.mass == pytest.approx(mass, abs=6e-5)
    if scale >= 4:
        assert rates.argmax == 1.0
    # Values never leave the rewards' range, and greedy play never loses to a best response.
    assert np.all(np.abs(solution.values) <= scale + 1e-12)
    greedy = greedy_policy(solution.log_policy)
    assert best_response(graph, greedy, outcome, 1).root_value == 0.0 == best_response(graph, greedy, outcome, 0).root_value


def greedy_policy(log_policy):
    is_best = np.arange(log_policy.shape[1]) == np.argmax(log_policy, axis=1)[:, None]
    return np.where(is_best & np.isfinite(log_policy), 0.0, -np.inf)


def test_t5_first_move_and_wrong_models(tic_tac_toe):
    graph, outcome = tic_tac_toe
    assert (graph.num_states, np.sum(~graph.is_terminal)) == (5478, 4520)
    assert [np.sum(~graph.is_terminal & (graph.turn == player)) for player in (0, 1)] == [2423, 2097]
    first = np.exp(solve_game(graph, 10.0 * outcome).log_policy[0])
    corner, edge, centre = 0.12498, 0.06263, 0.24956
    assert np.allclose(first, [corner, edge, corner, edge, centre, edge, corner, edge, corner], atol=6e-6)
    assert solve_game(graph, 10.0 * outcome, branch_adjusted=False).root_value == pytest.approx(3.042988, abs=1e-6)
    unadjusted = solve_unadjusted(graph, np.stack([10.0 * outcome, -10.0 * outcome]))
    assert np.allclose(unadjusted.log_flows[:, 0], [8.735499, 3.714178], atol=1e-6)


def test_t7_optimal_sets_of_tic_tac_toe(tic_tac_toe):
    graph, outcome = tic_tac_toe
    is_optimal = minimax(graph, outcome).is_optimal
    sizes = [np.bincount(is_optimal[~graph.is_terminal & (graph.turn == player)].sum(axis=1)) for player in (0, 1)]
    assert sizes[0].tolist() == [0, 1246, 476, 456, 108, 116, 8, 12, 0, 1]
    assert sizes[1].tolist() == [0, 1160, 416, 64, 391, 0, 66]
    is_legal = graph.children >= 0
    with np.errstate(divide="ignore"):
        uniform = np.where(is_legal, -np.log(is_legal.sum(axis=1, keepdims=True)), -np.inf)
    assert optimal_rates(uniform, is_optimal).mass == pytest.approx(0.57965, abs=1e-5)


# eflow T6 and 7.3: log Z, without the branch term, rates of optimal moves, those of the unadjusted network.
@pytest.mark.parametrize(
    ("scale", "log_z", "missing", "argmax", "unadjusted"),
    [
        (1, 0.037715, 0.772688, 0.99269, 0.93230),
        *slowly(
            "other scales; one guards the figures",
            (5, -0.385235, None, 0.99999, 0.99967),
            (10, -0.799155, -0.027190, 1.0, 1.0),
            (20, -0.810045, None, 1.0, None),
        ),
    ],
)
def test_t6_connect_four_of_four_by_four(connect_four, scale, log_z, missing, argmax, unadjusted):
    graph, outcome = connect_four
    assert np.sum(~graph.is_terminal) == 134_289
    perfect = minimax(graph, outcome)
    assert perfect.values[0] == 0.0
    solution = solve_game(graph, scale * outcome)
    assert solution.root_value == pytest.approx(log_z, abs=1e-6)
    assert optimal_rates(solution.log_policy, perfect.is_optimal).argmax == pytest.approx(argmax, abs=6e-6)
    if missing is not None:
        assert solve_game(graph, scale * outcome, branch_adjusted=False).root_value == pytest.approx(missing, abs=1e-6)
    policy = solve_unadjusted(graph, np.stack([scale * outcome, -scale * outcome])).log_policy
    if unadjusted is not None:
        assert optimal_rates(policy, perfect.is_optimal).argmax == pytest.approx(unadjusted, abs=6e-6)
    if scale == 10:
        is_fast = minimax(graph, hastened(graph, outcome)).is_optimal
        assert np.all(perfect.is_optimal | ~is_fast)  # a fastest win is a win
        for log_policy, rate in ((solution.log_policy, 0.98731), (policy, 0.96413)):
            # Forced moves leave a slower win worth as much as a fast one: how such ties are broken is open.
            tied = log_policy > log_policy.max(axis=1, keepdims=True) - 1e-9
            count = ~graph.is_terminal
            can, must = np.any(tied & is_fast, axis=1)[count].mean(), np.all(~tied | is_fast, axis=1)[count].mean()
            assert must < rate < can and can - must < 0.006
            assert must <= optimal_rates(log_policy, is_fast).argmax <= can


def test_minimax_and_best_responses_equal_plain_recursion():
    rng = np.random.default_rng(6)
    for _ in range(30):
        tree = random_tree(rng, depth=4, takes_turns=False)
        graph, outcome = graph_of(tree), rng.integers(-1, 2, size=len(tree.leaves)).astype(float)
        policy, by_leaf = random_policy(rng, graph), dict(zip(tree.leaves, outcome, strict=True))

        def worth(node, responders, tree=tree, by_leaf=by_leaf, policy=policy):
            children = tree.children[node]
            if not children:
                return by_leaf[node]
            below = [worth(child, responders, tree, by_leaf, policy) for child in children]
            if tree.turn[node] in responders:
                return max(below) if tree.turn[node] == 0 else min(below)
            return sum(np.exp(policy[node, action]) * value for action, value in enumerate(below))

        perfect = minimax(graph, outcome)
        nodes = range(graph.num_states)
        assert np.array_equal(perfect.values, [worth(node, (0, 1)) for node in nodes])
        assert np.allclose(expected_outcome(graph, policy, outcome), [worth(node, ()) for node in nodes], atol=1e-12)
        for player in (0, 1):
            response = best_response(graph, policy, outcome, player)
            assert np.allclose(response.values, [worth(node, (player,)) for node in nodes], atol=1e-12)
            is_own = (graph.turn == player) & ~graph.is_terminal
            assert np.array_equal(response.actions >= 0, is_own)
            played = np.where(np.arange(policy.shape[1]) == response.actions[:, None], 0.0, -np.inf)
            answered = np.where(is_own[:, None], played, policy)
            assert np.allclose(expected_outcome(graph, answered, outcome), response.values, atol=1e-12)
        for node, children in enumerate(tree.children):
            best = [perfect.values[child] == perfect.values[node] for child in children]
            assert perfect.is_optimal[node].tolist() == best + [False] * (graph.children.shape[1] - len(children))
        gain = [worth(0, (0,)) - worth(0, (0, 1)), worth(0, (0, 1)) - worth(0, (1,))]
        assert exploitability(graph, policy, outcome) == pytest.approx(np.mean(gain), abs=1e-12)


def test_nature_is_averaged_over_by_perfect_play():
    graph = enumerate_graph(Hops(5, coin=True))
    outcome = np.random.default_rng(7).normal(size=graph.terminals.size)
    perfect = minimax(graph, outcome)
    assert graph.chance_log_probs is not None and np.any(graph.is_chance)
    assert not np.any(perfect.is_optimal[graph.is_chance])
    for node in np.flatnonzero(~graph.is_terminal):
        legal = np.flatnonzero(graph.children[node] >= 0)
        below = perfect.values[graph.children[node, legal]]
        average = np.sum(np.exp(graph.chance_log_probs[node, legal]) * below)
        assert np.isclose(perfect.values[node], average if graph.is_chance[node] else np.max(below), atol=1e-12)


def test_wins_are_hastened():
    tree = Tree(((1, 2), (), (3,), ()), (0, 0, 1, 0))
    graph, won = graph_of(tree), np.array([1.0, 1.0])
    assert hastened(graph, won).tolist() == [3.0, 2.0]
    assert minimax(graph, won).is_optimal[0].tolist() == [True, True]
    assert minimax(graph, hastened(graph, won)).is_optimal[0].tolist() == [True, False]
    assert minimax(graph, hastened(graph, -won)).is_optimal[0].tolist() == [False, True]


def test_refusals():
    tree = Tree(((1, 2), (), ()), (0, 0, 0))
    graph, noisy = graph_of(tree), enumerate_graph(Hops(5, coin=True))
    third = graph_of(tree._replace(turn=(2, 0, 0)))
    ends, policy = np.zeros(2), np.log([[0.5, 0.5], [1.0, 1.0], [1.0, 1.0]])
    for call, message in [
        (lambda: solve_game(graph, np.zeros(3)), "one entry for each terminal state"),
        (lambda: solve_game(graph, np.array([0.0, np.inf])), "log_reward must be finite, got inf for terminal state 1"),
        (lambda: solve_game(noisy, np.zeros(noisy.terminals.size)), "chance moves"),
        (lambda: regularised_value(noisy, np.zeros(noisy.children.shape), np.zeros(noisy.terminals.size)), "chance moves"),
        (lambda: solve_game(third, ends), "turn of player 2"),
        (lambda: solve_game(graph, ends, log_reference=policy, branch_adjusted=False), "no meaning"),
        (lambda: solve_game(graph, ends, log_reference=policy - 1.0), "sum to one"),
        (lambda: solve_game(graph, ends, log_reference=np.array([[0.0, -np.inf]] * 3)), "finite where an action is legal"),
        (lambda: solve_unadjusted(graph, ends), "a row for each player"),
        (lambda: solve_unadjusted(third, np.stack([ends, ends])), "player 2 has none"),
        (lambda: expected_outcome(graph, policy[:2], ends), "one entry for each state and action"),
        (lambda: best_response(graph, policy + 0.1, ends, 1), "sum to one, got 1.1"),
        (lambda: best_response(graph, policy, ends, 2), "player must be 0 or 1, got 2"),
        (lambda: optimal_rates(policy, np.zeros((3, 2), bool)), "at least one position"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
