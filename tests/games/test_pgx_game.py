"""The adapter to pgx: the contract, and training on its games."""

import functools
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.games.heap import Nim, OneHeap

from narrows.cli import main
from narrows.envs import TicTacToe, check_environment
from narrows.envs.contract import rows_of
from narrows.envs.declarations import check_declarations
from narrows.games import game_named
from narrows.games.losses import FlowMatching
from narrows.games.pgx_game import TAKEN, PgxGame, PgxState, pgx_game
from narrows.games.players import TacticPlayer
from narrows.games.recipe import preset
from narrows.games.rules import look, moved
from narrows.games.self_play import SelfPlay, self_play_trainer
from narrows.games.slots import begin, empty_games, play_move
from narrows.policies import ResidualMLP, Sizes
from narrows.training import adam
from narrows.trajectories.behaviour import on_policy

pytest.importorskip("pgx", reason="pgx is not installed: pip install 'narrows[games]'")


@pytest.fixture(scope="module")
def env():
    return game_named("pgx-tic_tac_toe")


def test_a_game_of_pgx_keeps_the_contract(env):
    check_environment(env, num_trajectories=4)


def test_it_is_the_same_game_as_ours(env):
    ours, generator = TicTacToe(), np.random.default_rng(0)
    starts = [jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (30, *leaf.shape)), game.reset()) for game in (env, ours)]
    one, two = starts
    for _ in range(9):
        theirs, mine = look(env, one), look(ours, two)
        for leaf, same in zip(theirs, mine, strict=True):
            assert np.array_equal(leaf, same)
        planes = np.asarray(jax.vmap(env.observe)(one)).reshape(-1, 9, 2)
        assert np.array_equal(planes[..., 0] + 2 * planes[..., 1], jax.vmap(ours.observe)(two))
        rows = np.flatnonzero(~np.asarray(mine.is_over))
        actions = np.argmax(np.asarray(mine.mask)[rows] * generator.random((len(rows), 9)), axis=1)
        one, two = (moved(game, rows_of(states, rows), actions) for game, states in ((env, one), (ours, two)))
    assert np.asarray(look(env, one).is_over).all()
    assert np.array_equal(look(env, one).outcome, look(ours, two).outcome)


@pytest.mark.slow("compiles a training; it is the same game as ours, which trains in test_self_play.py")
def test_it_can_be_trained(env):
    settings = SelfPlay(num_slots=8, games_per_round=8, num_rows=32, games_per_batch=8, capacity=50, initial_games=0)
    trainer = self_play_trainer(
        env,
        lambda key: ResidualMLP(Sizes(18, 2, 9, flow_head=True), hidden=8, blocks=1, key=key),
        FlowMatching(),
        adam(),
        settings,
    )
    state, info = jax.jit(trainer.step)(trainer.init(jax.random.key(0)))
    assert bool(jnp.isfinite(info.loss))
    assert not bool(info.is_skipped)
    assert float(state.num_rows) > 20


@functools.cache
def played(name):
    """Return a game and some random plays of it as they look after each move: two of six moves, of animal shogi whole ones."""
    env, num_games, num_moves = pgx_game(name), 2, 256 if name == "animal_shogi" else 6

    def move(states, key):
        mask = jax.vmap(env.action_mask)(states)
        actions = jax.random.categorical(key, jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)
        is_over = jax.vmap(env.is_terminal)(states)
        after = jax.vmap(env.step)(states, actions)
        after = jax.tree.map(lambda old, new: jax.vmap(jnp.where)(is_over, old, new), states, after)
        looks = jax.vmap(lambda state: (env.observe(state), env.turn(state), env.is_terminal(state), env.outcome(state)))(after)
        return after, (after.inner.observation, jax.vmap(env.action_mask)(after).any(axis=1), after.num_moves, *looks)

    def play(key):
        start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_games, *leaf.shape)), env.reset())
        return jax.lax.scan(move, start, jax.random.split(key, num_moves))[1]

    return env, jax.tree.map(np.asarray, jax.jit(play)(jax.random.key(0)))


LARGE = pytest.mark.slow("takes long to compile; the smaller games keep the same laws, and a made-up one has counts")
SMALL = ("connect_four",)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in SMALL else LARGE) for name in sorted(TAKEN)])
def test_every_game_that_is_listed_can_be_made_and_played(name):
    env, (_, can_move, num_moves, seen, turn, is_over, outcome) = played(name)
    check_declarations(env)
    assert seen.shape[2:] == (env.num_features,)
    assert set(np.unique(seen).tolist()) == {0, 1}
    assert env.num_features % (env.board[0] * env.board[1]) == 0
    assert np.array_equal(can_move, ~is_over)
    assert np.array_equal(turn, num_moves % 2)
    assert not outcome[~is_over].any()
    assert num_moves[-1].max() <= env.max_steps
    if name == "animal_shogi":
        assert is_over[-1].all()
        assert set(outcome.ravel().tolist()) <= {-1, 0, 1}


def test_a_count_of_a_made_up_game_is_read_in_binary_digits():
    env = PgxGame(None, "counting", 2, (2, 2, 4), 9, ((1, 8), (3, 5)), 0)
    for first, second in ((0, 0), (5, 3), (8, 5)):
        planes = jnp.asarray([1.0, first / 8, 0.0, second / 5]) * jnp.ones((2, 2, 1))
        seen = env.observe(PgxState(SimpleNamespace(observation=planes), jnp.zeros(9), jnp.zeros(())))
        assert seen.shape == (env.num_features,) == (2 * 2 * (2 + 4 + 3),)
        for cell in seen.reshape(4, 9).tolist():
            assert cell[:2] == [1, 0]
            assert (sum(bit << place for place, bit in enumerate(cell[2:6])), cell[6:]) == (
                first,
                [second & 1, second >> 1 & 1, second >> 2],
            )


@LARGE
@pytest.mark.parametrize(("name", "where"), [("animal_shogi", 193), ("gardner_chess", 113), ("chess", 113)])
def test_a_count_is_read_in_binary_digits(name, where):
    env, (planes, _, num_moves, seen, *_) = played(name)
    planes = planes.reshape(*num_moves.shape, env.board[0] * env.board[1], -1)
    features = seen.reshape(*planes.shape[:3], -1)
    assert env.counts[0][0] == where
    others = env.planes[-1] - len(env.counts)
    assert np.array_equal(np.delete(planes, [plane for plane, _ in env.counts], axis=-1), features[..., :others])
    digits = features[..., others : others + env.counts[0][1].bit_length()]
    counted = digits @ 2 ** np.arange(digits.shape[-1])
    assert np.array_equal(counted, np.broadcast_to(num_moves[..., None], counted.shape))
    assert np.array_equal(counted, planes[..., where] * env.counts[0][1])


class OneMove(OneHeap):
    """A game of one move out of 200, which eight bits with a sign cannot tell."""

    num_actions = 200
    max_steps = 1

    def reset(self):
        return Nim(jnp.asarray(1, jnp.int32), jnp.asarray(0, jnp.int32))

    def step(self, state, action):
        return Nim(state.stones - 1, state.num_moves + 1)

    def action_mask(self, state):
        return jnp.full(200, True) & (state.stones > 0)


def test_the_moves_of_a_game_with_many_actions_are_kept_as_they_are():
    env = OneMove()
    favourite = jnp.full((2, env.num_actions), -1e9).at[:, 199].set(0.0)
    slots, games = begin(env, jax.random.key(0), 2, 0), empty_games(env, 2)
    assert slots.moves.dtype == games.moves.dtype == jnp.int16
    loop = jax.jit(lambda *loop: play_move(env, lambda _: favourite, on_policy, 0, jax.random.key(1), *loop))
    assert loop(slots, games)[1].moves[:, 0].tolist() == [199, 199]
    assert empty_games(TicTacToe(), 2).moves.dtype == jnp.int8  # as in checkpoints of older runs


def test_a_game_can_be_made_inside_a_trace_as_where_a_player_is_read():
    pgx_game.cache_clear()
    assert jax.eval_shape(lambda: jnp.zeros(1 + pgx_game("tic_tac_toe").first)).shape in ((1,), (2,))


@LARGE
@pytest.mark.parametrize("name", ["animal_shogi", "chess"])
def test_every_preset_of_a_game_with_many_actions_fits_together(name):
    for algorithm in ("aflownet", "alphazero"):
        for kind in ("cpu", "gpu"):
            recipe = preset(f"pgx-{name}", kind, algorithm)
            assert recipe.acts == "head"
            assert recipe.trainer() is not None
    with pytest.raises(ValueError, match="actions, more than 128"):
        TacticPlayer(recipe.env())


@pytest.mark.parametrize("name", ["pgx-backgammon", "pgx-kuhn_poker", "pgx-2048", "pgx-nonsense", "pgx-"])
def test_games_that_do_not_fit_are_refused_with_the_list_of_those_that_do(name):
    with pytest.raises(ValueError, match=r"Known: animal_shogi, chess, .*othello, shogi, tic_tac_toe\.$"):
        game_named(name)


def test_the_games_that_are_listed_are_the_same_everywhere(capsys):
    listed = [f"pgx-{name}" for name in sorted(TAKEN)]
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    sentence = readme[readme.index("games of the pgx library") :].split(". ")[0]
    assert re.findall(r"`(pgx-\w+)`", sentence) == listed
    with pytest.raises(ValueError, match=", ".join(listed)):
        game_named("nonsense")
    with pytest.raises(SystemExit):
        main(["games", "train", "--help"])
    assert re.findall(r"pgx-\w+", capsys.readouterr().out) == listed
