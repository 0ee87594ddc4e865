"""A causal transformer over what has been placed so far: one token's work a step, one parallel pass for the loss."""

from collections.abc import Sequence
from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from narrows.envs.base import Prefix
from narrows.policies.attention import Block, BlockResiduals, Cache, Norm, causal_mask, normalise, resized
from narrows.policies.base import AbstractNetwork, PolicyOutput
from narrows.policies.layers import Activation, Affine, Heads, Precision, check_activation, check_choice, check_precision
from narrows.policies.sizes import Sizes, check_at_least
from narrows.sizes import Few


class Transformer(AbstractNetwork):
    """A causal transformer over the tokens placed so far, with a key-value cache while sampling.

    The input at each step is the embedding of the newest token plus that of its position. `step` attends to the cached keys
    and values of the earlier tokens, one token's work; `unroll` does the same for a whole trajectory in one parallel pass.
    A time that repeats the position before it (the end of a trajectory, a chance turn) adds nothing to what is attended to,
    so that frozen rows neither change nor are changed. Forward logits start within about one per cent of zero: the first
    policy is nearly uniform over legal actions.

    There is no dropout: the loss must see the probabilities that the sampler drew from, and `unroll` equals scanning `step`.
    The defaults are the published network of Jiralerspong et al. 2025 (tgm 6.2) up to dropout, its deeper head, its
    fixed positions and its heads of full width, which `FaithfulTransformer` has and which take 6 to 9 times as long to sample
    from. For many layers prefer `norm="pre"`, whose gradients do not depend on depth.

    Args:
        sizes: of the environment and the objective, such as `objective.sizes(env)`; observations must be `Prefix`.
        layers: number of blocks of attention and feed-forward.
        width: length of a token's vector.
        heads: attention heads of each block.
        head_width: length of a head's queries, keys and values; `width / heads` if left out.
        feed_forward: hidden units of the feed-forward layers.
        norm: "pre" normalises the input of each sublayer and the final output, "post" each sum with its residual.
        activation: of the feed-forward layers: "relu", "gelu", "silu" or "tanh".
        precision: "f32", or "bf16" to round the factors of every affine layer's product to bfloat16, faster where the
            processor has it; attention itself stays float32.
        learns_positions: whether the vectors of positions are parameters, which start as sinusoids, or stay those.
        head_hidden: units of each of two hidden layers between the last block and the linear heads; None for no such layers.
        key: randomness of the initial weights.

    Raises ValueError for sizes below 1, `heads` that do not divide `width` while `head_width` is left out, and unknown names;
    also from `step` and `unroll` for observations that are not a `Prefix`.

    >>> policy = Transformer(Sizes(2, 3, 2), layers=1, width=8, heads=2, key=jax.random.key(0))
    >>> prefix = Prefix(tokens=jnp.array([1, 2]), last=jnp.array(1), position=jnp.array(1))
    >>> output, carry = policy.step(policy.start(), prefix)
    >>> output.forward_logits.shape, carry[0].keys.shape
    ((2,), (2, 4, 3))
    """

    tokens: Float[Array, "value width"]
    positions: Float[Array, "position width"] | None
    blocks: tuple[Block, ...]
    final_norm: eqx.nn.LayerNorm | None
    hidden: tuple[Affine, ...]
    heads: Heads
    sizes: Sizes = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sizes,
        layers: Few = 3,
        width: int = 64,
        heads: int = 8,
        head_width: int | None = None,
        feed_forward: int = 64,
        norm: Norm = "post",
        activation: Activation = "relu",
        precision: Precision = "f32",
        learns_positions: bool = True,
        head_hidden: int | None = None,
        *,
        key: PRNGKeyArray,
    ) -> None:
        for name, value in (("layers", layers), ("width", width), ("heads", heads), ("feed_forward", feed_forward)):
            check_at_least(name, value, 1, "The published network has 3 layers, width 64, 8 heads, feed_forward 64.")
        widths = [width]
        if head_hidden is not None:
            check_at_least("head_hidden", head_hidden, 1, "The published network has 256.")
            widths += [head_hidden, head_hidden]
        check_choice("norm", norm, get_args(Norm))
        check_activation(activation)
        check_precision(precision)
        head_width = _head_width(width, heads) if head_width is None else head_width
        check_at_least("head_width", head_width, 1, "Leave it out for width / heads.")
        token_key, *keys = jax.random.split(key, 1 + len(widths) + layers)
        *hidden_keys, head_key = keys[: len(widths)]
        block_keys = keys[len(widths) :]
        self.tokens = jax.random.truncated_normal(token_key, -2, 2, (sizes.num_values, width), jnp.float32)
        self.positions = sinusoids(sizes.num_features + 1, width) if learns_positions else None
        self.blocks = tuple(
            Block(width, heads, head_width, feed_forward, norm, activation, precision, block_key) for block_key in block_keys
        )
        self.final_norm = eqx.nn.LayerNorm(width, dtype=jnp.float32) if norm == "pre" else None
        self.hidden = tuple(
            Affine(num_in, num_out, 2**0.5, hidden_key, precision)
            for num_in, num_out, hidden_key in zip(widths[:-1], widths[1:], hidden_keys, strict=True)
        )
        self.heads = Heads(widths[-1], sizes, head_key, precision)
        self.sizes = sizes

    @property
    def num_positions(self) -> int:
        """Places of a cache: one before the first token, and one for each token."""
        return self.sizes.num_features + 1

    def start(self) -> tuple[Cache, ...]:
        return tuple(block.empty_cache(self.num_positions) for block in self.blocks)

    @property
    def has_growing_memory(self) -> bool:
        """Always: a step attends to every place of its caches, written or not."""
        return True

    def grow_cache(self, carry: tuple[Cache, ...], num_steps: int) -> tuple[Cache, ...]:
        """Return caches with a place for each of the positions before `num_steps`, as far as there are positions."""
        return resized(carry, min(num_steps, self.num_positions))

    def step(self, carry: tuple[Cache, ...], observation: PyTree[Array]) -> tuple[PolicyOutput, tuple[Cache, ...]]:
        """Return the heads for the newest token, and the caches that hold it."""
        output, carry, _ = self.step_with_residuals(carry, observation)
        return output, carry

    def step_with_residuals(
        self, carry: tuple[Cache, ...], observation: PyTree[Array]
    ) -> tuple[PolicyOutput, tuple[Cache, ...], tuple[BlockResiduals, ...]]:
        prefix = _prefix(observation)
        hidden = self._embed(prefix)
        caches, kept = [], []
        for block, cache in zip(self.blocks, carry, strict=True):
            hidden, cache, residuals = block.step(cache, hidden, prefix.position)
            caches.append(cache)
            kept.append(residuals)
        return self._read(hidden), tuple(caches), tuple(kept)

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        """Return the heads for every time of trajectories that start with no token, in one parallel pass."""
        return self._unroll(observations, (None,) * len(self.blocks))

    def unroll_from_residuals(self, observations: PyTree[Array], residuals: tuple[BlockResiduals, ...]) -> PolicyOutput:
        return self._unroll(observations, residuals)

    def _unroll(self, observations: PyTree[Array], kept: Sequence[BlockResiduals | None]) -> PolicyOutput:
        prefixes = _prefix(observations)
        if prefixes.position.ndim == 1:  # one trajectory is a batch of one
            one = jax.tree.map(lambda leaf: leaf[:, None], (observations, tuple(kept)))
            return jax.tree.map(lambda leaf: leaf[:, 0], self._unroll(*one))
        hidden = self._embed(prefixes)
        mask = causal_mask(prefixes.position)
        for block, residuals in zip(self.blocks, kept, strict=True):
            hidden = block.unroll(hidden, mask, residuals)
        return self._read(hidden)

    def _embed(self, prefix: Prefix) -> Float[Array, "*time width"]:
        positions = self.positions
        if positions is None:
            positions = sinusoids(self.num_positions, self.tokens.shape[1])
        return self.tokens[prefix.last] + positions[prefix.position]

    def _read(self, hidden: Float[Array, "*time width"]) -> PolicyOutput:
        hidden = hidden if self.final_norm is None else normalise(self.final_norm, hidden)
        for layer in self.hidden:
            hidden = jax.nn.relu(layer(hidden))
        return self.heads(hidden)


def FaithfulTransformer(
    sizes: Sizes,
    layers: Few = 3,
    width: int = 64,
    heads: int = 8,
    feed_forward: int = 64,
    head_hidden: int = 256,
    precision: Precision = "f32",
    *,
    key: PRNGKeyArray,
) -> Transformer:
    """Return the causal transformer as published: full-width heads, post-norm, fixed sinusoids, a head of two hidden layers.

        token + sinusoids -> 3 x [x = LN(x + MHA(x)); x = LN(x + W2 relu(W1 x))] -> 64 -> 256 -> 256 -> actions

    This is the network that the TGM paper's later code trains on sequences (tgm 6.2), with queries, keys and values as
    wide as a token for every head. Its dropout of 0.1 is left out, as in every `Transformer`. The token before the first one
    stands for BOS; EOS and padding are never read, for nothing is decided after them.

    Args:
        sizes, layers, width, heads, feed_forward, head_hidden, precision, key: as for `Transformer`.
    """
    return Transformer(
        sizes,
        layers,
        width,
        heads,
        head_width=width,
        feed_forward=feed_forward,
        precision=precision,
        learns_positions=False,
        head_hidden=head_hidden,
        key=key,
    )


def sinusoids(num_positions: int, width: int) -> Float[Array, "position width"]:
    """Return `sin(p / 10000^(2i / width))` in the first half of each row and the cosines in the second."""
    frequency = 10_000.0 ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angle = jnp.arange(num_positions, dtype=jnp.float32)[:, None] * frequency[None, :]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)[:, :width]


def _head_width(width: int, heads: int) -> int:
    if width % heads:
        raise ValueError(f"heads must divide width, got heads {heads} and width {width}. Change one or give head_width.")
    return width // heads


def _prefix(observation: PyTree[Array]) -> Prefix:
    if not isinstance(observation, Prefix):
        raise ValueError(
            "Transformer reads the newest token and its position from a Prefix, which sequence environments observe, "
            "and not the bare features of this environment. Use the MLP, or Tabular for a small space."
        )
    return observation
