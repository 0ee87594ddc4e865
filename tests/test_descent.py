"""Training through a surrogate against `narrows.vi`, which knows nothing of objectives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.reference.cases import compile_quickly
from tests.slowly import slowly

from narrows import vi
from narrows.config import JobError, build, dump_job, load_job
from narrows.envs import Hypergrid
from narrows.exact import enumerate_graph, model_distribution, solve
from narrows.metrics import total_variation
from narrows.objectives import (
    BellmanGeneralMellowmax,
    DetailedBalance,
    SampledExpectedDetailedBalance,
    SoftQ,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrajectoryGeneralMellowmax,
)
from narrows.objectives.base import AbstractRegression, LossContext
from narrows.policies import Tabular
from narrows.rewards.analytic import HypergridReward
from narrows.rewards.base import AbstractReward
from narrows.training import Surrogate, adam, run, trainer
from narrows.training.replay import Replay
from narrows.trajectories import sample

ENV = Hypergrid(2, 4)
REWARD = HypergridReward(ENV, r0=0.1)


class Nothing(AbstractReward):
    """No object has a score."""

    def __call__(self, states):
        return jnp.full(jax.tree.leaves(states)[0].shape[:1], jnp.nan)


def tabular(objective):
    return lambda key: Tabular(objective.sizes(ENV), key=key)


def made(objective, surrogate=None, optimizer=None, **settings):
    optimizer = adam(0.05) if optimizer is None else optimizer
    return trainer(ENV, tabular(objective), REWARD, objective, optimizer, batch_size=8, surrogate=surrogate, **settings)


OBJECTIVES = [
    TrajectoryBalance(),
    SubTrajectoryBalance(),
    DetailedBalance(),
    BellmanGeneralMellowmax(target_period=1),
    SoftQ(),
    TrajectoryGeneralMellowmax(),
]


@pytest.mark.parametrize(
    "objective",
    [
        *OBJECTIVES[1:4:2],
        *slowly("other objectives; segments and a target copy guard the law", *OBJECTIVES[::2], OBJECTIVES[5]),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_errors_reduced_are_the_loss(objective):
    assert isinstance(objective, AbstractRegression)

    def both(key):
        state = made(objective).init(key)
        batch = drawn(state)
        target = jax.tree.map(lambda leaf: leaf + 0.1, state.model)
        errors = objective.errors(state.model, target, ENV, batch)
        return objective.reduce(*errors, lambda sums: sums), objective.loss(state.model, target, ENV, batch)

    reduced, loss = compile_quickly(both)(jax.random.key(0))
    np.testing.assert_allclose(reduced, loss, rtol=1e-6)
    assert loss > 1e-3


@pytest.mark.parametrize(
    ("objective", "step_size"),
    [
        (SubTrajectoryBalance(), 0.3),
        *slowly(
            "other objectives, each three programs of seconds; segments, which weigh unequally, guard the law quickly",
            *((objective, 0.3) for objective in OBJECTIVES[:5] if not isinstance(objective, SubTrajectoryBalance)),
            (TrajectoryBalance(), 1.0),
        ),
    ],
    ids=lambda value: str(value).split("(")[0],
)
def test_a_step_through_a_surrogate_is_that_of_vi(objective, step_size):
    """Same batch, same optimiser: the mean square of errors is half the square of errors under a weighted metric."""
    optimizer = optax.adam(0.05, eps=1e-3)  # a smaller one makes steps of rounding errors where gradients vanish
    made_with = made(objective, Surrogate(4, step_size), optimizer)

    def by_vi(before):
        batch, target, context = drawn(before), before.model, LossContext(reward=REWARD)

        def predict(model):
            return objective.errors(model, target, ENV, batch, context).error

        weight = objective.errors(target, target, ENV, batch, context).weight
        method = vi.surrogate(vi.forward(step_size), optimizer, 4, metric=lambda z: z * jnp.sqrt(2.0 * weight / weight.sum()))
        state = method.init(target, predict(target))._replace(inner=before.opt_state)
        model, _, told = method.step(predict, lambda z: z, target, state)
        return model, told.loss_before

    before = compile_quickly(made_with.init)(jax.random.key(1))
    after, info = compile_quickly(made_with.step)(before)
    model, loss = compile_quickly(by_vi)(before)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6), after.model, model)
    np.testing.assert_allclose(info.loss, loss, rtol=1e-5)


@pytest.mark.parametrize(
    "objective",
    [BellmanGeneralMellowmax(), *slowly("another objective; one with a target copy guards it", TrajectoryBalance())],
)
def test_one_step_at_full_size_is_plain_training(objective):
    ways = made(objective), made(objective, Surrogate(1, 1.0))
    one, two = compile_quickly(lambda key: [each.step(each.init(key))[0].model for each in ways])(jax.random.key(2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, two)


@pytest.mark.slow("trains twice; that a step is that of `narrows.vi` guards what is trained")
def test_more_inner_steps_learn_the_exact_law_from_fewer_objects():
    graph = enumerate_graph(ENV)
    objective = DetailedBalance()
    exact = solve(graph, np.asarray(REWARD(graph.terminal_states)), objective.operator)

    def distance(surrogate):
        training = made(objective, surrogate, adam(0.02), replay=Replay(capacity=512, batch_size=8))
        state, _ = run(training, training.init(jax.random.key(3)), 300, every=100)
        return total_variation(model_distribution(state.model, ENV, graph), exact.log_probs)

    plain, through = distance(None), distance(Surrogate(8))
    assert through < 0.06
    assert through < 0.6 * plain


def test_a_batch_of_nothing_changes_nothing():
    objective = TrajectoryBalance()
    training = trainer(ENV, tabular(objective), Nothing(), objective, adam(0.1), surrogate=Surrogate(3))
    before = training.init(jax.random.key(4))
    after, info = compile_quickly(training.step)(before)
    assert info.is_skipped
    jax.tree.map(np.testing.assert_array_equal, after.model, before.model)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="inner_steps must be at least 1"):
        Surrogate(0)
    with pytest.raises(ValueError, match="step_size must lie in"):
        Surrogate(2, 1.5)
    with pytest.raises(ValueError, match="SampledExpectedDetailedBalance is no mean of errors"):
        made(SampledExpectedDetailedBalance(), Surrogate())


JOB = """
[env]
name = "Hypergrid"
ndim = 2
side = 4
[reward]
name = "HypergridReward"
[policy]
name = "Tabular"
[objective]
name = "SoftQ"
[optimizer]
surrogate = {fields}
"""


def test_a_job_asks_for_it_in_one_line(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace("{fields}", "{ inner_steps = 7 }"))
    job = load_job(path)
    assert job.optimizer["surrogate"] == {"inner_steps": 7, "step_size": 1.0}
    path.write_text(dump_job(job))
    assert load_job(path) == job
    assert load_job(path, {"optimizer.surrogate.step_size": 0.5}).optimizer["surrogate"]["step_size"] == 0.5
    training = build(job).trainer(job)
    before = compile_quickly(training.init)(jax.random.key(0))
    after, info = compile_quickly(training.step)(before)
    assert np.isfinite(info.loss) and optax.tree.norm(optax.tree.sub(after.model, before.model)) > 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("5", "surrogate must be a table such as"),
        ("{ steps = 5 }", "unknown fields \\['steps'\\]. Did you mean 'step_size'\\? Known: inner_steps, step_size"),
        ("{ inner_steps = 2.5 }", "inner_steps: "),
        ("{ inner_steps = 0 }", "inner_steps must be at least 1"),
    ],
)
def test_a_job_that_asks_wrongly_is_told(fields, said, tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace("{fields}", fields))
    with pytest.raises(JobError, match=said):
        job = load_job(path)
        build(job).trainer(job)


def drawn(state):
    """Return the batch that a training step draws first, by the plain way."""
    batch = sample(jax.random.split(state.key)[0], state.model, ENV, 8)
    return batch._replace(log_reward=REWARD(batch.terminal))
