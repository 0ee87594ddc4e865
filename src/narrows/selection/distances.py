"""Levenshtein distances between many strings on the host: how many insertions, deletions and substitutions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist, extractOne

_PAIRS_AT_ONCE = 1 << 22
# rapidfuzz compares strings of up to 64 letters many at a time; above, tightening the bound as one goes is faster.
_SHORT = 64


class Nearest(NamedTuple):
    """Hold, for each of `n` items, the position of the nearest reference and its distance, both int64 `[n]`."""

    position: np.ndarray
    distance: np.ndarray


def distance_matrix(items: Sequence[str]) -> np.ndarray:
    """Return the distance of every two items, int64, shape `[n, n]`.

    >>> distance_matrix(["ACGU", "ACG", "UCGU"]).tolist()
    [[0, 1, 1], [1, 0, 2], [1, 2, 0]]
    """
    return cdist(items, items, scorer=Levenshtein.distance).astype(np.int64).reshape(len(items), len(items))


def mean_pairwise_distance(items: Sequence[str]) -> float:
    """Return the mean distance over the `n (n - 1) / 2` pairs of items; ValueError below two items.

    >>> round(mean_pairwise_distance(["ACGU", "ACG", "UCGU"]), 4)
    1.3333
    """
    if len(items) < 2:
        raise ValueError(f"a mean over pairs needs at least 2 items, got {len(items)}.")
    total = sum(
        int(cdist(items[start : start + rows], items, scorer=Levenshtein.distance).sum(dtype=np.int64))
        for start, rows in _blocks(len(items), len(items))
    )
    return total / (len(items) * (len(items) - 1))


def nearest(items: Sequence[str], references: Sequence[str]) -> Nearest:
    """Return the nearest reference of each item, the first one of several; memory stays bounded.

    Raises ValueError when there is no reference.

    >>> nearest(["ACGU", "GGG"], ["GGGG", "ACG", "ACGA"])
    Nearest(position=array([1, 0]), distance=array([1, 1]))
    """
    if not references:
        raise ValueError("expected at least one reference to measure distances to, got none.")
    if max(map(len, references)) > _SHORT:
        found = [extractOne(item, references, scorer=Levenshtein.distance) for item in items]
        pairs = np.array([(index, distance) for _, distance, index in found], np.int64).reshape(-1, 2)
        return Nearest(pairs[:, 0], pairs[:, 1])
    position = np.zeros(len(items), np.int64)
    distance = np.zeros(len(items), np.int64)
    for start, rows in _blocks(len(items), len(references)):
        block = cdist(items[start : start + rows], references, scorer=Levenshtein.distance)
        position[start : start + rows] = block.argmin(1)
        distance[start : start + rows] = block.min(1)
    return Nearest(position, distance)


def is_closer(item: str, others: Sequence[str], distance: int) -> np.ndarray:
    """Return which of `others` are less than `distance` (>= 1) edits away from `item`, bool, shape `[others]`."""
    return cdist([item], others, scorer=Levenshtein.distance, score_cutoff=distance - 1)[0] < distance


def _blocks(num_rows: int, num_columns: int) -> list[tuple[int, int]]:
    """Return `(start, rows)` of blocks whose matrices stay small."""
    rows = max(1, _PAIRS_AT_ONCE // max(1, num_columns))
    return [(start, rows) for start in range(0, num_rows, rows)]
