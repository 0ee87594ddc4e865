"""How likely objects are, against the law of the model that is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.solution_model import random_model

from narrows.envs import Sequence, Subsets, perturbed
from narrows.exact import enumerate_graph, model_distribution
from narrows.metrics import log_likelihood
from narrows.noise import Substitution


@pytest.mark.parametrize("env", [Sequence("ACG", 3, 3), Sequence("AB", 1, 4)], ids=repr)
def test_it_is_the_exact_law_of_the_model(env):
    model = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_model(env, 3))
    graph = enumerate_graph(env)
    found = log_likelihood(model, env, graph.terminal_states)
    np.testing.assert_allclose(found, model_distribution(model, env, graph), atol=1e-5)
    assert np.sum(np.exp(found)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "env", [Subsets(3), perturbed(Sequence("AB", 1, 2), Substitution(Sequence("AB", 1, 2), 0.4))], ids=repr
)
def test_where_objects_have_several_ways_it_is_refused(env):
    with pytest.raises(ValueError, match="can be made in several ways"):
        log_likelihood(random_model(env, 3), env, enumerate_graph(env).terminal_states)
