"""Exact references on graphs of perturbed environments, against plain loops over what is asked for and what takes place."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares, nnls
from tests.reference.noisy_tree import NoisyTree, graph_of
from tests.slowly import slowly

from narrows.envs import AbstractKernel, Hypergrid, Sequence, Subsets, perturbed
from narrows.envs.base import NO_ACTION
from narrows.exact import (
    enumerate_graph,
    noise_free_graph,
    rollout_distribution,
    solve,
    solve_deconvolution,
    solve_noise_free,
    solve_stochastic_gflownet,
)
from narrows.metrics import total_variation
from narrows.noise import Substitution
from narrows.operators import GeneralMellowmax, soft_bellman

RATE = 0.3
ENVS = [Sequence("AB", 1, 3), Sequence("ACG", 2, 2), Subsets(4, min_size=1, max_size=3), Hypergrid(2, 3)]


class Skewed(AbstractKernel):
    """Whatever is asked for, any legal action may take place: each action's own loaded die, the action itself the likeliest.

    It counts in float32 whatever the caller counts in.
    """

    env: Sequence | Hypergrid
    seed: int

    def log_probs(self, state, action):
        num = self.env.num_actions
        weights = np.random.default_rng(self.seed).random((num, num)) + 2.0 * np.eye(num)
        law = jnp.where(self.env.action_mask(state), jnp.asarray(weights)[action], 0.0)
        return jnp.log(law / jnp.sum(law)).astype(jnp.float32)


@functools.cache
def _graph(env, rate=RATE):
    return enumerate_graph(perturbed(env, Substitution(env, rate)))


@functools.cache
def _skewed(env):
    return enumerate_graph(perturbed(env, Skewed(env, 0)))


@functools.cache
def _inner(env):
    return enumerate_graph(env)


def _log_reward(graph, scale=1.0):
    return scale * np.random.default_rng(0).normal(size=graph.terminals.size)


def _kernel(graph):
    assert graph.chance_log_probs is not None
    return graph.chance_log_probs


def _players(graph):
    return np.flatnonzero((graph.states.asked == NO_ACTION) & ~graph.is_terminal)


def _law_by_loops(graph, policy):
    """Return the law of a policy by plain loops over asking and outcome."""
    reach = np.zeros(graph.num_states)
    reach[0] = 1.0
    for state in range(graph.num_states):
        for action in np.flatnonzero(graph.children[state] >= 0):
            is_natures = graph.states.asked[state] != NO_ACTION
            prob = np.exp(_kernel(graph)[state, action]) if is_natures else policy[state, action]
            reach[graph.children[state, action]] += reach[state] * prob
    return reach[graph.terminals]


def test_kernels_in_single_precision_are_normalised_in_double():
    graph = _skewed(Sequence("ACG", 2, 2))
    assert np.allclose(np.sum(np.exp(_kernel(graph)[graph.is_chance]), axis=1), 1.0, atol=1e-15)


@pytest.mark.parametrize("env", [*ENVS[2:], *slowly("other rules; sets and a grid guard the law", *ENVS[:2])], ids=repr)
def test_without_its_chance_turns_a_graph_is_the_inner_one(env):
    graph, inner = _graph(env), _inner(env)
    quiet = noise_free_graph(graph)
    order = inner.index(quiet.graph.states)
    assert np.array_equal(np.sort(order), np.arange(inner.num_states))
    assert np.array_equal(graph.rows(quiet.ids).asked, np.full(inner.num_states, NO_ACTION))
    renumbered = np.where(quiet.graph.children >= 0, order[quiet.graph.children], -1)
    assert np.array_equal(renumbered, inner.children[order])
    assert np.array_equal(quiet.graph.backward_actions, inner.backward_actions[order])
    for name in ("is_terminal", "num_parents", "turn"):
        assert np.array_equal(getattr(quiet.graph, name), getattr(inner, name)[order]), name
    assert np.array_equal(quiet.graph.level_starts, inner.level_starts)
    assert np.array_equal(quiet.graph.index(inner.states)[order], np.arange(inner.num_states))
    assert np.array_equal(quiet.ids[quiet.graph.terminals], graph.terminals), "objects in the same order"


@pytest.mark.parametrize("env", ENVS, ids=repr)
@pytest.mark.parametrize("operator", [soft_bellman(), GeneralMellowmax(2.0, 1.0, 0.5)], ids=repr)
def test_the_noise_free_policy_in_the_noise(env, operator):
    graph, inner = _graph(env), _inner(env)
    log_reward = _log_reward(graph)
    row_of = {number: row for row, number in enumerate(inner.terminals.tolist())}
    given = np.zeros(inner.terminals.size)
    for number, value in zip(inner.index(graph.terminal_states.inner).tolist(), log_reward, strict=True):
        given[row_of[number]] = value
    policy = np.exp(solve(inner, given, operator).log_policy)
    played = solve_noise_free(graph, log_reward, operator)
    players = _players(graph)
    assert np.allclose(np.exp(played.log_policy[players]), policy[inner.index(graph.rows(players).inner)], atol=1e-12)
    assert np.allclose(np.exp(played.log_probs), _law_by_loops(graph, np.exp(played.log_policy)), atol=1e-12)
    assert np.allclose(played.log_policy[graph.is_chance], _kernel(graph)[graph.is_chance])


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize("env", ENVS, ids=repr)
def test_deconvolution_of_substitution_is_the_closed_form(env, scale):
    """Of n moves that end or n that do not, each is drawn anew with probability rate / n (eflow 2.5)."""
    graph = _graph(env)
    found = solve_deconvolution(graph, _log_reward(graph, scale))
    target = np.exp(solve_noise_free(graph, _log_reward(graph, scale)).log_policy)
    num_clipped = num_choices = 0
    for state in _players(graph):
        legal = np.flatnonzero(graph.children[state] >= 0)
        num_choices += legal.size if legal.size > 1 else 0
        ends = {
            action: bool(graph.is_terminal[graph.children[graph.children[state, action], action]]) for action in legal.tolist()
        }
        weights = np.zeros(target.shape[1])
        for action in legal.tolist():
            like = [other for other in legal.tolist() if ends[other] == ends[action]]
            weights[action] = (target[state, action] - RATE / len(like) * target[state, like].sum()) / (1.0 - RATE)
        assert np.allclose(found.weights[state], weights, atol=1e-12)
        assert np.array_equal(found.is_clipped[state], weights < -1e-12)
        num_clipped += int(np.sum(weights < -1e-12))
        clipped = np.maximum(weights, 0.0) / np.sum(np.maximum(weights, 0.0))
        assert np.allclose(np.exp(found.log_policy[state]), clipped, atol=1e-12)
    assert found.share_clipped == num_clipped / num_choices
    assert np.allclose(np.exp(found.log_probs), _law_by_loops(graph, np.exp(found.log_policy)), atol=1e-12)


@pytest.mark.parametrize(
    ("env", "is_exact"), [(Sequence("AB", 1, 3), True), (Sequence("ACG", 2, 2), True), (Hypergrid(2, 3), False)], ids=repr
)
def test_deconvolution_undoes_any_kernel(env, is_exact):
    graph = _skewed(env)
    log_reward = _log_reward(graph, 0.2)
    found, target = solve_deconvolution(graph, log_reward), np.exp(solve_noise_free(graph, log_reward).log_policy)
    for state in _players(graph):
        outcomes = np.zeros(target.shape[1])
        for action in np.flatnonzero(graph.children[state] >= 0):
            outcomes += found.weights[state, action] * np.exp(_kernel(graph)[graph.children[state, action]])
        assert np.allclose(outcomes, target[state], atol=1e-12)
        assert abs(np.sum(found.weights[state]) - 1.0) < 1e-12
    assert np.all(found.weights[graph.is_chance] == 0.0)
    proportional = log_reward - np.logaddexp.reduce(log_reward)
    assert (found.share_clipped == 0.0) == is_exact == np.allclose(found.log_probs, proportional, atol=1e-12)
    assert total_variation(found.log_probs, proportional) < total_variation(
        solve_noise_free(graph, log_reward).log_probs, proportional
    )


def test_mild_rewards_need_no_clipping_and_steep_ones_do():
    graph = _graph(Sequence("ACG", 2, 2))
    for scale, is_exact in ((0.2, True), (5.0, False)):
        log_reward = _log_reward(graph, scale)
        found = solve_deconvolution(graph, log_reward)
        distance = total_variation(found.log_probs, log_reward - np.logaddexp.reduce(log_reward))
        assert (found.share_clipped == 0.0) == is_exact
        assert distance < 1e-12 if is_exact else distance > 0.01


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_stochastic_gflownets_with_a_learned_way_back_exist_where_nothing_is_clipped(scale):
    """`F(s) pi(a|s) P(s'|s,a) = F(s') P_B(a|s')` in every state, or in none whose policy had to be clipped (eflow 2.5)."""
    graph = _graph(Sequence("ACG", 2, 2))
    log_reward = _log_reward(graph, scale)
    found, target = solve_deconvolution(graph, log_reward), np.exp(solve_noise_free(graph, log_reward).log_policy)
    quiet = noise_free_graph(graph)
    flow = np.zeros(graph.num_states)
    flow[quiet.ids] = np.exp(solve(quiet.graph, log_reward, soft_bellman()).values)
    for state in _players(graph):
        legal = np.flatnonzero(graph.children[state] >= 0)
        asked = graph.children[state, legal]
        kernel = np.exp(_kernel(graph)[asked])[:, legal]
        policy, misfit = nnls(kernel.T, target[state, legal])
        # Summed over a, the constraints say that the policy's outcomes are F(s') / F(s): nnls finds a policy, or there is none.
        assert (misfit < 1e-9) == (not np.any(found.is_clipped[state]))
        if np.any(found.is_clipped[state]):
            continue
        assert np.allclose(np.exp(found.log_policy[state, legal]), policy, atol=1e-9)
        forward = flow[state] * np.exp(found.log_policy[state, legal])[:, None] * kernel
        below = flow[graph.children[asked][np.arange(legal.size), legal]]
        backward = forward / below  # the only P_B with the constraint, whether or not it is one
        assert np.allclose(np.sum(backward, axis=0), 1.0, atol=1e-12) and np.all(backward >= 0.0)
    assert np.any(found.is_clipped) == (scale > 0.5)


def test_a_kernel_that_cannot_be_undone_is_named():
    graph = _graph(Sequence("ACG", 2, 2), 1.0)
    with pytest.raises(
        ValueError, match=r"the kernel of state 0 cannot be undone: .* over its actions \[0, 1, 2\] is \[\[0.333"
    ):
        solve_deconvolution(graph, np.zeros(graph.terminals.size))
    assert np.allclose(solve_noise_free(graph, _log_reward(graph, 3.0)).log_probs, -np.log(9.0), atol=1e-12)


def test_without_noise_every_reference_is_the_target():
    graph = _graph(Sequence("AB", 1, 3), 0.0)
    log_reward = _log_reward(graph, 3.0)
    log_target = log_reward - np.logaddexp.reduce(log_reward)
    soft = soft_bellman()
    flow, value = (solve(graph, log_reward, soft).log_probs, solve(graph, log_reward, soft, averaging="value").log_probs)
    others = [solver(graph, log_reward) for solver in (solve_noise_free, solve_deconvolution, solve_stochastic_gflownet)]
    for log_probs in (flow, value, *(other.log_probs for other in others)):
        assert np.allclose(log_probs, log_target, atol=1e-9)


def test_graphs_of_other_environments_are_refused():
    graph = _inner(Sequence("AB", 1, 3))
    for solver in (solve_noise_free, solve_deconvolution):
        with pytest.raises(ValueError, match=r"a perturbed environment, got one whose states are SequenceState"):
            solver(graph, np.zeros(graph.terminals.size))


def _unfold(graph, scale):
    """Return the tree of histories of a graph, its log-rewards, and the state that each history comes to."""
    log_reward = dict(zip(graph.terminals.tolist(), _log_reward(graph, scale).tolist(), strict=True))
    origins, children, probs = [0], [], []
    for origin in origins:
        actions = np.flatnonzero(graph.children[origin] >= 0)
        children.append(tuple(range(len(origins), len(origins) + actions.size)))
        probs.append(tuple(np.exp(_kernel(graph)[origin, actions]).tolist()) if graph.is_chance[origin] else ())
        origins += graph.children[origin, actions].tolist()
    tree = NoisyTree(tuple(children), tuple(probs))
    return tree, np.array([log_reward[origins[leaf]] for leaf in tree.leaves]), np.array(origins)


def test_a_folded_graph_and_its_tree_of_histories():
    """Expected flows and soft values are the same in both (eflow 1.2); the compromise can do better on the tree."""
    graph = _graph(Sequence("AC", 1, 2))
    tree, log_reward, origins = _unfold(graph, 2.0)
    assert len(origins) > graph.num_states
    pairs = ((graph, _log_reward(graph, 2.0)), (graph_of(tree), log_reward))
    flow, flow_of_tree = (solve(*pair, soft_bellman(), averaging="flow").values for pair in pairs)
    value, value_of_tree = (solve(*pair, soft_bellman(), averaging="value").values for pair in pairs)
    assert np.allclose(flow[origins], flow_of_tree, atol=1e-12) and np.allclose(value[origins], value_of_tree, atol=1e-12)
    num_histories = np.bincount(origins)
    weights = np.broadcast_to(num_histories[:, None], graph.children.shape).astype(float)
    folded = solve_stochastic_gflownet(graph, _log_reward(graph, 2.0), weights=weights)
    loss_on_the_tree = sum(
        (folded.log_flow[origins[state]] + np.log(prob) - folded.log_flow[origins[child]]) ** 2
        for state, law in enumerate(tree.probs)
        for prob, child in zip(law, tree.children[state], strict=False)
    )
    assert abs(folded.loss - loss_on_the_tree) < 1e-12 * folded.loss
    assert 1.0 < solve_stochastic_gflownet(graph_of(tree), log_reward).loss < 0.9 * folded.loss


@pytest.mark.parametrize("weighting", ["alike", "by probability"])
def test_the_compromise_is_least_squares(weighting):
    """Against SciPy's trust region, from random starts, on residuals in plain loops."""
    graph = _skewed(Sequence("AB", 1, 2))
    log_reward = _log_reward(graph, 2.0)
    weights = np.ones(graph.children.shape) if weighting == "alike" else np.exp(_kernel(graph))
    natures = np.flatnonzero(graph.is_chance)

    def flows(x):
        log_flow = np.zeros(graph.num_states)
        log_flow[graph.terminals], log_flow[natures] = log_reward, x
        for state in _players(graph):
            log_flow[state] = np.logaddexp.reduce([log_flow[child] for child in graph.children[state] if child >= 0])
        return log_flow

    def residuals(log_flow):
        return [
            np.sqrt(weights[state, action])
            * (log_flow[state] + _kernel(graph)[state, action] - log_flow[graph.children[state, action]])
            for state in natures
            for action in np.flatnonzero(graph.children[state] >= 0)
        ]

    found = solve_stochastic_gflownet(graph, log_reward, weights=weights)
    assert found.max_gradient < 1e-6 and found.num_steps > 0
    assert np.allclose(flows(found.log_flow[natures]), found.log_flow, atol=1e-12), "the player's constraints hold exactly"
    assert abs(np.sum(np.square(residuals(found.log_flow))) - found.loss) < 1e-12 * found.loss
    rng = np.random.default_rng(0)
    for _ in range(3):
        other = least_squares(lambda x: residuals(flows(x)), rng.normal(scale=2.0, size=natures.size), xtol=1e-14, ftol=1e-14)
        assert abs(2.0 * other.cost - found.loss) < 1e-8 * found.loss
        assert np.allclose(flows(other.x), found.log_flow, atol=1e-5)
    assert np.allclose(np.exp(found.log_probs), np.exp(rollout_distribution(graph, found.log_policy)), atol=1e-14)


def test_letters_that_are_noisy_alike_leave_the_compromise_uniform():
    """Each letter's outcomes have the same probabilities, only permuted, so that every letter asks for the same flow."""
    graph = _graph(Sequence("ACG", 2, 2))
    players = _players(graph)
    policy = np.exp(solve_stochastic_gflownet(graph, _log_reward(graph, 3.0)).log_policy[players])
    assert np.allclose(
        policy, (graph.children[players] >= 0) / np.sum(graph.children[players] >= 0, axis=1, keepdims=True), atol=1e-6
    )
    weights = np.where(graph.is_chance[:, None], np.exp(_kernel(graph)), 0.0)
    weighted = np.exp(solve_stochastic_gflownet(graph, _log_reward(graph, 3.0), weights=weights).log_policy[players])
    assert np.max(np.abs(weighted - policy)) > 0.05, "outcomes weighed by their probability tell letters apart"


def test_wrong_weights_are_refused():
    graph = _graph(Sequence("ACG", 2, 2))
    with pytest.raises(ValueError, match="weights must be at least 0"):
        solve_stochastic_gflownet(graph, _log_reward(graph), weights=np.full(graph.children.shape, -1.0))
    with pytest.raises(ValueError, match="got shape"):
        solve_stochastic_gflownet(graph, _log_reward(graph), weights=np.ones(3))
