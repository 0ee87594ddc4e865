"""A walk through the core with every shape annotation checked; `test_shapes.py` runs it in a process of its own.

With the word "all" it goes through every objective, and trains with and without noise.
"""

import functools
import sys

from jaxtyping import install_import_hook

# The rooms that compute. The others hold `typing.Self`, which beartype accepts on whole classes only.
ROOMS = [
    f"narrows.{room}"
    for room in (
        *("operators", "edit_distance", "envs", "policies", "rewards.base", "rewards.analytic", "rewards.ehrlich", "noise"),
        *("trajectories", "objectives", "training", "exact", "metrics"),
    )
]

with install_import_hook(ROOMS, "beartype.beartype"):
    import equinox as eqx
    import jax
    import numpy as np

    from narrows import exact, metrics, objectives
    from narrows.envs import Hypergrid, Sequence, Subsets, perturbed
    from narrows.noise import Substitution
    from narrows.policies import MLP, Tabular, Transformer, sizes_of
    from narrows.policies.base import Model
    from narrows.rewards import AbstractReward, HypergridReward, PairwiseSubsets, UnwrapPerturbed
    from narrows.training import Given, adam, run, trainer
    from narrows.training.replay import Replay
    from narrows.trajectories import log_probs_along, sample
    from narrows.trajectories.behaviour import Behaviour

CASES: tuple = (
    (Hypergrid(2, 3), MLP, HypergridReward(Hypergrid(2, 3))),
    (Subsets(3), Tabular, PairwiseSubsets(Subsets(3))),
)
LETTERS = Sequence("AB", 1, 3)


QUICK = (objectives.DiscreteSAC, objectives.ProximalPolicy, objectives.SubTrajectoryBalance)
"""Objectives that between them use critics, passes over a batch, a flow head, and past and given objects."""


def walk() -> None:
    env, policy_class, reward = CASES[0]
    for make in QUICK:
        trace(env, policy_class, reward, make())
    check_exact(env, reward, objectives.TrajectoryBalance().operator, Model(policy(env), jax.numpy.zeros(())))


def walk_all() -> None:
    for env, policy_class, reward in CASES:
        objective = objectives.TrajectoryBalance()
        check_exact(env, reward, objective.operator, train(env, policy_class, reward, objective))
    env, policy_class, reward = CASES[0]
    for name in objectives.__all__:
        objective = getattr(objectives, name)()
        # Those for noise walk in noise.
        if not objective.needs.child_flow:
            trace(env, policy_class, reward, objective)


def check_exact(env, reward, operator, model):
    graph = exact.enumerate_graph(env)
    solution = exact.solve(graph, np.asarray(reward(graph.terminal_states)), operator)
    assert metrics.total_variation(exact.model_distribution(model, env, graph), solution.log_probs) <= 1.0


def train(env, policy_class, reward, objective):
    training = made(env, policy_class, reward, objective)
    state, history = run(training, training.init(jax.random.key(1)), 2, every=2)
    assert np.isfinite(history[-1]["loss"])
    return state.model


def trace(env, policy_class, reward, objective):
    """Go through a step without compiling it: annotations are checked while it is traced."""
    training = made(env, policy_class, reward, objective)
    eqx.filter_eval_shape(lambda key: training.step(training.init(key)), jax.random.key(1))


def made(env, policy_class, reward, objective):
    sizes = sizes_of(env, learned_backward=objective.needs.trains_backward, flow_head=True, child_flow_head=True)

    def make(key):
        return policy_class(sizes, key=key)

    terminal = terminals(env)
    others = {"replay": Replay(10, 2, True), "given": Given(terminal, reward(terminal), 2)}
    return trainer(
        env,
        make,
        reward,
        objective,
        adam(decay_steps=10),
        batch_size=4,
        behaviour=Behaviour(2.0, 0.1),
        **({} if objective.needs.on_policy else others),
    )


@functools.cache
def terminals(env):
    """Return four objects, there and back through their texts."""
    return env.from_text(env.to_text(sample_terminals(env, policy(env))))


def policy(env):
    return MLP(sizes_of(env), hidden=8, key=jax.random.key(0))


def walk_noise() -> None:
    trace(*NOISY, objectives.SampledExpectedDetailedBalance())


def walk_noise_all() -> None:
    env, _, reward = NOISY
    for objective in (objectives.ExpectedDetailedBalance("all"), objectives.SampledExpectedDetailedBalance()):
        trace(*NOISY, objective)
    check_exact(env, reward, objectives.SoftQ().operator, train(*NOISY, objectives.StochasticDetailedBalance()))
    graph = exact.enumerate_graph(env)
    exact.solve_deconvolution(graph, np.asarray(reward(graph.terminal_states)))


class Length(AbstractReward):
    """Longer is better."""

    def __call__(self, states):
        return jax.numpy.asarray(states.length, jax.numpy.float32)


NOISY = perturbed(LETTERS, Substitution(LETTERS, 0.2)), MLP, UnwrapPerturbed(Length())


def sample_terminals(env, policy):
    @eqx.filter_jit
    def draw(model):
        drawn = sample(jax.random.key(2), model, env, 4)
        return drawn, log_probs_along(model, env, drawn).log_pf

    drawn, log_pf = draw(Model(policy, jax.numpy.zeros(())))
    assert log_pf.shape == drawn.actions.shape
    return drawn.terminal


def walk_sequences() -> None:
    env = Sequence("AB", 1, 3)
    policy = Transformer(sizes_of(env), layers=1, width=8, heads=2, feed_forward=8, key=jax.random.key(0))
    sample_terminals(env, policy)


if __name__ == "__main__":
    is_all = "all" in sys.argv
    (walk_all if is_all else walk)()
    walk_sequences()
    (walk_noise_all if is_all else walk_noise)()
    print("every shape is as annotated")
