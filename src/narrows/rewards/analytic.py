"""Log-rewards given by a formula: what is trained and judged where the truth must be known for every object."""

import math
import random

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from narrows.edit_distance import Patterns, distances
from narrows.envs.bit_sequence import BitSequence
from narrows.envs.hypergrid import Hypergrid, HypergridState
from narrows.envs.sequence import SequenceState
from narrows.envs.subsets import Subsets, SubsetState
from narrows.rewards.base import AbstractReward
from narrows.sizes import Seed

MODE_BLOCKS = ("00000000", "11111111", "11110000", "00001111", "00111100")
"""The blocks of the modes of `BitModes` (Malkin et al. 2022, appendix C)."""


def _expect(env: object, fitting: type, reward: str) -> None:
    if not isinstance(env, fitting):
        raise ValueError(
            f"{reward} scores the objects of {fitting.__name__}, got {type(env).__name__}. "
            f"Name {fitting.__name__} as the environment or choose another reward."
        )


class HypergridReward(AbstractReward):
    """The log-reward of the hypergrid, high near its corners (Bengio et al. 2021, arXiv:2106.04399, section 4.1).

        R(x) = r0 + r1 prod_i [0.25 < u_i] + r2 prod_i [0.3 < u_i < 0.4],    u_i = |x_i / (side - 1) - 0.5|

    Args:
        env: the grid.
        r0: reward far from the corners, > 0. Published: 0.1, 0.01 and 0.001; the smaller, the harder to explore.
        r1: what the corner regions add, >= 0.
        r2: what the modes inside them add, >= 0. A grid of side 2 to 6 or 11 has no point in (0.3, 0.4), hence no mode.

    >>> env = Hypergrid(ndim=2, side=8)
    >>> print(np.exp(HypergridReward(env)(env.from_text(["3 3", "0 0", "1 6"]))).round(3))
    [0.1 0.6 2.6]
    """

    side: int = eqx.field(static=True)
    r0: float = eqx.field(static=True)
    r1: float = eqx.field(static=True)
    r2: float = eqx.field(static=True)

    def __init__(self, env: Hypergrid, *, r0: float = 0.1, r1: float = 0.5, r2: float = 2.0) -> None:
        _expect(env, Hypergrid, "HypergridReward")
        if not 0.0 < r0 < math.inf:
            raise ValueError(f"r0 must be positive and finite, got {r0}: a reward of 0 has no logarithm.")
        for name, value in (("r1", r1), ("r2", r2)):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {value}.")
        self.side, self.r0, self.r1, self.r2 = env.side, r0, r1, r2

    def __call__(self, states: HypergridState) -> Float[Array, " batch"]:
        # In integers, 2 (side - 1) u: a point on the border of a region is out whatever the rounding.
        span = self.side - 1
        offset = jnp.abs(2 * states.coordinates - span)
        in_corner = jnp.all(2 * offset > span, axis=-1)
        in_mode = jnp.all((5 * offset > 3 * span) & (5 * offset < 4 * span), axis=-1)
        # A mode lies inside a corner region, so the sum takes three values; their logarithms are rounded once.
        levels = np.cumsum([self.r0, self.r1, self.r2])
        return jnp.asarray(np.log(levels))[in_corner.astype(jnp.int32) + in_mode]


class BitModes(AbstractReward):
    """Closeness to the nearest of some hidden bit strings: `Phi(x) = 1 - min_m lev(x, m) / num_bits`, in [0, 1].

    `lev` is the Levenshtein distance on bits, not Hamming's. The modes are blocks of 8 bits drawn with replacement, mode after
    mode, by Python's `random.Random(seed).choices` (Malkin et al. 2022, arXiv:2201.13259; tgm 5.3). Phi is the
    log-reward itself.

    Args:
        env: the bit strings; `num_bits` must be a multiple of 8.
        num_modes: how many modes are drawn, >= 1. Few blocks may give the same mode twice.
        seed: seed of the draw. The published task has 60 modes of 120 bits and seed 0.

    >>> reward = BitModes(BitSequence(num_bits=16, word_bits=4), num_modes=2)
    >>> reward.modes
    ('0011110000001111', '1111000011111111')
    """

    patterns: Patterns
    num_bits: int = eqx.field(static=True)
    word_bits: int = eqx.field(static=True)
    modes: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, env: BitSequence, *, num_modes: int = 60, seed: Seed = 0) -> None:
        _expect(env, BitSequence, "BitModes")
        if env.num_bits % len(MODE_BLOCKS[0]):
            raise ValueError(f"num_bits must be a multiple of 8, the length of a block of a mode, got {env.num_bits}.")
        if num_modes < 1:
            raise ValueError(f"num_modes must be at least 1, got {num_modes}.")
        generator, num_blocks = random.Random(seed), env.num_bits // len(MODE_BLOCKS[0])
        self.modes = tuple("".join(generator.choices(MODE_BLOCKS, k=num_blocks)) for _ in range(num_modes))
        self.patterns = Patterns([[int(bit) for bit in mode] for mode in self.modes])
        self.num_bits, self.word_bits = env.num_bits, env.word_bits

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        shifts = jnp.arange(self.word_bits - 1, -1, -1)
        bits = ((states.tokens[..., None] >> shifts) & 1).reshape(-1, self.num_bits)
        nearest = jnp.min(jax.vmap(lambda text: distances(self.patterns, text))(bits), axis=-1)
        return 1.0 - nearest / self.num_bits


_MOST_ITEMS = 10_000
"""Of which there are a hundred million pairs."""


class PairwiseSubsets(AbstractReward):
    """A quadratic log-reward of subsets: `Phi(x) = sum_i w_i x_i + sum_{i<j} J_ij x_i x_j`.

    All weights are independent normal draws with mean 0.

    Args:
        env: the subsets.
        item_scale: standard deviation of an item's weight `w_i`, >= 0.
        pair_scale: standard deviation of a pair's interaction `J_ij`, >= 0; 0 makes the items independent.
        seed: seed of the draw; the same weights on every machine and with every NumPy.
    """

    weights: Float[Array, "item item"]

    def __init__(self, env: Subsets, *, item_scale: float = 1.0, pair_scale: float = 0.5, seed: Seed = 0) -> None:
        _expect(env, Subsets, "PairwiseSubsets")
        if env.num_items > _MOST_ITEMS:
            raise ValueError(
                f"PairwiseSubsets has a weight for every pair of items: num_items must be at most {_MOST_ITEMS:,}, got "
                f"{env.num_items:,}."
            )
        for name, value in (("item_scale", item_scale), ("pair_scale", pair_scale)):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {value}. It is a standard deviation.")
        # RandomState's stream is frozen for good, default_rng's is not.
        draws = np.random.RandomState(seed).standard_normal((env.num_items, env.num_items))
        weights = item_scale * np.diag(np.diag(draws)) + pair_scale * np.triu(draws, k=1)
        self.weights = jnp.asarray(weights)

    def __call__(self, states: SubsetState) -> Float[Array, " batch"]:
        members = states.items.astype(self.weights.dtype)
        # x_i x_i = x_i: the diagonal holds the items' own weights.
        return jnp.einsum("bi,ij,bj->b", members, self.weights, members)
