"""Whose turns there are is found by playing, whichever methods a class defines."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.doubles import Coin, Double
from tests.reference.game_tree import OfNodes, TreeGame, random_tree

from narrows.envs import Sequence, Subsets, TicTacToe
from narrows.envs.base import CHANCE
from narrows.envs.turns import turns_of
from narrows.metrics.likelihood import is_tree
from narrows.objectives import (
    AdversarialTrajectoryBalance,
    AdversarialVarGrad,
    ExpectedFlowMatching,
    UnadjustedExpectedDetailedBalance,
    VarGrad,
)
from narrows.policies import Sizes, Tabular
from narrows.training import adam, trainer

TREE: Any = TreeGame(random_tree(np.random.default_rng(5), depth=4))
COIN = Coin((0.5, 0.5, 0.0))


def test_turns_are_looked_at_and_not_who_defines_them():
    # A double passes every question on: it defines all methods, whatever turns there are in what it wraps.
    game, alone = Double(TREE, {}), Double(Subsets(3), {})
    dice = Double(Subsets(3), {"turn": lambda _, state: jnp.full((), CHANCE, jnp.int32)})
    envs = (game, COIN, alone, dice)
    assert [sorted(turns_of(env)) for env in envs] == [[0, 1], [CHANCE, 0], [0], [CHANCE]]
    for objective in (AdversarialTrajectoryBalance(), UnadjustedExpectedDetailedBalance()):
        assert [objective.accounts_for(env) for env in envs] == [True, False, True, False]
    assert [VarGrad().accounts_for(env) for env in envs] == [False, False, True, False]
    assert [ExpectedFlowMatching().accounts_for(env) for env in (COIN, alone)] == [False, True]
    assert is_tree(Double(Sequence("AB", 1, 2), {}))
    policy = Tabular(Sizes(1, game.num_values, game.num_actions), key=jax.random.key(0))
    trainer(game, policy, OfNodes(jnp.zeros(9)), AdversarialTrajectoryBalance(), adam())


@pytest.mark.parametrize(
    ("env", "objective", "message"),
    [
        (TicTacToe(), VarGrad(), "TicTacToe has a second player, .* AdversarialTrajectoryBalance takes two players.$"),
        (COIN, AdversarialVarGrad(), "Coin has chance turns, .* ExpectedDetailedBalance .* takes chance turns.$"),
    ],
)
def test_who_has_turns_is_said_and_an_objective_that_takes_them_is_named(env, objective, message):
    with pytest.raises(ValueError, match=message):
        trainer(env, Tabular(Sizes(2, 2, 3), key=jax.random.key(0)), OfNodes(jnp.zeros(1)), objective, adam())
