"""Fit a proxy to a table: models compared on clusters that they never saw, the best kept, judged on yet other clusters."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from narrows.data import Space, Table
from narrows.proxies.comparison import Compared, draw_folds, gain, learn, out_of_fold, shares_of
from narrows.proxies.fitted import FittedProxy, encode
from narrows.proxies.models.base import AbstractModel, Learner, Lesson
from narrows.proxies.models.learners import LEARNERS
from narrows.proxies.quality import ONE_STD, TWO_STD, ComparedModel, Quality, rank_agreement
from narrows.proxies.splits import cluster_split

MIN_ROWS = 20
_SHORT = 64
_MAX_PAIRS, _MAX_LONG_PAIRS = 400_000_000, 4_000_000
"""Distances computed to say how far the held-out sequences are from the training ones; long sequences take 100 times longer."""
_MOST_COMPARED = 4_000
"""Rows on which models are compared: of more, some are drawn, for all models learn from them five times."""
_FEW = 10
"""Rows at a distance below which the error there says little."""


@final
@dataclass(frozen=True)
class Progress:
    """The stage of a fit: comparing models, judging what was chosen, or learning once more from every row."""

    stage: str
    done: int
    at_most: int


@final
class Fit(NamedTuple):
    """A fitted proxy and its quality."""

    proxy: FittedProxy
    quality: Quality


@final
@dataclass(frozen=True)
class _Settings:
    """The checked settings of a fit."""

    models: tuple[str, ...]
    seed: int
    test_fraction: float
    max_distance: int | None
    refit: bool

    def learners(self, lesson: Lesson) -> list[Learner]:
        """Return those that are asked for, or all that suit the rows, the mean among them in either case."""
        known = {learner.name: learner for learner in LEARNERS}
        if unknown := [name for name in self.models if name not in known]:
            raise ValueError(f"models has no {unknown[0]!r}. Known: {', '.join(known)}.")
        asked = [learner for learner in LEARNERS if learner.name in ("mean", *self.models)] if self.models else list(LEARNERS)
        suitable = [learner for learner in asked if self.models or learner.suits(lesson)]
        if unfit := [learner.name for learner in suitable if not learner.suits(lesson)]:
            raise ValueError(f"{unfit[0]!r} cannot learn from these rows: it needs sequences of one length, or more of them.")
        return suitable


def fit(
    table: Table,
    space: Space,
    *,
    models: Sequence[str] = (),
    seed: int = 0,
    test_fraction: float = 0.2,
    max_distance: int | None = None,
    refit: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Fit:
    """Fit a proxy to scored sequences, judge it on clusters it never saw, and by default fit it again on everything.

    Some clusters are set aside to judge on. On the others every model is asked, fold by fold, about clusters that it did not
    learn from; the one whose best predicted rows were measured best is kept (`gain`), or an average of several where that does
    better. (Of more than 4,000 rows some are drawn for this.) The same answers scale the standard deviation so that 68 % of
    the truths lie within it. The quality figures come from the clusters set aside, which no number of the fit was chosen on.

    Args:
        table: at least 20 rows with finite scores that differ; higher is better. Several measurements of one sequence
            (`counts`) weigh as such; a score that is only a bound (`bounds`) counts as one, by Tobit's likelihood.
        space: the sequences that the proxy will read.
        models: names of models to compare with the mean; by default all that suit the table.
        seed: split, folds, and whatever a model draws. The same seed gives the same bits on one machine.
        test_fraction: share of the sequences to judge on, in whole clusters.
        max_distance: edits within which sequences are kept on one side; `cluster_split` says what the default is.
        refit: whether the proxy returned learns from every row once its quality is known. The figures are those of the
            one that was trained without the rows set aside.
        progress: called before every model.

    Raises ValueError for a table that cannot be learned from and for a split that is impossible, with the cure.
    """
    started = time.perf_counter()
    settings = _Settings(tuple(models), seed, test_fraction, max_distance, refit)
    _check(table)
    tell = progress or (lambda _: None)
    split = cluster_split(table.sequences, fraction=test_fraction, max_distance=max_distance, seed=seed)
    offset, scale, whole = _lesson(table, space, split.train, seed)
    some = np.sort(np.random.default_rng(seed + 2).permutation(len(split.train))[:_MOST_COMPARED])
    lesson = whole.at(some)
    folds = draw_folds(split.clusters[split.train[some]], seed + 1)
    learners, compared = settings.learners(whole), []
    for done, learner in enumerate(learners):
        tell(Progress(f"comparing models: {learner.name}", done, len(learners) + 2))
        compared.append(out_of_fold(learner, lesson, folds))
    shares, mean = shares_of(compared, lesson, folds)
    kept = [(one, share) for one, share in zip(compared, shares, strict=True) if share > 0]
    tell(Progress("judging on clusters set aside", len(learners), len(learners) + 2))
    parts = [learn(one.learner, whole, one.prepared, len(some)) for one, _ in kept]
    std_scale, std_scale_95 = _calibrate(lesson, mean, _spread(kept, mean))
    judged = _proxy(parts, kept, offset, scale, std_scale, space)
    test_mean, test_std = judged.predict([table.sequences[row] for row in split.test])
    final_proxy = judged
    if refit:
        tell(Progress("learning from every row", len(learners) + 1, len(learners) + 2))
        offset, scale, lesson_of_all = _lesson(table, space, np.arange(len(table)), seed)
        parts = [learn(one.learner, lesson_of_all, one.learner.prepare(lesson_of_all), 0) for one, _ in kept]
        final_proxy = _proxy(parts, kept, offset, scale, std_scale, space)
    known = [table.sequences[row] for row in split.train]
    held = [table.sequences[row] for row in split.test]
    distances = _distances_out_of_fold([known[row] for row in some], folds)
    test_distance = distance_to_nearest(held, known)
    truth = table.scores[split.test]
    error = np.abs(_errors(table, split.test, test_mean))
    baseline = _errors(table, split.test, np.full(len(truth), table.scores[split.train].mean()))
    quality = Quality(
        num_train=len(split.train),
        num_calibration=len(some),
        num_test=len(split.test),
        spearman=rank_agreement(test_mean, truth),
        rmse=float(np.sqrt(np.mean(error**2))),
        rmse_of_mean=float(np.sqrt(np.mean(baseline**2))),
        coverage_1std=float(np.mean(error <= test_std)),
        coverage_2std=float(np.mean(error <= std_scale_95 / std_scale * test_std)),
        sharpness=float(test_std.mean()),
        std_scale=std_scale,
        is_refit=refit,
        test_truth=truth,
        test_mean=test_mean,
        test_std=test_std,
        test_distance=test_distance,
        description=_describe(table, kept, settings),
        split=split.describe(),
        settings={**vars(settings), "models": " ".join(models), "max_distance_used": split.max_distance},
        seconds=time.perf_counter() - started,
        compared=tuple(_row(one, float(share), lesson) for one, share in zip(compared, shares, strict=True)),
        interval_95=std_scale_95 / std_scale,
        trusted_distance=_trusted_distance(lesson, mean, folds, distances),
        beats_mean=_beats_mean(lesson, mean, compared[0].mean),
        measurement_std=table.measurement_std,
    )
    return Fit(final_proxy, quality)


def _check(table: Table) -> None:
    if len(table.sequences) < MIN_ROWS:
        raise ValueError(
            f"{table.path}: {len(table.sequences)} rows are too few to learn from; at least {MIN_ROWS} are needed."
        )
    is_bad = ~np.isfinite(table.scores)
    if is_bad.any():
        first = int(np.flatnonzero(is_bad)[0])
        raise ValueError(
            f"{table.path}: {int(is_bad.sum())} scores are not finite; the first is {table.scores[first]} in row "
            f"{table.rows[first]} ({table.sequences[first]!r}). Leave those rows out."
        )
    if np.ptp(table.scores) == 0.0:
        raise ValueError(
            f"{table.path}: every score is {table.scores[0]:g}, so there is nothing to learn. Check the column of scores."
        )


def _lesson(table: Table, space: Space, rows: Int[np.ndarray, " some"], seed: int) -> tuple[float, float, Lesson]:
    """Return mean and standard deviation of the scores of some rows, and the rows to learn from."""
    scores = table.scores[rows]
    offset, scale = float(scores.mean()), float(scores.std())
    if scale == 0.0:
        raise ValueError(
            "every score on the training side of the split is the same. Use another seed or a smaller test_fraction."
        )
    tokens = encode([table.sequences[row] for row in rows], space)
    noise = 1.0 / table.counts[rows]
    return offset, scale, Lesson(tokens, (scores - offset) / scale, noise, table.bounds[rows].astype(np.int64), space, seed)


def _proxy(
    parts: Sequence[AbstractModel],
    kept: Sequence[tuple[Compared, float]],
    offset: float,
    scale: float,
    std_scale: float,
    space: Space,
) -> FittedProxy:
    shares = jnp.asarray([share for _, share in kept], jnp.float32)
    return FittedProxy(tuple(parts), shares, offset, _scalar(scale), _scalar(std_scale), space)


def _scalar(value: float) -> jax.Array:
    return jnp.asarray(value, jnp.float32)


def _spread(kept: Sequence[tuple[Compared, float]], mean: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """Return the standard deviation of the average that is kept, as `FittedProxy` works it out."""
    return np.sqrt(sum(share * (one.std**2 + (one.mean - mean) ** 2) for one, share in kept))


def _calibrate(lesson: Lesson, mean: Float[np.ndarray, " row"], std: Float[np.ndarray, " row"]) -> tuple[float, float]:
    """Return the factors on the standard deviation that cover 68 % and 95 % of the truths: conformal quantiles.

    Of errors over standard deviations of rows that were not learned from (Angelopoulos and Bates, arXiv:2107.07511, 2.3.1).
    """
    ratios = np.abs(lesson.errors(mean)) / np.maximum(std, 1e-6)
    levels = np.minimum(np.array([ONE_STD, TWO_STD]) * (1.0 + 1.0 / len(ratios)), 1.0)
    one, two = np.quantile(ratios, levels, method="higher")
    return max(float(one), 1e-6), max(float(two), float(one), 1e-6)


def _errors(table: Table, rows: Int[np.ndarray, " some"], mean: Float[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
    errors = table.scores[rows] - mean
    return np.where(table.bounds[rows] * errors < 0, 0.0, errors)


def _row(one: Compared, share: float, lesson: Lesson) -> ComparedModel:
    """Return the line of a model in the table of the comparison; each is calibrated for itself."""
    errors = lesson.errors(one.mean)
    scale, scale_95 = _calibrate(lesson, one.mean, one.std)
    std = np.maximum(scale * one.std, 1e-6)
    log_density = -0.5 * (errors / std) ** 2 - np.log(std) - 0.5 * np.log(2.0 * np.pi)
    return ComparedModel(
        name=one.learner.name,
        meaning=one.learner.meaning,
        gain=gain(one.mean, lesson.scores),
        spearman=rank_agreement(one.mean, lesson.scores) if one.learner.name != "mean" else None,
        rmse=float(np.sqrt(np.mean(errors**2))),
        log_likelihood=float(np.mean(log_density)),
        coverage_1std=float(np.mean(np.abs(errors) <= std)),
        coverage_2std=float(np.mean(np.abs(errors) <= scale_95 * one.std)),
        seconds=one.seconds,
        share=share,
    )


def _distances_out_of_fold(sequences: Sequence[str], folds: Int[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """Return the edits from each sequence to the nearest one of the other folds."""
    found = np.full(len(sequences), np.nan)
    for fold in np.unique(folds):
        others = [sequence for sequence, one in zip(sequences, folds, strict=True) if one != fold]
        held = [sequence for sequence, one in zip(sequences, folds, strict=True) if one == fold]
        found[folds == fold] = distance_to_nearest(held, others)
    return found


def _trusted_distance(
    lesson: Lesson, mean: Float[np.ndarray, " row"], folds: Int[np.ndarray, " row"], distances: Float[np.ndarray, " row"]
) -> int | None:
    """Return the edits up to which the proxy was nearer to the truth than the mean is, None where it never was.

    Distances are looked at from the nearest on, ten rows or more at a time, until those beyond some are predicted no better
    than by the mean of what was learned from.
    """
    of_mean = np.empty(len(folds))
    for fold in np.unique(folds):
        of_mean[folds == fold] = lesson.scores[folds != fold].mean()
    better = lesson.errors(of_mean) ** 2 - lesson.errors(mean) ** 2
    known = np.isfinite(distances)
    trusted, pending = None, np.zeros(len(folds), bool)
    for distance in np.unique(distances[known]):
        pending |= known & (distances == distance)
        if pending.sum() >= _FEW:
            if better[pending].mean() <= 0.0:
                return trusted
            trusted, pending = int(distance), np.zeros(len(folds), bool)
    return trusted


def _beats_mean(lesson: Lesson, mean: Float[np.ndarray, " row"], of_mean: Float[np.ndarray, " row"]) -> bool:
    """Return whether predictions are better than the mean by more than two standard errors, in squares or in ranks."""
    better = lesson.errors(of_mean) ** 2 - lesson.errors(mean) ** 2
    by_rank = rank_agreement(mean, lesson.scores)
    is_nearer = better.mean() > 2.0 * better.std() / np.sqrt(len(better))
    return bool(is_nearer or (by_rank is not None and by_rank > 2.0 / np.sqrt(len(better) - 1)))


def _describe(table: Table, kept: Sequence[tuple[Compared, float]], settings: _Settings) -> str:
    if len(kept) == 1:
        text = f"The proxy is {kept[0][0].learner.meaning}."
    else:
        listed = "; ".join(f"{share:.0%} {one.learner.meaning}" for one, share in kept)
        text = f"The proxy is an average, whose weights the data chose: {listed}."
    text += " Its standard deviation was scaled so that 68 % of the scores that it had not learned from lie within one."
    if table.bounds.any():
        text += f" {int((table.bounds != 0).sum()):,} scores are only bounds and counted as such."
    if settings.refit:
        return text + (
            f" The saved proxy then learned once more from all {len(table.sequences):,} rows; the figures are those of the one "
            "trained without the held-out sequences."
        )
    return text + " The saved proxy is the one these figures belong to; the held-out sequences never trained it."


def distance_to_nearest(queries: Sequence[str], references: Sequence[str]) -> Float[np.ndarray, " query"]:
    """Return the edits from each query to its nearest reference; NaN for queries passed over where there are very many.

    At most 4e8 pairs are compared (4e6 for sequences beyond 64 letters), on evenly spaced queries.
    """
    longest = max(map(len, [*queries, *references]))
    num = max(1, (_MAX_PAIRS if longest <= _SHORT else _MAX_LONG_PAIRS) // len(references))
    rows = np.unique(np.linspace(0, len(queries) - 1, min(num, len(queries))).round().astype(int))
    found = np.full(len(queries), np.nan)
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        texts = [queries[row] for row in part]
        found[part] = cdist(texts, references, scorer=Levenshtein.distance, dtype=np.uint32, workers=-1).min(axis=1)
    return found
