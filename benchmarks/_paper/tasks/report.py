"""What happened while a published proxy was fitted, in one record that survives a trip through JSON."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, final

from narrows.printing import name_some, quote

_WHOLE = ("num_rows", "num_distinct", "num_train", "num_validation", "num_parameters", "best_epoch")
_LISTS = ("train_losses", "validation_losses")
_OPTIONAL = ("spearman", "accuracy")


@final
@dataclass(frozen=True)
class PublishedReport:
    """Hold the course and the end of a fit.

    Args:
        num_rows, num_distinct: sequences given, and different ones among them. The split is by rows, as published, so a
            sequence that repeats may stand on both sides.
        num_train, num_validation: rows trained on, and rows that only judged.
        num_parameters: of the encoder.
        target_mean, target_std: what a regression's targets were standardised with; 0 and 1 for labels.
        best_epoch: the epoch whose parameters were kept, counted from 1.
        train_losses, validation_losses: of every epoch, the squared error of standardised targets or the cross-entropy. Those
            of training are means over the epoch, while the parameters changed.
        score_mean, score_std, score_min, score_max: of the raw scores of the validation sequences.
        spearman: rank agreement of scores and targets on the validation sequences; None where one side is constant.
        accuracy: share of the validation labels on the right side of a logit of 0; None for a regression.
        seconds: duration of the fit.
    """

    num_rows: int
    num_distinct: int
    num_train: int
    num_validation: int
    num_parameters: int
    target_mean: float
    target_std: float
    best_epoch: int
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    score_mean: float
    score_std: float
    score_min: float
    score_max: float
    spearman: float | None
    accuracy: float | None
    seconds: float

    @property
    def highest_reward(self) -> float:
        """Return `exp(Phi)` of the best validation sequence, which tgm 5.4 gives for the published proxies."""
        return math.exp((self.score_max - self.score_mean) / self.score_std)

    def summary(self) -> str:
        """Return the figures as lines of text."""
        repeated = self.num_rows - self.num_distinct
        lines = [
            ("trained on", f"{self.num_train:,} rows, {self.num_parameters:,} parameters"),
            ("validated on", f"{self.num_validation:,} rows drawn at random"),
            ("repeated", f"{repeated:,} rows repeat a sequence" if repeated else "no sequence occurs twice"),
            ("epochs", f"{len(self.validation_losses)}, of which number {self.best_epoch} was kept"),
            ("validation loss", f"{self.validation_losses[self.best_epoch - 1]:.4g}"),
            ("Spearman", "undefined" if self.spearman is None else f"{self.spearman:.3f}"),
        ]
        if self.accuracy is not None:
            lines.append(("accuracy", f"{self.accuracy:.1%}"))
        scores = f"min {self.score_min:.4f}, max {self.score_max:.4f}, mean {self.score_mean:.4f}, std {self.score_std:.4f}"
        lines += [("raw scores", scores), ("highest reward", f"{self.highest_reward:.3f}"), ("time", f"{self.seconds:.1f} s")]
        return "\n".join(f"{name:<18}{value}" for name, value in lines)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; a loss that is not finite, which JSON lacks, as None."""
        plain = asdict(self)
        return plain | {name: [x if math.isfinite(x) else None for x in plain[name]] for name in _LISTS}

    @classmethod
    def from_dict(cls, plain: Any) -> "PublishedReport":
        """Return what `to_dict` wrote; ValueError names a field that is missing, unknown or of another kind."""
        names = {item.name for item in fields(cls)}
        if not isinstance(plain, dict) or set(plain) != names:
            found = set(plain) if isinstance(plain, dict) else set()
            lacks, unknown = name_some(sorted(names - found)), name_some(sorted(found - names))
            raise ValueError(f"the report lacks [{lacks}] and has unknown fields [{unknown}]")
        for name, value in plain.items():
            if not _fits(name, value):
                raise ValueError(f"the report's {name} is {quote(value)}")
        lists = {name: tuple(math.nan if x is None else float(x) for x in plain[name]) for name in _LISTS}
        if not 1 <= plain["best_epoch"] <= len(lists["validation_losses"]):
            raise ValueError(f"the report's best_epoch is {plain['best_epoch']} of {len(lists['validation_losses'])}")
        return cls(**{**plain, **lists})


def _fits(name: str, value: Any) -> bool:
    if name in _LISTS:
        return isinstance(value, list) and all(x is None or _is_number(x) for x in value)
    if name in _WHOLE:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return _is_number(value) or (value is None and name in _OPTIONAL)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
