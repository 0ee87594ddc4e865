"""How likely objects are, against the law of the model that is known exactly."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.solution_model import random_model

from narrows.envs import Sequence, Subsets, perturbed
from narrows.exact import enumerate_graph, model_distribution
from narrows.metrics import log_likelihood
from narrows.metrics.likelihood import follow_to, log_prob_of
from narrows.noise import Substitution
from narrows.objectives import TrajectoryBalance
from narrows.policies import MLP
from narrows.policies.base import Model


@pytest.mark.parametrize("env", [Sequence("ACG", 3, 3), Sequence("AB", 1, 4), Sequence("A", 2, 2)], ids=repr)
def test_it_is_the_exact_law_of_the_model(env):
    model = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_model(env, 3))
    graph = enumerate_graph(env)
    found = log_likelihood(model, env, graph.terminal_states)
    np.testing.assert_allclose(found, model_distribution(model, env, graph), atol=1e-5)
    assert np.sum(np.exp(found)) == pytest.approx(1.0, abs=1e-5)


def test_objects_that_begin_alike_have_each_the_likelihood_of_their_own_steps(monkeypatch):
    monkeypatch.setattr("narrows.metrics.likelihood._STEPS_TOGETHER", 64)
    env = Sequence("ACGU", 2, 6)
    model = Model(MLP(TrajectoryBalance().sizes(env), key=jax.random.key(0)), jnp.zeros(()))
    texts = ["".join(word) for size in (2, 3, 6) for word in itertools.product("ACGU", repeat=size)]
    texts = [texts[place] for place in np.random.default_rng(0).integers(0, len(texts), 300)]
    terminal = env.from_text([*texts, "AC", "AC", "ACG"])
    slow = eqx.filter_jit(lambda: log_prob_of(follow_to(model, env, terminal)))()
    np.testing.assert_allclose(log_likelihood(model, env, terminal), slow, atol=1e-5)


@pytest.mark.parametrize(
    "env", [Subsets(3), perturbed(Sequence("AB", 1, 2), Substitution(Sequence("AB", 1, 2), 0.4))], ids=repr
)
def test_where_objects_have_several_ways_it_is_refused(env):
    with pytest.raises(ValueError, match="can be made in several ways"):
        log_likelihood(random_model(env, 3), env, enumerate_graph(env).terminal_states)
