"""A residual network of dense layers: what multiplies fastest on a CPU."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.policies.base import PolicyOutput
from narrows.policies.layers import Activation, Affine, Heads, Precision, activate, check_activation, check_precision
from narrows.policies.memoryless import AbstractMemoryless
from narrows.policies.sizes import Sizes, check_at_least
from narrows.sizes import Few


class DenseBlock(eqx.Module):
    """Two dense layers beside a way past them; activations come first, so that the way past stays linear throughout."""

    first: Affine
    second: Affine

    def __init__(self, hidden: int, gain: float, key: PRNGKeyArray, precision: Precision) -> None:
        first_key, second_key = jax.random.split(key)
        self.first = Affine(hidden, hidden, 2**0.5, first_key, precision)
        self.second = Affine(hidden, hidden, gain, second_key, precision)

    def __call__(self, inputs: Float[Array, "position hidden"], activation: Activation) -> Float[Array, "position hidden"]:
        return inputs + self.second(activate(activation, self.first(activate(activation, inputs))))


class ResidualMLP(AbstractMemoryless):
    """One dense layer on the one-hot features, blocks of two dense layers each with a way past them, then the heads.

    The first layer is a product with the one-hot vector, which on a CPU that multiplies bfloat16 takes less time than looking
    up a row of it for every feature, as `MLP` does.

    Args:
        sizes: of the environment and the objective, such as `objective.sizes(env)`.
        hidden: units of every layer.
        blocks: pairs of layers.
        activation: between the layers.
        precision: what the factors of products are rounded to.
        key: of the initial weights.
    """

    first: Affine
    blocks: tuple[DenseBlock, ...]
    heads: Heads
    activation: Activation = eqx.field(static=True)
    sizes: Sizes = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sizes,
        hidden: int = 256,
        blocks: Few = 2,
        activation: Activation = "relu",
        precision: Precision = "f32",
        *,
        key: PRNGKeyArray,
    ) -> None:
        check_at_least("hidden", hidden, 1, "It is the number of units of each layer; try 256.")
        check_at_least("blocks", blocks, 0, "It is the number of pairs of layers; try 2.")
        check_activation(activation)
        check_precision(precision)
        first_key, head_key, *block_keys = jax.random.split(key, 2 + blocks)
        # Of the one-hot numbers of a feature one in `num_values` is not zero.
        self.first = Affine(
            sizes.num_features * sizes.num_values, hidden, (2.0 * sizes.num_values) ** 0.5, first_key, precision
        )
        gain = (1.0 / max(blocks, 1)) ** 0.5
        self.blocks = tuple(DenseBlock(hidden, gain, block_key, precision) for block_key in block_keys)
        self.heads = Heads(hidden, sizes, head_key, precision)
        self.activation = activation
        self.sizes = sizes

    def read(self, values: Int[Array, "position feature"]) -> PolicyOutput:
        dtype = jnp.bfloat16 if self.first.precision == "bf16" else jnp.float32
        lit = jax.nn.one_hot(values, self.sizes.num_values, dtype=dtype)
        hidden = self.first(lit.reshape(lit.shape[0], -1))
        for block in self.blocks:
            hidden = block(hidden, self.activation)
        return self.heads(activate(self.activation, hidden))
