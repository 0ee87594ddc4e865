"""The log-reward of a finished game: who has won."""

import math
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment
from narrows.envs.game import AbstractGame
from narrows.rewards.base import AbstractReward


class GameResult(AbstractReward):
    """The outcome of a two-player zero-sum game for player 0: `scale` for a win, 0 for a draw, `-scale` for a loss.

    Player 1's log-reward is its negative (eflow 1.3).

    Args:
        env: the game.
        scale: log-reward of a win, the inverse temperature `lambda` of the players, > 0: the larger, the more optimal and the
            less varied their play. Published: 10.

    >>> from narrows.envs import TicTacToe
    >>> env = TicTacToe()
    >>> ends = ["xxx/oo./...", "xxo/oox/xox", "xx./ooo/x.."]
    >>> GameResult(env, scale=5.0)(env.from_text(ends)).tolist()
    [5.0, 0.0, -5.0]
    """

    env: AbstractGame
    scale: float = eqx.field(static=True)

    def __init__(self, env: AbstractEnvironment, *, scale: float = 10.0) -> None:
        if not isinstance(env, AbstractGame):
            raise ValueError(
                f"GameResult scores finished games of two players, got {type(env).__name__}. Name a game as the environment, "
                "such as TicTacToe or ConnectFour, or choose another reward."
            )
        if not 0.0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {scale}. It is the log-reward of a win; 10 is usual.")
        self.env, self.scale = env, scale

    def __call__(self, states: Any) -> Float[Array, " batch"]:
        return self.scale * jax.vmap(self.env.outcome)(states)
