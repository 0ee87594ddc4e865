"""Hidden games: monotone in the strategies, which players reach only through a model (Sakos et al. 2023, arXiv:2312.16609)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from narrows.vi.problems.base import HiddenProblem, Problem
from narrows.vi.problems.matrix_games import ROCK_PAPER_SCISSORS, Mixed, matrix_game
from narrows.vi.projections import box

_CELU_SCALE = 10.0
"""The level of the negative branch of the players' activation far from zero."""

Pair = tuple[float, float]
Coins = tuple[Float[Array, ""], Float[Array, ""]]
"""One number for each player."""


def hidden_matching_pennies(
    regularisation: float = 0.5, weights: tuple[Pair, Pair] = ((0.9, 0.7), (-0.8, 0.6)), params: Pair = (1.25, 2.25)
) -> HiddenProblem:
    """Return matching pennies played through one neuron each, with one parameter each: `x_i = sigmoid(b_i CELU(a_i theta_i))`.

    Player i shows heads with probability `x_i`. Player 1 gets `(2 x_1 - 1)(2 x_2 - 1)`, player 2 its negative, and each loses
    `c (x_i - 1/2)^2`: strength 2c, Lipschitz constant `sqrt(4 c^2 + 16)`, the solution in the middle. Both maximise, so the
    operator is the negative gradient of what they get. Gradient play on the parameters circles for large steps, and does not
    converge at all without regularisation.

    Args:
        regularisation: c, >= 0. The authors' published game has 0.04, where the safe step is 0.005.
        weights: `(a_i, b_i)` for each player, none 0.
        params: `theta_i` to begin at.
    """
    if not 0.0 <= regularisation < float("inf"):
        raise ValueError(f"regularisation must be at least 0 and finite, got {regularisation}.")
    if np.shape(weights) != (2, 2) or not np.all(weights):
        raise ValueError(f"weights must be two pairs of numbers other than 0, got {weights}. At 0 a player cannot choose.")
    if np.shape(params) != (2,):
        raise ValueError(f"params must be one number for each of two players, got shape {np.shape(params)}.")

    def predict(params: Coins) -> Coins:
        first, second = (
            jax.nn.sigmoid(outer * jax.nn.celu(inner * theta, _CELU_SCALE))
            for (inner, outer), theta in zip(weights, params, strict=True)
        )
        return first, second

    def operator(z: Coins) -> Coins:
        x, y = z[0] - 0.5, z[1] - 0.5
        return 2.0 * regularisation * x - 4.0 * y, 4.0 * x + 2.0 * regularisation * y

    begin = (jnp.asarray(np.float64(params[0])), jnp.asarray(np.float64(params[1])))
    middle = (jnp.asarray(np.float64(0.5)), jnp.asarray(np.float64(0.5)))
    lipschitz = float(np.hypot(2.0 * regularisation, 4.0))
    problem = Problem(operator, predict(begin), middle, 2.0 * regularisation, lipschitz, box((0.0, 0.0), (1.0, 1.0)))
    return HiddenProblem(predict, begin, problem)


class Network(NamedTuple):
    """A player's network with one hidden layer of GELUs, the second of three inputs on and the others off.

    Attributes:
        hidden_weight: of the first layer.
        hidden_bias: of the first layer.
        weight: of the second layer.
        bias: of the second layer.
    """

    hidden_weight: Float[Array, "hidden 3"]
    hidden_bias: Float[Array, " hidden"]
    weight: Float[Array, "3 hidden"]
    bias: Float[Array, " 3"]


def hidden_rock_paper_scissors(
    regularisation: float = 1.0,
    *,
    key: Array | None = None,
    hidden: int = 128,
    params: tuple[Network, Network] | None = None,
) -> HiddenProblem:
    """Return rock-paper-scissors between two networks that end in a softmax; their weights are the parameters.

    The game is `matrix_game(ROCK_PAPER_SCISSORS, regularisation)`: strength lam, Lipschitz constant `sqrt(lam^2 + 3)`, the
    solution uniform. The softmax has a Jacobian of rank two for three actions, and targets may leave what it can reach, so
    Levenberg-Marquardt wants a damping of 1e-2 at least.

    Args:
        regularisation: lam, >= 0.
        key: of the weights, uniform within one over the root of a layer's inputs, with output biases moved away from the
            solution, differently for the two players.
        hidden: units of a hidden layer.
        params: networks to begin at, in place of `key` and `hidden`.
    """
    if (key is None) == (params is None):
        raise ValueError("give either key, to draw the weights, or params, to begin at given ones.")
    if hidden < 1:
        raise ValueError(f"hidden must be at least 1, got {hidden}.")
    if params is None:
        assert key is not None
        keys = jax.random.split(key)
        params = _drawn(keys[0], hidden, (2.0, 0.0, -1.0)), _drawn(keys[1], hidden, (-1.0, 2.0, 0.0))

    def predict(params: tuple[Network, Network]) -> Mixed:
        return _strategy(params[0]), _strategy(params[1])

    problem = matrix_game(ROCK_PAPER_SCISSORS, regularisation)
    return HiddenProblem(predict, params, problem._replace(start=predict(params)))


def _strategy(network: Network) -> Float[Array, " 3"]:
    inputs = jnp.zeros(3, network.hidden_weight.dtype).at[1].set(1.0)
    units = jax.nn.gelu(network.hidden_weight @ inputs + network.hidden_bias, approximate=False)
    return jax.nn.softmax(network.weight @ units + network.bias)


def _drawn(key: Array, hidden: int, shift: tuple[float, float, float]) -> Network:
    keys, wide, narrow = jax.random.split(key, 4), 3**-0.5, hidden**-0.5
    return Network(
        jax.random.uniform(keys[0], (hidden, 3), minval=-wide, maxval=wide),
        jax.random.uniform(keys[1], (hidden,), minval=-wide, maxval=wide),
        jax.random.uniform(keys[2], (3, hidden), minval=-narrow, maxval=narrow),
        jax.random.uniform(keys[3], (3,), minval=-narrow, maxval=narrow) + jnp.asarray(np.array(shift)),
    )
