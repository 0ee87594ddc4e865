"""The quality of a scorer, measured on rows that it never saw."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from narrows.tuning.scoring.task import Prediction, Task

ONE_STD = 0.6827
_FLOOR = 1e-9
_FEW = 50
"""Rows below which a quantile of errors says little."""


class ScorerQuality(NamedTuple):
    """Figures on held-out rows, by name, and what a guess that knows nothing comes to.

    Attributes:
        num_test: held-out rows.
        figures: by name.
        baselines: the same figures of the mean of the training rows, or of their commonest class.
        num_calibration: rows that the standard deviation was to be scaled on; None where there is nothing to scale.
    """

    num_test: int
    figures: dict[str, float]
    baselines: dict[str, float]
    num_calibration: int | None = None

    def __str__(self) -> str:
        lines = [("held-out rows", f"{self.num_test:,}")]
        for name, value in self.figures.items():
            known = f"   (knowing nothing: {self.baselines[name]:.4g})" if name in self.baselines else ""
            lines.append((name, f"{value:.4g}{known}"))
        if self.num_calibration is not None:
            caution = "" if self.num_calibration >= _FEW else ", which are few: take it as a rough guide"
            lines.append(("standard deviation", f"scaled on {self.num_calibration} rows that training did not see{caution}"))
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them; what is not a number there is left out."""
        kept = {name: value for name, value in self.figures.items() if np.isfinite(value)}
        known = {"num_test": self.num_test, "figures": kept, "baselines": self.baselines}
        return known if self.num_calibration is None else {**known, "num_calibration": self.num_calibration}


def quality(
    task: Task, found: Prediction, truth: Float[np.ndarray, " test"], train: Float[np.ndarray, " train"]
) -> ScorerQuality:
    """Return the quality of predictions of rows whose truth is known, beside a guess from the training rows alone."""
    if task.kind == "classification":
        return _of_classes(found, truth, train)
    error = np.abs(truth - found.mean)
    figures = {"spearman": _rank_agreement(found.mean, truth), "rmse": float(np.sqrt(np.mean(error**2)))}
    if np.isfinite(found.std).all():
        figures["within one standard deviation"] = float(np.mean(error <= found.std))
        figures["within two standard deviations"] = float(np.mean(error <= 2 * found.std))
        figures["mean standard deviation"] = float(found.std.mean())
    return ScorerQuality(len(truth), figures, {"rmse": float(np.sqrt(np.mean((truth - train.mean()) ** 2)))})


def calibrated(found: Prediction, truth: Float[np.ndarray, " row"]) -> float:
    """Return the factor on the spread with which 68 % of the truths lie within one standard deviation."""
    return float(np.quantile(np.abs(truth - found.mean) / np.maximum(found.std, _FLOOR), ONE_STD))


def _of_classes(found: Prediction, truth: Float[np.ndarray, " test"], train: Float[np.ndarray, " train"]) -> ScorerQuality:
    wanted, known = truth.astype(int), train.astype(int)
    num = found.mean.shape[1]
    shares = np.bincount(known, minlength=num) / len(known)
    guess = found.mean.argmax(axis=1)
    figures = {
        "accuracy": float(np.mean(guess == wanted)),
        "log loss": float(-np.mean(np.log(np.maximum(found.mean[np.arange(len(wanted)), wanted], _FLOOR)))),
        "Matthews correlation": matthews(guess, wanted, num),
    }
    baselines = {
        "accuracy": float(np.mean(wanted == shares.argmax())),
        "log loss": float(-np.mean(np.log(np.maximum(shares[wanted], _FLOOR)))),
        "Matthews correlation": 0.0,
    }
    return ScorerQuality(len(truth), figures, baselines)


def matthews(guess: np.ndarray, truth: np.ndarray, num_classes: int) -> float:
    """Return Matthews' correlation of two lists of classes, 0 where one of them is constant."""
    table = np.zeros((num_classes, num_classes))
    np.add.at(table, (truth, guess), 1.0)
    total, right = table.sum(), np.trace(table)
    said, been = table.sum(axis=0), table.sum(axis=1)
    spread = (total**2 - (said**2).sum()) * (total**2 - (been**2).sum())
    return float((right * total - (said * been).sum()) / np.sqrt(spread)) if spread > 0.0 else 0.0


def _rank_agreement(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return 0.0
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])
