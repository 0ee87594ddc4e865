"""The greedy diverse choice in plain loops."""

from collections.abc import Callable, Sequence


def greedy(items: Sequence, scores: Sequence[float], k: int, min_distance: float, distance: Callable) -> list[int]:
    """Return positions of at most `k` items, best first, each at least `min_distance` from all before it."""
    kept: list[int] = []
    for candidate in sorted(range(len(items)), key=lambda index: -scores[index]):
        if len(kept) < k and all(distance(items[candidate], items[other]) >= min_distance for other in kept):
            kept.append(candidate)
    return kept
