"""The network that the authors of adversarial flow networks trained on Connect-4 and tic-tac-toe (eflow 5.1)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.policies.base import PolicyOutput
from narrows.policies.convnet import Convolution
from narrows.policies.layers import Affine, Heads
from narrows.policies.memoryless import AbstractMemoryless
from narrows.policies.sizes import Sizes, check_at_least
from narrows.sizes import Few

SLOPE = 0.01
"""Of the leaky activation below zero."""


class _Head(eqx.Module):
    """A 1x1 convolution, a leaky activation, and a linear map of the whole board."""

    squeeze: Affine
    heads: Heads

    def __call__(self, planes: Float[Array, "position row column channel"]) -> PolicyOutput:
        cells = jax.nn.leaky_relu(self.squeeze(planes), SLOPE)
        return self.heads(cells.reshape(cells.shape[0], -1))


class FaithfulConvNet(AbstractMemoryless):
    """A residual network without normalisation that sees the players by colour and has a head for each of them.

    Observations come in from the player to move, 1 for own stones and 2 for the other's (tic-tac-toe), or 0 and 1 with 2 for an
    empty cell (Connect-4 without threats); who moves follows from the number of stones. Five planes go in: the first player's
    stones, the second's, the side to move, the number of stones, and ones. Where the authors have a value head that their loss
    never trains, this one has a linear log-flow beside each policy, for losses that do.

    Args:
        sizes: of the environment and the objective, such as `objective.sizes(env)`.
        rows: of the board.
        columns: of the board.
        channels: planes in the trunk.
        blocks: pairs of convolutions.
        squeeze: planes that each cell gives to a head.
        key: of the initial weights.
    """

    stem: Convolution
    blocks: tuple[tuple[Convolution, Convolution], ...]
    players: tuple[_Head, _Head]
    board: tuple[int, int] = eqx.field(static=True)
    codes: tuple[int, int] = eqx.field(static=True)
    sizes: Sizes = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sizes,
        rows: int,
        columns: int,
        channels: int = 128,
        blocks: Few = 10,
        squeeze: int = 32,
        *,
        key: PRNGKeyArray,
    ) -> None:
        if sizes.num_values != 3 or sizes.num_features != rows * columns:
            raise ValueError(
                f"FaithfulConvNet reads boards of cells that are empty, own or the other's: expected num_values = 3 and "
                f"num_features = rows * columns = {rows * columns}, got {sizes.num_values} and {sizes.num_features}. For "
                "Connect-4, turn shows_threats off."
            )
        if sizes.num_backward_actions is not None:
            raise ValueError("FaithfulConvNet has no backward policy. Leave num_backward_actions out.")
        check_at_least("channels", channels, 1, "The published network has 128.")
        check_at_least("blocks", blocks, 0, "The published network has 10.")
        stem_key, *keys = jax.random.split(key, 1 + 2 * blocks + 4)
        self.stem = Convolution(5, channels, 1.0, stem_key)
        pairs = zip(keys[: 2 * blocks : 2], keys[1 : 2 * blocks : 2], strict=True)
        # Initial weights as in the authors' library, uniform in +-1/sqrt(fan-in): a third of the variance of one.
        gain = (1.0 / 3.0) ** 0.5
        self.blocks = tuple(
            (Convolution(channels, channels, gain, one), Convolution(channels, channels, gain, two)) for one, two in pairs
        )

        def head(squeeze_key: PRNGKeyArray, heads_key: PRNGKeyArray) -> _Head:
            heads = Heads(rows * columns * squeeze, sizes, heads_key)
            return _Head(Affine(channels, squeeze, gain, squeeze_key), heads)

        self.players = (head(keys[-4], keys[-3]), head(keys[-2], keys[-1]))
        self.board = (rows, columns)
        # Tic-tac-toe observes 1 for own and 2 for the other's stones, Connect-4 0 and 1: told apart by the actions.
        self.codes = (1, 2) if sizes.num_actions == sizes.num_features else (0, 1)
        self.sizes = sizes

    def read(self, values: Int[Array, "position feature"]) -> PolicyOutput:
        cells = values.reshape(-1, *self.board)
        is_second, planes = self._planes(cells)
        hidden = jax.nn.leaky_relu(self.stem(planes), SLOPE)
        for first, second in self.blocks:
            inner = jax.nn.leaky_relu(first(hidden), SLOPE)
            hidden = jax.nn.leaky_relu(hidden + second(inner), SLOPE)

        def choose(one: Array, two: Array) -> Array:
            return jnp.where(is_second.reshape(-1, *(1,) * (one.ndim - 1)), two, one)

        return jax.tree.map(choose, self.players[0](hidden), self.players[1](hidden))

    def _planes(
        self, cells: Int[Array, "position row column"]
    ) -> tuple[Bool[Array, " position"], Float[Array, "position row column 5"]]:
        own, other = (cells == code for code in self.codes)
        count = jnp.sum(own | other, axis=(1, 2))
        is_second = count % 2 == 1
        swap = is_second[:, None, None]
        side = jnp.broadcast_to(swap, cells.shape)
        counts = jnp.broadcast_to(count[:, None, None], cells.shape)
        planes = (jnp.where(swap, other, own), jnp.where(swap, own, other), side, counts, jnp.ones_like(cells))
        return is_second, jnp.stack([plane.astype(jnp.float32) for plane in planes], axis=-1)
