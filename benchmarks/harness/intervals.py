"""Means with 95 % intervals: by Student's t over seeds, by Welch's for a difference, and by the bootstrap over tasks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NUM_RESAMPLES = 10_000


class Interval(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def told(self, digits: int = 2, *, sign: bool = False) -> str:
        """Return the interval as the pages show it.

        >>> Interval(0.5, 0.25, 0.75).told(), Interval(0.5, -0.25, 1.25).told(1, sign=True)
        ('0.50 [0.25, 0.75]', '+0.5 [-0.2, +1.2]')
        """
        form = f"{'+' if sign else ''}.{digits}f"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def of_mean(values: Float[np.ndarray, " seed"]) -> Interval:
    """Return a mean over seeds with Student's interval, which few seeds make wide; of one seed it has no width."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, mean, mean)
    return _around(mean, float(np.std(values, ddof=1) / np.sqrt(len(values))), len(values) - 1)


def of_difference(ours: Float[np.ndarray, " seed"], theirs: Float[np.ndarray, " other"]) -> Interval:
    """Return the difference of the means of two samples of at least two values each, with Welch's interval."""
    return of_sum((ours, theirs), (1.0, -1.0))


def of_sum(samples: Sequence[Float[np.ndarray, " seed"]], weights: Sequence[float]) -> Interval:
    """Return a weighted sum of the means of samples of at least two values each, with Welch's interval.

    Args:
        samples: not necessarily of one size.
        weights: one a sample; one over their number each gives the mean of their means.
    """
    if min(map(len, samples)) < 2:
        raise ValueError(f"an interval needs two seeds of either method, got {' and '.join(str(len(one)) for one in samples)}.")
    value = float(sum(weight * np.mean(one) for one, weight in zip(samples, weights, strict=True)))
    parts = [weight**2 * float(np.var(one, ddof=1)) / len(one) for one, weight in zip(samples, weights, strict=True)]
    variance = sum(parts)
    if variance == 0.0:
        return Interval(value, value, value)
    freedom = variance**2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, samples, strict=True))
    return _around(value, math.sqrt(variance), freedom)


def bootstrap(values: Float[np.ndarray, "task seed"]) -> Interval:
    """Return the mean over tasks and seeds, and the percentile interval when the seeds of each task are drawn anew."""
    rng = np.random.default_rng(0)
    num_tasks, num_seeds = values.shape
    rows = rng.integers(num_seeds, size=(NUM_RESAMPLES, num_tasks, num_seeds))
    means = np.mean(values[np.arange(num_tasks)[:, None], rows], axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(np.mean(values)), float(low), float(high))


def _around(value: float, deviation: float, freedom: float) -> Interval:
    from scipy.stats import t  # half a second that the pages can do without

    reach = float(t.ppf(0.975, freedom)) * deviation
    return Interval(value, value - reach, value + reach)
