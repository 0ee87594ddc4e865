"""The network that the TGM paper's later code trains on sequences (tgm 6.2), for comparisons on its own ground."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from narrows.envs.base import Prefix
from narrows.policies.attention import Block, BlockTape, Cache, causal_mask, resized
from narrows.policies.base import AbstractPolicy, PolicyOutput
from narrows.policies.layers import Affine, Heads, Precision, check_at_least, check_environment_sizes, check_precision
from narrows.policies.transformer import sinusoids
from narrows.sizes import Few


class FaithfulTransformer(AbstractPolicy):
    """Run the published causal transformer: full-width heads, post-norm, fixed sinusoids, a head of two hidden layers.

        token + sinusoids -> 3 x [x = LN(x + MHA(x)); x = LN(x + W2 relu(W1 x))] -> 64 -> 256 -> 256 -> actions

    Where `Transformer` has heads of width 8, learned positions and one linear head, each head here is as wide as the whole
    (queries, keys and values of 512), positions are no parameters, and the head is deep; sampling takes several times as long.
    The published dropout of 0.1 is left out: the loss must see the probabilities that the sampler drew from. The token
    before the first one stands for BOS; EOS and padding are never read, for nothing is decided after them.

    Args:
        num_features, num_values, num_actions: sizes of the environment, whose observations must be `Prefix`.
        layers: number of blocks.
        width: length of a token's vector, and of every head's queries, keys and values.
        heads: attention heads of each block.
        feed_forward: hidden units of the feed-forward layers.
        head_hidden: units of each hidden layer of the head.
        precision: "f32", or "bf16" to round the factors of every affine layer's product to bfloat16.
        num_backward_actions: length of the backward action axis for a learned backward policy; None for the uniform one.
        flow_head: whether to have a head for the log-flow.
        child_flow_head: whether to have a head for the log-flow of the state that each action leads to.
        key: randomness of the initial weights.

    Raises ValueError for sizes below 1 and unknown names; also from `step` and `unroll` for observations that are no `Prefix`.

    >>> policy = FaithfulTransformer(2, 3, 2, layers=1, width=8, heads=2, head_hidden=6, key=jax.random.key(0))
    >>> prefix = Prefix(tokens=jnp.array([1, 2]), last=jnp.array(1), position=jnp.array(1))
    >>> output, carry = policy.step(policy.start(), prefix)
    >>> output.forward_logits.shape, carry[0].keys.shape
    ((2,), (2, 8, 3))
    """

    tokens: Float[Array, "value width"]
    blocks: tuple[Block, ...]
    hidden: tuple[Affine, Affine]
    heads: Heads
    num_positions: int = eqx.field(static=True)
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
        feed_forward: int = 64,
        head_hidden: int = 256,
        precision: Precision = "f32",
        *,
        num_backward_actions: int | None = None,
        flow_head: bool = False,
        child_flow_head: bool = False,
        key: PRNGKeyArray,
    ) -> None:
        check_environment_sizes(num_features, num_values, num_actions, num_backward_actions)
        sizes = {"layers": layers, "width": width, "heads": heads, "feed_forward": feed_forward, "head_hidden": head_hidden}
        for name, value in sizes.items():
            check_at_least(name, value, 1, "The published network has 3, 64, 8, 64 and 256.")
        check_precision(precision)
        token_key, first_key, second_key, head_key, *block_keys = jax.random.split(key, 4 + layers)
        self.tokens = jax.random.truncated_normal(token_key, -2, 2, (num_values, width), jnp.float32)
        self.blocks = tuple(
            Block(width, heads, width, feed_forward, "post", "relu", precision, block_key) for block_key in block_keys
        )
        first = Affine(width, head_hidden, 2**0.5, first_key, precision)
        self.hidden = (first, Affine(head_hidden, head_hidden, 2**0.5, second_key, precision))
        self.heads = Heads(head_hidden, num_actions, num_backward_actions, flow_head, head_key, precision, child_flow_head)
        self.num_positions = num_features + 1
        self.has_backward_head = num_backward_actions is not None
        self.has_flow_head = flow_head

    @property
    def has_child_flow_head(self) -> bool:
        """Whether there is a head for the log-flows of the states that actions lead to."""
        return self.heads.child_flow is not None

    def start(self) -> tuple[Cache, ...]:
        """Return an empty cache for each layer."""
        return tuple(block.empty_cache(self.num_positions) for block in self.blocks)

    @property
    def has_growing_memory(self) -> bool:
        """Always: a step attends to every place of its caches, written or not."""
        return True

    def with_room(self, carry: tuple[Cache, ...], num_steps: int) -> tuple[Cache, ...]:
        """Return caches with a place for each of the positions before `num_steps`, as far as there are positions."""
        return resized(carry, min(num_steps, self.num_positions))

    def step(self, carry: tuple[Cache, ...], observation: PyTree[Array]) -> tuple[PolicyOutput, tuple[Cache, ...]]:
        """Return the heads for the newest token, and the caches that hold it."""
        output, carry, _ = self.step_taped(carry, observation)
        return output, carry

    def step_taped(
        self, carry: tuple[Cache, ...], observation: PyTree[Array]
    ) -> tuple[PolicyOutput, tuple[Cache, ...], tuple[BlockTape, ...]]:
        """Return what `step` does, and the results of every layer's products."""
        prefix = _prefix(observation)
        hidden = self._embed(prefix)
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
        hidden = self._embed(prefixes)
        mask = causal_mask(prefixes.position)
        for block, tape in zip(self.blocks, tapes, strict=True):
            hidden = block.unroll(hidden, mask, tape)
        return self._read(hidden)

    def _embed(self, prefix: Prefix) -> Float[Array, "*time width"]:
        return self.tokens[prefix.last] + sinusoids(self.num_positions, self.tokens.shape[1])[prefix.position]

    def _read(self, hidden: Float[Array, "*time width"]) -> PolicyOutput:
        for affine in self.hidden:
            hidden = jax.nn.relu(affine(hidden))
        return self.heads(hidden)


def _prefix(observation: PyTree[Array]) -> Prefix:
    if not isinstance(observation, Prefix):
        raise ValueError(
            "FaithfulTransformer reads the newest token and its position from a Prefix, which sequence environments observe, "
            "and not the bare features of this environment. Use the MLP, or Tabular for a small space."
        )
    return observation
