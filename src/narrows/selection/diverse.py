"""The greedy choice of good and mutually different items: the one place where it stands."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from narrows.distance import EDITS, AbstractDistance

Item = TypeVar("Item")

KEPT, FORBIDDEN = -1, -2
_FIRST_BLOCK = 256
_LARGEST_BLOCK = 1 << 14


class Choice(NamedTuple):
    """The items that the greedy choice kept, and why it passed over the rest.

    `kept` are positions in the items, best first, int64 `[<= k]`. `order` are all positions by descending score,
    `[n]`. `blocker[i]` belongs to item `order[i]`: `KEPT`, `FORBIDDEN`, or the row of `kept` (from 0, the best of several) that
    the item is too close to; it ends where the choice was complete, so its length is the number of items considered.
    """

    kept: np.ndarray
    order: np.ndarray
    blocker: np.ndarray


def choose_diverse(
    items: Sequence[Item],
    scores: np.ndarray,
    *,
    k: int,
    min_distance: float,
    distance: AbstractDistance | Callable[[Item, Item], float] = EDITS,
    is_allowed: Callable[[Sequence[Item]], np.ndarray] | None = None,
) -> Choice:
    """Take items by descending score, each if it is at least `min_distance` from all taken before, until there are `k`.

    Of equal scores the earlier item goes first. This approximates `max sum_i exp(score_i)` under
    `d(x_i, x_j) >= min_distance` (Jiralerspong et al. 2025, arXiv:2506.17007, eq. 1 and its main metric).

    Args:
        items: `n` items; strings unless `distance` is a function.
        scores: numbers without NaN, shape `[n]`.
        k: how many to take, at least 1.
        min_distance: at least 0. Equal strings are never both taken.
        distance: an environment's, which is computed in blocks and stops early (half a million strings take seconds), by
            default the edits of strings; or a symmetric function of two items.
        is_allowed: which of some items may be taken at all; all by default. It is asked only as far as the choice goes.

    >>> scores = np.array([5, 4.9, 4.8, 3, 3.1, 1])
    >>> choose_diverse([0, 1, 2, 10, 11, 20], scores, k=3, min_distance=3, distance=lambda a, b: abs(a - b)).kept
    array([0, 4, 5])
    """
    scores = np.asarray(scores, np.float64)
    _check(items, scores, k, min_distance)
    order = np.argsort(-scores, kind="stable")
    blocker = np.full(len(items), KEPT, np.int64)
    kept: list[int] = []
    num_considered = len(items)
    start, size = 0, _FIRST_BLOCK
    while start < len(items) and len(kept) < k:
        block = [items[position] for position in order[start : start + size]]
        reasons = blocker[start : start + size]
        undecided = np.arange(len(block))
        if is_allowed is not None:
            may = np.asarray(is_allowed(block), bool)
            reasons[~may] = FORBIDDEN
            undecided = undecided[may]
        for row, position in enumerate(kept):
            undecided = _pass_over(items[position], row, block, undecided, reasons, min_distance, distance)
        while undecided.size and len(kept) < k:
            best, undecided = int(undecided[0]), undecided[1:]
            kept.append(int(order[start + best]))
            undecided = _pass_over(block[best], len(kept) - 1, block, undecided, reasons, min_distance, distance)
            if len(kept) == k:
                num_considered = start + best + 1
        start, size = start + size, min(2 * size, _LARGEST_BLOCK)
    return Choice(np.array(kept, np.int64), order, blocker[:num_considered])


def _pass_over(
    item: Item,
    row: int,
    block: Sequence[Item],
    undecided: np.ndarray,
    reasons: np.ndarray,
    min_distance: float,
    distance: AbstractDistance | Callable[[Item, Item], float],
) -> np.ndarray:
    """Note `row` as the reason against the undecided items too close to `item`; return the others."""
    if not undecided.size:
        return undecided
    others: list[Any] = [block[position] for position in undecided]
    if isinstance(distance, AbstractDistance):
        close = distance.is_closer(str(item), others, max(1, math.ceil(min_distance)))
    else:
        close = np.array([distance(item, other) < min_distance for other in others], bool)
    reasons[undecided[close]] = row
    return undecided[~close]


def _check(items: Sequence[Any], scores: np.ndarray, k: int, min_distance: float) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    if not 0 <= min_distance < math.inf:
        raise ValueError(f"min_distance must be a number of at least 0, got {min_distance}.")
    if scores.shape != (len(items),):
        raise ValueError(f"expected one score for each of {len(items)} items, got scores of shape {scores.shape}.")
    if np.isnan(scores).any():
        index = int(np.flatnonzero(np.isnan(scores))[0])
        raise ValueError(f"item {index} ({items[index]!r}) has no score (NaN). Leave out items without a score.")
