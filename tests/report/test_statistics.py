"""The page's statistics against SciPy and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from scipy.stats import spearmanr

from narrows.report.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    error_by_distance,
    evenly_thinned,
    finite_together,
    pairwise_distances,
    rank_correlation,
)

NUMBERS = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=30)


@settings(max_examples=60, deadline=None)
@given(NUMBERS)
def test_rank_correlation_is_scipys(pairs):
    a, b = np.array(pairs, dtype=float).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(rank_correlation(a, b))
    else:
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b)[0], abs=1e-9)


def test_the_bootstrap_interval_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)
    assert bootstrap_mean(values) == interval


def test_the_interval_of_a_difference_covers_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        gap = bootstrap_difference(rng.normal(1.0, 1.0, 30), rng.normal(0.0, 2.0, 40), seed=trial)
        covered += gap.low <= 1.0 <= gap.high
    # 200 trials at 95 %: mean 190, standard deviation 3.1; the percentile bootstrap of 30 values falls a little short.
    assert 176 <= covered <= 199


def test_intervals_of_too_few_values_are_unknown():
    assert np.isnan(bootstrap_mean([1.0]).low) and bootstrap_mean([1.0]).mean == 1.0
    assert bootstrap_mean([]).num == 0 and np.isnan(bootstrap_mean([]).mean)
    assert np.isnan(bootstrap_difference([1.0], [2.0, 3.0]).low)
    assert bootstrap_difference([1.0], [2.0, 3.0]).mean == -1.5
    assert np.isnan(bootstrap_difference([], [2.0]).mean)


def test_pairwise_distances_are_those_of_a_loop():
    words = ["ACGU", "AC", "", "UGCAUGCA", "ACGU"]
    expected = [Levenshtein.distance(a, b) for i, a in enumerate(words) for b in words[i + 1 :]]
    assert pairwise_distances(words).tolist() == expected
    assert pairwise_distances(["A"]).size == 0


def test_error_by_distance_counts_every_item_once():
    rng = np.random.default_rng(0)
    truth, mean, distance = rng.normal(size=300), rng.normal(size=300), rng.integers(2, 60, 300)
    bins = error_by_distance(truth, mean, distance, max_bins=8)
    assert len(bins) <= 8 and sum(b.num for b in bins) == 300
    for b in bins:
        errors = [(t - m) ** 2 for t, m, d in zip(truth, mean, distance, strict=True) if b.low <= d <= b.high]
        assert len(errors) == b.num and b.rmse == pytest.approx(np.sqrt(np.mean(errors)))
        assert np.isnan(b.coverage) and np.isnan(b.sharpness)
    std = rng.uniform(0.2, 2.0, 300)
    for b in error_by_distance(truth, mean, distance, std=std, max_bins=5):
        rows = [row for row in range(300) if b.low <= distance[row] <= b.high]
        assert b.coverage == pytest.approx(np.mean([abs(truth[row] - mean[row]) <= std[row] for row in rows]))
        assert b.sharpness == pytest.approx(np.mean([std[row] for row in rows]))
    assert error_by_distance([], [], []) == ()
    assert error_by_distance([1.0], [np.nan], [3]) == ()


def test_thinning_keeps_the_ends_and_the_order():
    values = np.random.default_rng(0).permutation(1000).astype(float)
    kept = values[evenly_thinned(values, 50)]
    assert kept.size == 50 and kept[0] == 0 and kept[-1] == 999 and (np.diff(kept) > 0).all()


def test_columns_that_do_not_match_are_empty_together():
    a, b = finite_together([1.0, 2.0], [])
    assert a.size == b.size == 0
