"""The adapter to pgx: the contract, and training on its games."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from narrows.envs import TicTacToe, check_environment
from narrows.games import game_named
from narrows.games.losses import FlowMatching
from narrows.games.self_play import SelfPlay, self_play_trainer
from narrows.policies import ResidualMLP
from narrows.training import adam

pytest.importorskip("pgx", reason="pgx is not installed: pip install 'narrows[games]'")


@pytest.fixture(scope="module")
def env():
    return game_named("pgx-tic_tac_toe")


def test_a_game_of_pgx_keeps_the_contract(env):
    check_environment(env, num_trajectories=8)


def test_it_is_the_same_game_as_ours(env):
    ours, generator = TicTacToe(), np.random.default_rng(0)
    for _ in range(6):
        one, two = env.reset(), ours.reset()
        while not bool(ours.is_terminal(two)):
            mask = np.asarray(ours.action_mask(two))
            assert np.array_equal(env.action_mask(one), mask)
            assert int(env.turn(one)) == int(ours.turn(two))
            planes = np.asarray(env.observe(one)).reshape(9, 2)
            assert np.array_equal(planes[:, 0] + 2 * planes[:, 1], ours.observe(two))
            action = jnp.asarray(generator.choice(np.flatnonzero(mask)), jnp.int32)
            one, two = env.step(one, action), ours.step(two, action)
        assert bool(env.is_terminal(one))
        assert int(env.outcome(one)) == int(ours.outcome(two))


def test_it_can_be_trained(env):
    settings = SelfPlay(num_slots=8, games_per_round=4, num_rows=32, games_per_batch=8, capacity=50, initial_games=8)
    trainer = self_play_trainer(
        env, lambda key: ResidualMLP(18, 2, 9, hidden=8, blocks=1, flow_head=True, key=key), FlowMatching(), adam(), settings
    )
    state, info = jax.jit(trainer.step)(trainer.init(jax.random.key(0)))
    assert bool(jnp.isfinite(info.loss))
    assert not bool(info.is_skipped)
    assert float(state.num_rows) > 20


@pytest.mark.parametrize("name", ["pgx-backgammon", "pgx-nonsense", "pgx-"])
def test_games_that_do_not_fit_are_refused(name):
    with pytest.raises(ValueError, match=r"Known: .*othello"):
        game_named(name)
