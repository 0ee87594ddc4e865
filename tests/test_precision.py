"""Products in bfloat16 learn the law that float32 learns."""

import jax
import numpy as np
import pytest
from tests.slowly import slowly

from narrows.envs import Hypergrid, Sequence
from narrows.exact import enumerate_graph, model_distribution
from narrows.metrics import total_variation
from narrows.objectives import TrajectoryBalance
from narrows.policies import MLP, Transformer, sizes_of
from narrows.rewards.analytic import HypergridReward
from narrows.rewards.base import AbstractReward
from narrows.training import adam, run, trainer


class Places(AbstractReward):
    """A log-reward that depends on which letter stands where."""

    def __call__(self, states):
        return jax.numpy.sum(jax.numpy.cos(3.0 * states.tokens + jax.numpy.arange(4.0)), axis=-1)


GRID, LETTERS = Hypergrid(2, 8), Sequence("ACG", 4, 4)
CASES = {
    "grid": (GRID, HypergridReward(GRID), lambda sizes, **given: MLP(sizes, hidden=64, **given)),
    "letters": (LETTERS, Places(), lambda sizes, **given: Transformer(sizes, layers=1, width=16, heads=2, **given)),
}


@pytest.mark.parametrize("name", ["grid", *slowly("trains two; tests/policies/test_layers.py guards the products", "letters")])
def test_the_law_learned_in_bf16_is_as_near_to_the_exact_one(name):
    env, reward, make = CASES[name]
    graph = enumerate_graph(env)
    log_reward = np.asarray(reward(graph.terminal_states), np.float64)
    law = log_reward - np.logaddexp.reduce(log_reward)
    distances = {}
    for precision in ("f32", "bf16"):

        def policy(key, precision=precision):
            return make(sizes_of(env), precision=precision, key=key)

        made = trainer(env, policy, reward, TrajectoryBalance(), adam(5e-3, decay_steps=600), batch_size=32)
        state, _ = run(made, made.init(jax.random.key(0)), 600, every=600)
        distances[precision] = total_variation(model_distribution(state.model, env, graph), law)
    assert distances["f32"] < 0.02
    assert distances["bf16"] < distances["f32"] + 0.01, distances
