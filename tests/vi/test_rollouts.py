"""Rollouts: a walk on a line whose every return is known in closed form, and real simulators where they are."""

import importlib.util
import warnings

import numpy as np
import pytest

from narrows.vi import td
from narrows.vi.td import rollouts, simulators

gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed: pip install 'narrows[mujoco]'")
HAS_MUJOCO = importlib.util.find_spec("mujoco") is not None
needs_mujoco = pytest.mark.skipif(not HAS_MUJOCO, reason="MuJoCo is not installed: pip install 'narrows[mujoco]'")


class Line(gymnasium.Env):
    """A place that moves by the action plus noise; the reward is where it was; it ends beyond `wall`.

    After `limit` steps it says by itself that it is cut off; at `hole` the reward is no number.
    """

    def __init__(self, wall=1e9, noise=0.0, limit=None, hole=1e9):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)
        self.wall, self.noise, self.limit, self.hole = wall, noise, limit, hole
        self.place, self.num_steps = 0.0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.num_steps = self.np_random.uniform(0.0, 1.0), 0
        return np.array([self.place]), {}

    def step(self, action):
        reward = np.nan if self.place >= self.hole else self.place
        self.place += float(action[0]) + self.noise * self.np_random.normal()
        self.num_steps += 1
        is_cut = self.limit is not None and self.num_steps >= self.limit
        return np.array([self.place]), reward, self.place > self.wall, is_cut, {}


ACCESS = simulators.StateAccess(
    lambda env: np.array([env.unwrapped.place]), lambda env, state: setattr(env.unwrapped, "place", float(state[0]))
)


@pytest.fixture(autouse=True)
def _registered():
    names = {
        "narrows/Line-v0": ({}, 7),
        "narrows/Wall-v0": ({"wall": 3.0}, 100),
        "narrows/Noisy-v0": ({"noise": 0.3}, 7),
        "narrows/Cut-v0": ({"limit": 5}, None),
        "narrows/Hole-v0": ({"hole": 2.0}, None),
    }
    for name, (settings, limit) in names.items():
        gymnasium.register(name, entry_point=Line, kwargs=settings, max_episode_steps=limit)
    yield
    for name in names:
        del gymnasium.registry[name]


def half_steps(observations, generator):
    return np.full((len(observations), 1), 0.5)


def random_steps(observations, generator):
    return generator.uniform(-1.0, 1.0, (len(observations), 1))


def pushes(observations, generator):
    """A policy of a module, which other processes can import."""
    return generator.integers(2, size=len(observations))


def test_transitions_are_those_of_a_loop_and_a_time_limit_is_no_end():
    data = rollouts.collect("narrows/Line-v0", half_steps, 40, seed=3, num_envs=2)
    assert data.observation.shape == data.next_observation.shape == (40, 1) and data.reward.dtype == np.float32
    assert not data.is_terminal.any()
    for place in range(2):
        first, after, reward = (leaf[place::2].ravel() for leaf in (data.observation, data.next_observation, data.reward))
        np.testing.assert_allclose(after, first + 0.5, rtol=1e-6)
        np.testing.assert_allclose(reward, first, rtol=1e-6)
        # Seven steps an episode; what follows a cut is a reset, and the step before it still says where it led.
        is_reset = np.arange(1, 20) % 7 == 0
        np.testing.assert_allclose(first[1:][~is_reset], after[:-1][~is_reset])
        assert np.all(first[1:][is_reset] < 1.0) and np.all(after[:-1][is_reset] > 3.0)


def test_an_episode_that_ends_is_terminal():
    data = rollouts.collect("narrows/Wall-v0", half_steps, 50, seed=0, num_envs=3)
    np.testing.assert_array_equal(data.is_terminal, data.next_observation[:, 0] > 3.0)
    assert data.is_terminal.sum() > 3 and len(data.reward) == 50
    # The value of half steps up to the wall, by hand for one state; TD's target agrees where it is the last.
    last = data.observation[data.is_terminal][0]
    batch = td.Transitions(last[None], data.reward[data.is_terminal][:1], last[None] + 0.5, np.array([True]))
    assert float(td.td_error(lambda p, o: 0.0 * o[:, 0] + 7.0, None, batch, 0.9)[0]) == pytest.approx(
        float(last[0]) - 7.0, rel=1e-5
    )


def test_the_seed_decides_everything():
    one, same, other = (rollouts.collect("narrows/Noisy-v0", random_steps, 30, seed=seed, num_envs=4) for seed in (0, 0, 1))
    for left, right in zip(one[:4], same[:4], strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one.reward, other.reward)


def test_returns_from_states_are_the_closed_form():
    starts = rollouts.visited("narrows/Line-v0", half_steps, 5, seed=1, every=3, access=ACCESS)
    found = rollouts.returns(
        "narrows/Line-v0", half_steps, starts, discount=0.9, num_rollouts=3, num_steps=20, seed=2, access=ACCESS
    )
    assert starts.state is not None
    # Longer than the limit of seven steps: the limit does not cut a return.
    powers = 0.9 ** np.arange(20)
    begins = starts.state[:, 0] + 0.5
    expected = [float(np.sum(powers * (begin + 0.5 * np.arange(20)))) for begin in begins]
    np.testing.assert_allclose(found.observation[:, 0], begins)
    np.testing.assert_allclose(found.value, expected, rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, 0.0, atol=1e-12)
    assert len(set(np.round(begins, 6))) == 5


def test_states_lie_as_far_apart_as_asked_and_none_is_an_end():
    starts = rollouts.visited("narrows/Wall-v0", half_steps, 40, seed=4, every=1, access=ACCESS)
    assert starts.state is not None and starts.action is not None
    assert np.all(starts.state[:, 0] + starts.action[:, 0] <= 3.0)
    apart = rollouts.visited("narrows/Line-v0", half_steps, 4, seed=4, every=2, access=ACCESS)
    assert apart.state is not None
    np.testing.assert_allclose(np.diff(apart.state[:, 0])[:2], 1.0)


def test_returns_end_where_the_episode_does():
    starts = rollouts.from_resets(6, seed=5)
    found = rollouts.returns("narrows/Wall-v0", half_steps, starts, discount=0.5, num_rollouts=2, num_steps=50, seed=6)
    for begin, value in zip(found.observation[:, 0], found.value, strict=True):
        places = [begin + 0.5 * step for step in range(50) if begin + 0.5 * step <= 3.0]
        assert value == pytest.approx(sum(0.5**step * place for step, place in enumerate(places)), rel=1e-12)


def test_rollouts_of_one_start_share_no_chance():
    starts = rollouts.from_resets(4, seed=7)
    found = rollouts.returns("narrows/Noisy-v0", half_steps, starts, discount=0.5, num_rollouts=400, num_steps=3, seed=8)
    # return = x + (x + .5 + n1)/2 + (x + 1 + n1 + n2)/4, the environment's own noise of 0.3 the only chance.
    begins = found.observation[:, 0]
    error = 0.3 * np.sqrt(0.75**2 + 0.25**2)
    np.testing.assert_allclose(found.returns.std(1, ddof=1), error, rtol=0.15)
    np.testing.assert_allclose(found.standard_error, error / 20.0, rtol=0.15)
    np.testing.assert_allclose(found.value, begins * 1.75 + 0.5, atol=4 * error / 20.0)
    assert abs(np.corrcoef(found.returns)[0, 1]) < 0.2, "nor do those of two starts"


def test_processes_change_nothing():
    starts = rollouts.from_resets(3, seed=0)
    alone, shared = (
        rollouts.returns(
            "CartPole-v1", pushes, starts, discount=0.9, num_rollouts=2, num_steps=30, seed=1, num_processes=number
        )
        for number in (1, 2)
    )
    np.testing.assert_array_equal(alone.returns, shared.returns)
    np.testing.assert_array_equal(alone.observation, shared.observation)
    assert alone.returns.std() > 0


def test_bad_input_is_refused_with_a_cure():
    with pytest.raises(ValueError, match="Did you mean .*CartPole-v1"):
        rollouts.collect("Cartpole-v1", half_steps, 3, seed=0)
    with pytest.raises(ValueError, match="cannot make an environment 'nowhere:Line-v0'"):
        rollouts.collect("nowhere:Line-v0", half_steps, 3, seed=0)
    with pytest.raises(ValueError, match="Box of observations"):
        rollouts.collect("FrozenLake-v1", half_steps, 3, seed=0)
    with pytest.raises(ValueError, match=r"shape \(2, 1\), got \(2,\)"):
        rollouts.collect("narrows/Line-v0", lambda seen, _: np.zeros(len(seen)), 6, seed=0, num_envs=2)
    with pytest.raises(ValueError, match="an action that is not finite"):
        rollouts.collect("narrows/Line-v0", lambda seen, _: np.full((len(seen), 1), np.nan), 6, seed=0)
    with pytest.raises(ValueError, match="Hole-v0 returned the reward nan"):
        rollouts.collect("narrows/Hole-v0", half_steps, 30, seed=0, num_envs=1)
    with pytest.raises(ValueError, match="not known how to read and set the state of CartPole-v1"):
        rollouts.visited("CartPole-v1", pushes, 2, seed=0)
    with pytest.raises(ValueError, match="num must be at least 1"):
        rollouts.collect("narrows/Line-v0", half_steps, 0, seed=0)
    starts = rollouts.from_resets(1, seed=0)
    with pytest.raises(ValueError, match="after 5 of 9 steps"):
        rollouts.returns("narrows/Cut-v0", half_steps, starts, discount=0.9, num_rollouts=2, num_steps=9, seed=0)
    with pytest.raises(ValueError, match="discount must lie"):
        rollouts.returns("narrows/Line-v0", half_steps, starts, discount=1.2, num_rollouts=2, num_steps=9, seed=0)
    with pytest.raises(ValueError, match="at least 2 rollouts"):
        rollouts.returns("narrows/Line-v0", half_steps, starts, discount=0.9, num_rollouts=1, num_steps=9, seed=0)


@needs_mujoco
@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Ant-v5"])
def test_a_state_of_mujoco_comes_back_bit_for_bit(name):
    """Also what is observed and rewarded from derived quantities, such as the Ant's contact forces and its body's place."""
    generator = np.random.default_rng(0)
    access = simulators.mujoco_access()
    with simulators.several(name, 2, has_time_limit=False) as (env, other):
        env.reset(seed=0)
        actions = generator.uniform(-1, 1, (24, *env.action_space.shape))
        for action in actions[:12]:
            env.step(action)
        state = access.read(env)
        expected = [env.step(action) for action in actions[12:]]
        other.reset(seed=9)
        access.write(other, state)
        got = [other.step(action) for action in actions[12:]]
    for here, there in zip(got, expected, strict=True):
        np.testing.assert_array_equal(here[0], there[0])
    # The first step's reward may still look at what the reset left; it is the step that `Starts` repeats.
    assert [one[1] for one in got[1:]] == [one[1] for one in expected[1:]]


@needs_mujoco
def test_mujoco_leaves_no_log_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        simulators.made("HalfCheetah-v5").close()
    assert not list(tmp_path.iterdir())
    assert "WARNING" not in "".join(capfd.readouterr())


@needs_mujoco
def test_rollouts_of_mujoco_begin_where_the_policy_was():
    def still(observations, generator):
        return np.zeros((len(observations), 6))

    starts = rollouts.visited("HalfCheetah-v5", still, 2, seed=1, every=5)
    found = rollouts.returns("HalfCheetah-v5", still, starts, discount=0.9, num_rollouts=2, num_steps=6, seed=2)
    # Nothing is random once the state is set and the policy is not.
    np.testing.assert_array_equal(found.returns[:, 0], found.returns[:, 1])
    data = rollouts.collect("HalfCheetah-v5", still, 30, seed=1, num_envs=1)
    assert data.observation.shape == (30, 17) and not data.is_terminal.any()
    # The same seed resets to the same place: the states after 5 and 10 steps, and the rewards from there on.
    for number, at in enumerate((5, 10)):
        np.testing.assert_allclose(found.observation[number], data.observation[at], rtol=1e-6, atol=1e-6)
        expected = np.sum(0.9 ** np.arange(6) * data.reward[at : at + 6])
        assert found.value[number] == pytest.approx(float(expected), rel=1e-4, abs=1e-5)
