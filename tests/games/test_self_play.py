"""Self-play on the device against slow loops, and losses against exact values."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Int
from tests.games.heap import OneHeap

from narrows.envs import ConnectFour, TicTacToe
from narrows.envs.base import NO_ACTION
from narrows.envs.contract import rows_of
from narrows.exact import enumerate_graph
from narrows.exact.games import solve_game
from narrows.games.alphazero import AlphaZero, alphazero_trainer
from narrows.games.exam import watch
from narrows.games.losses import BalanceLoss, FlowMatching
from narrows.games.packing import pack
from narrows.games.players import children, logits
from narrows.games.rules import batch_of, look, moved
from narrows.games.self_play import SelfPlay, scale_at, self_play_trainer
from narrows.games.slots import begin, empty_games, play_move
from narrows.objectives import AdversarialDetailedBalance, AdversarialTrajectoryBalance
from narrows.policies import MLP, PolicyOutput, ResidualMLP, Sizes
from narrows.policies.base import AbstractPolicy, Model
from narrows.rewards import GameResult
from narrows.training import adam
from narrows.trajectories import Trajectory
from narrows.trajectories.behaviour import on_policy

ENV = TicTacToe()
SCALE = 5.0
EARLY = pytest.mark.slow("compiles again; games that are packed from their middle on have the same rows")
ENDS = pytest.mark.slow("compiles again; between them both terms count")
DETAILED = pytest.mark.slow("compiles again; every balance has its games in test_losses.py")
PLAIN = pytest.mark.slow("compiles again; one of the symmetries changes nothing")


def played(env, num_moves: int, *, capacity: int = 500, num: int = 64, max_random: int = 0, logits_of=None, seed: int = 0):
    key = jax.random.key(seed)

    def body(number, loop):
        return play_move(env, logits_of, on_policy, max_random, jax.random.fold_in(key, number), *loop)

    start = (begin(env, key, num, max_random), empty_games(env, capacity))
    return jax.jit(lambda loop: jax.lax.fori_loop(0, num_moves, body, loop))(start)


@pytest.fixture(scope="module")
def games():
    return played(ENV, 40)[1]


@partial(jax.jit, static_argnums=(2, 3), static_argnames=("use_symmetries", "prefers_late"))
def packs(key, games, num_rows, num_games, *, use_symmetries, prefers_late=False):
    return pack(ENV, key, games, num_rows, num_games, use_symmetries=use_symmetries, prefers_late=prefers_late)


@eqx.filter_jit
def value_of(loss, model, packed):
    return loss(model, model, ENV, packed, jnp.asarray(SCALE))


def replay(env, moves):
    """Return the states of a game, its end last, after checking that every move was legal and nothing came after the end."""
    states = [env.reset()]
    for number, move in enumerate(moves):
        if move == NO_ACTION:
            assert all(later == NO_ACTION for later in moves[number:])
            break
        batch = batch_of(states[-1])
        assert bool(look(env, batch).mask[0, move])
        states.append(rows_of(moved(env, batch, np.asarray([move])), 0))
    return states


def test_stored_games_are_whole_legal_games(games):
    size = int(games.size)
    assert size == int(games.total) > 200
    rows = np.arange(size)[:: size // 40]
    for row in rows:
        states = replay(ENV, games.moves[row].tolist())
        assert len(states) - 1 == int(games.num_moves[row])
        assert bool(ENV.is_terminal(states[-1]))
        assert int(ENV.outcome(states[-1])) == int(games.outcome[row])


def test_a_full_ring_forgets_the_oldest_games():
    kept, everything = played(ENV, 40, capacity=50)[1], played(ENV, 40)[1]
    total = int(everything.total)
    assert (int(kept.total), int(kept.size), int(kept.position)) == (total, 50, total % 50)
    newest = np.asarray(everything.moves)[total - 50 : total]
    assert sorted(np.asarray(kept.moves).tolist()) == sorted(newest.tolist())


def test_random_games_of_connect_four_last_and_end_as_published():
    games = played(ConnectFour(), 300, capacity=20_000, num=1024)[1]
    size = int(games.size)
    assert size > 12_000
    # 200,000 games had a mean of 21.34 moves and the first player won 55.5 % (eflow 4.4).
    lengths, outcomes = np.asarray(games.num_moves)[:size], np.asarray(games.outcome)[:size]
    assert abs(lengths.mean() - 21.34) < 5 * lengths.std() / size**0.5 + 0.15  # games that last are cut off by the end
    assert abs((outcomes == 1).mean() - 0.555) < 5 * 0.5 / size**0.5


def test_only_the_first_moves_are_random():
    favourite = jnp.arange(9, dtype=jnp.float32) * 50.0
    games = played(ENV, 60, max_random=3, logits_of=lambda states: jnp.broadcast_to(favourite, (64, 9)))[1]
    for moves in np.asarray(games.moves)[: int(games.size)].tolist():
        for number, move in enumerate(moves):
            if number >= 3 and move != NO_ACTION:
                assert move == max(set(range(9)) - set(moves[:number]))


@pytest.mark.parametrize("use_symmetries", [pytest.param(False, marks=PLAIN), True])
def test_packed_rows_are_the_positions_of_the_games(games, use_symmetries):
    packed = jax.tree.map(np.asarray, packs(jax.random.key(3), games, 50, 12, use_symmetries=use_symmetries))
    assert packed.is_game.any()
    assert not packed.is_game.all()
    assert packed.is_row.sum() == packed.num_moves[packed.is_game].sum() <= 50
    known = {tuple(moves) for moves in np.asarray(games.moves).tolist()}
    for game in np.flatnonzero(packed.is_game):
        rows = np.flatnonzero(packed.is_row & (packed.game == game))
        assert packed.time[rows].tolist() == list(range(packed.num_moves[game]))
        moves = packed.actions[rows].tolist()
        states = replay(ENV, moves)
        assert bool(ENV.is_terminal(states[-1]))
        assert int(ENV.outcome(states[-1])) == packed.outcome[game]
        for row, state in zip(rows, states, strict=False):
            assert jax.tree.map(lambda leaf, row=row: leaf[row].tolist(), packed.states) == jax.tree.map(
                np.ndarray.tolist, jax.tree.map(np.asarray, state)
            )
        filled = tuple(moves + [NO_ACTION] * (9 - len(moves)))
        mirrored = {
            tuple(table[move] if move != NO_ACTION else NO_ACTION for move in filled) for table in ENV.action_symmetries
        }
        assert (mirrored if use_symmetries else {filled}) & known


def test_late_positions_are_drawn_more_often_and_every_game_is_packed_to_its_end(games):
    packed = jax.tree.map(np.asarray, packs(jax.random.key(7), games, 3000, 900, use_symmetries=False, prefers_late=True))
    times = packed.time[packed.is_row]
    for game in np.flatnonzero(packed.is_game)[:50]:
        rows = packed.is_row & (packed.game == game)
        assert packed.time[rows].tolist() == list(range(packed.start[game], packed.num_moves[game]))
    # Of a game of T moves, row t has the chance (t + 1) / T.
    expected = sum((t + 1) / length for length in packed.num_moves[packed.is_game] for t in range(length) if t == 0)
    assert abs((times == 0).sum() - expected) < 5 * expected**0.5
    assert (times == 4).sum() > 3 * (times == 0).sum()


def test_an_empty_ring_packs_nothing():
    packed = packs(jax.random.key(0), empty_games(ENV, 10), 20, 4, use_symmetries=True)
    assert not packed.is_row.any()
    assert not packed.is_game.any()


class Exact(AbstractPolicy):
    """The exact log-flow of every position of tic-tac-toe, by the digits of its observation."""

    table: Int[Array, " code"]

    @property
    def has_backward_head(self):
        return False

    @property
    def has_flow_head(self):
        return True

    def start(self):
        return ()

    def step(self, carry, observation):
        return jax.tree.map(lambda head: head[0], self.unroll(observation[None])), carry

    def unroll(self, observations):
        codes = jnp.sum(observations * 3 ** jnp.arange(9), axis=-1)
        return PolicyOutput(jnp.zeros((*codes.shape, 9)), log_flow=self.table[codes])


@pytest.fixture(scope="module")
def exact():
    graph = enumerate_graph(ENV)
    solution = solve_game(graph, np.asarray(GameResult(ENV, scale=SCALE)(graph.terminal_states), np.float64))
    codes = np.asarray(jax.vmap(ENV.observe)(graph.states)) @ 3 ** np.arange(9)
    table = np.zeros(3**9, np.float32)
    table[codes] = np.where(graph.turn == 0, 1, -1) * solution.values
    return graph, solution, Exact(jnp.asarray(table))


def test_children_have_the_exact_log_flows_and_the_policy_read_off_them_is_exact(exact):
    graph, solution, policy = exact
    rows = np.flatnonzero(~graph.is_terminal)[::7]
    states = jax.tree.map(jnp.asarray, graph.rows(rows))
    found = jax.jit(lambda states: children(ENV, policy, states, SCALE))(states)
    legal = graph.children[rows] >= 0
    sign = np.where(graph.turn[rows] == 0, 1.0, -1.0)[:, None]
    np.testing.assert_allclose(
        np.asarray(found.log_flow)[legal], (sign * solution.values[graph.children[rows]])[legal], atol=1e-5
    )
    assert np.array_equal(np.asarray(found.is_known)[legal], graph.is_terminal[graph.children[rows]][legal])
    scores = np.where(
        legal, np.asarray(jax.jit(lambda states: logits(ENV, policy, "children", states, SCALE))(states)), -np.inf
    )
    log_policy = scores - np.log(np.sum(np.exp(scores), axis=1, keepdims=True))
    np.testing.assert_allclose(log_policy[legal], solution.log_policy[rows][legal], atol=1e-4)


@pytest.mark.parametrize("carry", [pytest.param(0.0, marks=ENDS), 0.7, pytest.param(1.0, marks=ENDS)])
def test_flow_matching_is_zero_at_the_exact_solution_and_not_elsewhere(exact, games, carry):
    policy = exact[2]
    packed = packs(jax.random.key(1), games, 200, 40, use_symmetries=True)
    loss = FlowMatching(carry, policy_weight=0.0)
    assert float(value_of(loss, Model(policy, jnp.zeros(())), packed)) < 1e-9
    wrong = Exact(policy.table + jnp.sin(jnp.arange(3.0**9)))
    assert float(value_of(loss, Model(wrong, jnp.zeros(())), packed)) > 1e-3


@pytest.mark.parametrize("prefers_late", [pytest.param(False, marks=EARLY), True])
def test_values_are_carried_back_as_a_slow_loop_does(exact, games, prefers_late):
    wrong = Exact(exact[2].table + jnp.sin(jnp.arange(3.0**9)))
    packed = packs(jax.random.key(2), games, 120, 30, use_symmetries=False, prefers_late=prefers_late)
    step, looks = jax.jit(ENV.step), jax.jit(lambda state: (ENV.action_mask(state), ENV.is_terminal(state), ENV.outcome(state)))
    carry = 0.6
    loss = FlowMatching(carry, policy_weight=0.0)
    model = Model(wrong, jnp.zeros(()))
    found = float(value_of(loss, model, packed))
    total, count = 0.0, 0

    def flow(state):
        return float(wrong.table[int(ENV.observe(state) @ 3 ** np.arange(9))])

    for game in np.flatnonzero(packed.is_game):
        moves = np.asarray(packed.actions)[np.asarray(packed.is_row) & (np.asarray(packed.game) == game)].tolist()
        rows = np.asarray(packed.is_row) & (np.asarray(packed.game) == game)
        states, later = [jax.tree.map(lambda leaf, row=row: leaf[row], packed.states) for row in np.flatnonzero(rows)], None
        for state, move in reversed(list(zip(states, moves, strict=True))):
            q_values = []
            for action in np.flatnonzero(looks(state)[0]):
                child = step(state, jnp.asarray(action, jnp.int32))
                _, is_over, outcome = looks(child)
                sign = 1 if int(ENV.turn(state)) == 0 else -1
                q_value = sign * SCALE * int(outcome) if is_over else -flow(child)
                if action == move and not is_over:
                    assert later is not None
                    q_value = (1 - carry) * q_value - carry * later
                q_values.append(q_value)
            later = np.log(np.mean(np.exp(q_values)))
            total += ((flow(state) - later) / SCALE) ** 2
            count += 1
    assert found == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize(
    "objective", [AdversarialTrajectoryBalance(), pytest.param(AdversarialDetailedBalance(), marks=DETAILED)]
)
def test_balance_on_packed_games_is_that_on_trajectories(games, objective):
    packed = packs(jax.random.key(4), games, 100, 12, use_symmetries=False)
    net = MLP(Sizes(9, 3, 9, flow_head=True), hidden=8, key=jax.random.key(5))
    net = jax.tree.map(lambda leaf: 20.0 * leaf if leaf.ndim == 2 and leaf.shape[1] in (1, 9) else leaf, net)
    model = Model(net, jnp.asarray(0.3))
    found = value_of(BalanceLoss(objective), model, packed)
    table = np.full((12, 9), NO_ACTION, np.int32)
    is_row = np.asarray(packed.is_row)
    table[np.asarray(packed.game)[is_row], np.asarray(packed.time)[is_row]] = np.asarray(packed.actions)[is_row]
    kept = np.flatnonzero(packed.is_game)
    actions = jnp.asarray(table[kept])
    ends = jax.vmap(lambda row: jax.tree.map(lambda leaf: leaf[-1], ENV.states_along(row)))(actions)
    batch = Trajectory(ends, actions, SCALE * jnp.asarray(packed.outcome)[kept].astype(jnp.float32))
    expected = eqx.filter_jit(lambda model: objective.loss(model, model, ENV, batch))(model) / SCALE**2
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


SETTINGS = SelfPlay(
    scale=SCALE,
    num_slots=64,
    games_per_round=16,
    num_rows=256,
    games_per_batch=40,
    capacity=2000,
    initial_games=100,
    max_random=6,
)


@partial(jax.jit, static_argnums=(0, 2))
def advance(trainer, state, length):
    return jax.lax.scan(lambda state, _: trainer.step(state), state, length=length)


def make_policy(key):
    return ResidualMLP(Sizes(9, 3, 9, flow_head=True), hidden=64, blocks=1, key=key)


@pytest.mark.slow("trains; the loss is zero at the exact solution alone, and a step is taken below")
def test_flow_matching_by_self_play_learns_to_play():
    trainer = self_play_trainer(ENV, make_policy, FlowMatching(), adam(3e-3), SETTINGS)
    look, state = watch(ENV, "children", SCALE), trainer.init(jax.random.key(0))
    assert look is not None
    # Whoever plays at random finds an optimal move in 58 % of the positions (eflow 6.1).
    assert look(state.average.policy)["optimal"] < 0.85
    state, info = advance(trainer, state, 400)
    assert not info.is_skipped.any()
    assert look(state.average.policy)["optimal"] > 0.95
    assert int(state.step) == 400
    assert float(state.num_rows) > 400 * 200


def test_a_second_chunk_compiles_nothing():
    trainer = self_play_trainer(ENV, make_policy, BalanceLoss(AdversarialTrajectoryBalance()), adam(), SETTINGS)
    state = trainer.init(jax.random.key(0))
    num_traces = 0

    @jax.jit
    def step(state):
        nonlocal num_traces
        num_traces += 1
        return trainer.step(state)

    state, _ = step(state)
    step(state)
    assert num_traces == 1


def test_settings_and_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="num_rows must be at least 9"):
        self_play_trainer(ENV, make_policy, FlowMatching(), adam(), SelfPlay(num_rows=8))
    with pytest.raises(ValueError, match="flow head"):
        self_play_trainer(ENV, lambda key: MLP(Sizes(9, 3, 9), hidden=4, key=key), FlowMatching(), adam(), SETTINGS)
    wrongs: list[dict[str, Any]] = [
        {"average": 1.0},
        {"num_slots": 0},
        {"scale": 0.0},
        {"temperature": -1.0},
        {"scale_start": float("inf")},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
            SelfPlay(**wrong)
    with pytest.raises(ValueError, match="carry"):
        FlowMatching(carry=1.5)


class Dice(OneHeap):
    """A heap from which chance takes."""

    def chance_log_probs(self, state):
        return jnp.log(jnp.asarray([0.5, 0.5]))


def test_games_of_chance_are_refused():
    with pytest.raises(ValueError, match="Dice has chance turns, and self-play here is for games without chance"):
        self_play_trainer(Dice(), make_policy, FlowMatching(), adam(), SETTINGS)
    with pytest.raises(ValueError, match="Dice has chance turns"):
        alphazero_trainer(Dice(), make_policy, adam(), AlphaZero())


def test_the_scale_rises_to_its_end():
    settings = SelfPlay(scale=10.0, scale_start=2.0, scale_steps=4)
    assert [float(scale_at(settings, jnp.asarray(step))) for step in (0, 1, 4, 9)] == [2.0, 4.0, 10.0, 10.0]
