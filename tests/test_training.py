"""The loop: it learns exact laws, compiles once, continues bit for bit, and never trains on what is not finite."""

import equinox as eqx
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.reference.cases import case_of, compile_quickly, quick_jit
from tests.reference.doubles import Coin
from tests.reference.small_envs import Hops
from tests.slowly import slowly

from narrows.envs import Hypergrid, Sequence, Subsets
from narrows.exact import enumerate_graph, model_distribution, model_log_backward, solve
from narrows.metrics import total_variation
from narrows.objectives import (
    BellmanGeneralMellowmax,
    DetailedBalance,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrajectoryGeneralMellowmax,
    VarGrad,
)
from narrows.policies import MLP, Sizes, Tabular, Transformer, sizes_of
from narrows.policies.base import Scaled
from narrows.rewards.analytic import HypergridReward
from narrows.rewards.base import AbstractReward
from narrows.scorers.host import HostReward
from narrows.training import Given, adam, objects_of, run, trainer
from narrows.training.exploration import LocalSearch
from narrows.training.replay import Replay
from narrows.trajectories.behaviour import Behaviour


class TableReward(AbstractReward):
    """A number for each subset or each string, looked up by its digits."""

    numbers: jax.Array
    base: int = eqx.field(static=True)

    def __call__(self, states):
        digits = states.items if hasattr(states, "items") else states.tokens
        return self.numbers[jnp.sum(digits * self.base ** jnp.arange(digits.shape[-1]), axis=-1)]


def _subset_numbers(*missing):
    """Return a log-reward for each of the 8 subsets of 3, with something not finite in the stated places."""
    numbers = np.random.default_rng(0).normal(size=8).astype(np.float32)
    numbers[list(missing)] = np.resize([np.nan, np.inf, -np.inf], len(missing))
    return numbers


def _subset_reward(*missing):
    return TableReward(jnp.asarray(_subset_numbers(*missing)), 2)


def _tabular(env, *, backward=False):
    return Tabular(sizes_of(env, learned_backward=backward, flow_head=True), key=jax.random.key(0))


# tgm T6, stochastic training: 4 letters, length 3, uniform random Phi, beta = 4, batch 16, epsilon = 0.01, 6,000 updates.
@pytest.mark.slow(
    "6,000 steps; training on a grid below, and tests/objectives/test_balance.py on all objects, guard it quickly"
)
@pytest.mark.parametrize(("omega", "alpha", "q"), [(1, 1, 0), (1, 1, 0.5), (4, 1, 0.5)])
def test_t6_stochastic_training_reaches_the_dynamic_programme(omega, alpha, q):
    env, objective = Sequence("ACGU", 3, 3), TrajectoryGeneralMellowmax(omega, alpha, q)
    graph = enumerate_graph(env)
    numbers = 4.0 * np.random.default_rng(0).uniform(size=5**3).astype(np.float32)
    reward = TableReward(jnp.asarray(numbers), 5)
    solution = solve(graph, np.asarray(reward(graph.terminal_states)), objective.operator)
    # At a constant rate Adam settles within 0.01 to 0.05 of the law; the decay takes it the rest of the way.
    optimizer = optax.adam(optax.exponential_decay(0.05, transition_steps=6000, decay_rate=0.01))
    made = trainer(env, _tabular(env), reward, objective, optimizer, batch_size=16, behaviour=Behaviour(epsilon=0.01))
    state, _ = run(made, made.init(jax.random.key(0)), 6000, every=6000)
    assert total_variation(model_distribution(state.model, env, graph), solution.log_probs) < 0.01
    batch = case_of(env).batch._replace(log_reward=reward(case_of(env).batch.terminal))
    rho = quick_jit(lambda model: objective.residuals(model, env, batch).error[:, 0])(state.model)
    law = np.exp(model_distribution(state.model, env, graph))
    weights = law[np.searchsorted(graph.terminals, graph.index(batch.terminal))]
    assert abs(np.average(rho, weights=weights) + solution.root_value) < 0.01


@pytest.mark.parametrize(
    ("objective", "backward"),
    [
        (TrajectoryBalance(), True),
        *slowly(
            "trains three more; a learned backward policy and log Z guard the loop quickly, and loops guard each loss",
            *((TrajectoryBalance(), False), (DetailedBalance(), False), (SubTrajectoryBalance(), False)),
        ),
    ],
    ids=repr,
)
def test_hypergrid_8x8(objective, backward):
    env = Hypergrid(2, 8)
    graph, reward = enumerate_graph(env), HypergridReward(env)
    made = trainer(
        env,
        _tabular(env, backward=backward),
        reward,
        objective,
        adam(learning_rate=0.05),
        batch_size=64,
        behaviour=Behaviour(epsilon=0.05),
    )
    state, _ = run(made, made.init(jax.random.key(0)), 2000, every=2000)
    log_reward = np.asarray(reward(graph.terminal_states))
    exact = solve(graph, log_reward, objective.operator)
    assert total_variation(model_distribution(state.model, env, graph), exact.log_probs) < 0.05
    if isinstance(objective, TrajectoryBalance):
        assert abs(float(state.model.log_z) - exact.root_value) < 0.05
    if backward:  # what was learned is not the uniform backward policy, and the law is right nevertheless
        uniform = np.where(graph.children >= 0, -np.log(np.maximum(graph.num_parents[graph.children], 1)), 0.0)
        assert np.max(np.abs(model_log_backward(state.model, env, graph) - uniform)) > 0.1


_num_compiled = 0


def _count(event: str, duration_secs: float, **_: str | int) -> None:
    global _num_compiled
    _num_compiled += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


@pytest.mark.parametrize(
    "is_host", [False, *slowly("compiles another loop, with a memory; the fused one guards the rest", True)]
)
def test_second_chunk_compiles_nothing(is_host):
    env = Subsets(3)
    score = HostReward(lambda texts: [float(text.count("1")) for text in texts], env)
    objective = BellmanGeneralMellowmax(target_period=2)
    extras = {
        "replay": Replay(8, 4, prioritised=True, keep="best"),
        "given": Given(env.from_text(["101"]), jnp.ones(1), 2),
    }
    extras |= {"exploration": LocalSearch(accept="metropolis")} if is_host else {}
    made = trainer(env, _tabular(env), score if is_host else _subset_reward(), objective, adam(), batch_size=4, **extras)
    counts = []

    def observe(chunk):
        counts.append(_num_compiled)
        return {}

    before = _num_compiled
    run(made, made.init(jax.random.key(0)), 8, every=2, observers=[observe])
    assert counts[0] > before  # the counter counts
    assert len(counts) == 4 and len(set(counts)) == 1, counts


class Constant(AbstractReward):
    """Zero for every object."""

    def __call__(self, states):
        return jnp.zeros(jax.tree.leaves(states)[0].shape[0])


@pytest.mark.parametrize(
    ("env", "make", "objective"),
    [
        (Hypergrid(2, 3), MLP, BellmanGeneralMellowmax()),
        *slowly(
            "traces six more; an objective with a target copy guards the law quickly",
            (Subsets(3), Tabular, TrajectoryBalance()),
            (Subsets(3), Tabular, DetailedBalance()),
            (Subsets(3), Tabular, SubTrajectoryBalance()),
            (Subsets(3), Tabular, VarGrad()),
            (Subsets(3), Tabular, TrajectoryGeneralMellowmax()),
            (Sequence("AB", 1, 3), Transformer, SubTrajectoryBalance()),
        ),
    ],
    ids=repr,
)
def test_a_step_returns_what_it_takes(env, make, objective):
    """Same shapes, same dtypes and no weak type: what `jit` and `scan` and a checkpoint ask for."""
    is_trained = objective.needs.trains_backward and make is not Transformer
    policy = make(sizes_of(env, learned_backward=is_trained, flow_head=True), key=jax.random.key(0))
    made = trainer(env, policy, Constant(), objective, adam(weight_decay=0.1), batch_size=4, replay=Replay(8, 2))
    state = jax.eval_shape(made.init, jax.random.key(0))
    after, info = jax.eval_shape(made.step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (one.shape, one.dtype, one.weak_type) == (two.shape, two.dtype, two.weak_type)
        assert not one.weak_type
    assert info.loss.shape == () and info.log_reward.shape == (4,) and info.is_skipped.dtype == bool


def _leaves(state):
    """Return every number of a state, the key's too."""
    return [
        np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        for leaf in jax.tree.leaves(state)
    ]


def _equal(one, two):
    return all(a.tobytes() == b.tobytes() for a, b in zip(_leaves(one), _leaves(two), strict=True))


class Collect:
    """An observer that keeps the chunks, and their numbers of steps as a column."""

    def __init__(self):
        self.chunks = []

    def __call__(self, chunk):
        self.chunks.append(chunk._replace(state=None))  # whose buffers the next chunk takes over
        return {"num_steps": float(chunk.num_steps)}

    @property
    def infos(self):
        return [chunk.info for chunk in self.chunks]


def test_chunks_and_pauses_change_nothing():
    env = Subsets(3)
    objective = TrajectoryGeneralMellowmax(1.0, 1.0, 0.5)
    made = trainer(env, _tabular(env), _subset_reward(), objective, adam(0.01), batch_size=4, replay=Replay(8, 4))
    seen = Collect()
    whole, history = run(made, made.init(jax.random.key(0)), 4, every=2)
    first, early = run(made, made.init(jax.random.key(0)), 1, every=2)
    second, late = run(made, first, 4, every=2, observers=[seen])
    assert _equal(whole, second) and int(second.step) == 4
    assert [row["step"] for row in history] == [2, 4] and [row["step"] for row in early] == [1]
    assert late == [  # chunks end at multiples of `every`, wherever a run began
        {"step": 2, "loss": late[0]["loss"], "num_steps": 1.0},
        {"step": 4, "loss": history[1]["loss"], "num_steps": 2.0},
    ]
    # What was sampled is named in order.
    texts, info = list(objects_of(seen.infos[1], env)), seen.infos[1]
    rows = np.asarray(info.terminal.items).reshape(8, 3)
    assert texts == ["".join(map(str, row)) for row in rows.tolist()]
    assert np.allclose(info.log_reward.reshape(8), _subset_numbers()[rows @ np.array([1, 2, 4])])


def test_stopping_between_chunks():
    env = Subsets(3)
    made = trainer(env, _tabular(env), _subset_reward(), VarGrad(), adam(), batch_size=2)
    answers = iter([False, False, True])
    state, history = run(made, made.init(jax.random.key(0)), 100, every=2, should_stop=lambda: next(answers))
    assert int(state.step) == 4 and len(history) == 2
    again, nothing = run(made, state, 4)
    assert nothing == [] and int(again.step) == 4
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        run(made, state, 8, every=0)


def test_a_host_reward_trains_like_a_fused_one():
    env, calls, seen, states = Subsets(3), [], Collect(), []

    def score(texts):
        calls.append(len(texts))
        return [float(_subset_numbers()[int(text[::-1], 2)]) / 2.0 for text in texts]

    for reward in (_subset_reward(), HostReward(score, env, beta=2.0)):
        # Adam would enlarge rounding to whole steps, where a gradient is nothing else.
        made = trainer(env, _tabular(env), reward, VarGrad(), optax.sgd(0.05), batch_size=4)
        states.append(run(made, made.init(jax.random.key(0)), 6, every=3, observers=[seen])[0])
        assert made.is_pure == (not calls)
    assert calls == [4] * 6
    # The host's reference is its first batch's; the other one's is zero.
    for one, two in zip(_leaves(states[0]), _leaves(states[1]._replace(reference=None)), strict=True):
        assert np.allclose(one, two, atol=1e-5)
    fused, host = seen.infos[0], seen.infos[2]
    assert host.log_reward.shape == (3, 4) and np.array_equal(fused.log_reward, host.log_reward)


def test_rewards_that_are_not_finite_are_set_aside():
    """Three of eight objects cannot be scored: the rest are learned, and none of the three is stored or counted."""
    env, seen, reward = Subsets(3), Collect(), _subset_reward(1, 4, 6)
    made = trainer(
        env,
        _tabular(env),
        reward,
        TrajectoryBalance(),
        adam(0.02),
        batch_size=16,
        behaviour=Behaviour(epsilon=0.2),
        replay=Replay(64, 8),
    )
    state, _ = run(made, made.init(jax.random.key(0)), 1500, every=500, observers=[seen])
    for info in seen.infos:  # they were met all along, and are reported as they are
        assert 0.05 < np.mean(~np.isfinite(info.log_reward)) < 0.9
        assert not np.any(info.is_skipped) and np.all(np.isfinite(info.loss))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.model))
    assert state.buffer is not None and np.all(np.isfinite(state.buffer.trajectories.log_reward))
    graph = enumerate_graph(env)
    log_reward = np.asarray(reward(graph.terminal_states))
    is_scored = np.isfinite(log_reward)
    law, target = np.exp(model_distribution(state.model, env, graph))[is_scored], np.exp(log_reward[is_scored])
    # Balance is asked of the scored objects' trajectories alone, and so their ratios are the target's.
    assert np.max(np.abs(law / law.sum() - target / target.sum())) < 0.05


def test_a_batch_without_any_reward_changes_no_parameter():
    env = Subsets(3)
    made = trainer(
        env, _tabular(env), _subset_reward(*range(8)), TrajectoryBalance(), adam(), batch_size=4, replay=Replay(8, 4)
    )
    # Momentum of earlier steps must not move anything either.
    start = made.init(jax.random.key(0))
    state = start._replace(opt_state=jax.tree.map(jnp.ones_like, start.opt_state))
    after, info = compile_quickly(made.step)(state)
    assert info.loss == 0.0 and info.is_skipped
    assert all(np.array_equal(a, b) for a, b in zip(_leaves(state.model), _leaves(after.model), strict=True))
    assert after.buffer is not None and after.buffer.size == 0


def test_a_loss_that_is_not_finite_changes_nothing():
    env = Subsets(3)
    huge = TableReward(jnp.full(8, 1e30), 2)  # finite, and its square is not
    made = trainer(env, _tabular(env), huge, DetailedBalance(), adam(), batch_size=4)
    state = made.init(jax.random.key(0))
    after, info = compile_quickly(made.step)(state)
    assert np.isinf(info.loss) and info.is_skipped
    assert int(after.step) == 1 and not _equal(state.key, after.key)
    assert _equal((state.model, state.opt_state), (after.model, after.opt_state))


def test_given_objects_alone_teach_the_target():
    """Every fresh object goes without a reward, so all that is learned comes from backward walks."""
    env = Subsets(3)
    graph, log_reward = enumerate_graph(env), np.random.default_rng(1).normal(size=8).astype(np.float32)
    given, nothing = Given(graph.terminal_states, jnp.asarray(log_reward), 32), TableReward(jnp.full(8, jnp.nan), 2)
    made = trainer(env, _tabular(env), nothing, TrajectoryBalance(), adam(0.02), batch_size=1, given=given)
    state, _ = run(made, made.init(jax.random.key(0)), 1000, every=1000)
    law = solve(graph, log_reward, TrajectoryBalance().operator).log_probs
    assert total_variation(model_distribution(state.model, env, graph), law) < 0.01


@pytest.mark.slow("1,500 steps; tests/test_buffers.py guards what is drawn, and given objects teach the target quickly")
def test_replay_learns_the_target_from_the_past():
    env = Subsets(3)
    graph = enumerate_graph(env)
    objective = TrajectoryGeneralMellowmax(2.0, 1.0, 0.5)
    replay = Replay(256, 32, prioritised=True)
    made = trainer(env, _tabular(env), _subset_reward(), objective, adam(0.02), batch_size=4, replay=replay)
    state, _ = run(made, made.init(jax.random.key(0)), 1500, every=1500)
    law = solve(graph, np.asarray(_subset_reward()(graph.terminal_states)), objective.operator).log_probs
    assert total_variation(model_distribution(state.model, env, graph), law) < 0.02
    assert state.buffer is not None and state.buffer.size == 256


def test_target_copy_is_renewed_on_time():
    env = Subsets(3)
    objective = BellmanGeneralMellowmax(target_period=3)
    made = trainer(env, _tabular(env), _subset_reward(), objective, adam(), batch_size=4)
    step, state = compile_quickly(made.step), made.init(jax.random.key(0))
    models = [state.model]
    for number in range(1, 8):
        state, _ = step(state)
        models.append(state.model)
        assert _equal(state.target, models[number - number % 3])
        assert not _equal(models[number], models[number - 1])


def test_networks_act_at_the_scale_of_the_operator():
    """Parametrisation P1 (tgm 3.2): the network's outputs are Q, the policy's logits `(q alpha + omega) Q`."""
    env = Subsets(3)
    policy = Tabular(sizes_of(env), 1.0, key=jax.random.key(3))
    made = trainer(env, policy, _subset_reward(), TrajectoryGeneralMellowmax(4.0, 2.0, 0.5), adam(), batch_size=4)
    model = made.init(jax.random.key(0)).model
    assert isinstance(model.policy, Scaled) and model.policy.scale == 5.0
    output, _ = model.policy.step((), jnp.array([1, 0, 1]))
    assert np.allclose(output.forward_logits, 5.0 * policy.forward_logits[5], rtol=1e-6)


def test_the_callers_network_outlives_training():
    env = Subsets(3)
    policy = _tabular(env)
    made = trainer(env, policy, _subset_reward(), VarGrad(), adam(), batch_size=2)
    run(made, made.init(jax.random.key(0)), 2, every=2)
    assert np.all(np.asarray(policy.forward_logits) == 0.0)  # neither deleted nor written
    fresh = trainer(env, lambda key: MLP(Sizes(3, 2, 4), 4, 1, key=key), _subset_reward(), VarGrad(), adam(), batch_size=2)
    one, two = fresh.init(jax.random.key(0)).model, fresh.init(jax.random.key(1)).model
    assert not _equal(one, two) and _equal(one, fresh.init(jax.random.key(0)).model)


def test_adam_has_two_rates():
    env = Subsets(3)
    made = trainer(env, _tabular(env), _subset_reward(), TrajectoryBalance(), adam(1e-3, 0.5), batch_size=8)
    state = made.init(jax.random.key(0))
    after, _ = compile_quickly(made.step)(state)
    assert abs(abs(float(after.model.log_z)) - 0.5) < 1e-3  # Adam's first step is the rate itself
    moved = np.abs(np.asarray(after.model.policy.policy.forward_logits))
    assert 0.0 < moved.max() < 1.1e-3
    for make, message in [
        (lambda: adam(learning_rate=0.0), "learning_rate must be positive"),
        (lambda: adam(log_z_learning_rate=float("inf")), "log_z_learning_rate must be positive"),
        (lambda: adam(clip=-1.0), "clip must be positive"),
        (lambda: adam(clip=float("nan")), "clip must be positive"),
        (lambda: adam(weight_decay=-1.0), "weight_decay must be at least 0"),
        (lambda: adam(decay_steps=0), "decay_steps must be at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_decayed_rates_end_at_zero():
    env = Subsets(3)
    made = trainer(env, _tabular(env), _subset_reward(), TrajectoryBalance(), adam(1e-2, 0.5, decay_steps=3), batch_size=8)
    state = run(made, made.init(jax.random.key(0)), 3, every=3)[0]
    before = jax.tree.map(np.asarray, state.model)
    assert _equal(before, run(made, state, 6, every=3)[0].model)


def test_what_does_not_fit_is_refused():
    env = Subsets(3)
    headless = Tabular(Sizes(3, 2, 4), key=jax.random.key(0))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        trainer(env, headless, _subset_reward(), VarGrad(), optax.sgd(0.1), batch_size=0)
    for objective in (DetailedBalance(), SubTrajectoryBalance()):
        with pytest.raises(ValueError, match=f"{type(objective).__name__} needs a policy with a flow head"):
            trainer(env, headless, _subset_reward(), objective, adam())
    with pytest.raises(ValueError, match="BellmanGeneralMellowmax as set here never trains a backward policy"):
        trainer(env, _tabular(env, backward=True), _subset_reward(), BellmanGeneralMellowmax(), adam())
    with pytest.raises(ValueError, match="never trains a backward policy"):
        trainer(env, _tabular(env, backward=True), _subset_reward(), TrajectoryBalance(dag_correction=False), adam())
    for variance in (VarGrad(), TrajectoryGeneralMellowmax()):
        with pytest.raises(ValueError, match="needs 2 a step, got 1. Raise batch_size"):
            trainer(env, headless, _subset_reward(), variance, adam(), batch_size=1)
    walk = Hops(4)
    given = Given(walk.from_text(["2"]), jnp.zeros(1), 1)
    policy = Tabular(sizes_of(walk), key=jax.random.key(0))

    class Position(AbstractReward):
        def __call__(self, states):
            return states[:, 0].astype(jnp.float32)

    with pytest.raises(ValueError, match="can step back, got Hops"):
        trainer(walk, policy, Position(), VarGrad(), adam(), batch_size=2, given=given)


def test_turns_that_no_objective_accounts_for_are_refused():
    env = Coin((0.5, 0.5, 0.0))
    policy = Tabular(sizes_of(env), key=jax.random.key(0))
    with pytest.raises(ValueError, match="Coin has chance turns, which VarGrad .* ExpectedDetailedBalance"):
        trainer(env, policy, Constant(), VarGrad(), adam(), batch_size=2)
