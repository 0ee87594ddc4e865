"""Sample metrics against the specification's toy and against plain loops."""

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.diverse import greedy
from tests.reference.lev import levenshtein

from narrows.metrics.exact import mass_by_quantile
from narrows.metrics.samples import (
    closeness_to_modes,
    diverse_top_k,
    mode_distances,
    modes_found,
    novelty,
    sample_entropy,
    sample_mass_by_quantile,
    score_quantiles,
    top_k_diversity,
    top_k_mean,
)

STRINGS = st.lists(st.text("AC", max_size=5), min_size=1, max_size=12)
FEW_SCORES = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def random_strings(seed: int, num: int, length: int, letters: str) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(letters, k=length)) for _ in range(num)]


def test_t12_the_toy_of_the_specification():
    rewards = np.array([5, 4.9, 4.8, 3, 3.1, 1])
    items = [0, 1, 2, 10, 11, 20]
    result = diverse_top_k(items, np.log(rewards), k=3, min_distance=3, distance=lambda a, b: abs(a - b))
    assert [items[index] for index in result.kept] == [0, 11, 20]
    assert result.mean_reward == pytest.approx((5 + 3.1 + 1) / 3) == pytest.approx(3.0333, abs=5e-5)
    assert result.mean_log_reward == pytest.approx(math.log(5 * 3.1 * 1) / 3)
    assert result.num_kept == 3
    assert diverse_top_k(items, np.log(rewards), k=4, min_distance=3, distance=lambda a, b: abs(a - b)).num_kept == 3


@given(st.data(), STRINGS, st.integers(1, 6), st.integers(1, 4))
def test_diverse_top_k_agrees_with_plain_loops(data, items, k, min_distance):
    scores = np.array(data.draw(st.lists(FEW_SCORES, min_size=len(items), max_size=len(items))))
    result = diverse_top_k(items, scores, k=k, min_distance=min_distance)
    expected = greedy(items, scores.tolist(), k, min_distance, levenshtein)
    assert result.kept.tolist() == expected
    assert result.num_kept == len(expected)
    assert result.mean_reward == pytest.approx(np.mean([math.exp(scores[index]) for index in expected]))
    assert result.mean_log_reward == pytest.approx(np.mean([scores[index] for index in expected]))


@pytest.mark.parametrize("length", [10, 70])  # on both sides of 64 letters, where the computation changes
@pytest.mark.parametrize("radius", [0, 3, 25, 28])
def test_modes_agree_with_plain_loops(length, radius):
    modes = random_strings(0, 5, length, "01")
    rng = random.Random(1)
    samples = [mode[: rng.randrange(length)] + mode[rng.randrange(length) :] for mode in modes for _ in range(3)]
    samples += random_strings(2, 5, length, "01") + [modes[0]]
    distances = [min(levenshtein(mode, sample) for sample in samples) for mode in modes]
    assert mode_distances(samples, modes).tolist() == distances
    assert modes_found(samples, modes, radius) == sum(distance <= radius for distance in distances)
    assert closeness_to_modes(samples, modes) == pytest.approx(sum(distances) / len(modes))


def test_one_sample_can_find_two_modes():
    assert modes_found(["0011"], ["0010", "0111", "1100"], radius=1) == 2


def test_minima_of_batches_are_the_minima_of_all():
    modes, samples = random_strings(0, 6, 120, "01"), random_strings(1, 40, 120, "01")
    batches = [mode_distances(samples[start : start + 10], modes) for start in range(0, 40, 10)]
    assert np.minimum.reduce(batches).tolist() == mode_distances(samples, modes).tolist()


@given(st.data(), STRINGS, STRINGS, st.integers(2, 6))
def test_top_k_metrics_agree_with_plain_loops(data, samples, training, k):
    scores = np.array(data.draw(st.lists(FEW_SCORES, min_size=len(samples), max_size=len(samples))))
    best = sorted(range(len(samples)), key=lambda index: -scores[index])[:k]
    top = [samples[index] for index in best]
    assert top_k_mean(scores, k) == pytest.approx(sum(scores[index] for index in best) / len(best))
    expected = [min(levenshtein(one, other) for other in training) for one in top]
    assert novelty(samples, scores, training, k) == pytest.approx(sum(expected) / len(top))
    if len(top) > 1:
        pairs = [levenshtein(one, other) for one, other in itertools.combinations(top, 2)]
        assert top_k_diversity(samples, scores, k) == pytest.approx(sum(pairs) / len(pairs))


def slow_mass(scores: list[float], reference: list[float], num_bins: int) -> list[Fraction]:
    """Give each sample to the bins of the reference objects of its score, in equal parts."""
    n = len(reference)
    mass = [Fraction(0)] * num_bins
    for score in scores:
        below = sum(other < score for other in reference)
        equal = sum(other == score for other in reference)
        if not equal:
            mass[min(below * num_bins // n, num_bins - 1)] += Fraction(1, len(scores))
            continue
        # Object i of n fills the stretch from i num_bins / n to (i + 1) num_bins / n of an axis with bins of length 1.
        low, high = Fraction(below * num_bins, n), Fraction((below + equal) * num_bins, n)
        for b in range(num_bins):
            part = max(Fraction(0), min(high, Fraction(b + 1)) - max(low, Fraction(b)))
            mass[b] += part / (high - low) / len(scores)
    return mass


@given(
    st.lists(st.integers(-1, 5), min_size=1, max_size=10),
    st.lists(st.sampled_from([0, 1, 3, 4]), min_size=1, max_size=12),
    st.integers(1, 10),
)
def test_mass_agrees_with_plain_loops(scores, reference, num_bins):
    mass = sample_mass_by_quantile(np.array(scores, float), np.array(reference, float), num_bins)
    assert mass == pytest.approx([float(part) for part in slow_mass(scores, reference, num_bins)], abs=1e-12)
    assert mass.sum() == pytest.approx(1.0)
    uniform = sample_mass_by_quantile(np.array(reference, float), np.array(reference, float), num_bins)
    assert uniform == pytest.approx(np.full(num_bins, 1 / num_bins))


def test_mass_of_samples_tends_to_the_exact_mass_of_their_law():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=1000)
    law = np.exp(2.0 * scores) / np.exp(2.0 * scores).sum()
    samples = rng.choice(1000, size=40_000, p=law)
    exact = mass_by_quantile(np.log(law), scores)
    # The largest standard error of a share is sqrt(0.25 / 40000) = 0.0025; four of them.
    assert sample_mass_by_quantile(scores[samples], scores) == pytest.approx(exact, abs=0.01)
    assert exact[-1] > 0.5


def test_score_quantiles_run_from_minimum_to_maximum():
    assert score_quantiles(np.array([4.0, 0.0, 1.0, 3.0, 2.0]), num_bins=4).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_entropy_of_a_known_law():
    law = np.array([0.5, 0.25, 0.125, 0.125])
    exact = 1.75 * math.log(2)
    exactly_like_the_law = ["a"] * 4 + ["b"] * 2 + ["c", "d"]
    result = sample_entropy(exactly_like_the_law)
    assert result.plug_in == pytest.approx(exact)
    assert result.miller_madow == pytest.approx(exact + 3 / 16)
    assert (result.num_samples, result.num_distinct) == (8, 4)
    rng = np.random.default_rng(0)
    estimates = [sample_entropy(rng.choice(4, size=50, p=law).tolist()) for _ in range(2000)]
    plug_in, corrected = (np.mean([getattr(e, name) for e in estimates]) for name in ("plug_in", "miller_madow"))
    # The bias of the plug-in estimate is -(4 - 1) / (2 * 50) = -0.03 to first order; the correction removes it.
    assert plug_in - exact == pytest.approx(-0.03, abs=0.006)
    assert corrected - exact == pytest.approx(0.0, abs=0.006)


@settings(max_examples=20)
@given(STRINGS)
def test_entropy_is_between_zero_and_log_of_distinct(samples):
    result = sample_entropy(samples)
    assert -1e-12 <= result.plug_in <= math.log(len(set(samples))) + 1e-12


def test_refusals():
    with pytest.raises(ValueError, match="at least one mode"):
        mode_distances(["a"], [])
    with pytest.raises(ValueError, match="at least one reference"):
        closeness_to_modes([], ["a"])
    for samples, modes, radius in (([], ["a"], 1), (["a"], [], 1), (["a"], ["a"], -1)):
        with pytest.raises(ValueError, match="expected samples, modes and a radius"):
            modes_found(samples, modes, radius)
    with pytest.raises(ValueError, match="at least 2 items, got 1"):
        top_k_diversity(["a", "b"], np.array([1.0, 2.0]), k=1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        top_k_mean(np.array([1.0]), k=0)
    with pytest.raises(ValueError, match="finite, got nan for item 1"):
        top_k_mean(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="got 2 and shape \\(1,\\)"):
        diverse_top_k(["a", "b"], np.array([1.0]), min_distance=1)
    with pytest.raises(ValueError, match="at least one item"):
        diverse_top_k([], np.zeros(0), min_distance=1)
    with pytest.raises(ValueError, match="at least one sample"):
        sample_entropy([])
