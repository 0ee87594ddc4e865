"""General mellowmax with a lagged reference: a slow loop, what is left open at the solution, the law, and one exact step."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import logsumexp
from tests.reference.cases import case_of, quick_jit
from tests.reference.solution_model import random_model, solution_model, table, table_rows
from tests.slowly import slowly

from narrows.envs import Sequence, Subsets
from narrows.exact import enumerate_graph, model_distribution, solve
from narrows.metrics.exact import total_variation
from narrows.objectives import LaggedGeneralMellowmax, VarGrad
from narrows.policies import MLP, Tabular, sizes_of
from narrows.rewards import AbstractReward
from narrows.training import run, trainer
from narrows.trajectories.behaviour import Behaviour

ENVS = (Subsets(3), Sequence("AB", 1, 3))


class Scores(AbstractReward):
    """A log-reward in 0..4 for each text of up to three letters of four."""

    def __call__(self, states):
        values = jnp.asarray(np.random.default_rng(3).uniform(0.0, 4.0, size=5**3), jnp.float32)
        places = jnp.where(jnp.arange(3) < states.length[..., None], states.tokens + 1, 0)
        return values[jnp.sum(jnp.asarray([25, 5, 1]) * places, axis=-1)]


@functools.cache
def _compiled(objective, case):
    return quick_jit(lambda model, target, batch: objective.loss(model, target, case.env, batch))


def _loss(objective, case, model, target):
    with jax.enable_x64(True):
        return float(_compiled(objective, case)(model, target, case.batch))


def _log_softmax(logits, mask):
    return np.where(mask, logits - logsumexp(logits[mask]), -np.inf)


@pytest.mark.parametrize(
    ("value_weight", "dag_correction"),
    [(3.0, True), (0.0, False), *slowly("the other two of four; two guard both fields", (0.0, True), (3.0, False))],
)
def test_against_slow_loops(value_weight, dag_correction):
    case = case_of(Subsets(3))
    objective = LaggedGeneralMellowmax(2.0, 0.7, value_weight, dag_correction=dag_correction)
    with jax.enable_x64(True):
        model, target = (random_model(case.env, seed) for seed in (1, 2))
        loss = _loss(objective, case, model, target)
        new, old = table(model), table(target)
    logits, old_logits, values = (np.asarray(each) for each in (new.forward_logits, old.forward_logits, new.log_flow))
    errors, misses = [], []
    for walk, log_reward in zip(case.walks, np.asarray(case.batch.log_reward), strict=True):
        error = -0.3 * log_reward
        for state, action in zip(walk.states, walk.actions, strict=True):
            taken = np.asarray(case.env.observe(state)).tolist()
            row = sum(digit * case.env.num_values**place for place, digit in enumerate(taken))
            mask = np.asarray(case.env.action_mask(state))
            error += _log_softmax(logits[row], mask)[action] / 2.0
            error -= 0.7 * _log_softmax(old_logits[row], mask)[action] / 2.0
            if dag_correction and np.asarray(case.env.action_mask(state)).sum() > 0:
                after = case.env.step(state, jnp.asarray(action))
                parents = int(np.asarray(case.env.backward_mask(after)).sum())
                error += 0.3 * np.log(parents) / 2.0
            misses.append((values[row] - 0.3 * log_reward) ** 2)
        errors.append(error)
    assert np.isclose(loss, np.var(errors) + value_weight * np.mean(misses), rtol=1e-12)


@pytest.mark.parametrize(
    ("env", "q"),
    [
        (ENVS[0], 0.5),
        (ENVS[1], 0.0),
        *slowly(
            "other exponents and rules; two guard the law quickly",
            *((ENVS[0], 0.0), (ENVS[0], 0.9), (ENVS[1], 0.5), (ENVS[1], 0.9)),
        ),
    ],
    ids=lambda value: str(value).split("(")[0],
)
def test_zero_at_the_flow_networks_law_and_not_elsewhere(env, q):
    case = case_of(env)
    objective = LaggedGeneralMellowmax(2.0, q, 0.0)
    with jax.enable_x64(True):
        like = random_model(case.env, 0)
        solution = solve(case.graph, case.log_reward, objective.operator)
        solved = solution_model(case.env, case.graph, solution, objective.operator, like=like)
        perturbed = random_model(case.env, 3)
        assert _loss(objective, case, solved, solved) < 1e-20
        assert _loss(objective, case, perturbed, perturbed) > 1e-3
        # Where the copy is another policy, the law is not yet what is asked for.
        assert (_loss(objective, case, solved, perturbed) > 1e-3) == (q > 0.0)


def test_an_exact_step_goes_its_share_of_the_way():
    """From a uniform copy of the policy, k exact steps end at inverse temperature `omega (1 - q^k)`."""
    case, omega, q = case_of(Sequence("AB", 3, 3)), 3.0, 0.8
    objective = LaggedGeneralMellowmax(omega, q, 0.0)
    with jax.enable_x64(True):
        like = random_model(case.env, 0)
        # All objects are equally long, so that the uniform policy has the uniform law.
        rows = table_rows(case.env, case.graph, np.flatnonzero(~case.graph.is_terminal))
        flat = np.array(table(like).forward_logits)
        flat[rows] = 0.0
        copies = [_with_logits(like, flat)]
        for k in (1, 2, 3):
            operator = LaggedGeneralMellowmax(omega * (1.0 - q**k), 0.0, 0.0).operator
            solution = solve(case.graph, case.log_reward, operator)
            copies.append(solution_model(case.env, case.graph, solution, operator, like=like))
        for before, after in zip(copies, copies[1:], strict=False):
            assert _loss(objective, case, after, before) < 1e-20
        assert _loss(objective, case, copies[3], copies[1]) > 1e-4


def _with_logits(model, logits):
    return eqx.tree_at(lambda model: model.policy.forward_logits, model, jnp.asarray(logits))


def test_without_reference_and_values_it_is_vargrad():
    case = case_of(Subsets(3))
    with jax.enable_x64(True):
        model = random_model(case.env, 1)
        ours = _loss(LaggedGeneralMellowmax(1.0, 0.0, 0.0), case, model, model)
        assert np.isclose(ours, _loss(VarGrad(), case, model, model), rtol=1e-12)


def test_items_without_a_finite_reward_count_for_nothing():
    case = case_of(Subsets(3))
    objective = LaggedGeneralMellowmax()
    with jax.enable_x64(True):
        model, target = (random_model(case.env, seed) for seed in (1, 2))
        whole = jax.tree.map(lambda leaf: leaf[:-2], case.batch)
        broken = case.batch._replace(log_reward=case.batch.log_reward.at[-2:].set(jnp.array([jnp.nan, -jnp.inf])))
        loss = quick_jit(lambda batch: objective.loss(model, target, case.env, batch))
        expected, found = (float(loss(batch)) for batch in (whole, broken))
    assert np.isclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("q", [0.9, *slowly("trains again; a lagged reference guards it", 0.0)])
def test_training_reaches_the_exact_law(q):
    env = Sequence("ACGT", 2, 3)
    graph = enumerate_graph(env)
    objective = LaggedGeneralMellowmax(1.0, q)

    def make(key):
        return Tabular(sizes_of(env, flow_head=True), key=key)

    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 300 * 16))
    one = trainer(env, make, Scores(), objective, optimizer, batch_size=64, behaviour=Behaviour(temperature=1.5))
    state, _ = run(one, one.init(jax.random.key(0)), 300, every=300)
    exact = solve(graph, np.asarray(Scores()(graph.terminal_states), np.float64), objective.operator).log_probs
    assert total_variation(model_distribution(state.model, env, graph), exact) < 0.05


def test_what_does_not_fit_is_refused():
    env = Sequence("ACGT", 3, 3)
    make = lambda key: MLP(sizes_of(env), hidden=8, key=key)  # noqa: E731
    with pytest.raises(ValueError, match="needs a policy with a flow head"):
        trainer(env, make, Scores(), LaggedGeneralMellowmax(), optax.sgd(0.1), batch_size=8)
    with pytest.raises(ValueError, match="in 4 parts, which 10 trajectories"):
        trainer(env, make, Scores(), LaggedGeneralMellowmax(value_weight=0.0), optax.sgd(0.1), batch_size=10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"q": 1.0}, r"q must lie in \[0, 1\)"),
        ({"q": float("nan")}, r"q must lie in \[0, 1\)"),
        ({"omega": 0.0}, "omega must be positive"),
        ({"value_weight": -1.0}, "value_weight must be at least 0"),
        ({"value_weight": float("inf")}, "value_weight must be at least 0 and finite"),
        ({"target_period": 0}, "target_period must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"minibatches": 0}, "minibatches must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LaggedGeneralMellowmax(**settings)
