"""Compare models of a table on clusters that each of them never saw, and choose: the best one, or an average of several."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.proxies.models.base import AbstractModel, Learner, Lesson

FOLDS = 5
_BLOCK = 1024
_SHARES = (0.05, 0.1, 0.2, 0.4)
_PICKS = 10
"""Parts that an average is put together from at most."""
_ROUNDS = 3
"""Times that bounds are replaced by what is expected beyond them."""


@eqx.filter_jit
def _evaluate(model: AbstractModel, tokens: Int[Array, "batch length"]) -> tuple[Array, Array]:
    return model(tokens)


def predict(model: AbstractModel, tokens: Int[np.ndarray, "row length"]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of any number of rows, in blocks of one size."""
    out = np.empty((2, len(tokens)))
    for start in range(0, len(tokens), _BLOCK):
        part = tokens[start : start + _BLOCK]
        filled = np.pad(part, ((0, _BLOCK - len(part)), (0, 0)), mode="edge")
        out[:, start : start + _BLOCK] = np.stack(_evaluate(model, jnp.asarray(filled)))[:, : len(part)]
    return out[0], out[1]


def draw_folds(clusters: Int[np.ndarray, " row"], seed: int) -> Int[np.ndarray, " row"]:
    """Return the fold of each row: whole clusters, dealt in a drawn order to the fold with the fewest rows."""
    sizes = np.bincount(clusters)
    fold_of, filled = np.zeros(len(sizes), np.int64), np.zeros(FOLDS, np.int64)
    order = np.random.default_rng(seed).permutation(len(sizes))
    for cluster in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[cluster] = int(filled.argmin())
        filled[fold_of[cluster]] += sizes[cluster]
    return fold_of[clusters]


def learn(learner: Learner, lesson: Lesson, prepared: Any, num_rows: int) -> AbstractModel:
    """Return a model of some rows; where a score is only a bound, of what is to be expected beyond it.

    Tobit's likelihood by expectation and maximisation: a bound is replaced by the mean of the predicted normal distribution
    beyond it, and the model learned again.
    """
    model = learner.learn(lesson, prepared, num_rows)
    open_rows = np.flatnonzero(lesson.bounds)
    for _ in range(_ROUNDS if len(open_rows) else 0):
        from scipy.special import log_ndtr

        mean, std = predict(model, lesson.tokens[open_rows])
        side, bound = lesson.bounds[open_rows], lesson.scores[open_rows]
        above = side * (mean - bound) / std
        hazard = np.exp(-0.5 * above**2 - 0.5 * np.log(2.0 * np.pi) - log_ndtr(above))
        scores = lesson.scores.copy()
        scores[open_rows] = bound + side * std * np.maximum(above + hazard, 0.0)
        model = learner.learn(replace(lesson, scores=scores), prepared, num_rows)
    return model


@final
@dataclass(frozen=True, eq=False)
class Compared:
    """A learner and what its models said of the rows that they had not seen, standardised.

    Args:
        learner: the way to learn.
        prepared: what it found once on all rows.
        mean, std: one entry a row.
        seconds: of processor time.
    """

    learner: Learner
    prepared: Any
    mean: Float[np.ndarray, " row"]
    std: Float[np.ndarray, " row"]
    seconds: float


def out_of_fold(learner: Learner, lesson: Lesson, folds: Int[np.ndarray, " row"]) -> Compared:
    """Return what a learner's models say of each row, learned from the other folds."""
    begun = time.process_time()
    prepared = learner.prepare(lesson)
    mean, std = np.empty(len(folds)), np.empty(len(folds))
    for fold in np.unique(folds):
        held = folds == fold
        model = learn(learner, lesson.at(np.flatnonzero(~held)), prepared, len(folds))
        mean[held], std[held] = predict(model, lesson.tokens[held])
    return Compared(learner, prepared, mean, std, time.process_time() - begun)


def shares_of(
    compared: Sequence[Compared], lesson: Lesson, folds: Int[np.ndarray, " row"]
) -> tuple[Float[np.ndarray, " learner"], Float[np.ndarray, " row"]]:
    """Return the share of each learner in what is kept, which sum to one, and what the kept average says of each row.

    That is the learner with the most `gain`, or the average of several whose shares, found on the other folds, have more still.
    """
    means = np.stack([one.mean for one in compared])
    alone = np.eye(len(compared))
    best = int(np.argmax([gain(mean, lesson.scores) for mean in means]))
    stacked = np.empty(len(folds))
    for fold in np.unique(folds):
        held = folds == fold
        stacked[held] = _gather(means[:, ~held], lesson.scores[~held]) @ means[:, held]
    if gain(stacked, lesson.scores) <= gain(means[best], lesson.scores):
        return alone[best], means[best]
    shares = _gather(means, lesson.scores)
    return shares, shares @ means


def _gather(means: Float[np.ndarray, "learner row"], scores: Float[np.ndarray, " row"]) -> Float[np.ndarray, " learner"]:
    """Return the shares of an average, put together by taking the learner that helps most, again and again.

    Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries of models, ICML 2004.
    """
    taken, reached = np.zeros(len(means)), -np.inf
    for _ in range(_PICKS):
        tries = [gain((taken @ means + mean) / (taken.sum() + 1.0), scores) for mean in means]
        if max(tries) <= reached:
            break
        reached = max(tries)
        taken[int(np.argmax(tries))] += 1.0
    return taken / taken.sum()


def gain(mean: Float[np.ndarray, " row"], scores: Float[np.ndarray, " row"]) -> float:
    """Return how much better than all rows those are that are predicted to be best, in units of `scores`.

    The mean score of the best predicted 5, 10, 20 and 40 %, averaged: what a list taken from the top would have scored. No more
    than that of all rows where nothing is told apart.
    """
    if np.ptp(mean) == 0.0:
        return float(scores.mean())
    best_first = scores[np.argsort(-mean, kind="stable")]
    return float(np.mean([best_first[: max(1, round(share * len(scores)))].mean() for share in _SHARES]))
