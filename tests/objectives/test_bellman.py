"""The transition-level loss against plain loops, and what its target copy does. Zero at the solution: see test_balance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.cases import case_of, quick_jit
from tests.reference.solution_model import random_model, table
from tests.reference.tgm import gm

from narrows.envs import Subsets
from narrows.exact import model_distribution, solve
from narrows.metrics import total_variation
from narrows.objectives import BellmanGeneralMellowmax
from narrows.operators import GeneralMellowmax
from narrows.policies import Tabular, sizes_of
from narrows.rewards.base import AbstractReward
from narrows.training import adam, run, trainer


def _row(env, state):
    return sum(digit * env.num_values**place for place, digit in enumerate(np.asarray(env.observe(state)).tolist()))


@pytest.mark.parametrize("backward", ["none", "uniform", "learned"])
def test_against_slow_loops_and_gradient_of_the_model_only(backward):
    case, operator = case_of(Subsets(3)), GeneralMellowmax(4.0, 1.0, 0.5)
    env, objective = case.env, BellmanGeneralMellowmax(4.0, 1.0, 0.5, dag_correction=backward != "none")

    @quick_jit
    def compute(model, target, batch):
        of_model = jax.value_and_grad(lambda model: objective.loss(model, target, env, batch))(model)
        return *of_model, jax.grad(lambda target: objective.loss(model, target, env, batch))(target)

    with jax.enable_x64(True):
        model, target = (random_model(env, seed, backward=backward == "learned") for seed in (1, 2))
        loss, gradient, target_gradient = compute(model, target, case.batch)
    q_values, target_q = (np.asarray(table(each).forward_logits) / operator.policy_scale for each in (model, target))
    errors, slopes = [], np.zeros_like(q_values)
    for walk, log_reward in zip(case.walks, np.asarray(case.batch.log_reward), strict=True):
        for state, action, child in zip(walk.states, walk.actions, [*walk.states[1:], walk.terminal], strict=True):
            mask = np.asarray(env.action_mask(child))
            goal = log_reward
            if mask.any():
                goal = gm(target_q[_row(env, child)][mask], operator.omega, operator.alpha, operator.q)
            if backward != "none":
                heads = np.zeros(env.num_backward_actions)
                if backward == "learned":
                    heads = np.asarray(table(model).backward_logits)[_row(env, child)]
                is_parent = np.asarray(env.backward_mask(child))
                undo = int(env.backward_action(state, jnp.asarray(action)))
                goal += (heads[undo] - np.log(np.sum(np.exp(heads[is_parent])))) / operator.omega
            errors.append(q_values[_row(env, state), action] - goal)
            slopes[_row(env, state), action] += 2.0 * errors[-1] / operator.policy_scale
    assert np.allclose(loss, np.mean(np.square(errors)), rtol=1e-12)
    # A semi-gradient: the goal, with the target copy and the backward policy in it, is held fixed.
    assert np.allclose(gradient.policy.forward_logits, slopes / len(errors), atol=1e-12)
    assert backward != "learned" or np.all(gradient.policy.backward_logits == 0.0)
    assert all(np.all(leaf == 0.0) for leaf in jax.tree.leaves(target_gradient))


class SizeReward(AbstractReward):
    """Prefer subsets of two."""

    def __call__(self, states):
        return -jnp.abs(jnp.sum(states.items, axis=-1) - 2.0)


def test_training_reaches_the_dynamic_programme():
    env = Subsets(3)
    objective = BellmanGeneralMellowmax(omega=2.0, alpha=1.0, q=0.5, target_period=20)
    policy = Tabular(sizes_of(env), key=jax.random.key(0))
    made = trainer(env, policy, SizeReward(), objective, adam(learning_rate=0.05), batch_size=32)
    state, _ = run(made, made.init(jax.random.key(0)), 600, every=600)
    case = case_of(env)
    solution = solve(case.graph, np.asarray(SizeReward()(case.graph.terminal_states)), objective.operator)
    assert total_variation(model_distribution(state.model, env, case.graph), solution.log_probs) < 0.02


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="target_period must be at least 1, got 0"):
        BellmanGeneralMellowmax(target_period=0)
    with pytest.raises(ValueError, match="omega must be positive"):
        BellmanGeneralMellowmax(omega=-1.0)
