"""The benchmark on MuJoCo: search, batches, curves and choices by hand, and all of it small, with and without simulators."""

import importlib.util
import math

import jax
import numpy as np
import pytest
from benchmarks._vi import mujoco, mujoco_data, mujoco_training
from benchmarks._vi.mujoco import Crossing, Plan, Study, crossing, mujoco_rows, study_rows
from benchmarks._vi.mujoco_data import LinearPolicy, Search, Task, simulated
from benchmarks._vi.mujoco_training import TD0, WINDOW, Curve, Effort, Method, Setting, batches, prepared, trained
from benchmarks.harness.rows import Context

from narrows.vi import td
from narrows.vi.td.rollouts import Returns

CONTEXT = Context(True, None, "python -m benchmarks vi", {"python": "3.11.0"}, "2 cores, Linux x86_64")
EFFORT = Effort((16,), 32, num_gradients=200, num_looks=20, discount=0.5)
STUDY = Study("1x16", ("Line",), (Method(5),), rates=(1e-3, 1e-2), etas=(1.0,), effort=EFFORT, seeds=(0, 1))
TINY = Task("HalfCheetah-v5", Search(1, 2, 1, 0.1, 0.05, 10, 0.0, 0.2), 200, 6, 3, 20, 0.9)


def walk(num=2000, seed=0):
    """Points that forget where they were: the value is `x_0 + 0.5 * 0.5 x_0 + ...`, the reward is their first coordinate."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(num, 3)).astype(np.float32)
    after = (0.5 * first + rng.normal(size=(num, 3))).astype(np.float32)
    transitions = td.Transitions(first, first[:, 0] + 1.0, after, np.zeros(num, bool))
    points = rng.normal(size=(50, 3))
    # v = a x_0 + b with a = 1 + 0.25 a and b = 1 + 0.5 b.
    value = 4.0 / 3.0 * points[:, 0] + 2.0
    return transitions, Returns(points, value[:, None] + np.array([-0.5, 0.5]))


def curve(errors, per_look=10):
    looks = np.arange(len(errors))
    return Curve(looks * per_look * 4, looks * per_look, looks * 0.5, np.array(errors, float))


# The search.


def test_the_policy_is_linear_within_its_bounds():
    rng = np.random.default_rng(0)
    weights, mean, spread = rng.normal(size=(3, 2)), rng.normal(size=3), rng.uniform(1, 2, 3)
    seen = rng.normal(size=(5, 3))
    expected = [[sum((row[k] - mean[k]) / spread[k] * weights[k, j] for k in range(3)) for j in range(2)] for row in seen]
    got = LinearPolicy(weights, mean, spread, 0.0)(seen, rng)
    np.testing.assert_allclose(got, np.clip(expected, -1, 1))
    noisy = LinearPolicy(0.0 * weights, mean, spread, 0.2)(np.zeros((20_000, 3)), rng)
    assert noisy.std() == pytest.approx(0.2, rel=0.02) and np.abs(noisy).max() <= 1.0


def test_a_step_follows_the_best_directions(tmp_path):
    rng = np.random.default_rng(1)
    search, trials, returns = Search(1, 4, 2, 0.1, 0.3, 5, 0.0, 0.2), rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 2))
    policy = LinearPolicy(np.ones((3, 2)), np.zeros(3), np.ones(3), 0.0)
    best = sorted(range(4), key=lambda place: -max(returns[place]))[:2]
    deviation = np.std([returns[place, side] for place in best for side in range(2)])
    expected = policy.weights + 0.3 / (2 * deviation) * sum((returns[k, 0] - returns[k, 1]) * trials[k] for k in best)
    moved = mujoco_data._moved(policy, trials, returns, search)
    np.testing.assert_allclose(moved.weights, expected)
    mujoco_data.save(tmp_path / "policy.npz", moved)
    for left, right in zip(mujoco_data.load(tmp_path / "policy.npz"), moved, strict=True):
        np.testing.assert_array_equal(left, right)


# Data.


def test_batches_are_fresh_until_the_data_are_used_up():
    found = batches(100, 32, 8, seed=0)
    assert found.shape == (8, 32)
    for part in (found[:3], found[3:6]):
        assert len(np.unique(part)) == 96, "three batches a pass, nothing twice"
    assert not np.array_equal(found[:3], found[3:6]) and not np.array_equal(found, batches(100, 32, 8, seed=1))
    with pytest.raises(ValueError, match="a batch of 32 needs as many transitions, got 31"):
        batches(31, 32, 1, seed=0)


def test_scaling_changes_no_relative_error():
    transitions, truth = walk()
    data = prepared(transitions, truth, 0.5)
    scale = 0.5 / np.sqrt(np.mean(transitions.reward**2))
    np.testing.assert_allclose(data.transitions.reward, scale * transitions.reward, rtol=1e-6)
    np.testing.assert_allclose(data.value, scale * truth.value)
    assert data.spread == pytest.approx(scale * truth.returns.std())
    observed = np.asarray(data.transitions.observation)
    np.testing.assert_allclose(observed.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(observed.std(0), 1.0, atol=1e-4)
    # The same map for all observations.
    mean, spread = transitions.observation.mean(0), transitions.observation.std(0)
    np.testing.assert_allclose(data.observation, (truth.observation - mean) / spread, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(data.transitions.next_observation, (transitions.next_observation - mean) / spread, atol=1e-5)
    # A network that says 0 everywhere is as wrong as the values are large.
    nothing = jax.tree.map(np.zeros_like, mujoco_training.network(jax.random.key(0), (3, 4, 1)))
    expected = np.sqrt(np.mean(truth.value**2)) / truth.returns.std()
    assert mujoco_training.error_of(nothing, data) == pytest.approx(expected, rel=1e-5)


def test_what_is_simulated_is_kept(tmp_path, monkeypatch):
    calls = []

    def made(name, value):
        return lambda *_: calls.append(name) or value

    transitions, truth = walk(50)
    policy = LinearPolicy(np.ones((3, 2)), np.zeros(3), np.ones(3), 0.1)
    monkeypatch.setattr(mujoco_data, "_policy", made("policy", policy))
    monkeypatch.setattr(mujoco_data, "_transitions", made("transitions", transitions))
    monkeypatch.setattr(mujoco_data, "_truth", made("truth", truth))
    first = simulated(TINY, tmp_path)
    assert calls == ["policy", "transitions", "truth"]
    again = simulated(TINY, tmp_path)
    assert len(calls) == 3
    np.testing.assert_array_equal(first.transitions.reward, again.transitions.reward)
    np.testing.assert_array_equal(first.truth.returns, again.truth.returns)
    simulated(TINY._replace(num_rollouts=4), tmp_path)
    assert len(calls) == 6, "other settings are another task"
    simulated(TINY._replace(search=TINY.search._replace(noise=0.3)), tmp_path)
    assert len(calls) == 9 and len(list(tmp_path.iterdir())) == 3


# Curves.


def test_an_error_is_reached_when_its_average_is():
    one = curve([9, 9, 1, 9, 9, 3, 2, 1, 2, 1, 1, 1])
    means = [np.mean(one.error[place + 1 - WINDOW : place + 1]) for place in range(WINDOW - 1, 12)]
    np.testing.assert_allclose(one.smooth[WINDOW - 1 :], means)
    assert np.all(np.isinf(one.smooth[: WINDOW - 1]))
    assert one.final == pytest.approx(1.2)
    assert one.reaches(1.8) == 9 and one.reaches(1.1) is None, "a single look at 1 is no success"
    assert crossing(one, 1.8) == Crossing(True, 360, 90, 4.5)
    assert crossing(one, 1.1) == Crossing(False, 440, 110, 5.5)
    assert one.until(90).final == pytest.approx(1.8) and len(one.until(95).error) == 10
    assert curve([1, 1, 1, 1, 1, np.nan]).final == math.inf and curve([1.0, 2.0]).final == math.inf


def test_one_inner_step_is_td0():
    data = prepared(*walk(), 0.5)
    setting = Setting(1e-2)
    usual, one = (trained(method, setting, data, EFFORT, 3) for method in (TD0, Method(1)))
    np.testing.assert_allclose(one.error, usual.error, rtol=1e-3)
    np.testing.assert_array_equal(one.transitions, usual.transitions)
    assert usual.transitions[-1] == 200 * 32 and usual.gradients[-1] == 200 and len(usual.error) == 21
    assert np.all(np.diff(usual.seconds) > 0) and usual.error[-1] < 0.5 * usual.error[0]


def test_inner_steps_draw_fewer_transitions_and_a_run_stops_where_asked():
    data = prepared(*walk(), 0.5)
    five = trained(Method(5), Setting(1e-2), data, EFFORT, 3)
    assert five.gradients[-1] == 200 and five.transitions[-1] == 40 * 32
    early = trained(Method(5), Setting(1e-2), data, EFFORT, 3, until=1.05 * five.final)
    assert early.smooth[-1] <= 1.05 * five.final and np.all(early.smooth[:-1] > 1.05 * five.final)
    np.testing.assert_allclose(early.error, five.error[: len(early.error)], rtol=1e-5)
    later = trained(Method(5), Setting(1e-2), data, EFFORT, 3, until=10.0, at_least=150)
    assert later.gradients[-1] == 150
    never = trained(Method(5), Setting(1e-2), data, EFFORT, 3, until=0.0, at_most=400)
    assert never.gradients[-1] == 400


# Choices and rows.


def test_settings_are_chosen_on_a_seed_that_is_not_reported(monkeypatch):
    asked = []
    finals = {1e-3: 2.0, 1e-2: 1.0}
    study = STUDY._replace(etas=(1.0, 0.3))

    def made_up(method, setting, data, effort, seed, *, until=None, at_least=0, at_most=None):
        asked.append((method, setting, seed))
        if method == TD0:
            return curve([5.0] * 10 + [finals[setting.learning_rate]] * 10)
        # Slow, a miss, fast, and faster but never below.
        lengths = {(1e-3, 1.0): 15, (1e-2, 1.0): None, (1e-3, 0.3): 7, (1e-2, 0.3): None}
        length = lengths[setting.learning_rate, setting.step_size]
        return curve([5.0] * 3 + [1.2] * 17) if length is None else curve([5.0] * (length - 5) + [0.9] * 10)

    monkeypatch.setattr(mujoco, "trained", made_up)
    usual, five = mujoco.measured(study, data=None, tuning_seed=100)  # pyright: ignore[reportArgumentType] (made up)
    assert usual.setting == Setting(1e-2) and five.setting == Setting(1e-3, 0.3)
    tuning = [seed for _, _, seed in asked[:6]]
    assert tuning == [100] * 6 and {seed for _, _, seed in asked[6:]} == {0, 1}
    assert [(method, seed) for method, _, seed in asked[6:]] == [(TD0, 0), (Method(5), 0), (TD0, 1), (Method(5), 1)]


def test_rows_compare_with_td0_on_the_same_seed(monkeypatch):
    def made_up(method, setting, data, effort, seed, *, until=None, at_least=0, at_most=None):
        if method == TD0:
            return curve([5.0] * 16 + [1.0] * 5)
        # The first seed gets there after 7 looks, each of a fifth of the transitions; the second never does.
        errors = [1.0] * 8 + [0.5] * 13 if seed == 0 else [5.0] * 41
        one = curve(errors)
        return one._replace(transitions=one.transitions // 5)

    monkeypatch.setattr(mujoco, "trained", made_up)
    study = STUDY._replace(rates=(1e-3,))
    rows = {(row.case, row.metric): row for row in study_rows(CONTEXT, "vi/x", study, None, 100)}  # pyright: ignore[reportArgumentType] (made up)
    usual, five = "vi/x/TD(0)", "vi/x/surrogate, m = 5"
    assert rows[usual, mujoco.TRANSITIONS].value == 20 * 40 and rows[usual, mujoco.REACHED].value == 2
    assert (usual, mujoco.SAVED) not in rows
    reached = rows[five, mujoco.TRANSITIONS]
    assert (reached.low, reached.high) == (4 * 8, 40 * 8) and reached.against == "TD(0)"
    assert rows[five, mujoco.REACHED].value == 1
    saved = rows[five, mujoco.SAVED]
    assert (saved.low, saved.high, saved.target, saved.met) == (0.0, 25.0, ">= 3", False)
    faster = rows[five, mujoco.FASTER]
    assert (faster.low, faster.high, faster.target, faster.met) == (0.0, 5.0, "> 1", False)
    # After as many gradient steps as TD(0) took, not at the end of the longer run.
    error = rows[five, mujoco.ERROR]
    assert (error.low, error.high) == (0.5, 5.0)


def test_td0_that_diverges_is_no_measure(monkeypatch):
    monkeypatch.setattr(mujoco, "trained", lambda *_, **__: curve([1.0] * 5 + [np.nan]))
    with pytest.raises(ValueError, match="TD\\(0\\) diverged"):
        list(study_rows(CONTEXT, "vi/x", STUDY, None, 100))  # pyright: ignore[reportArgumentType] (made up)


@pytest.mark.slow("trains a dozen networks; rows from made-up curves guard its arithmetic")
def test_a_study_on_data_without_a_simulator():
    rows = list(study_rows(CONTEXT, "vi/mujoco/Line/1x16", STUDY._replace(rates=(1e-2,)), prepared(*walk(), 0.5), 100))
    by_metric = {(row.case.rsplit("/", 1)[1], row.metric): row for row in rows}
    assert {method for method, _ in by_metric} == {"TD(0)", "surrogate, m = 5"}
    assert by_metric["TD(0)", mujoco.REACHED].value == 2
    assert by_metric["TD(0)", mujoco.ERROR].value < 0.5
    saved = by_metric["surrogate, m = 5", mujoco.SAVED]
    assert saved.target == ">= 3" and saved.seeds == (0, 1)
    assert all(row.case.startswith("vi/mujoco/Line/1x16/") for row in rows)


def test_the_plans_keep_to_what_was_asked():
    for plan in (mujoco.FULL, mujoco.QUICK):
        names = {task.environment_id for task in plan.tasks}
        assert all(set(study.tasks) <= names and plan.tuning_seed not in study.seeds for study in plan.studies)
    for task in mujoco.FULL.tasks:
        assert task.discount == 0.99 and task.num_states >= 200 and task.num_rollouts >= 16 and task.remaining < 0.02
    assert all(len(study.seeds) >= 5 for study in mujoco.FULL.studies if len(study.effort.hidden) == 2)


@pytest.mark.slow("simulates; what is kept and found again is guarded with made-up data")
@pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="MuJoCo is missing: pip install 'narrows[mujoco]'")
def test_the_whole_benchmark_small_and_again_without_simulating(tmp_path, monkeypatch):
    pytest.importorskip("gymnasium", reason="gymnasium is missing: pip install 'narrows[mujoco]'")
    monkeypatch.setattr(mujoco_data.os, "sched_getaffinity", lambda _: {0})
    study = STUDY._replace(tasks=("HalfCheetah-v5",), rates=(1e-2,), seeds=(0,), effort=EFFORT._replace(discount=0.9))
    plan = Plan((TINY,), (study,), 100)
    rows = list(mujoco_rows(CONTEXT, plan, tmp_path))
    truth = {row.metric: row.value for row in rows if row.case == "vi/mujoco/HalfCheetah-v5/truth"}
    assert truth[mujoco.REMAINING] == pytest.approx(0.9**20, rel=1e-4) and truth[mujoco.SHARE] == 0.0
    assert any(row.case == "vi/mujoco/HalfCheetah-v5/1x16/surrogate, m = 5" for row in rows)
    monkeypatch.setattr(mujoco_data.rollouts, "collect", None)
    monkeypatch.setattr(mujoco_data.rollouts, "returns", None)
    again = list(mujoco_rows(CONTEXT, plan, tmp_path))
    assert [row.value for row in again if row.metric == mujoco.ERROR] == [
        row.value for row in rows if row.metric == mujoco.ERROR
    ]
