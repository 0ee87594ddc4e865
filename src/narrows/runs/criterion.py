"""The criterion of a run: how good a list of what it has seen would be, and whether that still gets better."""

from collections.abc import Mapping, Sequence

import numpy as np

from narrows.distance import AbstractDistance
from narrows.selection import choose_diverse
from narrows.storage.archive import Archive, Entry

COLUMN = "list_score"
"""The criterion's column in the history."""
_POOL_A_ROW = 200
"""Best objects that are kept for each row of the list; rows that they do not fill count as the worst of them."""
_LEAST_RISE = 0.01
"""Share of what the criterion has risen since the first look that is a move."""


class Criterion:
    """The mean score, as it guides the run, of the best `k` objects seen so far that are at least so far apart.

    It depends on what the archive holds alone, so that a run that goes on after a stop has the same one.

    Args:
        archive: what was seen before.
        distance: of two objects.
        k: rows of the list.
        min_distance: what they are apart.
        beta: turns log-rewards into scores.
    """

    def __init__(self, archive: Archive, distance: AbstractDistance, k: int, min_distance: int, beta: float) -> None:
        self._distance, self._k, self._min_distance, self._beta = distance, k, min_distance, beta
        self._pool = {entry.object: entry for entry in archive.top(_POOL_A_ROW * k)}
        self._lowest = self._last_row = -np.inf
        self._value = float("nan")

    def __call__(self, objects: Sequence[str], log_reward: np.ndarray, steps: np.ndarray) -> float:
        """Return the criterion after some more objects, NaN as long as nothing was seen."""
        best_new = -np.inf
        for place in np.flatnonzero(log_reward >= self._lowest).tolist():
            name = objects[place]
            if name not in self._pool:
                self._pool[name] = Entry(name, float(log_reward[place]), int(steps[place]))
                best_new = max(best_new, self._pool[name].log_reward)
        best = sorted(self._pool.values(), key=lambda entry: (-entry.log_reward, entry.step, entry.object))
        best = best[: _POOL_A_ROW * self._k]
        self._pool = {entry.object: entry for entry in best}
        if len(best) == _POOL_A_ROW * self._k:
            self._lowest = best[-1].log_reward
        # What comes below the last row of a whole list changes nothing of it.
        if best and (best_new > self._last_row or np.isnan(self._value)):
            self._value = self._of(best)
        return self._value

    def _of(self, best: Sequence[Entry]) -> float:
        scores = np.array([entry.log_reward for entry in best])
        names = [entry.object for entry in best]
        kept = choose_diverse(names, scores, k=self._k, min_distance=self._min_distance, distance=self._distance).kept
        self._last_row = scores[kept[-1]] if len(kept) == self._k else -np.inf
        rows = np.concatenate([scores[kept], np.full(self._k - len(kept), scores[-1])])
        return float(np.mean(rows) / self._beta)


def has_settled(rows: Sequence[Mapping[str, float]], patience: int | None) -> bool:
    """Return whether the criterion in a run's history has not moved for so many steps; never without a patience."""
    first = reached = since = None
    for row in rows if patience is not None else ():
        value, step = row.get(COLUMN, np.nan), row["step"]
        if np.isnan(value):
            continue
        if first is None or reached is None or since is None:
            first, reached, since = value, value, step
        elif value > reached + _LEAST_RISE * (reached - first):
            reached, since = value, step
        elif patience is not None and step - since >= patience:
            return True
    return False
