"""A network that reads a board column by column, with one reader for all of them, before it looks at the whole."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.policies.base import PolicyOutput
from narrows.policies.layers import Activation, Affine, Heads, Precision, activate, check_activation, check_precision
from narrows.policies.memoryless import AbstractMemoryless
from narrows.policies.residual import DenseBlock
from narrows.policies.sizes import Sizes, check_at_least, check_board
from narrows.sizes import Few


class ColumnNet(AbstractMemoryless):
    """Each column is read by the same two layers; then a residual network of dense layers sees what all were read to.

    In games where stones fall, what a column will come to depends on which of its cells matter to whom and on whose turn it
    will be to fill the one below. That is the same for every column, and is learned for all of them at once.

    Args:
        sizes: of the environment and the objective, such as `objective.sizes(env)`.
        rows: of the board, whose features come cell by cell, row by row.
        columns: of the board.
        width: what each column is read to; the layer before it has twice as many units.
        hidden: units of every layer of the dense network.
        blocks: pairs of its layers.
        activation: between the layers.
        precision: what the factors of products are rounded to.
        key: of the initial weights.
    """

    reader: Affine
    places: Float[Array, "column unit"]
    summary: Affine
    first: Affine
    blocks: tuple[DenseBlock, ...]
    heads: Heads
    board: tuple[int, int] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    sizes: Sizes = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sizes,
        rows: int,
        columns: int,
        width: int = 64,
        hidden: int = 256,
        blocks: Few = 2,
        activation: Activation = "relu",
        precision: Precision = "f32",
        *,
        key: PRNGKeyArray,
    ) -> None:
        check_board(sizes, rows, columns)
        check_at_least("width", width, 1, "It is the number of units that stand for a column; try 64.")
        check_at_least("hidden", hidden, 1, "It is the number of units of each dense layer; try 256.")
        check_at_least("blocks", blocks, 0, "It is the number of pairs of dense layers; try 2.")
        check_activation(activation)
        check_precision(precision)
        reader_key, summary_key, first_key, head_key, *block_keys = jax.random.split(key, 4 + blocks)
        # Of the one-hot numbers of a feature one in `num_values` is not zero.
        num_lit = sizes.num_features // columns * sizes.num_values
        self.reader = Affine(num_lit, 2 * width, (2.0 * sizes.num_values) ** 0.5, reader_key, precision)
        self.places = jnp.zeros((columns, 2 * width), jnp.float32)
        self.summary = Affine(2 * width, width, 2**0.5, summary_key, precision)
        self.first = Affine(columns * width, hidden, 2**0.5, first_key, precision)
        gain = (1.0 / max(blocks, 1)) ** 0.5
        self.blocks = tuple(DenseBlock(hidden, gain, block_key, precision) for block_key in block_keys)
        self.heads = Heads(hidden, sizes, head_key, precision)
        self.board = (rows, columns)
        self.activation = activation
        self.sizes = sizes

    def read(self, values: Int[Array, "position feature"]) -> PolicyOutput:
        hidden = self.first(activate(self.activation, self._columns(values)))
        for block in self.blocks:
            hidden = block(hidden, self.activation)
        return self.heads(activate(self.activation, hidden))

    def _columns(self, values: Int[Array, "position feature"]) -> Float[Array, "position unit"]:
        """Return what all columns are read to, one after another."""
        num, (rows, columns) = values.shape[0], self.board
        dtype = jnp.bfloat16 if self.reader.precision == "bf16" else jnp.float32
        by_column = jnp.swapaxes(values.reshape(num, rows, columns, -1), 1, 2).reshape(num * columns, -1)
        lit = jax.nn.one_hot(by_column, self.sizes.num_values, dtype=dtype).reshape(num * columns, -1)
        read = activate(self.activation, self.reader(lit).reshape(num, columns, -1) + self.places[None])
        return self.summary(read.reshape(num * columns, -1)).reshape(num, -1)
