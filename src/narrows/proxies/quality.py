"""The quality of a proxy: figures on held-out clusters, in one record that survives a trip through JSON."""

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float

from narrows.printing import name_some, quote

_ARRAYS = ("test_truth", "test_mean", "test_std", "test_distance")
_MAX_BINS = 6
ONE_STD, TWO_STD = 0.6827, 0.95
"""Shares of truths that an honest standard deviation, and an honest wide interval, have within them."""
WORTHLESS = (
    "this proxy is no better than the mean of what was measured: a list that it ranks is no better than one drawn at random. "
    "Measure more, or check the column of scores."
)


@final
class ErrorAt(NamedTuple):
    """The error on held-out sequences `low` to `high` edits from the nearest training sequence.

    `coverage_1std` is the share of truths within one predicted standard deviation there, `sharpness` the mean of those.
    """

    low: int
    high: int
    num: int
    rmse: float
    coverage_1std: float
    sharpness: float


@final
@dataclass(frozen=True)
class ComparedModel:
    """A model that a fit compared: figures on clusters that it had not learned from, scores standardised.

    Args:
        name, meaning: of the model.
        gain: how much better than all rows those were measured that it predicted to be best; by this it is chosen.
        spearman: rank agreement; None where the predictions are constant.
        rmse: root mean square error, 1 for about the mean.
        log_likelihood: mean logarithm of the predicted normal density.
        coverage_1std, coverage_2std: share of truths within the intervals for 68 and 95 %, each model calibrated for itself.
        seconds: of processor time.
        share: in the average that is kept; 1 where it is kept alone, 0 where it is left out.
    """

    name: str
    meaning: str
    gain: float
    spearman: float | None
    rmse: float
    log_likelihood: float
    coverage_1std: float
    coverage_2std: float
    seconds: float
    share: float

    @classmethod
    def from_dict(cls, plain: Any) -> "ComparedModel":
        """Return what JSON has of one; ValueError for anything else."""
        names = [item.name for item in fields(cls)]
        if not isinstance(plain, dict) or list(plain) != names:
            raise ValueError("the quality's compared has an entry that is no model")
        is_right = all(isinstance(plain[name], str) for name in names[:2]) and all(
            isinstance(plain[name], _NUMBER) or (name == "spearman" and plain[name] is None) for name in names[2:]
        )
        if not is_right:
            raise ValueError("the quality's compared has an entry that is no model")
        return cls(**plain)


@final
@dataclass(frozen=True, eq=False)
class Quality:
    """Figures of a proxy on held-out clusters, which no number of the fit was chosen on.

    Args:
        num_train, num_calibration, num_test: sequences trained on, used to fit `std_scale`, and judged on.
        spearman: rank agreement of predicted mean and truth; None where the predictions are constant.
        rmse: root mean square error, and `rmse_of_mean` that of predicting the training mean for everything.
        coverage_1std, coverage_2std: share of truths within the intervals for 68 and 95 %: 1 and `interval_95` predicted
            standard deviations.
        sharpness: mean predicted standard deviation; of two honest proxies the sharper one knows more.
        std_scale: what the spread of the members is multiplied by, fitted on the calibration sequences; 1 without them.
        is_refit: whether the saved members learned from every row, held-out ones too, after these figures were taken.
        test_truth, test_mean, test_std: one entry a held-out sequence, on the scale of the scores.
        test_distance: edits to the nearest training sequence, NaN where not measured.
        description, split: sentences for readers.
        settings: what the fit was asked for.
        seconds: duration of the fit.
        compared: the models that were compared, in the order in which they were tried; empty for a proxy made before there
            was a choice.
        interval_95: standard deviations on either side that cover 95 %.
        trusted_distance: edits from the nearest measured sequence up to which the proxy was better than the mean; None where
            it was nowhere, or is not known.
        beats_mean: whether the proxy is better than the mean of the scores by more than two standard errors.
        measurement_std: standard deviation of a single measurement, from those that were repeated; no proxy can be nearer to
            single measurements. None where nothing was.
    """

    num_train: int
    num_calibration: int
    num_test: int
    spearman: float | None
    rmse: float
    rmse_of_mean: float
    coverage_1std: float
    coverage_2std: float
    sharpness: float
    std_scale: float
    is_refit: bool
    test_truth: Float[np.ndarray, " test"]
    test_mean: Float[np.ndarray, " test"]
    test_std: Float[np.ndarray, " test"]
    test_distance: Float[np.ndarray, " test"]
    description: str
    split: str
    settings: dict[str, int | float | str | bool | None]
    seconds: float
    compared: tuple[ComparedModel, ...] = ()
    interval_95: float = 2.0
    trusted_distance: int | None = None
    beats_mean: bool = True
    measurement_std: float | None = None

    def error_by_distance(self) -> tuple[ErrorAt, ...]:
        """Return error and calibration by distance to the training data: a row a distance, or six of about equal counts."""
        is_known = np.isfinite(self.test_distance)
        distance = self.test_distance[is_known].astype(int)
        error, std = np.abs(self.test_truth - self.test_mean)[is_known], self.test_std[is_known]
        if not distance.size:
            return ()
        values = np.unique(distance)
        edges = (
            values
            if len(values) <= _MAX_BINS
            else np.unique(np.quantile(distance, np.arange(_MAX_BINS) / _MAX_BINS, method="lower"))
        )
        which = np.searchsorted(edges, distance, side="right") - 1
        groups = [which == bin for bin in range(len(edges)) if np.any(which == bin)]
        return tuple(
            ErrorAt(
                *(int(distance[g].min()), int(distance[g].max()), int(g.sum())),
                rmse=float(np.sqrt(np.mean(error[g] ** 2))),
                coverage_1std=float(np.mean(error[g] <= std[g])),
                sharpness=float(np.mean(std[g])),
            )
            for g in groups
        )

    def summary(self) -> str:
        """Return the figures as lines of text."""
        rank = "undefined (constant predictions)" if self.spearman is None else f"{self.spearman:.3f}"
        distance = self.test_distance[np.isfinite(self.test_distance)]
        lines = [
            ("learned from", f"{self.num_train:,} sequences"),
            ("judged on", f"{self.num_test:,} sequences"),
            ("Spearman", rank),
            ("RMSE", f"{self.rmse:.4g} (predicting the mean for everything: {self.rmse_of_mean:.4g})"),
            ("within 68 %", f"{self.coverage_1std:.1%} (1 standard deviation)"),
            ("within 95 %", f"{self.coverage_2std:.1%} ({self.interval_95:.2g} standard deviations)"),
            ("mean std", f"{self.sharpness:.4g}"),
        ]
        if self.measurement_std is not None:
            lines.append(("measurement", f"repeated, differs by {self.measurement_std:.4g} (std): no proxy can be nearer"))
        if distance.size:
            span = f"min {distance.min():.0f}, median {np.median(distance):.0f}, max {distance.max():.0f} edits"
            lines.append(("distance to train", span))
        for row in self.error_by_distance():
            where = f"{row.low}" if row.low == row.high else f"{row.low}-{row.high}"
            honest = f"within 1 std {row.coverage_1std:.0%}, mean std {row.sharpness:.4g}"
            lines.append((f"  at {where} edits", f"RMSE {row.rmse:.4g}, {honest} ({row.num:,} sequences)"))
        lines.append(("time", f"{self.seconds:.1f} s"))
        if self.compared and self.trusted_distance is not None:
            lines.append(("trusted up to", f"{self.trusted_distance} edits from a measured sequence"))
        table = [f"{name:<18}{value}" for name, value in lines]
        first = [] if self.beats_mean else [f"Caution: {WORTHLESS}"]
        return "\n".join([*first, *self.comparison(), *table, self.split, self.description])

    def comparison(self) -> list[str]:
        """Return the table of the models that were compared, as lines of text; what is kept has its share."""
        if not self.compared:
            return []
        lines = [f"{'model':<20}{'gain':>6}{'Spearman':>10}{'RMSE':>8}{'log lik.':>10}{'68 %':>7}{'95 %':>7}{'time':>8}   kept"]
        for one in self.compared:
            rank = "" if one.spearman is None else f"{one.spearman:.3f}"
            kept = f"{one.share:.0%}" if one.share else ""
            figures = f"{one.gain:>6.2f}{rank:>10}{one.rmse:>8.3f}{one.log_likelihood:>10.3f}"
            figures += f"{one.coverage_1std:>7.0%}{one.coverage_2std:>7.0%}"
            lines.append(f"{one.name:<20}{figures}{one.seconds:>6.1f} s{kept:>7}")
        return [*lines, ""]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; NaN, which JSON lacks, as None."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        plain |= {name: [None if np.isnan(x) else x for x in plain[name].tolist()] for name in _ARRAYS}
        return plain | {"compared": [asdict(one) for one in self.compared]}

    @classmethod
    def from_dict(cls, plain: Any) -> "Quality":
        """Return what `to_dict` wrote; ValueError names a field that is missing, unknown or of another kind."""
        names = {item.name for item in fields(cls)}
        needed = names - _NEWER
        if not isinstance(plain, dict) or not needed <= set(plain) <= names:
            found = set(plain) if isinstance(plain, dict) else set()
            lacks, unknown = name_some(sorted(needed - found)), name_some(sorted(found - names))
            raise ValueError(f"the quality lacks [{lacks}] and has unknown fields [{unknown}]")
        arrays = {name: _column(name, plain[name]) for name in _ARRAYS}
        if len({len(array) for array in arrays.values()}) > 1:
            raise ValueError(f"the quality's {', '.join(_ARRAYS)} differ in length")
        for item in fields(cls):
            if item.name in plain and item.name not in _ARRAYS and not isinstance(plain[item.name], _KINDS[item.name]):
                raise ValueError(f"the quality's {item.name} is {quote(plain[item.name])}")
        compared = tuple(map(ComparedModel.from_dict, plain.get("compared", ())))
        return cls(**{**plain, **arrays, "compared": compared})


_NUMBER = (int, float)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("num_train", "num_calibration", "num_test"), (int,)),
    **dict.fromkeys(("rmse", "rmse_of_mean", "coverage_1std", "coverage_2std", "sharpness", "std_scale", "seconds"), _NUMBER),
    "spearman": (*_NUMBER, type(None)),
    "is_refit": (bool,),
    "description": (str,),
    "split": (str,),
    "settings": (dict,),
    "compared": (list,),
    "interval_95": _NUMBER,
    "trusted_distance": (int, type(None)),
    "beats_mean": (bool,),
    "measurement_std": (*_NUMBER, type(None)),
}
_NEWER = frozenset(("compared", "interval_95", "trusted_distance", "beats_mean", "measurement_std"))
"""Fields that the quality of older proxies lacks."""


def rank_agreement(mean: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"]) -> float | None:
    """Return Spearman's rank correlation, None where one side is constant."""
    from scipy.stats import rankdata  # half a second and 45 MB that most runs have no use for

    if len(mean) < 2 or np.ptp(mean) == 0 or np.ptp(truth) == 0:
        return None
    return float(np.corrcoef(rankdata(mean), rankdata(truth))[0, 1])


def _column(name: str, values: Any) -> Float[np.ndarray, " n"]:
    if not isinstance(values, list) or not all(value is None or isinstance(value, _NUMBER) for value in values):
        raise ValueError(f"the quality's {name} is no list of numbers")
    return np.array([np.nan if value is None else value for value in values], np.float64)
