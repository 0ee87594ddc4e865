"""Fit a proxy to a table and say how far to trust it: training on clusters, calibrating on others, judging on yet others."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from narrows.data import Space, Table
from narrows.proxies.bagging import Epochs, draw_bags, train_members
from narrows.proxies.ensemble import Ensemble, encode, make_members
from narrows.proxies.quality import Quality, rank_agreement
from narrows.proxies.splits import Split, cluster_split, held_out

MIN_ROWS = 20
MIN_CALIBRATION = 20
"""Sequences below which a quantile of their errors says too little to scale the uncertainty by."""

CALIBRATION_FRACTION = 0.1
ONE_STD = 0.6827
_SHORT = 64
_MAX_PAIRS, _MAX_LONG_PAIRS = 400_000_000, 4_000_000
"""Distances computed to say how far the held-out sequences are from the training ones; long sequences take 100 times longer."""


@final
@dataclass(frozen=True)
class Progress:
    """The stage of a fit: training for the quality figures (`judge`) or once more on every row (`refit`)."""

    stage: Literal["judge", "refit"]
    epochs: Epochs


@final
class Fit(NamedTuple):
    """A fitted proxy and its quality."""

    ensemble: Ensemble
    quality: Quality


class _Sides(NamedTuple):
    """Rows trained on, calibrated on and judged on; no near-duplicates across any two."""

    train: Int[np.ndarray, " row"]
    calibration: Int[np.ndarray, " row"]
    test: Int[np.ndarray, " row"]
    split: Split


@final
@dataclass(frozen=True)
class _Settings:
    """The checked settings of a fit."""

    members: int
    seed: int
    test_fraction: float
    max_distance: int | None
    max_epochs: int
    patience: int
    refit: bool

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"members must be at least 2, got {self.members}: one network alone cannot say how sure it is.")
        for name in ("max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


def fit(
    table: Table,
    space: Space,
    *,
    members: int = 5,
    seed: int = 0,
    test_fraction: float = 0.2,
    max_distance: int | None = None,
    max_epochs: int = 100,
    patience: int = 10,
    refit: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Fit:
    """Fit an ensemble to scored sequences, judge it on clusters it never saw, and by default fit it again on everything.

    The spread of the members is scaled so that 68 % of the truths of calibration clusters lie within one standard deviation;
    the quality figures come from the test clusters, which no number of the fit was chosen on.

    Args:
        table: at least 20 rows with finite scores that differ; higher is better.
        space: the sequences that the proxy will read.
        members: networks of the ensemble, >= 2; each learns from its own bootstrap sample.
        seed: split, initial weights, bootstrap samples and minibatches. The same seed gives the same bits on one machine.
        test_fraction: share of the sequences to judge on, in whole clusters.
        max_distance: edits within which sequences are kept on one side; `cluster_split` says what the default is.
        max_epochs: passes over the data, at most.
        patience: epochs without a better out-of-bag error after which training stops.
        refit: whether the ensemble returned learns from every row once its quality is known. The figures are those of the
            ensemble trained without the held-out rows.
        progress: called every few epochs.

    Raises ValueError for a table that cannot be learned from and for a split that is impossible, with the cure.
    """
    started = time.perf_counter()
    settings = _Settings(members, seed, test_fraction, max_distance, max_epochs, patience, refit)
    _check(table)
    tokens = encode(table.sequences, space)
    sides = _sides(table.sequences, settings)
    judged = _train(tokens, table.scores, sides.train, space, settings, "judge", progress)
    std_scale = _calibrate(judged, table, sides.calibration)
    judged = replace(judged, std_scale=_scalar(std_scale))
    mean, std = judged.predict([table.sequences[row] for row in sides.test])
    final_ensemble = judged
    if refit:
        everything = np.arange(len(tokens))
        again = _train(tokens, table.scores, everything, space, settings, "refit", progress)
        final_ensemble = replace(again, std_scale=_scalar(std_scale))
    quality = _quality(table, sides, mean, std, std_scale, settings, started)
    return Fit(final_ensemble, quality)


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


def _sides(sequences: Sequence[str], settings: _Settings) -> _Sides:
    split = cluster_split(sequences, fraction=settings.test_fraction, max_distance=settings.max_distance, seed=settings.seed)
    inner = held_out(split.clusters[split.train], CALIBRATION_FRACTION * len(split.train), settings.seed + 1)
    calibration = split.train[inner] if len(inner) >= MIN_CALIBRATION else split.train[:0]
    return _Sides(np.setdiff1d(split.train, calibration), calibration, split.test, split)


def _train(
    tokens: Int[np.ndarray, "row length"],
    scores: Float[np.ndarray, " row"],
    rows: Int[np.ndarray, " allowed"],
    space: Space,
    settings: _Settings,
    stage: Literal["judge", "refit"],
    progress: Callable[[Progress], None] | None,
) -> Ensemble:
    """Return an ensemble that learned from some rows of a table."""
    offset, scale = float(scores[rows].mean()), float(scores[rows].std())
    if scale == 0.0:
        raise ValueError(
            "every score on the training side of the split is the same. Use another seed or a smaller test_fraction."
        )
    init_key, batch_key = jax.random.split(jax.random.key(settings.seed))
    rng = np.random.default_rng(settings.seed)
    trained = train_members(
        make_members(space, settings.members, init_key),
        tokens,
        (scores - offset) / scale,
        draw_bags(rows, len(tokens), settings.members, rng),
        batch_key,
        max_epochs=settings.max_epochs,
        patience=settings.patience,
        progress=None if progress is None else lambda epochs: progress(Progress(stage, epochs)),
    )
    return Ensemble(trained, offset, _scalar(scale), _scalar(1.0), space)


def _calibrate(ensemble: Ensemble, table: Table, rows: Int[np.ndarray, " row"]) -> float:
    """Return the factor on the members' spread that covers 68 % of the truths of some rows, 1 without any."""
    if not len(rows):
        return 1.0
    mean, std = ensemble.predict([table.sequences[row] for row in rows])
    floor = 1e-6 * float(ensemble.scale)
    return float(np.quantile(np.abs(table.scores[rows] - mean) / np.maximum(std, floor), ONE_STD))


def _scalar(value: float) -> jax.Array:
    return jnp.asarray(value, jnp.float32)


def _quality(
    table: Table,
    sides: _Sides,
    mean: Float[np.ndarray, " test"],
    std: Float[np.ndarray, " test"],
    std_scale: float,
    settings: _Settings,
    started: float,
) -> Quality:
    truth = table.scores[sides.test]
    error = np.abs(truth - mean)
    baseline = table.scores[sides.train].mean()
    held, known = ([table.sequences[row] for row in rows] for rows in (sides.test, sides.train))
    return Quality(
        num_train=len(sides.train),
        num_calibration=len(sides.calibration),
        num_test=len(sides.test),
        spearman=rank_agreement(mean, truth),
        rmse=float(np.sqrt(np.mean(error**2))),
        rmse_of_mean=float(np.sqrt(np.mean((truth - baseline) ** 2))),
        coverage_1std=float(np.mean(error <= std)),
        coverage_2std=float(np.mean(error <= 2 * std)),
        sharpness=float(std.mean()),
        std_scale=std_scale,
        is_refit=settings.refit,
        test_truth=truth,
        test_mean=mean,
        test_std=std,
        test_distance=distance_to_nearest(held, known),
        description=_describe(table, sides, settings),
        split=sides.split.describe(),
        settings={**vars(settings), "max_distance_used": sides.split.max_distance},
        seconds=time.perf_counter() - started,
    )


def _describe(table: Table, sides: _Sides, settings: _Settings) -> str:
    text = (
        f"An ensemble of {settings.members} small convolutional networks, each trained on its own bootstrap sample of the "
        "measurements; scores were standardised with the mean and standard deviation of the training rows. "
    )
    if len(sides.calibration):
        text += (
            f"Its standard deviation was scaled on {len(sides.calibration):,} further sequences so that 68 % of their truths "
            "lie within one. "
        )
    else:
        text += "There were too few sequences to calibrate its standard deviation. "
    if settings.refit:
        return text + (
            f"The saved proxy then learned once more from all {len(table.sequences):,} rows; the figures are those of the one "
            "trained without the held-out sequences."
        )
    return text + "The saved proxy is the one these figures belong to; the held-out sequences never trained it."


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
