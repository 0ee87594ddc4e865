"""The task of a head: scores or classes, one guess or several."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Kind = Literal["regression", "classification"]
Problem = Literal["regression", "single_label_classification", "multi_label_classification"]


@dataclass(frozen=True)
class Task:
    """A quantity to predict, and the meaning of a head's outputs.

    Attributes:
        kind: scores or classes.
        classes: their names; none for scores.
        offset, scale: of scores: the head predicts `(score - offset) / scale`.
        heads: guesses side by side on one encoder, each trained on a sample of its own.
    """

    kind: Kind
    classes: tuple[str, ...] = ()
    offset: float = 0.0
    scale: float = 1.0
    heads: int = 1

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise ValueError(f"there is at least one head, got {self.heads}.")
        if (self.kind == "classification") != (len(self.classes) > 1):
            raise ValueError(f"classification is between two classes or more, regression between none; got {self.classes}.")
        if not (self.scale > 0.0 and np.isfinite(self.scale) and np.isfinite(self.offset)):
            raise ValueError(f"offset and scale of scores must be finite, and scale positive, got {self.offset}, {self.scale}.")

    @property
    def width(self) -> int:
        """Outputs of one head."""
        return len(self.classes) if self.kind == "classification" else 1

    @property
    def num_outputs(self) -> int:
        """Outputs of all heads."""
        return self.heads * self.width

    @property
    def problem(self) -> Problem:
        """The name of the task in transformers."""
        if self.kind == "regression":
            return "regression"
        return "single_label_classification" if self.heads == 1 else "multi_label_classification"

    def targets(self, values: Float[np.ndarray, " row"]) -> Float[Tensor, " row"]:
        """Return what is trained towards: standardised scores, or places of classes."""
        return torch.as_tensor((values - self.offset) / self.scale, dtype=torch.float32)

    def losses(self, logits: Float[Tensor, "row output"], targets: Float[Tensor, " row"]) -> Float[Tensor, "row head"]:
        """Return the loss of every head on every row: squared error, or cross-entropy."""
        shaped = logits.float().view(len(targets), self.heads, self.width)
        if self.kind == "regression":
            return (shaped[..., 0] - targets[:, None]) ** 2
        wanted = targets.long()[:, None].expand(-1, self.heads)
        return F.cross_entropy(shaped.reshape(-1, self.width), wanted.reshape(-1), reduction="none").view(-1, self.heads)

    def guesses(self, logits: Float[np.ndarray, "row output"]) -> Float[np.ndarray, "head row width"]:
        """Return what every head says: scores, or probabilities of the classes."""
        shaped = logits.astype(np.float64).reshape(len(logits), self.heads, self.width).swapaxes(0, 1)
        if self.kind == "regression":
            return shaped * self.scale + self.offset
        shaped = np.exp(shaped - shaped.max(axis=-1, keepdims=True))
        return shaped / shaped.sum(axis=-1, keepdims=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return {**vars(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Task":
        """Return the task that `to_dict` described."""
        return cls(**{**fields, "classes": tuple(fields["classes"])})


class Prediction(NamedTuple):
    """The prediction of a scorer for some texts.

    Attributes:
        mean: scores `(text,)`, or probabilities of the classes `(text, class)`.
        std: how far the members are apart, calibrated, of the same shape; NaN where there is one member alone.
    """

    mean: Float[np.ndarray, "..."]
    std: Float[np.ndarray, "..."]


def combined(task: Task, guesses: Float[np.ndarray, "member row width"], std_scale: float) -> Prediction:
    """Return the mean of the members' guesses and their spread."""
    mean = guesses.mean(axis=0)
    std = guesses.std(axis=0, ddof=1) * std_scale if len(guesses) > 1 else np.full_like(mean, np.nan)
    return Prediction(mean, std) if task.kind == "classification" else Prediction(mean[:, 0], std[:, 0])


def sample_weights(num_rows: int, heads: int, seed: int) -> Float[Tensor, "row head"]:
    """Return how often each row counts for each head: once for a single one, else as in a bootstrap sample, Poisson(1)."""
    if heads == 1:
        return torch.ones(num_rows, 1)
    drawn: Int[np.ndarray, "row head"] = np.random.default_rng([seed, 77]).poisson(1.0, size=(num_rows, heads))
    return torch.as_tensor(drawn, dtype=torch.float32)
