"""Explorations that keep parts of earlier objects: what they keep, that the exact law is learned, what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare
from tests.reference.cases import case_of, compile_quickly
from tests.slowly import slowly

from narrows import objectives
from narrows.envs import Sequence, Subsets, TicTacToe, perturbed
from narrows.exact import model_distribution, solve
from narrows.metrics import total_variation
from narrows.noise import Substitution
from narrows.objectives import ProximalPolicy, TrajectoryBalance, TrajectoryGeneralMellowmax
from narrows.policies import Tabular, sizes_of
from narrows.policies.base import Model, Uniform
from narrows.rewards.base import AbstractReward
from narrows.scorers.host import HostReward
from narrows.training import adam, run, trainer
from narrows.training.exploration import Conservative, LocalSearch, Recombination, Scene, Variants
from narrows.training.replay import Replay
from narrows.trajectories import NO_ACTION, Trajectory, redraw
from narrows.trajectories.behaviour import Behaviour, on_policy

WORDS = Sequence("AB", 0, 3)
BEST = Replay(16, 8, prioritised=True, keep="best")


class Scores(AbstractReward):
    """A number for each object by its digits, and how unsure it is of each."""

    def __call__(self, states):
        digits = states.items if hasattr(states, "items") else states.tokens
        place = jnp.sum(digits * 3 ** jnp.arange(digits.shape[-1]), axis=-1)
        return 2.0 * jnp.asarray(np.random.default_rng(0).normal(size=3**4), jnp.float32)[place]

    def deviation(self, states):
        return 1.0 + jnp.sum(states.tokens == 0, axis=-1).astype(jnp.float32)


def _tabular(env, scale=0.0):
    return Tabular(sizes_of(env, flow_head=True), init_scale=scale, key=jax.random.key(0))


def _buffer(env, texts, log_reward):
    """Return a buffer that holds objects by the trajectories that brute force finds."""
    case = case_of(env)
    ends = case.graph.index(case.batch.terminal).tolist()
    rows = np.array([ends.index(end) for end in case.graph.index(env.from_text(texts))])
    batch = _in_single(jax.tree.map(lambda leaf: leaf[rows], case.batch))._replace(log_reward=jnp.asarray(log_reward))
    replay = Replay(len(texts), 1, keep="best")
    return replay.add(replay.init(batch), batch)


def _in_single(batch):
    return batch._replace(log_reward=batch.log_reward.astype(jnp.float32))


def _plan(exploration, env, buffer, num, deviation=None, seed=0):
    model = Model(Uniform(env.num_actions), jnp.zeros(()))
    scene = Scene(env, model, on_policy, buffer, None, deviation, num)
    return jax.jit(lambda key: exploration.plan(key, scene))(jax.random.key(seed)).kept


# --- the law that is learned ---


@pytest.mark.parametrize(
    ("exploration", "env", "objective"),
    [
        (Recombination(share=0.5), WORDS, TrajectoryGeneralMellowmax(2.0, 1.0, 0.5)),
        (LocalSearch(back=2), Subsets(3), TrajectoryBalance()),
        *slowly(
            "trains once more; the two above guard the way of redrawn objects into a loss, test_balance.py each loss",
            (Conservative(), WORDS, TrajectoryBalance()),
            (LocalSearch(accept="metropolis"), WORDS, TrajectoryBalance()),
            (Recombination(), Subsets(3), objectives.SubTrajectoryBalance()),
            *((Recombination(share=0.5), WORDS, getattr(objectives, name)()) for name in ("VarGrad", "DetailedBalance")),
            *((LocalSearch(), WORDS, getattr(objectives, name)()) for name in ("VarGrad", "BellmanGeneralMellowmax")),
        ),
    ],
    ids=repr,
)
def test_the_exact_law_is_reached(exploration, env, objective):
    graph, reward = case_of(env).graph, Scores()
    made = trainer(
        env,
        _tabular(env),
        reward,
        objective,
        adam(0.05, decay_steps=1500),
        batch_size=16,
        behaviour=Behaviour(epsilon=0.1),
        exploration=exploration,
        replay=BEST,
    )
    state, _ = run(made, made.init(jax.random.key(0)), 1500, every=1500)
    exact = solve(graph, np.asarray(reward(graph.terminal_states)), objective.operator)
    assert total_variation(model_distribution(state.model, env, graph), exact.log_probs) < 0.01
    assert state.buffer is not None and state.buffer.size == min(16, graph.terminals.size)


@pytest.mark.parametrize(
    "env", [WORDS, *slowly("many ways to an object; a tree guards the rule quickly", Subsets(3))], ids=repr
)
def test_metropolis_search_has_the_target_for_its_law_whatever_the_policy(env):
    """A policy that knows nothing of the reward, and one round after another: objects come as often as the target says."""
    num, graph = 4096, case_of(env).graph
    exploration, model = LocalSearch(back=2, rounds=10_000, accept="metropolis"), Model(_tabular(env, 1.0), jnp.zeros(()))
    behaviour, reward = Behaviour(epsilon=0.2), Scores()
    example = jax.eval_shape(lambda key: redraw(key, model, env, jnp.zeros((num, env.max_steps), int)), jax.random.key(0))

    def one(memory, key):
        scene = Scene(env, model, behaviour, None, memory, None, num)
        plan = exploration.plan(jax.random.fold_in(key, 0), scene)
        drawn = redraw(jax.random.fold_in(key, 1), model, env, plan.kept, behaviour=behaviour)
        scored = drawn.trajectory._replace(log_reward=reward(drawn.trajectory.terminal))
        return exploration.learn(jax.random.fold_in(key, 2), scene, plan, drawn._replace(trajectory=scored)), None

    def search(key):
        return jax.lax.scan(one, exploration.init(example.trajectory), jax.random.split(key, 60))[0].at

    at = jax.jit(search)(jax.random.key(0))
    counts = np.bincount(np.searchsorted(graph.terminals, graph.index(at.terminal)), minlength=graph.terminals.size)
    target = np.exp(np.asarray(reward(graph.terminal_states), np.float64))
    assert chisquare(counts, num * target / target.sum()).pvalue > 1e-3
    policy = np.exp(model_distribution(model, env, graph))
    assert 0.5 * np.abs(policy - target / target.sum()).sum() > 0.2  # which is another law than the policy's


def test_a_search_goes_on_with_the_better_one_and_begins_anew_after_its_rounds():
    reward, exploration = Scores(), LocalSearch(back=1, rounds=2)
    made = trainer(WORDS, _tabular(WORDS), reward, TrajectoryBalance(), adam(), batch_size=64, exploration=exploration)
    step = compile_quickly(made.step)
    state, infos, at = made.init(jax.random.key(0)), [], []
    for _ in range(4):
        state, info = step(state)
        infos.append(info)
        at.append(state.exploration)
    assert np.array_equal(at[0].at.log_reward, infos[0].log_reward)
    for before, after, info in zip(at[:2], at[1:3], infos[1:3], strict=True):
        assert np.array_equal(after.at.log_reward, np.maximum(before.at.log_reward, info.log_reward))
        same = np.maximum(np.asarray(before.at.terminal.length) - 1, 0)
        for row, num in enumerate(same):  # at most one letter and the end were taken back
            assert np.array_equal(before.at.terminal.tokens[row, :num], info.terminal.tokens[row, :num])
    assert [int(chains.round) for chains in at] == [1, 2, 0, 1]
    assert np.array_equal(at[3].at.log_reward, infos[3].log_reward)


# --- what is kept ---


def test_children_are_two_parents_put_together():
    env, num = Sequence("ABC", 2, 6), 512
    buffer = _buffer(env, ["AAAAAA", "BBBB"], [1.0, 0.0])
    kept = np.asarray(_plan(Recombination(share=1.0, shift=0.0, mutations=0.0, uniform=0.0), env, buffer, num))
    parents = {"A": [0] * 6 + [3], "B": [1] * 4 + [3, -1, -1]}
    found = set()
    for row in kept:
        matches = [
            (name, other, low, high)
            for name, first in parents.items()
            for other, second in parents.items()
            for low in range(8)
            for high in range(low, 8)
            if _is_child(row, first, second, low, high)
        ]
        assert matches, row
        found.add(matches[0][:2])
    assert {("A", "A"), ("A", "B"), ("B", "A")} <= found
    unchanged = [row for row in kept.tolist() if row in parents.values()]
    assert not unchanged  # one step at least is drawn again


def _is_child(row, first, second, low, high):
    """Return whether a row is the first parent with a stretch of the second; if it is the first, with one step to draw."""
    places = range(len(first))
    child = [second[place] if low <= place < high and second[place] != NO_ACTION else first[place] for place in places]
    different = [place for place in places if row[place] != child[place]]
    return not different if child != first else len(different) == 1 and row[different[0]] == NO_ACTION


def test_a_stretch_may_be_shifted_and_letters_drawn_uniformly():
    env = Sequence("ABCDEFGHIJ", 10, 10)
    # Brute force would list ten thousand million objects, so the one way to this one is written down.
    letters = np.array([[*range(10), 10]], np.int32)
    replay = Replay(1, 1, keep="best")
    batch = Trajectory(env.from_text(["ABCDEFGHIJ"]), jnp.asarray(letters), jnp.ones(1))
    buffer = replay.add(replay.init(batch), batch)
    shifted = np.asarray(_plan(Recombination(share=1.0, shift=1.0, mutations=0.0, uniform=0.0), env, buffer, 400))
    by = {int(step - place) for row in shifted for place, step in enumerate(row[:10]) if step != NO_ACTION}
    assert {-2, -1, 0, 1, 2} <= by and max(map(abs, by - {10 - place for place in range(10)})) <= 2
    drawn = np.asarray(_plan(Recombination(share=0.5, shift=0.0, mutations=3.0, uniform=0.25), env, buffer, 4000))
    assert np.all(drawn[2000:] == NO_ACTION)
    changed = drawn[:2000] != letters
    # A letter that is drawn uniformly among eleven actions may be the same again.
    assert abs(np.mean(np.sum(changed, axis=1)) - 3.0 * (0.75 + 0.25 * 10 / 11)) < 0.15
    assert abs(np.mean(drawn[:2000][changed] == NO_ACTION) - 0.75 / (0.75 + 0.25 * 10 / 11)) < 0.02


def test_fewer_letters_are_drawn_again_where_the_proxy_is_unsure():
    env = Sequence("AB", 4, 4)
    buffer = _buffer(env, ["BBBB", "AAAA"], [0.0, 0.0])
    exploration = Conservative(delta=0.6, caution=0.3, share=1.0)
    kept = np.asarray(_plan(exploration, env, buffer, 6000, lambda states: 1.0 + jnp.sum(states.tokens == 0, axis=-1)))
    is_b = np.any(kept[:, :4] == 1, axis=1)
    is_a = np.any(kept[:, :4] == 0, axis=1)
    assert not np.any(is_a & is_b)
    mean = 1.0 * 2 / 3 + 5.0 / 3  # parents come by 1/rank
    for is_parent, deviation in ((is_b, 1.0), (is_a, 5.0)):
        rate = np.clip(0.6 - 0.3 * deviation / mean, 0.0, 1.0)
        drawn = kept[is_parent] == NO_ACTION
        assert abs(np.mean(drawn[:, 4]) - rate) < 0.03  # the end is never drawn to have drawn something
        assert np.all(np.any(drawn[:, :4], axis=1))
    assert np.all(_plan(Conservative(share=0.25), env, buffer, 8, lambda s: jnp.ones(s.length.shape))[2:] == NO_ACTION)


@pytest.mark.parametrize("exploration", [Conservative(), Recombination(uniform=0.0)], ids=repr)
def test_an_empty_buffer_has_nothing_to_keep(exploration):
    empty = Replay(4, 1, keep="best").init(_in_single(case_of(WORDS).batch))
    kept = _plan(exploration, WORDS, empty, 32, lambda states: jnp.ones(states.length.shape))
    assert np.all(kept == NO_ACTION)


def test_variants_keep_their_share_of_the_one_object():
    kept = np.asarray(_plan(Variants("ABBA", keep=0.75, share=0.5), Sequence("AB", 4, 4), None, 8000))
    drawn = kept[:4000] == NO_ACTION
    assert np.array_equal(np.where(drawn, [0, 1, 1, 0, 2], kept[:4000]), np.broadcast_to([0, 1, 1, 0, 2], (4000, 5)))
    assert np.all(kept[4000:] == NO_ACTION) and np.all(np.any(drawn[:, :4], axis=1))
    assert abs(np.mean(drawn[:, 4]) - 0.25) < 0.03
    assert abs(np.mean(np.sum(drawn[:, :4], axis=1)) - (4 * 0.25 + 0.75**4)) < 0.05  # one more where none was drawn


# --- the parts around ---


@pytest.mark.parametrize(
    "exploration", [Recombination(), *slowly("compiles noise again; recombination guards the way", LocalSearch())], ids=repr
)
def test_a_host_reward_and_noise_go_with_an_exploration(exploration):
    env = perturbed(Sequence("AB", 1, 3), Substitution(Sequence("AB", 1, 3), 0.3))
    reward = HostReward(lambda texts: [float(text.count("A")) for text in texts], env, beta=1.0)
    objective = objectives.ExpectedDetailedBalance(actions="visited")
    policy = Tabular(objective.sizes(env), key=jax.random.key(0))
    made = trainer(env, policy, reward, objective, adam(), batch_size=8, exploration=exploration, replay=BEST)
    state, _ = run(made, made.init(jax.random.key(0)), 4, every=2)
    assert int(state.step) == 4 and state.buffer is not None and state.buffer.size > 2


def test_what_does_not_fit_is_refused():
    def make(exploration, env: Any = WORDS, objective=None, reward=None, replay: Replay | None = BEST):
        objective = TrajectoryBalance() if objective is None else objective
        reward = Scores() if reward is None else reward
        return trainer(env, _tabular(env), reward, objective, adam(), exploration=exploration, replay=replay)

    with pytest.raises(ValueError, match="ProximalPolicy learns from what its own policy has just sampled"):
        make(LocalSearch(), objective=ProximalPolicy(), replay=None)
    with pytest.raises(ValueError, match=r"Recombination takes its parents from past objects. Add \[replay\]"):
        make(Recombination(), replay=None)
    with pytest.raises(ValueError, match="Conservative asks a fitted proxy how unsure it is"):
        make(Conservative(), reward=HostReward(len, WORDS))
    with pytest.raises(ValueError, match="one player of TicTacToe is not"):
        make(LocalSearch(), env=TicTacToe(), objective=objectives.AdversarialTrajectoryBalance())
    with pytest.raises(ValueError, match="expected 0 to 3 tokens, got 4"):
        make(Variants("ABBA"))
    noisy = perturbed(WORDS, Substitution(WORDS, 0.5))
    with pytest.raises(ValueError, match="in which noise has a part"):
        make(LocalSearch(accept="metropolis"), noisy, objectives.ExpectedDetailedBalance(actions="visited"))
    for kind, setting, message in [
        (Conservative, {"delta": 0.0}, "delta must lie"),
        (Conservative, {"caution": -1.0}, "caution must be at least 0"),
        (Recombination, {"share": 0.0}, "share must lie"),
        (Recombination, {"shift": 1.5}, "shift must lie"),
        (Recombination, {"mutations": float("inf")}, "mutations must be at least 0 and finite"),
        (Variants, {"parent": "A", "keep": 1.0}, "keep must lie"),
        (LocalSearch, {"back": 0}, "back and rounds must be at least 1, got 0 and 7"),
    ]:
        with pytest.raises(ValueError, match=message):
            kind(**setting)
