"""The few statistics a page states: finite parts, bootstrap means, edit distances, errors by distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np

from narrows.data import Space
from narrows.distance import EDITS, AbstractDistance
from narrows.report.content import Values

BOOTSTRAP_DRAWS = 4000
LARGEST = 1e150


@final
class Interval(NamedTuple):
    """A mean with its 95 % bootstrap interval; the interval is NaN below two values."""

    mean: float
    low: float
    high: float
    num: int


def num_objects(space: Space) -> int:
    """Return how many distinct objects the space holds, `sum_l |alphabet|^l`.

    >>> num_objects(Space("rna", "ACGU", 14, 14))
    268435456
    """
    return sum(len(space.alphabet) ** length for length in range(space.min_length, space.max_length + 1))


def column(values: Values) -> np.ndarray:
    """Return `values` as a flat float64 array, NaN for None.

    >>> column([1, None])
    array([ 1., nan])
    """
    return np.asarray(values, dtype=np.float64).reshape(-1)


def is_finite(array: np.ndarray) -> np.ndarray:
    """Return where `array` holds numbers that can be drawn and squared: finite, and below 1e150 in size."""
    return np.abs(np.where(np.isfinite(array), array, LARGEST)) < LARGEST


def finite(values: Values) -> np.ndarray:
    """Return the finite entries of `values`, in order; see `is_finite`.

    >>> finite([1.0, float("nan"), float("inf"), 2.0])
    array([1., 2.])
    """
    array = column(values)
    return array[is_finite(array)]


def largest(values: Values) -> float | None:
    """Return the largest finite value, `None` without one.

    >>> largest([1.0, 3.0, float("inf")]), largest([])
    (3.0, None)
    """
    array = finite(values)
    return float(array.max()) if array.size else None


def finite_together(*columns: Values) -> tuple[np.ndarray, ...]:
    """Return the columns restricted to the positions at which all of them are finite; all empty if one is empty.

    >>> finite_together([1.0, 2.0], [float("nan"), 4.0])
    (array([2.]), array([4.]))
    """
    arrays = [column(values) for values in columns]
    if len({array.size for array in arrays}) > 1:
        return tuple(np.empty(0) for _ in arrays)
    keep = np.all([is_finite(array) for array in arrays], axis=0)
    return tuple(array[keep] for array in arrays)


def bootstrap_mean(values: Values, *, seed: int = 0) -> Interval:
    """Return the mean of the finite values with a 95 % percentile bootstrap interval over objects."""
    array = finite(values)
    if array.size == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    low, high = _quantiles(_resampled_means(array, seed)) if array.size > 1 else (float("nan"), float("nan"))
    return Interval(float(array.mean()), low, high, array.size)


def bootstrap_difference(first: Values, second: Values, *, seed: int = 0) -> Interval:
    """Return `mean(first) - mean(second)` with a 95 % percentile bootstrap interval, the groups resampled apart."""
    a, b = finite(first), finite(second)
    if min(a.size, b.size) < 2:
        mean = float(a.mean() - b.mean()) if min(a.size, b.size) else float("nan")
        return Interval(mean, float("nan"), float("nan"), min(a.size, b.size))
    low, high = _quantiles(_resampled_means(a, seed) - _resampled_means(b, seed + 1))
    return Interval(float(a.mean() - b.mean()), low, high, min(a.size, b.size))


def rank_correlation(first: Values, second: Values) -> float:
    """Return Spearman's rank correlation (ties share their mean rank), NaN where a column is constant or too short.

    >>> rank_correlation([1, 2, 3], [10, 20, 15])
    0.5
    """
    a, b = finite_together(first, second)
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.round(np.corrcoef(_ranks(a), _ranks(b))[0, 1], 12))


def pairwise_distances(sequences: Sequence[str], distance: AbstractDistance = EDITS) -> np.ndarray:
    """Return the distances of all pairs `i < j`, shape `[n (n - 1) / 2]`.

    >>> pairwise_distances(["ACGU", "ACGA", "AC"]).tolist()
    [1, 2, 2]
    """
    if len(sequences) < 2:
        return np.empty(0, dtype=np.int64)
    return distance.matrix(sequences)[np.triu_indices(len(sequences), k=1)]


@final
class ErrorBin(NamedTuple):
    """The errors of the proxy on held-out objects `low` to `high` edits from the training data.

    `rmse` is its root-mean-square error, `coverage` the share of truths within one standard deviation of the prediction and
    `sharpness` the mean standard deviation; the last two are NaN where no standard deviation is known.
    """

    low: int
    high: int
    rmse: float
    num: int
    coverage: float
    sharpness: float


def error_by_distance(
    truth: Values, mean: Values, distance: Values, *, std: Values = (), max_bins: int = 8
) -> tuple[ErrorBin, ...]:
    """Return error and calibration in bins of equal width over the distance to the training data, empty bins left out."""
    has_std = len(std) == len(truth) and bool(np.any(np.isfinite(np.asarray(std, np.float64))))
    if has_std:
        truth, mean, distance, std = finite_together(truth, mean, distance, std)
    else:
        truth, mean, distance = finite_together(truth, mean, distance)
        std = np.full(truth.size, np.nan)
    if truth.size == 0:
        return ()
    low, high = int(distance.min()), int(distance.max())
    width = max(1, -(-(high - low + 1) // max_bins))
    bins = []
    for start in range(low, high + 1, width):
        inside = (distance >= start) & (distance < start + width)
        if inside.any():
            error = np.abs(truth[inside] - mean[inside])
            coverage = float(np.mean(error <= std[inside])) if has_std else float("nan")
            figures = (float(np.sqrt(np.mean(error**2))), int(inside.sum()), coverage, float(np.mean(std[inside])))
            bins.append(ErrorBin(start, min(start + width - 1, high), *figures))
    return tuple(bins)


def evenly_thinned(order_by: np.ndarray, limit: int) -> np.ndarray:
    """Return at most `limit` positions, evenly spread over the sorted order of `order_by`, both ends kept.

    >>> evenly_thinned(np.array([5.0, 1.0, 3.0, 2.0, 4.0]), 3)
    array([1, 2, 0])
    """
    order = np.argsort(order_by, kind="stable")
    if order.size <= limit:
        return order
    return order[np.linspace(0, order.size - 1, limit).round().astype(np.int64)]


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]


def _resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed).integers(0, values.size, size=(BOOTSTRAP_DRAWS, values.size))
    return values[draws].mean(axis=1)


def _quantiles(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
