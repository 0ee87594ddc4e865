"""Soft RL beside the flow objectives: slow loops, exact laws, and the optimum where there is no law."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import logsumexp
from tests.reference.cases import case_of, quick_jit
from tests.reference.solution_model import random_model, table
from tests.slowly import slowly

from narrows.envs import Sequence, Subsets
from narrows.exact import enumerate_graph, model_distribution, solve
from narrows.metrics.exact import total_variation
from narrows.objectives import (
    BellmanGeneralMellowmax,
    DiscreteSAC,
    MunchausenDQN,
    ProximalPolicy,
    SoftQ,
    TrajectoryGeneralMellowmax,
)
from narrows.objectives.base import Passes
from narrows.objectives.ppo import generalised_advantages
from narrows.policies import Tabular, sizes_of
from narrows.policies.base import Critics, Model
from narrows.rewards.base import AbstractReward
from narrows.training import Surrogate, run, trainer
from narrows.training.replay import Replay
from narrows.trajectories import sample
from narrows.trajectories.behaviour import Behaviour

BETA = 4.0


class Measured(AbstractReward):
    """A score for each object of three letters of four."""

    scores: jax.Array

    def __call__(self, states):
        places = jnp.sum(jnp.asarray([16, 4, 1]) * states.tokens, axis=-1)
        return BETA * self.scores[places]


def _row(env, state):
    return sum(digit * env.num_values**place for place, digit in enumerate(np.asarray(env.observe(state)).tolist()))


def _walks(case):
    """Yield each step of a batch of trajectories as rows of tables: state, action, mask, child's row and mask, reward."""
    for walk, log_reward in zip(case.walks, np.asarray(case.batch.log_reward), strict=True):
        yield [
            (_row(case.env, state), int(action), np.asarray(case.env.action_mask(state)), float(log_reward))
            for state, action in zip(walk.states, walk.actions, strict=True)
        ]


def _log_softmax(logits, mask):
    return np.where(mask, logits - logsumexp(logits[mask]), -np.inf)


@pytest.mark.parametrize(("munchausen", "floor", "huber"), [(0.0, -100.0, None), (0.4, -100.0, 1.0), (0.4, -0.5, 0.3)])
def test_munchausen_against_slow_loops(munchausen, floor, huber):
    case = case_of(Subsets(3))
    objective = MunchausenDQN(2.0, munchausen, floor, huber=huber, dag_correction=False)
    with jax.enable_x64(True):
        model, target = (random_model(case.env, seed) for seed in (1, 2))
        loss = quick_jit(lambda model, target, batch: objective.loss(model, target, case.env, batch))(model, target, case.batch)
    logits, old = (np.asarray(table(each).forward_logits) for each in (model, target))
    tau = 1.0 / (2.0 * (1.0 - munchausen))
    terms = []
    for steps in _walks(case):
        for place, (row, action, mask, log_reward) in enumerate(steps):
            goal = log_reward
            if place + 1 < len(steps):
                next_row, _, next_mask, _ = steps[place + 1]
                goal = tau * logsumexp(old[next_row][next_mask])
            goal += munchausen * max(tau * _log_softmax(old[row], mask)[action], floor)
            error = abs(tau * logits[row, action] - goal)
            terms.append(error**2 if huber is None or error <= huber else 2 * huber * error - huber**2)
    assert np.allclose(loss, np.mean(terms), rtol=1e-12)


def test_munchausen_at_zero_is_soft_q_learning():
    case = case_of(Subsets(3))
    with jax.enable_x64(True):
        model, target = (random_model(case.env, seed) for seed in (1, 2))
        losses = [
            quick_jit(lambda model, target, batch, objective=objective: objective.loss(model, target, case.env, batch))(
                model, target, case.batch
            )
            for objective in (MunchausenDQN(3.0, 0.0, huber=None), BellmanGeneralMellowmax(3.0, 0.0, 0.0))
        ]
    assert np.allclose(*losses, rtol=1e-12)


def _slow_advantages(values, log_reward, length, trace):
    found = np.zeros(len(values))
    for start in range(length):
        for later in range(start, length):
            following = log_reward if later == length - 1 else values[later + 1]
            found[start] += trace ** (later - start) * (following - values[later])
    return found


def test_generalised_advantages_against_the_sum():
    generator = np.random.default_rng(0)
    lengths, values, log_reward = [1, 3, 5, 4], generator.normal(size=(5, 4)), generator.normal(size=4)
    is_valid = np.arange(5)[:, None] < np.asarray(lengths)
    with jax.enable_x64(True):
        for trace in (0.0, 0.95, 1.0):
            found = generalised_advantages(jnp.asarray(values), jnp.asarray(log_reward), jnp.asarray(is_valid), trace)
            for item, length in enumerate(lengths):
                assert np.allclose(found[:, item], _slow_advantages(values[:, item], log_reward[item], length, trace))


@pytest.mark.parametrize("clips_value", [True, False])
def test_ppo_against_slow_loops(clips_value):
    case = case_of(Subsets(3))
    objective = ProximalPolicy(clip=0.1, entropy_weight=0.3, value_weight=0.7, clips_value=clips_value)
    with jax.enable_x64(True):
        model, target = (random_model(case.env, seed) for seed in (1, 2))
        loss = quick_jit(lambda model, target, batch: objective.loss(model, target, case.env, batch))(model, target, case.batch)
    new, old = table(model), table(target)
    logits, old_logits = np.asarray(new.forward_logits), np.asarray(old.forward_logits)
    value, old_value = np.asarray(new.log_flow), np.asarray(old.log_flow)
    rows = []
    for steps in _walks(case):
        gains = _slow_advantages([old_value[row] for row, *_ in steps], steps[0][3], len(steps), 0.95)
        rows += [(*step, gain) for step, gain in zip(steps, gains, strict=True)]
    gains = np.asarray([row[-1] for row in rows])
    total = 0.0
    for row, action, mask, _, gain in rows:
        now, before = _log_softmax(logits[row], mask), _log_softmax(old_logits[row], mask)
        ratio, advantage = np.exp(now[action] - before[action]), (gain - gains.mean()) / gains.std()
        total -= min(ratio * advantage, np.clip(ratio, 0.9, 1.1) * advantage)
        total -= 0.3 * -np.sum(np.exp(now[mask]) * now[mask])
        goal = old_value[row] + gain
        near = old_value[row] + np.clip(value[row] - old_value[row], -0.1, 0.1)
        errors = ((value[row] - goal) ** 2, (near - goal) ** 2 if clips_value else 0.0)
        total += 0.7 / 2 * max(errors)
    assert np.allclose(loss, total / len(rows), rtol=1e-6)  # a deviation of 1e-8 is added to the advantages'


@pytest.mark.parametrize("tunes", [True, False])
def test_sac_against_slow_loops_and_who_learns_from_what(tunes):
    case = case_of(Subsets(3))
    objective = DiscreteSAC(temperature=0.5, tunes_temperature=tunes, target_entropy=0.6, dag_correction=False)

    def with_critics(first, kappa):
        networks = (random_model(case.env, first + 1).policy, random_model(case.env, first + 2).policy)
        made = random_model(case.env, first)
        return Model(made.policy, made.log_z, Critics(networks, jnp.log(jnp.asarray(kappa))))

    with jax.enable_x64(True):
        model, target = with_critics(1, 0.8), with_critics(11, 0.3)
        loss, gradient = quick_jit(
            lambda model, target, batch: jax.value_and_grad(lambda model: objective.loss(model, target, case.env, batch))(model)
        )(model, target, case.batch)

    def logits_of(policy):
        return np.asarray(table(Model(policy, jnp.zeros(()))).forward_logits)

    kappa = 0.8 if tunes else 0.5
    logits = logits_of(model.policy)
    assert model.critics is not None and target.critics is not None
    q, old_q = ([logits_of(network) for network in each.networks] for each in (model.critics, target.critics))
    total, slope, count = 0.0, 0.0, 0
    for steps in _walks(case):
        for place, (row, action, mask, log_reward) in enumerate(steps):
            goal = log_reward
            if place + 1 < len(steps):
                later, _, open_, _ = steps[place + 1]
                now = _log_softmax(logits[later], open_)[open_]
                goal = np.sum(np.exp(now) * (np.minimum(*old_q)[later][open_] - kappa * now))
            total += sum((each[row, action] - goal) ** 2 for each in q)
            now = _log_softmax(logits[row], mask)[mask]
            total += np.sum(np.exp(now) * (kappa * now - np.minimum(*q)[row][mask]))
            excess = -np.sum(np.exp(now) * now) - 0.6 * np.log(mask.sum())
            slope += kappa * excess
            count += 1
    assert np.allclose(loss, (total + (slope if tunes else 0.0)) / count, rtol=1e-12)
    # The temperature moves by the entropy's excess alone, and neither the actor nor it by the critics' errors.
    assert np.allclose(gradient.critics.log_temperature, slope / count if tunes else 0.0, atol=1e-12)
    leaves = [np.abs(leaf).max() for network in gradient.critics.networks for leaf in jax.tree.leaves(table_of(network))]
    assert max(leaves) > 0.0


def table_of(policy):
    return eqx.filter(policy, eqx.is_inexact_array)


@pytest.fixture(scope="module")
def truth():
    env = Sequence("ACGT", 3, 3)
    reward = Measured(jax.random.uniform(jax.random.key(3), (64,)))
    graph = enumerate_graph(env)
    return env, reward, graph, np.asarray(reward(graph.terminal_states), np.float64)


def _trained(truth, objective, steps, rate, batch_size, behaviour=None):
    env, reward, graph, _ = truth

    def make(key):
        return Tabular(objective.sizes(env), key=key)

    more = {} if behaviour is None else {"behaviour": behaviour}
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    one = trainer(env, make, reward, objective, optimizer, batch_size=batch_size, **more)
    state, _ = run(one, one.init(jax.random.key(0)), steps, every=steps)
    return state, model_distribution(state.model, env, graph)


@pytest.mark.parametrize(
    "objective",
    [
        MunchausenDQN(2.0, munchausen=0.9, target_period=20),
        *slowly(
            "trains four more; the losses against loops guard what is trained",
            SoftQ(),
            BellmanGeneralMellowmax(1.0, 0.0, 0.0, target_period=20),
            MunchausenDQN(target_period=20),
            DiscreteSAC(temperature=1.0, tunes_temperature=False, target_period=20),
        ),
    ],
    ids=["Munchausen, 0.9 at omega 2", "soft Q", "soft DQN", "Munchausen", "SAC"],
)
def test_training_reaches_the_exact_law(truth, objective):
    _, _, graph, log_reward = truth
    _, law = _trained(truth, objective, 1500, 0.05, 16)
    assert total_variation(law, solve(graph, log_reward, objective.operator).log_probs) < 0.05


@pytest.mark.slow("3,000 steps; the slope of the temperature against loops guards it quickly")
def test_sac_tunes_its_temperature_to_the_entropy_asked_for(truth):
    objective = DiscreteSAC(target_entropy=0.5, target_period=20)
    state, law = _trained(truth, objective, 3000, 0.02, 64)
    # Three letters of four: log 64 nats at most.
    assert -np.sum(np.exp(law) * law) / np.log(64) == pytest.approx(0.5, abs=0.05)
    assert state.model.critics is not None
    assert 0.05 < float(jnp.exp(state.model.critics.log_temperature)) < 0.8  # it began with 1


@pytest.mark.slow("1,000 steps; the loss against loops and the passes over a batch guard it quickly")
def test_ppo_reaches_the_best_object(truth):
    _, _, _, log_reward = truth
    objective = ProximalPolicy(epochs=2, minibatches=2)
    _, law = _trained(truth, objective, 1000, 0.02, 64, Behaviour(epsilon=0.02))
    assert np.argmax(law) == np.argmax(log_reward)
    assert np.exp(law.max()) > 0.9


def test_ppo_takes_its_passes_over_the_batch(truth):
    env, reward, _, _ = truth
    calls = []

    def counting(**settings):
        objective = ProximalPolicy(**settings)
        one = trainer(
            env,
            lambda key: Tabular(sizes_of(env, flow_head=True), key=key),
            reward,
            objective,
            optax.chain(optax.scale_by_schedule(lambda count: -1e-3)),
            batch_size=12,
        )
        state = one.init(jax.random.key(1))
        after, info = jax.jit(one.step)(state)
        calls.append(info.loss)
        return state, after, jax.tree.leaves(after.opt_state)[0]

    state, after, count = counting(epochs=3, minibatches=4)
    assert int(count) == 12  # steps of the optimiser in one of training
    assert np.all(np.asarray(after.target.policy.policy.forward_logits) == np.asarray(after.model.policy.policy.forward_logits))
    # With one part and one pass it is an ordinary step on the loss of the batch.
    state, after, count = counting(epochs=1, minibatches=1)

    @quick_jit
    def loss_of(state):
        batch = sample(jax.random.split(state.key)[0], state.model, env, 12)
        batch = batch._replace(log_reward=reward(batch.terminal))
        return ProximalPolicy(epochs=1, minibatches=1).loss(state.model, state.target, env, batch)

    expected = loss_of(state)
    assert int(count) == 1 and np.allclose(calls[-1], expected, rtol=1e-5)


def test_any_objective_can_go_through_a_batch_in_parts(truth):
    env, reward, _, _ = truth
    objective = TrajectoryGeneralMellowmax(1.0, 1.0, 0.5)

    def after(passes):
        one = trainer(
            env,
            lambda key: Tabular(sizes_of(env), key=key),
            reward,
            objective,
            optax.chain(optax.scale_by_schedule(lambda count: -1e-2)),
            batch_size=12,
            passes=passes,
        )
        state = one.init(jax.random.key(1))
        return state, *jax.jit(one.step)(state)

    start, end, _ = after(Passes(2, 3))
    plain, once = after(None)[1:], after(Passes(1, 1))[1:]
    assert int(jax.tree.leaves(end.opt_state)[0]) == 6

    @quick_jit
    def loss(model):
        batch = sample(jax.random.split(start.key)[0], start.model, env, 12)
        batch = batch._replace(log_reward=reward(batch.terminal))
        return objective.loss(model, model, env, batch)

    # Six small steps lower the loss of the batch they were taken on, further than one does.
    assert loss(end.model) < loss(plain[0].model) < loss(start.model)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(plain[1]), jax.tree.leaves(once[1]), strict=True))


def test_what_does_not_fit_is_refused(truth):
    env, reward, _, _ = truth
    make = lambda key: Tabular(sizes_of(env, flow_head=True), key=key)  # noqa: E731
    with pytest.raises(ValueError, match="in 4 parts, which 10 trajectories"):
        trainer(env, make, reward, ProximalPolicy(), optax.sgd(0.1), batch_size=10)
    with pytest.raises(ValueError, match="in 3 parts, which 8 trajectories"):
        trainer(env, make, reward, TrajectoryGeneralMellowmax(), optax.sgd(0.1), batch_size=8, passes=Passes(1, 3))
    with pytest.raises(ValueError, match="needs 2 in each of the 8 parts of a batch, got 1"):
        trainer(env, make, reward, TrajectoryGeneralMellowmax(), optax.sgd(0.1), batch_size=8, passes=Passes(1, 8))
    with pytest.raises(ValueError, match="epochs and minibatches must be at least 1"):
        trainer(env, make, reward, TrajectoryGeneralMellowmax(), optax.sgd(0.1), batch_size=8, passes=Passes(0, 1))
    with pytest.raises(ValueError, match="a surrogate takes several steps on each batch itself"):
        trainer(env, make, reward, SoftQ(), optax.sgd(0.1), batch_size=8, passes=Passes(2, 1), surrogate=Surrogate(2))
    with pytest.raises(ValueError, match="past objects would teach it wrong"):
        trainer(env, make, reward, ProximalPolicy(), optax.sgd(0.1), batch_size=8, replay=Replay(100, 8))
    with pytest.raises(ValueError, match="DiscreteSAC learns from critics"):
        trainer(env, make(jax.random.key(0)), reward, DiscreteSAC(), optax.sgd(0.1), batch_size=8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MunchausenDQN(munchausen=1.0), r"munchausen must lie in \[0, 1\)"),
        (lambda: MunchausenDQN(floor=0.0), "floor must be negative"),
        (lambda: MunchausenDQN(huber=0.0), "huber must be positive"),
        (lambda: MunchausenDQN(target_period=0), "target_period must be at least 1"),
        (lambda: ProximalPolicy(clip=0.0), "clip must be positive"),
        (lambda: ProximalPolicy(trace=1.1), r"trace must lie in \[0, 1\]"),
        (lambda: ProximalPolicy(entropy_weight=-1.0), "entropy_weight must be at least 0"),
        (lambda: ProximalPolicy(minibatches=0), "minibatches must be at least 1"),
        (lambda: DiscreteSAC(temperature=0.0), "temperature must be positive"),
        (lambda: DiscreteSAC(target_entropy=1.0), "target_entropy must lie between 0 and 1"),
        (lambda: DiscreteSAC(target_period=None), "target_period must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
