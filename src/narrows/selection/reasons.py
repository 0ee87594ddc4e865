"""Why a row is on a shortlist, and why there are fewer rows than were asked for."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from narrows.distance import AbstractDistance
from narrows.selection.diverse import FORBIDDEN, KEPT, Choice, choose_diverse

_BLOCKERS_NAMED = 3


class Pool(NamedTuple):
    """The distinct objects that may be chosen, best first, and their positions in the candidates."""

    positions: np.ndarray
    objects: list[str]
    scores: np.ndarray
    num_left_out: int


class Fence(NamedTuple):
    """A limit to how far from what is measured a row may be, and which of some objects are not farther."""

    limit: int
    holds: Callable[[Sequence[str]], np.ndarray]


def reasons(choice: Choice, min_distance: int, label: str, distance: AbstractDistance, fence: Fence | None = None) -> list[str]:
    """Return a sentence a row: its place among all candidates, and what became of the better ones."""
    total = len(choice.order)
    sentences = []
    for place in np.flatnonzero(choice.blocker == KEPT).tolist():
        blockers = choice.blocker[:place]
        passed = Counter(blockers[blockers >= 0].tolist())
        num_far = int(np.sum(blockers == FORBIDDEN))
        if place == 0:
            sentences.append(f"highest {label} of {total:,} candidates")
            continue
        close = f"closer than {min_distance} {distance.unit} to {_name_rows(passed)}" if passed else ""
        why = [_passed_over(passed.total(), close)] if passed else []
        if num_far and fence is not None:
            why.append(_passed_over(num_far, f"more than {fence.limit} {distance.unit} from all that is measured"))
        rest = "; ".join(why) or "all better ones are listed above"
        sentences.append(f"number {place + 1:,} of {total:,} by {label}; {rest}")
    return sentences


def _passed_over(num: int, why: str) -> str:
    return f"{num:,} better {'one was' if num == 1 else 'ones were'} passed over, {why}"


def _name_rows(passed: Counter[int]) -> str:
    """Return the rows that stood in the way most often, each with how often.

    >>> _name_rows(Counter({0: 8, 3: 4}))
    'row 1 (8), row 4 (4)'
    >>> _name_rows(Counter({0: 8, 3: 4, 7: 4, 8: 1, 9: 2}))
    'row 1 (8), row 4 (4), row 8 (4), 2 other rows (3)'
    """
    if len(passed) == 1:
        return f"row {next(iter(passed)) + 1}"
    ranked = sorted(passed.items(), key=lambda item: (-item[1], item[0]))
    named, others = ranked[:_BLOCKERS_NAMED], ranked[_BLOCKERS_NAMED:]
    parts = [f"row {row + 1} ({times:,})" for row, times in named]
    if others:
        rows = "1 other row" if len(others) == 1 else f"{len(others)} other rows"
        parts.append(f"{rows} ({sum(times for _, times in others):,})")
    return ", ".join(parts)


def reason_fewer(
    pool: Pool, choice: Choice, k: int, min_distance: int, distance: AbstractDistance, fence: Fence | None = None
) -> str | None:
    """Return why there are fewer than `k` rows and what would give more, `None` if there are `k`."""
    num_rows = len(choice.kept)
    num_candidates = len(pool.objects) - int(np.sum(choice.blocker == FORBIDDEN))
    if num_rows == k:
        return None
    start = f"{num_rows} of the {k} rows asked for: "
    left_out = f" ({pool.num_left_out:,} more are measured already and left out)" if pool.num_left_out else ""
    if fence is not None and num_candidates < len(pool.objects):
        num_far = len(pool.objects) - num_candidates
        far = f"{fence.limit} {distance.unit} from all that is measured"
        start += f"{num_far:,} candidates are more than {far}; of the others, "
    if num_rows == num_candidates:
        return f"{start}there are no more candidates{left_out}. Run the sampler longer or ask for fewer rows."
    close = (
        f"{num_candidates - num_rows:,} of {num_candidates:,} candidates{left_out} are closer than "
        f"{min_distance} {distance.unit} to a better row. "
    )
    if num_candidates < k:
        return f"{start}{close}A smaller min_distance gives at most {num_candidates}: run the sampler longer, too."
    enough = _distance_that_gives(pool, k, min_distance, distance, fence)
    return f"{start}{close}With min_distance {enough} there are {k}; or run the sampler longer."


def _distance_that_gives(pool: Pool, k: int, min_distance: int, distance: AbstractDistance, fence: Fence | None) -> int:
    """Return a distance below `min_distance` with which the choice does reach `k` rows, found by bisection.

    It is the largest such distance where the number of rows never grows with the distance; greedy choice comes close
    to that without a guarantee. That the returned one gives `k` rows is certain: at distance 1 all candidates pass.
    """
    enough, too_much = 1, min_distance
    while too_much - enough > 1:
        middle = (enough + too_much) // 2
        choice = choose_diverse(
            pool.objects,
            pool.scores,
            k=k,
            min_distance=middle,
            distance=distance,
            is_allowed=None if fence is None else fence.holds,
        )
        enough, too_much = (middle, too_much) if len(choice.kept) == k else (enough, middle)
    return enough
