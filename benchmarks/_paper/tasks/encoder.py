"""The proxy of the published biological tasks: a transformer encoder read at its first token (tgm 5.4)."""

from typing import Final, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from benchmarks._paper.tasks.task import PublishedTask
from narrows.envs.sequence import SequenceState
from narrows.policies.attention import Block
from narrows.policies.layers import Affine
from narrows.policies.transformer import sinusoids
from narrows.rewards.base import AbstractReward

BOS, PAD, EOS, FIRST_CONTENT = 0, 1, 2, 3
"""The published vocabulary; the letters follow in the order of the alphabet."""

_MAX_SCORES: Final = 2**26
"""Attention scores of one layer held at a time, 256 MiB; larger batches are evaluated in parts."""


@final
class Encoder(eqx.Module):
    """Score token arrays: embedding and sinusoids, post-norm blocks over everything but padding, an MLP on the first state.

        x = LN(x + MHA(x))       x = LN(x + W2 relu(W1 x))       score = MLP(x at BOS), widths embed -> 4 embed -> 4 embed -> 1

    Each head's queries, keys and values are as wide as a token's vector. No dropout. The kernels of the blocks are drawn with
    variance `2 / layers` over the fan-in (truncated normal), those of the MLP with variance 1 over it; biases start at zero.

    Args:
        num_letters: letters of the alphabet.
        embed: width of a token's vector.
        layers, heads: blocks, and attention heads of each.
        key: randomness of the initial weights.

    >>> encoder = Encoder(4, embed=8, layers=1, heads=2, key=jax.random.key(0))
    >>> encoder(jnp.array([[0, 3, 4], [2, 4, 4]]), jnp.array([2, 1])).shape
    (2,)
    """

    tokens: Float[Array, "value width"]
    blocks: tuple[Block, ...]
    readout: tuple[Affine, Affine, Affine]

    def __init__(self, num_letters: int, embed: int, layers: int, heads: int, *, key: PRNGKeyArray) -> None:
        token_key, readout_key, *keys = jax.random.split(key, 2 + layers)
        shape = (FIRST_CONTENT + num_letters, embed)
        self.tokens = jax.random.truncated_normal(token_key, -2, 2, shape, jnp.float32)
        self.blocks = tuple(_make_block(embed, heads, 2 / layers, one_key) for one_key in keys)
        widths = (embed, 4 * embed, 4 * embed, 1)
        first, second, last = (
            _redrawn(Affine(num_in, num_out, 1.0, one_key), 1.0, one_key)
            for num_in, num_out, one_key in zip(widths, widths[1:], jax.random.split(readout_key, 3), strict=False)
        )
        self.readout = (first, second, last)

    @property
    def num_letters(self) -> int:
        return self.tokens.shape[0] - FIRST_CONTENT

    @property
    def num_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(leaf.size for leaf in jax.tree.leaves(self))

    def rows_at_once(self, length: int) -> int:
        """Return how many sequences to evaluate at a time, so that one layer's attention stays within 256 MiB."""
        return max(1, _MAX_SCORES // (self.blocks[0].heads * (length + 2) ** 2))

    def __call__(self, tokens: Int[Array, "batch length"], lengths: Int[Array, " batch"]) -> Float[Array, " batch"]:
        """Return the raw score of each sequence, in memory for all of them at once.

        Args:
            tokens: positions in the alphabet; what stands from a sequence's length on is not read.
            lengths: letters of each.
        """
        array = token_array(tokens, lengths)
        num_times = array.shape[1]
        hidden = jnp.swapaxes(self.tokens[array] + sinusoids(num_times, self.tokens.shape[1]), 0, 1)
        mask = jnp.broadcast_to((array != PAD)[:, None, :], (array.shape[0], num_times, num_times))
        for block in self.blocks:
            hidden = block.unroll(hidden, mask)
        first, second, last = self.readout
        return last(jax.nn.relu(second(jax.nn.relu(first(hidden[0])))))[:, 0]


def token_array(tokens: Int[Array, "batch length"], lengths: Int[Array, " batch"]) -> Int[Array, "batch length+2"]:
    """Return the arrays that the published networks read: BOS, the letters, EOS, padding.

    >>> token_array(jnp.array([[0, 3, 4]]), jnp.array([2])).tolist()
    [[0, 3, 6, 2, 1]]
    """
    place = jnp.arange(tokens.shape[1] + 2, dtype=jnp.int32)
    letters = jnp.pad(tokens + FIRST_CONTENT, ((0, 0), (1, 1)))
    last = lengths[:, None]
    return jnp.where(place == 0, BOS, jnp.where(place <= last, letters, jnp.where(place == last + 1, EOS, PAD)))


@eqx.filter_jit
def raw_scores(encoder: Encoder, tokens: Int[Array, "batch length"], lengths: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Return the raw scores of any number of sequences, as many at a time as `rows_at_once` allows."""
    num, length = tokens.shape
    rows = encoder.rows_at_once(length)
    if num <= rows:
        return encoder(tokens, lengths)
    parts = -(-num // rows)
    fill = parts * rows - num
    tokens = jnp.pad(tokens, ((0, fill), (0, 0))).reshape(parts, rows, length)
    lengths = jnp.pad(lengths, (0, fill)).reshape(parts, rows)
    return jax.lax.map(lambda part: encoder(*part), (tokens, lengths)).reshape(-1)[:num]


@final
class TransformerProxy(AbstractReward):
    """The standardised score of a fitted encoder, `Phi(x) = (score(x) - mean) / std`, over a task's sequences.

    `mean` and `std` are those of the encoder's raw scores on the validation sequences, for binary tasks of the logits; the
    published rewards are `exp(Phi)`. Made by `published_fit.fit_published` and `published_files.load`.

    Args:
        encoder: the network.
        mean, std: of its scores on the validation sequences.
        task: what it was fitted for.
    """

    encoder: Encoder
    mean: Float[Array, ""]
    std: Float[Array, ""]
    task: PublishedTask = eqx.field(static=True)

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return (raw_scores(self.encoder, states.tokens, states.length) - self.mean) / self.std


@eqx.filter_jit  # op by op it would compile dozens of small programs
def make_encoder(task: PublishedTask, key: PRNGKeyArray) -> Encoder:
    """Return a task's encoder, freshly initialised."""
    return Encoder(len(task.alphabet), task.embed, task.layers, task.heads, key=key)


def _make_block(embed: int, heads: int, scale: float, key: PRNGKeyArray) -> Block:
    """Return a post-norm block of the published sizes, its kernels drawn as published."""
    block_key, *keys = jax.random.split(key, 5)
    block = Block(embed, heads, embed, embed, "post", "relu", "f32", block_key)
    project, merge, up, down = (
        _redrawn(affine, scale, one_key)
        for affine, one_key in zip((block.project, block.merge, block.up, block.down), keys, strict=True)
    )
    return eqx.tree_at(lambda it: (it.project, it.merge, it.up, it.down), block, (project, merge, up, down))


def _redrawn(affine: Affine, scale: float, key: PRNGKeyArray) -> Affine:
    """Return a layer with weights of variance `scale / fan_in`, truncated at two standard deviations."""
    draw = jax.nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal", dtype=jnp.float32)
    return eqx.tree_at(lambda it: it.weight, affine, draw(key, affine.weight.shape))
