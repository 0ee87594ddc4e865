"""What a model samples, exactly, against the probability of every single trajectory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.brute_force import stack
from tests.reference.cases import case_of, quick_jit
from tests.reference.small_envs import HandTree, Hops
from tests.reference.solution_model import random_model, solution_model, table
from tests.slowly import slowly

from narrows.envs import CHANCE, Hypergrid, Sequence, Subsets, perturbed
from narrows.exact import enumerate_graph, model_distribution, model_log_backward, model_log_policy, solve
from narrows.noise import Substitution
from narrows.operators import GeneralMellowmax
from narrows.policies import MLP, Tabular, Transformer, sizes_of
from narrows.policies.base import Model, Scaled
from narrows.trajectories import NO_ACTION, log_probs_along

NOISY = perturbed(Sequence("AB", 1, 3), Substitution(Sequence("AB", 1, 3), 0.4))


def _loud_transformer(env, layers):
    """Return a model far from the uniform policy that a transformer starts as."""
    policy = Transformer(sizes_of(env), layers=layers, width=8, heads=2, feed_forward=8, key=jax.random.key(1))
    return Model(Scaled(policy, 100.0), jnp.zeros(()))


def _brute_force_law(model, case):
    """Return the law as a sum over walks of the product of the probabilities of their steps."""
    rewards = np.zeros(len(case.walks))
    batch = case.batch._replace(log_reward=rewards)
    log_pf = quick_jit(lambda model, batch: log_probs_along(model, case.env, batch).log_pf)(model, batch)
    log_pf = log_pf.astype(np.float64)
    turn, chance_log_probs = quick_jit(case.env.turn), quick_jit(case.env.chance_log_probs)
    for row, walk in enumerate(case.walks):
        for time, (state, action) in enumerate(zip(walk.states, walk.actions, strict=True)):
            if turn(state) == CHANCE:
                log_pf[row, time] = chance_log_probs(state)[action]
    law = np.zeros(case.graph.num_states)
    np.add.at(law, case.graph.index(case.batch.terminal), np.exp(np.sum(log_pf, axis=1)))
    return law[case.graph.terminals]


@pytest.mark.parametrize(
    "env",
    [
        Hypergrid(2, 4),
        Hops(6, coin=True),
        *slowly(
            "the same law for other rules; several parents and a coin guard it quickly",
            *(Sequence("AB", 1, 3), Sequence("A", 2, 4), Subsets(4), Hops(6), NOISY),
        ),
    ],
    ids=repr,
)
def test_policies_without_memory(env):
    case = case_of(env)
    policy = Tabular(sizes_of(env), init_scale=2.0, key=jax.random.key(1))
    model = Model(policy, jnp.zeros(()))
    log_probs = model_distribution(model, env, case.graph)
    assert abs(np.sum(np.exp(log_probs)) - 1.0) < 1e-6
    assert np.max(np.abs(np.exp(log_probs) - _brute_force_law(model, case))) < 1e-6


@pytest.mark.parametrize(
    "env",
    [NOISY, *slowly("other rules; noisy letters guard the law quickly", Sequence("AB", 0, 3), Sequence("A", 2, 4))],
    ids=repr,
)
def test_policies_with_memory_along_their_paths(env):
    case, model = case_of(env), _loud_transformer(env, layers=2)
    log_probs = model_distribution(model, env, case.graph)
    assert np.ptp(log_probs) > 1.0
    assert np.max(np.abs(np.exp(log_probs) - _brute_force_law(model, case))) < 1e-5


@pytest.mark.slow("a tree of 3,906 states; noisy letters guard paths with memory quickly, in one block")
def test_many_paths_in_blocks():
    """A tree of more states than a block of paths, where a memory mixed up between rows would show."""
    env = Sequence("ABCDE", 0, 5)
    graph = enumerate_graph(env)
    model = _loud_transformer(env, layers=1)
    log_probs = model_distribution(model, env, graph)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ABCDE"), size=length)) for length in rng.integers(0, 6, size=300)]
    actions = np.full((300, env.max_steps), NO_ACTION, np.int32)
    for row, text in enumerate(texts):
        actions[row, : len(text) + 1] = ["ABCDE".index(letter) for letter in text] + [5]
    terminal = env.from_text(texts)
    batch = case_of(Sequence("AB", 0, 1)).batch._replace(terminal=terminal, actions=actions, log_reward=np.zeros(300))
    log_pf = quick_jit(lambda model: log_probs_along(model, env, batch).log_pf)(model)
    of_terminal = dict(zip(graph.terminals.tolist(), log_probs.tolist(), strict=True))
    found = np.array([of_terminal[number] for number in graph.index(terminal).tolist()])
    assert abs(np.sum(np.exp(log_probs)) - 1.0) < 1e-6
    assert np.max(np.abs(found - np.sum(log_pf, axis=1))) < 1e-4


def test_memory_and_several_parents_do_not_go_together():
    env = Hypergrid(2, 3)
    with pytest.raises(ValueError, match="policy with memory"):
        model_distribution(_loud_transformer(env, layers=1), env, enumerate_graph(env))


@pytest.mark.parametrize(
    "env",
    [Hypergrid(2, 4), *slowly("other rules; a grid guards the law quickly", Sequence("AB", 1, 3), Subsets(4), HandTree())],
    ids=repr,
)
def test_the_solution_as_a_model_has_the_law_of_the_solution(env):
    case, operator = case_of(env), GeneralMellowmax(2.0, 1.0, 0.5)
    solution = solve(case.graph, case.log_reward, operator)
    with jax.enable_x64(True):
        model = solution_model(env, case.graph, solution, operator, like=random_model(env, 0))
        assert np.max(np.abs(model_distribution(model, env, case.graph) - solution.log_probs)) < 1e-12
        is_legal = case.graph.children >= 0
        log_policy = model_log_policy(model, env, case.graph)
        assert np.max(np.abs(log_policy[is_legal] - solution.log_policy[is_legal])) < 1e-12
        assert np.all(np.isneginf(log_policy[~is_legal]))


def test_backward_policy_is_normalised_over_parents():
    env = Subsets(4)
    case = case_of(env)
    with jax.enable_x64(True):
        model = random_model(env, 0, backward=True)
        log_backward = model_log_backward(model, env, case.graph)
        walk = quick_jit(lambda model: log_probs_along(model, env, case.batch).log_pb)(model)
    states, actions = np.nonzero(case.graph.children >= 0)
    total = np.zeros(case.graph.num_states)
    np.add.at(total, case.graph.children[states, actions], np.exp(log_backward[states, actions]))
    assert np.allclose(total[1:], 1.0, atol=1e-12)
    for row, steps in enumerate(case.walks):
        ids = case.graph.index(stack(steps.states))
        assert np.allclose(walk[row, : ids.size], log_backward[ids, steps.actions], atol=1e-12)


def test_backward_policy_must_be_learned():
    env = Subsets(3)
    with pytest.raises(ValueError, match="backward head"):
        model_log_backward(random_model(env, 0), env, case_of(env).graph)


def test_forced_moves_need_no_network():
    """Only states with a choice are read: a policy that is NaN elsewhere changes nothing."""
    env = Sequence("AB", 2, 2)
    case = case_of(env)
    with jax.enable_x64(True):
        model = random_model(env, 0)
        full = [row for row in range(9) if row // 3 < 2 and row % 3 < 2]
        poisoned = eqx.tree_at(
            lambda model: model.policy.forward_logits,
            model,
            table(model).forward_logits.at[jnp.array(full)].set(jnp.nan),
        )
        assert np.array_equal(model_distribution(poisoned, env, case.graph), model_distribution(model, env, case.graph))


@pytest.mark.slow("enumerates 10,000 states; the laws of small spaces above guard the same code")
def test_mlp_law_of_a_larger_space_sums_to_one():
    env = Sequence("ACGU", 1, 6)
    graph = enumerate_graph(env)
    model = Model(MLP(sizes_of(env), 16, 1, key=jax.random.key(0)), jnp.zeros(()))
    log_probs = model_distribution(model, env, graph)
    assert log_probs.shape == (sum(4**length for length in range(1, 7)),)
    assert abs(np.sum(np.exp(log_probs)) - 1.0) < 1e-9
