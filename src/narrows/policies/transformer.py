"""A causal transformer over what has been placed so far: one token's work a step, one parallel pass for the loss."""

from collections.abc import Sequence
from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from narrows.envs.base import Prefix
from narrows.policies.attention import Block, BlockTape, Cache, Norm, causal_mask, normalise, resized
from narrows.policies.base import AbstractPolicy, PolicyOutput
from narrows.policies.layers import (
    Activation,
    Heads,
    Precision,
    check_activation,
    check_at_least,
    check_choice,
    check_environment_sizes,
    check_precision,
)
from narrows.sizes import Few


class Transformer(AbstractPolicy):
    """Run a causal transformer over the tokens placed so far, with a key-value cache while sampling.

    The input at each step is the embedding of the newest token plus that of its position. `step` attends to the cached keys
    and values of the earlier tokens, one token's work; `unroll` does the same for a whole trajectory in one parallel pass.
    A time that repeats the position before it (the end of a trajectory, a chance turn) adds nothing to what is attended to,
    so that frozen rows neither change nor are changed. Forward logits start within about one per cent of zero: the first
    policy is nearly uniform over legal actions.

    There is no dropout: the loss must see the probabilities that the sampler drew from, and `unroll` equals scanning `step`.
    Positions are learned and start as sinusoids. The defaults are the published network of Jiralerspong et al. 2025 (tgm
    6.2) up to dropout, its deeper head and its heads of full width: `head_width=64` restores those and takes 6 to 9
    times as long to sample from. For many layers prefer `norm="pre"`, whose gradients do not depend on depth.

    Args:
        num_features, num_values, num_actions: sizes of the environment, whose observations must be `Prefix`.
        layers: number of blocks of attention and feed-forward.
        width: length of a token's vector.
        heads: attention heads of each block.
        head_width: length of a head's queries, keys and values; `width / heads` if left out.
        feed_forward: hidden units of the feed-forward layers.
        norm: "pre" normalises the input of each sublayer and the final output, "post" each sum with its residual.
        activation: of the feed-forward layers: "relu", "gelu", "silu" or "tanh".
        precision: "f32", or "bf16" to round the factors of every affine layer's product to bfloat16, faster where the
            processor has it; attention itself stays float32.
        num_backward_actions: length of the backward action axis for a learned backward policy; None for the uniform one.
        flow_head: whether to have a head for the log-flow.
        child_flow_head: whether to have a head for the log-flow of the state that each action leads to.
        key: randomness of the initial weights.

    Raises ValueError for sizes below 1, `heads` that do not divide `width` while `head_width` is left out, and unknown names;
    also from `step` and `unroll` for observations that are not a `Prefix`.

    >>> policy = Transformer(2, 3, 2, layers=1, width=8, heads=2, key=jax.random.key(0))
    >>> prefix = Prefix(tokens=jnp.array([1, 2]), last=jnp.array(1), position=jnp.array(1))
    >>> output, carry = policy.step(policy.start(), prefix)
    >>> output.forward_logits.shape, carry[0].keys.shape
    ((2,), (2, 4, 3))
    """

    tokens: Float[Array, "value width"]
    positions: Float[Array, "position width"]
    blocks: tuple[Block, ...]
    final_norm: eqx.nn.LayerNorm | None
    heads: Heads
    has_backward_head: bool = eqx.field(static=True)
    has_flow_head: bool = eqx.field(static=True)

    def __init__(
        self,
        num_features: int,
        num_values: int,
        num_actions: int,
        layers: Few = 3,
        width: int = 64,
        heads: int = 8,
        head_width: int | None = None,
        feed_forward: int = 64,
        norm: Norm = "post",
        activation: Activation = "relu",
        precision: Precision = "f32",
        *,
        num_backward_actions: int | None = None,
        flow_head: bool = False,
        child_flow_head: bool = False,
        key: PRNGKeyArray,
    ) -> None:
        check_environment_sizes(num_features, num_values, num_actions, num_backward_actions)
        for name, value in (("layers", layers), ("width", width), ("heads", heads), ("feed_forward", feed_forward)):
            check_at_least(name, value, 1, "The published network has 3 layers, width 64, 8 heads, feed_forward 64.")
        check_choice("norm", norm, get_args(Norm))
        check_activation(activation)
        check_precision(precision)
        head_width = _head_width(width, heads) if head_width is None else head_width
        check_at_least("head_width", head_width, 1, "Leave it out for width / heads.")
        token_key, head_key, *block_keys = jax.random.split(key, 2 + layers)
        self.tokens = jax.random.truncated_normal(token_key, -2, 2, (num_values, width), jnp.float32)
        self.positions = sinusoids(num_features + 1, width)
        self.blocks = tuple(
            Block(width, heads, head_width, feed_forward, norm, activation, precision, block_key) for block_key in block_keys
        )
        self.final_norm = eqx.nn.LayerNorm(width, dtype=jnp.float32) if norm == "pre" else None
        self.heads = Heads(width, num_actions, num_backward_actions, flow_head, head_key, precision, child_flow_head)
        self.has_backward_head = num_backward_actions is not None
        self.has_flow_head = flow_head

    @property
    def has_child_flow_head(self) -> bool:
        """Whether there is a head for the log-flows of the states that actions lead to."""
        return self.heads.child_flow is not None

    def start(self) -> tuple[Cache, ...]:
        """Return an empty cache for each layer."""
        return tuple(block.empty_cache(self.positions.shape[0]) for block in self.blocks)

    @property
    def has_growing_memory(self) -> bool:
        """Always: a step attends to every place of its caches, written or not."""
        return True

    def with_room(self, carry: tuple[Cache, ...], num_steps: int) -> tuple[Cache, ...]:
        """Return caches with a place for each of the positions before `num_steps`, as far as there are positions."""
        return resized(carry, min(num_steps, self.positions.shape[0]))

    def step(self, carry: tuple[Cache, ...], observation: PyTree[Array]) -> tuple[PolicyOutput, tuple[Cache, ...]]:
        """Return the heads for the newest token, and the caches that hold it."""
        output, carry, _ = self.step_taped(carry, observation)
        return output, carry

    def step_taped(
        self, carry: tuple[Cache, ...], observation: PyTree[Array]
    ) -> tuple[PolicyOutput, tuple[Cache, ...], tuple[BlockTape, ...]]:
        """Return what `step` does, and the results of every layer's products."""
        prefix = _prefix(observation)
        hidden = self.tokens[prefix.last] + self.positions[prefix.position]
        caches, tapes = [], []
        for block, cache in zip(self.blocks, carry, strict=True):
            hidden, cache, tape = block.step(cache, hidden, prefix.position)
            caches.append(cache)
            tapes.append(tape)
        return self._read(hidden), tuple(caches), tuple(tapes)

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        """Return the heads for every time of trajectories that start with no token, in one parallel pass."""
        return self._unroll(observations, (None,) * len(self.blocks))

    def unroll_taped(self, observations: PyTree[Array], tape: tuple[BlockTape, ...]) -> PolicyOutput:
        """Return what `unroll` does without the products that the tape has the results of."""
        return self._unroll(observations, tape)

    def _unroll(self, observations: PyTree[Array], tapes: Sequence[BlockTape | None]) -> PolicyOutput:
        prefixes = _prefix(observations)
        if prefixes.position.ndim == 1:  # one trajectory is a batch of one
            one = jax.tree.map(lambda leaf: leaf[:, None], (observations, tuple(tapes)))
            return jax.tree.map(lambda leaf: leaf[:, 0], self._unroll(*one))
        hidden = self.tokens[prefixes.last] + self.positions[prefixes.position]
        mask = causal_mask(prefixes.position)
        for block, tape in zip(self.blocks, tapes, strict=True):
            hidden = block.unroll(hidden, mask, tape)
        return self._read(hidden)

    def _read(self, hidden: Float[Array, "*time width"]) -> PolicyOutput:
        return self.heads(hidden if self.final_norm is None else normalise(self.final_norm, hidden))


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
