"""A residual convolutional network over the cells of a board."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.policies.base import PolicyOutput
from narrows.policies.layers import Activation, Affine, Heads, activate, check_activation
from narrows.policies.memoryless import AbstractMemoryless
from narrows.policies.sizes import Sizes, check_at_least, check_board
from narrows.sizes import Few


class Convolution(eqx.Module):
    """A 3x3 convolution with zeros around the board."""

    weight: Float[Array, "row column in out"]
    bias: Float[Array, " out"]

    def __init__(self, num_in: int, num_out: int, gain: float, key: PRNGKeyArray) -> None:
        """Draw weights `Normal(0, gain^2 / (9 num_in))`."""
        self.weight = jax.random.normal(key, (3, 3, num_in, num_out), jnp.float32) * (gain / (9 * num_in) ** 0.5)
        self.bias = jnp.zeros(num_out, jnp.float32)

    def __call__(self, planes: Float[Array, "position row column in"]) -> Float[Array, "position row column out"]:
        return _convolve(planes, self.weight) + self.bias[None, None, None]


@jax.custom_vjp
def _convolve(
    planes: Float[Array, "position row column in"], weight: Float[Array, "3 3 in out"]
) -> Float[Array, "position row column out"]:
    """Return a convolution with zeros around the board.

    Its gradient is written out because differentiation would make convolutions with the axes in an order for which XLA has no
    fast path on a CPU inside a loop: a training step of 2,048 positions took 27 s in place of 0.3.
    """
    return jax.lax.conv_general_dilated(planes, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _convolve_kept(planes: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(planes, weight), (planes, weight)


def _convolve_gradient(kept: tuple[Array, Array], d_outputs: Array) -> tuple[Array, Array]:
    planes, weight = kept
    _, rows, columns, num_in = planes.shape
    # Seen from an output, what its inputs were: the same convolution, mirrored, with the two axes of planes exchanged.
    d_planes = _convolve(d_outputs, jnp.swapaxes(weight[::-1, ::-1], 2, 3))
    around = jnp.pad(planes, ((0, 0), (1, 1), (1, 1), (0, 0)))
    flat = d_outputs.reshape(-1, d_outputs.shape[-1])

    def d_tap(row: int, column: int) -> Array:
        shifted = around[:, row : row + rows, column : column + columns].reshape(-1, num_in)
        # Laid out first: XLA's fast path on a CPU takes no transposed left factor.
        return jax.lax.optimization_barrier(shifted.T) @ flat

    return d_planes, jnp.stack([jnp.stack([d_tap(row, column) for column in range(3)]) for row in range(3)])


_convolve.defvjp(_convolve_kept, _convolve_gradient)


class Block(eqx.Module):
    """Two convolutions beside a way past them; activations come first, so that the way past stays linear throughout."""

    first: Convolution
    second: Convolution

    def __init__(self, channels: int, gain: float, key: PRNGKeyArray) -> None:
        first_key, second_key = jax.random.split(key)
        self.first = Convolution(channels, channels, 2**0.5, first_key)
        self.second = Convolution(channels, channels, gain, second_key)

    def __call__(
        self, planes: Float[Array, "position row column channel"], activation: Activation
    ) -> Float[Array, "position row column channel"]:
        return planes + self.second(activate(activation, self.first(activate(activation, planes))))


class ConvNet(AbstractMemoryless):
    """Residual convolutions, then a dense layer over the whole board, then the heads.

    A cell's features come in as one-hot planes. Where a cell lies is learned as a bias of its own in the first layer: rows and
    parities of rows matter in Connect-4, and zeros around the board say little of them.

    Args:
        sizes: of the environment and the objective, such as `objective.sizes(env)`.
        rows: of the board, whose features come cell by cell, row by row.
        columns: of the board.
        channels: planes in the trunk.
        blocks: pairs of convolutions.
        squeeze: planes that each cell gives to the dense layer.
        hidden: units of the dense layer.
        activation: between the layers.
        key: of the initial weights.

    Raises ValueError for sizes that do not fit together.
    """

    stem: Convolution
    places: Float[Array, "row column channel"]
    blocks: tuple[Block, ...]
    squeeze: Affine
    dense: Affine
    heads: Heads
    board: tuple[int, int] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    sizes: Sizes = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sizes,
        rows: int,
        columns: int,
        channels: int = 32,
        blocks: Few = 3,
        squeeze: int = 16,
        hidden: int = 128,
        activation: Activation = "relu",
        *,
        key: PRNGKeyArray,
    ) -> None:
        check_board(sizes, rows, columns)
        check_at_least("channels", channels, 1, "It is the number of planes in the trunk; try 32.")
        check_at_least("blocks", blocks, 0, "It is the number of pairs of convolutions; try 3.")
        check_at_least("squeeze", squeeze, 1, "It is the number of planes that the dense layer reads; try 16.")
        check_at_least("hidden", hidden, 1, "It is the number of units of the dense layer; try 128.")
        check_activation(activation)
        stem_key, squeeze_key, dense_key, head_key, *block_keys = jax.random.split(key, 4 + blocks)
        num_planes = sizes.num_features // (rows * columns) * sizes.num_values
        # Of the one-hot planes of a cell one in `num_values` is lit.
        self.stem = Convolution(num_planes, channels, (2.0 * sizes.num_values) ** 0.5, stem_key)
        self.places = jnp.zeros((rows, columns, channels), jnp.float32)
        # Each block adds its part of one more unit of variance, however many there are.
        self.blocks = tuple(Block(channels, (1.0 / max(blocks, 1)) ** 0.5, block_key) for block_key in block_keys)
        self.squeeze = Affine(channels, squeeze, 2**0.5, squeeze_key)
        self.dense = Affine(rows * columns * squeeze, hidden, 2**0.5, dense_key)
        self.heads = Heads(hidden, sizes, head_key)
        self.board = (rows, columns)
        self.activation = activation
        self.sizes = sizes

    def read(self, values: Int[Array, "position feature"]) -> PolicyOutput:
        by_cell = values.reshape(-1, *self.board, values.shape[-1] // (self.board[0] * self.board[1]))
        planes = jax.nn.one_hot(by_cell, self.sizes.num_values, dtype=jnp.float32)
        hidden = self.stem(planes.reshape(*planes.shape[:3], -1)) + self.places[None]
        for block in self.blocks:
            hidden = block(hidden, self.activation)
        cells = activate(self.activation, self.squeeze(activate(self.activation, hidden)))
        whole = activate(self.activation, self.dense(cells.reshape(cells.shape[0], -1)))
        return self.heads(whole)
