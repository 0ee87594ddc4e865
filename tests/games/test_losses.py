"""Every setting of every loss on games is heard."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from narrows import objectives
from narrows.envs import TicTacToe
from narrows.games.losses import BALANCES, BalanceLoss, FlowMatching, Loss
from narrows.games.packing import Packed, pack
from narrows.games.slots import Games, begin, empty_games, play_move
from narrows.policies import MLP, Sizes
from narrows.policies.base import Model
from narrows.trajectories.behaviour import on_policy

ENV = TicTacToe()


def lopsided(state: Any) -> jax.Array:
    """A reference policy that no count of moves gives."""
    return jnp.where(jnp.arange(9) % 2 == 0, -3.0, -1.0) - 0.1 * jnp.sum(state.mover)


OTHER_THAN_DEFAULT: dict[str, Any] = {
    "branch_adjusted": False,
    "carry": 0.2,
    "lambda_": 0.3,
    "policy_weight": 0.5,
    "huber": 0.1,
    "reference": lopsided,
}


@pytest.fixture(scope="module")
def games() -> Games:
    key = jax.random.key(0)

    def body(number: jax.Array, loop: Any) -> Any:
        return play_move(ENV, None, on_policy, 0, jax.random.fold_in(key, number), *loop)

    start = (begin(ENV, key, 16, 0), empty_games(ENV, 100))
    return jax.jit(lambda loop: jax.lax.fori_loop(0, 20, body, loop))(start)[1]


@pytest.fixture(scope="module")
def packed(games: Games) -> Packed:
    return packed_of(games, 100)


def packed_of(games: Games, num_rows: int) -> Packed:
    return jax.jit(lambda games: pack(ENV, jax.random.key(0), games, num_rows, 12, use_symmetries=False))(games)


def values_of(losses: list[Loss], packed: Packed) -> list[float]:
    """Return the losses of one batch, compiled together."""
    net = MLP(Sizes(9, 3, 9, flow_head=True), hidden=8, key=jax.random.key(5))
    model = Model(jax.tree.map(lambda leaf: 8.0 * leaf, net), jnp.asarray(0.3))

    @jax.jit
    def values(model: Model, packed: Packed) -> list[jax.Array]:
        return [loss(model, model, ENV, packed, jnp.asarray(5.0)) for loss in losses]

    return [float(value) for value in values(model, packed)]


@pytest.mark.parametrize("name", ["FlowMatching", *BALANCES])
def test_every_field_of_a_loss_changes_the_loss_of_a_batch_of_games(name: str, packed: Packed) -> None:
    make: Any = FlowMatching if name == "FlowMatching" else lambda **fields: BalanceLoss(getattr(objectives, name)(**fields))
    fields = dataclasses.fields(FlowMatching if name == "FlowMatching" else getattr(objectives, name))
    others = [make(**{field.name: OTHER_THAN_DEFAULT[field.name]}) for field in fields]
    plain, *changed = values_of([make(), *others], packed)
    for field, value in zip(fields, changed, strict=True):
        assert abs(value - plain) > 1e-3 * abs(plain), field.name


def test_games_that_do_not_fit_count_for_nothing(games: Games) -> None:
    losses: list[Loss] = [BalanceLoss(getattr(objectives, name)()) for name in BALANCES]
    some = packed_of(games, 60)
    num = int(some.is_game.sum())
    assert num < 12
    alone = Packed(*some[:5], *(leaf[:num] for leaf in some[5:]))
    assert values_of(losses, some) == pytest.approx(values_of(losses, alone), rel=1e-5)
