"""A walk through the core with every shape annotation checked; `test_shapes.py` runs it in a process of its own."""

import functools

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


def walk() -> None:
    for env, policy_class, reward in CASES:
        objective = objectives.TrajectoryBalance()
        model = train(env, policy_class, reward, objective)
        graph = exact.enumerate_graph(env)
        solution = exact.solve(graph, np.asarray(reward(graph.terminal_states)), objective.operator)
        assert metrics.total_variation(exact.model_distribution(model, env, graph), solution.log_probs) <= 1.0
    env, policy_class, reward = CASES[0]
    for name in objectives.__all__:
        objective = getattr(objectives, name)()
        # Those for noise walk in noise.
        if not objective.needs.child_flow:
            trace(env, policy_class, reward, objective)


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
    policy = MLP(sizes_of(env), key=jax.random.key(0))
    return env.from_text(env.to_text(sample_terminals(env, policy)))


def walk_noise() -> None:
    reward, env = UnwrapPerturbed(Length()), perturbed(LETTERS, Substitution(LETTERS, 0.2))
    for objective in (objectives.ExpectedDetailedBalance("all"), objectives.SampledExpectedDetailedBalance()):
        trace(env, MLP, reward, objective)
    model = train(env, MLP, reward, objectives.StochasticDetailedBalance())
    graph = exact.enumerate_graph(env)
    log_reward = np.asarray(reward(graph.terminal_states))
    solution = exact.solve(graph, log_reward, objectives.SoftQ().operator)
    assert metrics.total_variation(exact.model_distribution(model, env, graph), solution.log_probs) <= 1.0
    exact.solve_deconvolution(graph, log_reward)


class Length(AbstractReward):
    """Longer is better."""

    def __call__(self, states):
        return jax.numpy.asarray(states.length, jax.numpy.float32)


def sample_terminals(env, policy):
    from narrows.policies.base import Model

    drawn = sample(jax.random.key(2), Model(policy, jax.numpy.zeros(())), env, 4)
    assert log_probs_along(Model(policy, jax.numpy.zeros(())), env, drawn).log_pf.shape == drawn.actions.shape
    return drawn.terminal


def walk_sequences() -> None:
    env = Sequence("AB", 1, 3)
    policy = Transformer(sizes_of(env), layers=1, width=8, heads=2, feed_forward=8, key=jax.random.key(0))
    sample_terminals(env, policy)


if __name__ == "__main__":
    walk()
    walk_sequences()
    walk_noise()
    print("every shape is as annotated")
