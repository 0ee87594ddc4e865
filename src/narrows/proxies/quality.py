"""The quality of a proxy: figures on held-out clusters, in one record that survives a trip through JSON."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float

from narrows.printing import name_some, quote

_ARRAYS = ("test_truth", "test_mean", "test_std", "test_distance")
_MAX_BINS = 6


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
@dataclass(frozen=True, eq=False)
class Quality:
    """Figures of a proxy on held-out clusters, which no number of the fit was chosen on.

    Args:
        num_train, num_calibration, num_test: sequences trained on, used to fit `std_scale`, and judged on.
        spearman: rank agreement of predicted mean and truth; None where the predictions are constant.
        rmse: root mean square error, and `rmse_of_mean` that of predicting the training mean for everything.
        coverage_1std, coverage_2std: share of truths within 1 and 2 predicted standard deviations; 0.68 and 0.95 are honest.
        sharpness: mean predicted standard deviation; of two honest proxies the sharper one knows more.
        std_scale: what the spread of the members is multiplied by, fitted on the calibration sequences; 1 without them.
        is_refit: whether the saved members learned from every row, held-out ones too, after these figures were taken.
        test_truth, test_mean, test_std: one entry a held-out sequence, on the scale of the scores.
        test_distance: edits to the nearest training sequence, NaN where not measured.
        description, split: sentences for readers.
        settings: what the fit was asked for.
        seconds: duration of the fit.
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
            ("trained on", f"{self.num_train:,} sequences"),
            (
                "calibrated on",
                f"{self.num_calibration:,} sequences (the std is {self.std_scale:.2f} x the spread of the members)",
            ),
            ("judged on", f"{self.num_test:,} sequences"),
            ("Spearman", rank),
            ("RMSE", f"{self.rmse:.4g} (predicting the mean for everything: {self.rmse_of_mean:.4g})"),
            ("within 1 std", f"{self.coverage_1std:.1%} (honest: 68 %)"),
            ("within 2 std", f"{self.coverage_2std:.1%} (honest: 95 %)"),
            ("mean std", f"{self.sharpness:.4g}"),
        ]
        if distance.size:
            span = f"min {distance.min():.0f}, median {np.median(distance):.0f}, max {distance.max():.0f} edits"
            lines.append(("distance to train", span))
        for row in self.error_by_distance():
            where = f"{row.low}" if row.low == row.high else f"{row.low}-{row.high}"
            honest = f"within 1 std {row.coverage_1std:.0%}, mean std {row.sharpness:.4g}"
            lines.append((f"  at {where} edits", f"RMSE {row.rmse:.4g}, {honest} ({row.num:,} sequences)"))
        lines.append(("time", f"{self.seconds:.1f} s"))
        table = [f"{name:<18}{value}" for name, value in lines]
        return "\n".join([*table, self.split, self.description])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; NaN, which JSON lacks, as None."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        return plain | {name: [None if np.isnan(x) else x for x in plain[name].tolist()] for name in _ARRAYS}

    @classmethod
    def from_dict(cls, plain: Any) -> "Quality":
        """Return what `to_dict` wrote; ValueError names a field that is missing, unknown or of another kind."""
        names = {item.name for item in fields(cls)}
        if not isinstance(plain, dict) or set(plain) != names:
            found = set(plain) if isinstance(plain, dict) else set()
            lacks, unknown = name_some(sorted(names - found)), name_some(sorted(found - names))
            raise ValueError(f"the quality lacks [{lacks}] and has unknown fields [{unknown}]")
        arrays = {name: _column(name, plain[name]) for name in _ARRAYS}
        if len({len(array) for array in arrays.values()}) > 1:
            raise ValueError(f"the quality's {', '.join(_ARRAYS)} differ in length")
        for item in fields(cls):
            if item.name not in _ARRAYS and not isinstance(plain[item.name], _KINDS[item.name]):
                raise ValueError(f"the quality's {item.name} is {quote(plain[item.name])}")
        return cls(**{**plain, **arrays})


_NUMBER = (int, float)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("num_train", "num_calibration", "num_test"), (int,)),
    **dict.fromkeys(("rmse", "rmse_of_mean", "coverage_1std", "coverage_2std", "sharpness", "std_scale", "seconds"), _NUMBER),
    "spearman": (*_NUMBER, type(None)),
    "is_refit": (bool,),
    "description": (str,),
    "split": (str,),
    "settings": (dict,),
}


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
