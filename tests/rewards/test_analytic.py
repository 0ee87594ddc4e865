"""Formula rewards against plain loops and published figures."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from tests.reference.lev import levenshtein

from narrows.envs import BitSequence, Hypergrid, Sequence, Subsets
from narrows.rewards.analytic import BitModes, HypergridReward, PairwiseSubsets

# The first mode of the task as tgm 5.3 prints it.
FIRST_MODE = (
    "001111000000111111110000111111111111000011110000000011111111111111110000111100000011110011110000111111110000111100001111"
)


def hypergrid_reward(point, side, r0, r1, r2):
    """R of Bengio et al. 2021 in exact fractions of the span."""
    offsets = [abs(2 * x - (side - 1)) for x in point]
    in_corner = all(4 * o > 2 * (side - 1) for o in offsets)
    in_mode = all(10 * o > 6 * (side - 1) and 10 * o < 8 * (side - 1) for o in offsets)
    return r0 + r1 * in_corner + r2 * in_mode


SIZES = pytest.mark.slow("compiles again; one dimension and three guard the same")
GRIDS = [pytest.param(1, 2, marks=SIZES), (1, 9), pytest.param(2, 8, marks=SIZES), pytest.param(2, 11, marks=SIZES), (3, 7)]


@pytest.mark.parametrize(("ndim", "side"), GRIDS)
def test_hypergrid_reward_equals_the_formula(ndim, side):
    env = Hypergrid(ndim, side)
    points = list(itertools.product(range(side), repeat=ndim))
    states = env.from_text([" ".join(map(str, point)) for point in points])
    for r0, r1, r2 in ((0.1, 0.5, 2.0), (1e-3, 1.0, 0.0)):
        expected = [math.log(hypergrid_reward(point, side, r0, r1, r2)) for point in points]
        np.testing.assert_allclose(HypergridReward(env, r0=r0, r1=r1, r2=r2)(states), expected, rtol=1e-5)


def test_hypergrid_has_a_mode_near_each_corner():
    env = Hypergrid(2, 8)
    texts = [f"{x} {y}" for x in range(8) for y in range(8)]
    rewards = np.exp(HypergridReward(env)(env.from_text(texts)))
    modes = [text for text, reward in zip(texts, rewards, strict=True) if reward > 2]
    assert modes == ["1 1", "1 6", "6 1", "6 6"]
    # 4 corners of 2 x 2 points, 4 modes among them: 64 * 0.1 + 16 * 0.5 + 4 * 2.
    assert rewards.sum() == pytest.approx(22.4, rel=1e-5)


def test_a_point_on_the_border_of_a_region_is_outside_it():
    # Side 11: u = 0.3 and 0.4 exactly at 2 and 1, which float32 rounds to either side.
    env = Hypergrid(1, 11)
    rewards = np.exp(HypergridReward(env)(env.from_text([str(x) for x in range(11)])))
    np.testing.assert_allclose(rewards, [0.6] * 3 + [0.1] * 5 + [0.6] * 3, rtol=1e-5)


def test_published_modes():
    reward = BitModes(BitSequence())
    assert reward.modes[0] == FIRST_MODE
    assert len(set(reward.modes)) == 60
    assert {len(mode) for mode in reward.modes} == {120}
    gaps = cdist(reward.modes, reward.modes, scorer=Levenshtein.distance)[np.triu_indices(60, k=1)]
    # Pairwise distances as in tgm 5.3.
    assert (gaps.min(), np.median(gaps), gaps.max()) == (24, 42, 64)


def test_bit_modes_is_the_levenshtein_closeness_on_bits():
    env = BitSequence(num_bits=16, word_bits=4)
    reward = BitModes(env, num_modes=5, seed=3)
    generator = np.random.default_rng(0)
    texts = ["".join(map(str, row)) for row in generator.integers(0, 2, (40, 16))] + list(reward.modes)
    expected = [1 - min(levenshtein(text, mode) for mode in reward.modes) / 16 for text in texts]
    np.testing.assert_allclose(reward(env.from_text(texts)), expected, atol=1e-6)


def test_bit_modes_do_not_count_substitutions_only():
    env = BitSequence(num_bits=32, word_bits=8)
    reward = BitModes(env, num_modes=1, seed=5)
    (mode,) = reward.modes
    shifted = mode[1:] + str(1 - int(mode[-1]))
    assert sum(a != b for a, b in zip(shifted, mode, strict=True)) == 9
    # Drop the first bit and add one at the end.
    assert reward(env.from_text([shifted])).tolist() == [1 - 2 / 32]


@pytest.mark.parametrize("word_bits", [1, 2, 8])
def test_bit_modes_do_not_depend_on_the_words(word_bits):
    texts = ["0" * 24, "01" * 12, "1" * 20 + "0000"]
    env = BitSequence(num_bits=24, word_bits=word_bits)
    reward = BitModes(env, num_modes=4)
    expected = [1 - min(levenshtein(text, mode) for mode in reward.modes) / 24 for text in texts]
    np.testing.assert_allclose(reward(env.from_text(texts)), expected, atol=1e-6)


def test_the_published_task_agrees_with_rapidfuzz_on_uniform_strings():
    env = BitSequence()
    generator = np.random.default_rng(0)
    texts = ["".join(map(str, row)) for row in generator.integers(0, 2, (200, 120))]
    reward = BitModes(env)
    expected = cdist(texts, reward.modes, scorer=Levenshtein.distance).min(axis=1)
    np.testing.assert_allclose(120 * (1 - np.asarray(reward(env.from_text(texts)))), expected, atol=1e-4)


def test_pairwise_subsets_sums_weights_and_interactions():
    env = Subsets(5)
    reward = PairwiseSubsets(env, item_scale=2.0, pair_scale=0.3, seed=4)
    weights = np.asarray(reward.weights)
    texts = ["".join(bits) for bits in itertools.product("01", repeat=5)]
    expected = []
    for text in texts:
        chosen = [item for item in range(5) if text[item] == "1"]
        pairs = itertools.combinations(chosen, 2)
        expected.append(sum(weights[i, i] for i in chosen) + sum(weights[i, j] for i, j in pairs))
    np.testing.assert_allclose(reward(env.from_text(texts)), expected, atol=1e-5)
    assert not np.tril(weights, -1).any()


def test_pairwise_subsets_draws_the_same_weights_for_ever():
    # The first draws of NumPy's frozen legacy stream with seed 0, as its documentation prints them.
    weights = PairwiseSubsets(Subsets(2), pair_scale=1.0).weights
    np.testing.assert_allclose(weights, [[1.76405235, 0.40015721], [0.0, 2.2408932]], rtol=1e-6)
    other = PairwiseSubsets(Subsets(2), pair_scale=1.0, seed=1).weights
    assert not np.allclose(weights, other)


def test_every_reward_is_one_strong_number_an_object_compiled_or_not():
    grid, bits, subsets = Hypergrid(2, 8), BitSequence(16, 4), Subsets(3)
    cases = [
        (HypergridReward(grid), grid.from_text(["0 0", "1 6", "3 4"])),
        (BitModes(bits, num_modes=2), bits.from_text(["0" * 16, "1" * 16, "01" * 8])),
        (PairwiseSubsets(subsets), subsets.from_text(["000", "110", "111"])),
    ]
    for reward, states in cases:
        eager, compiled = reward(states), jax.jit(lambda reward, states: reward(states))(reward, states)
        assert eager.shape == (3,)
        assert eager.dtype == jnp.float32
        assert not eager.weak_type
        np.testing.assert_allclose(compiled, eager, rtol=1e-6)
        last = reward(jax.tree.map(lambda leaf: leaf[2:], states))
        np.testing.assert_allclose(last, eager[2:], rtol=1e-6)


@pytest.mark.parametrize(
    ("reward", "fitting"), [(HypergridReward, "Hypergrid"), (BitModes, "BitSequence"), (PairwiseSubsets, "Subsets")]
)
def test_the_wrong_environment_is_refused_and_the_fitting_one_named(reward, fitting):
    with pytest.raises(ValueError, match=rf"{reward.__name__} scores the objects of {fitting}, got Sequence"):
        reward(Sequence("AB", 1, 2))


def test_parameters_out_of_range_are_refused():
    for name, value in (("r0", 0.0), ("r0", math.nan), ("r1", -1.0), ("r2", math.inf)):
        with pytest.raises(ValueError, match=rf"{name} must be .*got {value}"):
            HypergridReward(Hypergrid(), **{name: value})
    with pytest.raises(ValueError, match="multiple of 8.*got 12"):
        BitModes(BitSequence(12, 4))
    with pytest.raises(ValueError, match="num_modes must be at least 1, got 0"):
        BitModes(BitSequence(16, 4), num_modes=0)
    with pytest.raises(ValueError, match="item_scale must be at least 0"):
        PairwiseSubsets(Subsets(3), item_scale=-0.1)
    with pytest.raises(ValueError, match="pair_scale must be at least 0"):
        PairwiseSubsets(Subsets(3), pair_scale=math.nan)
