"""AlphaZero on tic-tac-toe: its search against one written as loops, what it learns from, and training."""

import importlib.util
import math
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from benchmarks._games.compute import Compute, forward_flops
from tests.games.loops import Node, wins_of

from narrows.envs.tic_tac_toe import TicTacToe, TicTacToeState
from narrows.games.alphazero import AlphaZero, SearchPlayer, alphazero_trainer
from narrows.games.alphazero import search as search_function
from narrows.games.alphazero.examples import Batch, Examples, Seen, _store, draw_batch, empty_examples
from narrows.games.alphazero.trainer import alphazero_loss
from narrows.games.solver import solve_tic_tac_toe
from narrows.policies import MLP, ResidualMLP, Sizes, sizes_of
from narrows.policies.base import Model, Uniform
from narrows.storage import checkpoint

ENV, ROWS, SIMULATIONS = TicTacToe(), 16, 200


def make_policy(key):
    return MLP(sizes_of(ENV, flow_head=True), hidden=16, key=key)


POLICY = make_policy(jax.random.key(7))


PUCT_TOO = pytest.mark.slow("compiles a second training; the first guards the same, and its search is played above")
GUMBEL_TOO = pytest.mark.slow("compiles the other search; below it plays for a training that learns")


@pytest.fixture(scope="module", params=[pytest.param("gumbel", marks=GUMBEL_TOO), "puct"])
def player(request):
    return SearchPlayer(ENV, POLICY, SIMULATIONS, kind=request.param)


def positions(wanted):
    """The first positions, spread over all, that are wanted: `wanted` is told the mover's wins, the other's, and the scores."""
    solved, found = solve_tic_tac_toe(), []
    for row in np.random.default_rng(1).permutation(len(solved.mover)).tolist():
        mover, other = ([bool(bits >> cell & 1) for cell in range(9)] for bits in (solved.mover[row], solved.other[row]))
        taken = [one or two for one, two in zip(mover, other, strict=True)]
        if wanted(wins_of(mover, taken), wins_of(other, taken), solved.scores[row]):
            found.append((mover, other))
        if len(found) == ROWS:
            mover, other = (jnp.asarray(side) for side in zip(*found, strict=True))
            return jax.tree.map(np.asarray, TicTacToeState(mover, other))
    raise AssertionError("there are not so many positions")


def test_a_search_wins_at_once(player):
    states = positions(lambda own, other, scores: len(own) == 1 and len(scores) > 0)
    found = player.look(states, np.random.default_rng(0))
    for row in range(ROWS):
        taken = states.mover[row] | states.other[row]
        assert [found.action[row]] == wins_of(states.mover[row], taken)
    np.testing.assert_allclose(found.value, 1.0, atol=1e-6, err_msg="the mover has won")
    assert (found.policy[np.arange(ROWS), found.action] == found.policy.max(axis=1)).all()


def test_a_search_blocks(player):
    """The other threatens one cell, and whoever stops them does not lose."""
    states = positions(lambda own, other, scores: not own and len(other) == 1 and scores.max() >= 0)
    chosen = player.choose(states, np.random.default_rng(0))
    for row in range(ROWS):
        assert [chosen[row]] == wins_of(states.other[row], states.mover[row] | states.other[row])


def test_what_cannot_be_stopped_is_worth_a_loss(player):
    states = positions(lambda own, other, scores: not own and len(other) > 1)
    assert player.look(states, np.random.default_rng(0)).value.max() < -0.5


def test_policies_of_searches_are_probabilities_of_legal_moves(player):
    states = positions(lambda own, other, scores: True)
    found = player.look(states, np.random.default_rng(0))
    mask = np.asarray(jax.vmap(ENV.action_mask)(states))
    np.testing.assert_allclose(found.policy.sum(axis=1), 1.0, atol=1e-6)
    assert (found.policy[~mask] == 0).all()
    assert mask[np.arange(ROWS), found.action].all()
    assert (np.abs(found.value) <= 1).all()


def test_long_batches_are_searched_in_parts(player, monkeypatch):
    monkeypatch.setattr("narrows.games.alphazero.player._NODES", ROWS * (SIMULATIONS + 1))
    many = positions(lambda own, other, scores: True)
    twice = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:3]]), many)
    found = player.look(twice, np.random.default_rng(0))
    alone = player.look(many, np.random.default_rng(0))
    assert found.action.shape == (ROWS + 3,)
    np.testing.assert_allclose(found.policy[:ROWS], alone.policy, atol=1e-6)
    np.testing.assert_allclose(found.policy[ROWS:], alone.policy[:3], atol=1e-6)


@jax.jit
def look_at(values):
    output = POLICY.unroll(jnp.asarray(values, jnp.int32)[None])
    assert output.log_flow is not None
    return output.forward_logits[0], output.log_flow[0]


def test_puct_visits_what_a_search_in_loops_visits():
    states = positions(lambda own, other, scores: True)
    found = SearchPlayer(ENV, POLICY, SIMULATIONS, kind="puct").look(states, np.random.default_rng(0))
    for row in range(0, ROWS, 3):
        root = Node(states.mover[row].tolist(), states.other[row].tolist(), look_at)
        for _ in range(SIMULATIONS):
            root.simulate()
        visits = [root.children[cell].visits if cell in root.children else 0 for cell in range(9)]
        np.testing.assert_array_equal(np.round(found.policy[row] * SIMULATIONS).astype(int), visits)
        best = root.children[int(found.action[row])]
        assert best.visits == max(visits)
        assert found.value[row] == pytest.approx(-best.total / best.visits, abs=1e-5)


def test_a_flow_network_is_read_in_units_of_its_scale():
    """The log-flow of a won position is 10 there, and its logits are what they are."""
    states = positions(lambda own, other, scores: True)

    def flow(policy):
        return policy.heads.flow.weight, policy.heads.flow.bias

    flows_policy = eqx.tree_at(flow, POLICY, tuple(10 * leaf for leaf in flow(POLICY)))
    flows = SearchPlayer(ENV, flows_policy, SIMULATIONS, kind="puct", scale=10.0).look(states, np.random.default_rng(0))
    values = SearchPlayer(ENV, POLICY, SIMULATIONS, kind="puct").look(states, np.random.default_rng(0))
    np.testing.assert_array_equal(flows.action, values.action)
    np.testing.assert_allclose(flows.value, values.value, atol=1e-5)
    np.testing.assert_allclose(flows.policy, values.policy, atol=1e-3)


GUMBEL = AlphaZero(
    num_slots=16, num_simulations=8, games_per_round=8, capacity=600, initial_games=0, num_rows=64, average=0.9, max_random=2
)
PUCT = AlphaZero(
    kind="puct",
    num_simulations=8,
    exploration_plies=3,
    greedy_targets=True,
    max_random=2,
    num_slots=8,
    games_per_round=60,
    steps_per_round=3,
    capacity=1000,
    initial_games=0,
    num_rows=32,
    average=0.0,
)


class Run:
    """A trainer with its compiled step."""

    def __init__(self, settings):
        trainer = alphazero_trainer(ENV, make_policy, optax.adam(3e-3), settings)
        self.start, self.step = trainer.init(jax.random.key(2)), jax.jit(trainer.step)

    def after(self, state, num_steps):
        losses = []
        for _ in range(num_steps):
            state, info = self.step(state)
            assert not info.is_skipped
            losses.append(float(info.loss))
        return state, losses


@pytest.fixture(scope="module")
def gumbel():
    return Run(GUMBEL)


@pytest.fixture(scope="module")
def trained(gumbel):
    return gumbel.after(gumbel.start, 40)


@pytest.fixture(scope="module")
def puct():
    run = Run(PUCT)
    return run.after(run.start, 3)[0]


@pytest.fixture(scope="module", params=["gumbel", pytest.param("puct", marks=PUCT_TOO)])
def begun(request):
    """Settings, and a state after whose few steps the ring has not come round."""
    if request.param == "puct":
        return PUCT, request.getfixturevalue("puct")
    gumbel = request.getfixturevalue("gumbel")
    return GUMBEL, gumbel.after(gumbel.start, 8)[0]


def test_training_counts_and_learns(gumbel, trained):
    state, losses = trained
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    assert int(state.step) == 40
    assert int(state.num_rows) == 40 * 64
    assert int(state.num_moves) % 16 == 0
    assert int(state.games.total) >= 40 * 8
    assert 5 * int(state.games.total) <= int(state.num_moves) <= 9 * (int(state.games.total) + 16)
    assert int(state.games.size) == 600
    assert gumbel.step._cache_size() == 1, "no step after the first compiles anything"
    for one, other in zip(jax.tree.leaves(state.model), jax.tree.leaves(state.average), strict=True):
        assert one.shape == other.shape
    assert any(
        (one != other).any() for one, other in zip(jax.tree.leaves(state.model), jax.tree.leaves(state.average), strict=True)
    )


def test_a_run_that_was_stopped_goes_on_bit_for_bit(gumbel, tmp_path):
    half, _ = gumbel.after(gumbel.start, 3)
    checkpoint.save(tmp_path, half, step=3, metadata={})
    found = checkpoint.latest(tmp_path)
    assert found.path is not None
    restored, _ = checkpoint.restore(found.path, jax.eval_shape(lambda: half))
    one, other = gumbel.after(half, 3)[0], gumbel.after(restored, 3)[0]
    for leaf, same in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        bits, same_bits = (jax.random.key_data(k) if is_key else k for k in (leaf, same))
        np.testing.assert_array_equal(bits, same_bits)


def games_in(examples):
    """The games in a ring that has not come round, each a list of its rows: a row with an empty board begins one."""
    rows, games = jax.tree.map(np.asarray, examples.seen), []
    for row in range(int(examples.size)):
        seen = Seen(*(leaf[row] for leaf in rows))
        if not games or (seen.features > 0).sum() <= (games[-1][-1][0].features > 0).sum():
            games.append([])
        games[-1].append((seen, int(examples.outcome[row])))
    return games


def test_positions_of_finished_games_follow_each_other_and_know_how_the_game_ended(begun):
    settings, state = begun
    examples = state.games
    assert settings.games_per_round <= int(examples.total)
    assert int(examples.size) < settings.capacity
    games = games_in(examples)
    assert len(games) == int(examples.total)
    is_draw = []
    for game in games:
        for (seen, outcome), (later, later_outcome) in zip(game, game[1:], strict=False):
            # What was mine is the other's now, and one stone has come.
            mine, others = (seen.features == side for side in (1, 2))
            np.testing.assert_array_equal(later.features == 1, others)
            assert (mine <= (later.features == 2)).all()
            assert (later.features == 2).sum() == mine.sum() + 1
            assert later_outcome == -outcome
            assert later.side == -seen.side
        last, outcome = game[-1]
        wins = wins_of(last.features == 1, last.features > 0)
        is_draw.append(outcome == 0)
        if outcome:
            assert outcome == 1
            assert wins
        else:
            assert (last.features == 0).sum() == 1
            assert not wins
        for seen, _ in game:
            np.testing.assert_array_equal(seen.mask, seen.features == 0)
            np.testing.assert_allclose(seen.policy.sum(), 1.0, atol=1e-5)
            assert (seen.policy[~seen.mask] == 0).all()
            assert seen.side == (1 if (seen.features > 0).sum() % 2 == 0 else -1)
            if settings.greedy_targets and (seen.features > 0).sum() >= settings.exploration_plies:
                assert seen.policy.max() == 1.0, "the greedy move alone"
    first_stones = [(game[0][0].features > 0).sum() for game in games]
    assert set(first_stones) == {0, 1, 2}, "random first moves are not learned from"
    assert len(set(is_draw)) == 2


@PUCT_TOO
def test_rounds_are_as_long_as_the_settings_say(puct):
    assert int(puct.step) == 3
    assert int(puct.num_rows) == 3 * 32
    assert 60 <= int(puct.games.total) < 60 + 8, "one round in three steps"
    for one, other in zip(jax.tree.leaves(puct.model), jax.tree.leaves(puct.average), strict=True):
        np.testing.assert_array_equal(one, other, err_msg="an average of nothing is the latest")


def test_the_ring_keeps_the_newest_positions():
    generator, capacity = np.random.default_rng(0), 10
    examples, expected, total = empty_examples(ENV, capacity), [], 0
    store = jax.jit(_store)
    for _ in range(12):
        values = generator.integers(0, 3, size=(4, 9, 9))
        sides = generator.choice([-1, 1], size=(4, 9))
        seen = Seen(*map(jnp.asarray, (values, values == 0, values.astype(np.float32), sides)))
        outcome, flags = generator.integers(-1, 2, size=4), generator.random((4, 9)) < generator.choice([0.05, 0.5])
        examples = store(examples, seen, jnp.asarray(outcome), jnp.asarray(flags), jnp.asarray(1))
        for slot, time in zip(*np.nonzero(flags), strict=True):
            expected.append((values[slot, time].tolist(), int(sides[slot, time] * outcome[slot])))
            total += 1
        assert int(examples.size) == min(total, capacity)
        assert int(examples.position) == total % capacity
        kept = sorted(
            (np.asarray(examples.seen.features)[row].tolist(), int(examples.outcome[row])) for row in range(int(examples.size))
        )
        assert kept == sorted(expected[-capacity:])
    assert int(examples.total) == 12


def test_a_batch_has_turned_and_mirrored_positions_with_their_policies(trained):
    games = trained[0].games
    batch, plain = (
        jax.tree.map(np.asarray, draw_batch(ENV, jax.random.key(0), games, 200, use_symmetries=turns))
        for turns in (True, False)
    )
    seen = set()
    for row in range(200):
        images = {}
        for turns in range(4):
            for flip in (False, True):

                def image(values, turns=turns, flip=flip):
                    square = np.rot90(np.asarray(values).reshape(3, 3), turns)
                    return (square.T if flip else square).ravel()

                images[turns, flip] = tuple(image(leaf[row]) for leaf in plain[:3])
        fits = [
            name
            for name, image in images.items()
            if all(np.array_equal(one, leaf[row]) for one, leaf in zip(image, batch[:3], strict=True))
        ]
        assert fits
        assert batch.outcome[row] == plain.outcome[row]
        seen |= set(fits) if len(fits) == 1 else set()
    assert len(seen) == 8


def test_the_loss_is_what_loops_say():
    generator = np.random.default_rng(0)
    values = generator.integers(0, 3, size=(5, 9))
    mask = values == 0
    mask[:, 0] = True
    policy = np.where(mask, generator.random((5, 9)), 0.0)
    policy = (policy / policy.sum(axis=1, keepdims=True)).astype(np.float32)
    outcome = np.asarray([1.0, -1.0, 0.0, 1.0, 0.0], np.float32)
    settings = AlphaZero(scale=4.0, policy_weight=0.5, value_weight=2.0)
    model = Model(POLICY, jnp.zeros(()))
    total = 0.0
    for row in range(5):
        legal = np.flatnonzero(mask[row]).tolist()
        logits, log_flow = look_at(values[row])
        norm = math.log(sum(math.exp(float(logits[a])) for a in legal))
        misfit = -sum(float(policy[row, a]) * (float(logits[a]) - norm) for a in legal)
        total += 2.0 * (float(log_flow) / 4.0 - float(outcome[row])) ** 2 + 0.5 * misfit
    batch = Batch(jnp.asarray(values, jnp.int32), jnp.asarray(mask), jnp.asarray(policy), jnp.asarray(outcome))
    loss, gradient = jax.jit(jax.value_and_grad(lambda model: alphazero_loss(model, batch, settings)))(model)
    assert float(loss) == pytest.approx(total / 5, rel=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_presets_are_those_of_the_specification():
    theirs = AlphaZero.reproduction()
    assert (theirs.kind, theirs.num_simulations, theirs.c_puct) == ("puct", 25, 1.0)
    assert (theirs.exploration_plies, theirs.games_per_round, theirs.num_rows) == (15, 100, 64)
    # Ten epochs over 20 rounds of positions and their mirror images.
    assert theirs.steps_per_round * theirs.num_rows == 10 * 2 * theirs.capacity


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_simulations": 0}, "num_simulations must be at least 1, got 0"),
        ({"kind": "alpha"}, "kind must be 'gumbel' or 'puct', got 'alpha'"),
        ({"c_puct": 0.0}, "c_puct must be positive"),
        ({"scale": math.inf}, "scale must be positive and finite"),
        ({"exploration_plies": -1}, "exploration_plies must be at least 0"),
        ({"capacity": 0}, "capacity must be at least 1"),
        ({"average": 1.0}, r"average must lie in \[0, 1\)"),
        ({"policy_weight": 0.0, "value_weight": 0.0}, "expected weights >= 0, not both 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AlphaZero(**fields)


def test_networks_that_cannot_search_are_refused():
    with pytest.raises(ValueError, match="needs a network with a flow head"):
        SearchPlayer(ENV, Uniform(9), 4)
    with pytest.raises(ValueError, match="needs a network with a flow head"):
        alphazero_trainer(ENV, lambda key: Uniform(9), optax.adam(1e-3), AlphaZero())
    with pytest.raises(ValueError, match="scale must be positive"):
        SearchPlayer(ENV, POLICY, 4, scale=0.0)


def test_without_mctx_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mctx", None)
    place = sys.modules[search_function.__module__].__file__
    assert place is not None
    spec = importlib.util.spec_from_file_location("search_without_mctx", place)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"pip install 'narrows\[games\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_operations_are_those_of_the_products():
    policy = ResidualMLP(Sizes(9, 3, 9, flow_head=True), hidden=64, blocks=2, key=jax.random.key(0))
    products = 27 * 64 + 2 * 2 * 64**2 + 64 * 10
    assert forward_flops(policy, ENV) == pytest.approx(2 * products, rel=0.05)
    spent = Compute(forward=100.0, rows=10.0, evaluations=7.0)
    assert (spent.training, spent.playing, spent.total) == (3000.0, 700.0, 3700.0)
    assert isinstance(empty_examples(ENV, 3), Examples)
