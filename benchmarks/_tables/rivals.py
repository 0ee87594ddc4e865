"""What a spreadsheet's afternoon gives: ridge and a random forest on letters, and what lists any score makes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV

from benchmarks._tables.plan import ASKED, K
from benchmarks._tables.tasks import Truth
from narrows.data import Table
from narrows.search import Problem, Score, Space, genetic_algorithm
from narrows.selection import select

CALLS = 10_000
"""Objects that the genetic algorithm asks a rival's model for, where the space cannot be listed."""
MOST_LISTED = 1 << 20
_RANKED = 10_000
"""Best candidates that a list is chosen from: more than any minimum distance here passes over."""


def one_hot(space: Space, texts: Sequence[str]) -> Float[np.ndarray, "text feature"]:
    """Return which letter stands where, a number a place and letter."""
    rows = space.read(texts)
    return (rows[:, :, None] == np.arange(space.num_letters)).reshape(len(rows), -1).astype(np.float32)


def composition(space: Space, texts: Sequence[str]) -> Float[np.ndarray, "text feature"]:
    """Return how often each letter occurs, and the length."""
    rows = space.read(texts)
    counts = np.sum(rows[:, :, None] == np.arange(space.num_letters), axis=1)
    return np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1).astype(np.float32)


def models(seed: int) -> dict[str, Callable[[], Any]]:
    """Return the rivals' regressions by their names, as scikit-learn has them."""
    return {
        "ridge": lambda: RidgeCV(alphas=np.logspace(-3, 3, 13)),
        "random forest": lambda: RandomForestRegressor(n_estimators=200, random_state=seed, n_jobs=1),
    }


def learned(model: Any, describe: Callable[[Space, Sequence[str]], np.ndarray], space: Space, table: Table) -> Score:
    """Return the score that a regression has learned of a table."""
    model.fit(describe(space, table.sequences), table.scores)
    return lambda texts: np.asarray(model.predict(describe(space, texts)), np.float64)


def candidates(score: Score, space: Space, table: Table, seed: int) -> tuple[Sequence[str], Float[np.ndarray, " text"]]:
    """Return every object with its score or, where they are too many, what a genetic algorithm finds."""
    if space.num_objects <= MOST_LISTED:
        return listed(space), score(listed(space))
    order = np.argsort(-table.scores, kind="stable").tolist()
    starts = tuple(table.sequences[place] for place in order)
    return genetic_algorithm(Problem(score, space, starts, score(starts)), CALLS, seed)


@functools.lru_cache(maxsize=1)
def listed(space: Space) -> tuple[str, ...]:
    """Return every object of a space."""
    return tuple(space.write(space.listed()))


def choose(texts: Sequence[str], scores: Float[np.ndarray, " text"], measured: Sequence[str], min_distance: int) -> list[str]:
    """Return the list of some candidates, the best ones that are so far apart; none that was measured."""
    finite = np.flatnonzero(np.isfinite(scores))
    best: list[int] = finite[np.argsort(-scores[finite], kind="stable")[:_RANKED]].tolist()
    chosen = select([texts[place] for place in best], scores[best], k=ASKED, min_distance=min_distance, measured=measured)
    return [row.sequence for row in chosen.rows]


def judged(chosen: Sequence[str], truth: Truth) -> list[float]:
    """Return the true scores of the first rows of a list that have one."""
    scores = truth(chosen)
    return scores[~np.isnan(scores)][:K].tolist()
