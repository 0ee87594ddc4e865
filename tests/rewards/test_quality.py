"""The figures of a proxy, and the table that shows them."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from tests.rewards.proxies import make_quality

from narrows.proxies.quality import Quality, rank_agreement


def test_error_by_distance_has_a_row_for_each_distance():
    quality = make_quality(
        test_truth=np.array([0.0, 0.0, 0.0, 9.0]),
        test_mean=np.array([3.0, 4.0, 1.0, 0.0]),
        test_std=np.array([3.5, 2.0, 0.5, 1.0]),
        test_distance=np.array([2.0, 2.0, 5.0, np.nan]),
    )
    rows = quality.error_by_distance()
    assert [(row.low, row.high, row.num) for row in rows] == [(2, 2, 2), (5, 5, 1)]
    assert [row.rmse for row in rows] == pytest.approx([np.sqrt(12.5), 1.0])
    assert [row.coverage_1std for row in rows] == pytest.approx([0.5, 0.0])
    assert [row.sharpness for row in rows] == pytest.approx([2.75, 0.5])
    assert make_quality(test_distance=np.full(2, np.nan)).error_by_distance() == ()


def test_many_distances_share_at_most_six_rows_that_count_everything():
    distance = np.arange(100) // 3
    zeros = np.zeros(100)
    rows = make_quality(test_truth=zeros, test_mean=zeros, test_std=zeros, test_distance=distance * 1.0).error_by_distance()
    assert len(rows) <= 6
    assert sum(row.num for row in rows) == 100
    assert all(one.high < other.low for one, other in zip(rows, rows[1:], strict=False))


def test_rank_agreement_is_spearmans_with_ties():
    rng = np.random.default_rng(0)
    mean, truth = rng.integers(0, 5, 40), rng.integers(0, 5, 40)
    assert rank_agreement(mean, truth) == pytest.approx(spearmanr(mean, truth)[0])
    assert rank_agreement(np.ones(3), np.arange(3)) is None


def test_the_summary_states_every_figure():
    text = make_quality(spearman=0.875, rmse=0.125, num_train=12_345).summary()
    for figure in ("12,345", "0.875", "0.125", "50.0%", "min 3, median 3, max 3 edits", "at 3 edits", "2 standard deviations"):
        assert figure in text
    assert "undefined (constant predictions)" in make_quality().summary()


def test_it_survives_json():
    quality = make_quality()
    assert Quality.from_dict(quality.to_dict()).to_dict() == quality.to_dict()
    with pytest.raises(ValueError, match="lacks"):
        Quality.from_dict([])
