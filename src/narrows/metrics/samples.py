"""Measures of a sampler by its samples alone: quality, diversity, modes found, novelty, entropy.

The quantities of Jiralerspong et al. 2025 (arXiv:2506.17007) and of the papers it compares with. Distances are
Levenshtein's, `lev`; objects are strings with one letter a token.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int

from narrows.distance import EDITS, AbstractDistance
from narrows.selection import choose_diverse

Item = TypeVar("Item")

MODE_RADIUS = 28
"""A mode of 120 bits is found by a sample within this distance (Malkin et al. 2022, trajectory balance)."""


class DiverseTopK(NamedTuple):
    """The items that a greedy diverse choice kept, and their rewards.

    Args:
        kept: positions in the items, best first.
        mean_reward: mean of `exp(log_reward)` over the items kept.
        mean_log_reward: mean of `log_reward` over them.
        num_kept: how many those are, fewer than `k` where no more were different enough.
    """

    kept: Int[np.ndarray, " kept"]
    mean_reward: float
    mean_log_reward: float
    num_kept: int


class SampleEntropy(NamedTuple):
    """Estimates in nats of the entropy of the distribution that samples came from, and what they rest on.

    Both are far too low while most samples are distinct: `plug_in` never exceeds `log num_samples`.
    """

    plug_in: float
    miller_madow: float
    num_samples: int
    num_distinct: int


def diverse_top_k(
    items: Sequence[Item],
    log_rewards: Float[np.ndarray, " item"],
    *,
    min_distance: float,
    k: int = 100,
    distance: AbstractDistance | Callable[[Item, Item], float] = EDITS,
) -> DiverseTopK:
    """Return the average mode reward: the mean reward of the `k` best items that are `min_distance` apart.

    The main metric of the paper, with `choose_diverse` as its greedy filter. Repeated strings count once.

    Args:
        items: strings, or anything if `distance` is a function.
        log_rewards: the score of each item whose exponential is its reward, shape `[item]`.
        min_distance: least distance between two items kept; report several.
        k: how many to keep at most.
        distance: an environment's, or a symmetric function of two items.

    >>> diverse_top_k(["ACGU", "ACGG", "UUUU"], np.array([3.0, 2.0, 1.0]), k=2, min_distance=2).kept
    array([0, 2])
    """
    log_rewards = np.asarray(log_rewards, np.float64)
    _check_scores(items, log_rewards)
    kept = choose_diverse(items, log_rewards, k=k, min_distance=min_distance, distance=distance).kept
    values = log_rewards[kept]
    return DiverseTopK(kept, float(np.exp(values).mean()), float(values.mean()), len(kept))


def mode_distances(samples: Sequence[str], modes: Sequence[str]) -> Int[np.ndarray, " mode"]:
    """Return `min over samples of lev(mode, sample)` for each mode.

    Over a whole training run, keep the `np.minimum` of what the batches give: `modes_found` and `closeness_to_modes`
    follow from it as `(distances <= radius).sum()` and `distances.mean()`.

    >>> mode_distances(["ACGU", "ACGG"], ["ACG", "UUUU"])
    array([1, 3])
    """
    if not modes:
        raise ValueError("expected at least one mode, got none.")
    return EDITS.nearest(modes, list(dict.fromkeys(samples))).distance


def modes_found(samples: Sequence[str], modes: Sequence[str], radius: int = MODE_RADIUS) -> int:
    """Return `#{m : min over samples of lev(m, sample) <= radius}`; one sample can find several modes."""
    distinct = list(dict.fromkeys(samples))
    if not distinct or not modes or radius < 0:
        raise ValueError(f"expected samples, modes and a radius >= 0, got {len(distinct)}, {len(modes)} and {radius}.")
    return sum(bool(EDITS.is_closer(mode, distinct, radius + 1).any()) for mode in modes)


def closeness_to_modes(samples: Sequence[str], modes: Sequence[str]) -> float:
    """Return the mean over modes of `min over samples of lev(mode, sample)`; lower is better."""
    return float(mode_distances(samples, modes).mean())


def top_k_mean(scores: Float[np.ndarray, " item"], k: int = 100) -> float:
    """Return the mean of the `k` highest scores, of all of them if there are fewer.

    >>> top_k_mean(np.array([1.0, 5.0, 3.0]), k=2)
    4.0
    """
    scores = np.asarray(scores, np.float64)
    return float(scores[_top(scores, scores, k)].mean())


def top_k_diversity(samples: Sequence[str], scores: Float[np.ndarray, " sample"], k: int = 100) -> float:
    """Return the mean edit distance over the pairs of the `k` best-scored samples.

    With 2,048 samples and `k = 100` this is the protocol of the trajectory balance paper. Samples count as often as
    they occur; pass distinct ones to let each count once. Raises ValueError below two samples.
    """
    return EDITS.mean([samples[index] for index in _top(samples, scores, k)])


def novelty(samples: Sequence[str], scores: Float[np.ndarray, " sample"], training: Sequence[str], k: int = 100) -> float:
    """Return the mean over the `k` best-scored samples of `min over the training set of lev(sample, training object)`.

    >>> novelty(["ACGU", "UUUU", "GGGG"], np.array([2.0, 3.0, 1.0]), ["ACGG", "UUUU"], k=2)
    0.5
    """
    return float(EDITS.nearest([samples[index] for index in _top(samples, scores, k)], training).distance.mean())


def score_quantiles(scores: Float[np.ndarray, " sample"], num_bins: int = 10) -> Float[np.ndarray, " edge"]:
    """Return the `num_bins + 1` quantiles from the minimum to the maximum of the scores of samples, shape `[edge]`."""
    scores = np.asarray(scores, np.float64)
    _check_scores(scores, scores)
    return np.quantile(scores, np.linspace(0.0, 1.0, num_bins + 1))


def sample_mass_by_quantile(
    scores: Float[np.ndarray, " sample"], reference: Float[np.ndarray, " object"], num_bins: int = 10
) -> Float[np.ndarray, " bin"]:
    """Return the share of samples in each `1/num_bins` of the reference scores, the lowest first; it sums to 1.

    A score that many reference objects share belongs to the bins in the proportion in which those objects do, so that
    the reference itself has the mass `1/num_bins` in each bin. `mass_by_quantile` is the same of a distribution known exactly.

    Args:
        scores: of the samples.
        reference: of all objects, or of a large random set of them.
        num_bins: 10 for deciles.

    >>> sample_mass_by_quantile(np.array([0.0, 3.0, 3.0, 9.0]), np.array([0.0, 1.0, 2.0, 3.0]), num_bins=2)
    array([0.25, 0.75])
    """
    scores, reference = np.asarray(scores, np.float64), np.sort(np.asarray(reference, np.float64))
    _check_scores(scores, scores)
    _check_scores(reference, reference)
    values, counts = np.unique(scores, return_counts=True)
    # In units of bins, the reference objects of one value cover the interval from low to high.
    low = np.searchsorted(reference, values, "left") * num_bins / reference.size
    high = np.searchsorted(reference, values, "right") * num_bins / reference.size
    bins = np.arange(num_bins)
    overlap = np.clip(np.minimum(high[:, None], bins + 1) - np.maximum(low[:, None], bins), 0.0, None)
    # A value that no reference object has covers a point.
    point = bins == np.minimum(low.astype(np.int64), num_bins - 1)[:, None]
    is_point = (high == low)[:, None]
    share = np.where(is_point, point, overlap / np.where(is_point, 1.0, (high - low)[:, None]))
    return counts @ share / scores.size


def sample_entropy(samples: Sequence[Hashable]) -> SampleEntropy:
    """Estimate the entropy of a distribution from samples of it.

    `plug_in = -sum_x f_x log f_x` with the observed frequencies `f`; it is too low by about
    `(num_distinct - 1) / (2 num_samples)`, which `miller_madow` adds (Miller 1955).

    >>> sample_entropy(["a", "a", "b", "b"])
    SampleEntropy(plug_in=0.693..., miller_madow=0.818..., num_samples=4, num_distinct=2)
    """
    if not samples:
        raise ValueError("expected at least one sample, got none.")
    counts = np.array(list(Counter(samples).values()), np.float64)
    frequencies = counts / counts.sum()
    plug_in = float(-np.sum(frequencies * np.log(frequencies)))
    return SampleEntropy(plug_in, plug_in + (counts.size - 1) / (2 * len(samples)), len(samples), counts.size)


def _top(items: Sequence[Item] | np.ndarray, scores: np.ndarray, k: int) -> list[int]:
    """Return the positions of the `k` highest scores, the earlier one first among equals."""
    scores = np.asarray(scores, np.float64)
    _check_scores(items, scores)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    return np.argsort(-scores, kind="stable")[:k].tolist()


def _check_scores(items: Sequence[Item] | np.ndarray, scores: np.ndarray) -> None:
    if scores.shape != (len(items),) or not len(items):
        raise ValueError(f"expected at least one item and one score each, got {len(items)} and shape {scores.shape}.")
    if not np.isfinite(scores).all():
        index = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"scores must be finite, got {scores[index]} for item {index}. Leave such items out.")
