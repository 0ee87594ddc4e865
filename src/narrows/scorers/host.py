"""Rewards computed by ordinary Python between a compiled sampling step and a compiled update."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from narrows.envs.base import AbstractEnvironment
from narrows.proxies.near import Neighbourhood
from narrows.rewards.base import check_inverse_temperature

TextScore = Callable[[Sequence[str]], Any]
"""Texts of objects in, one float each out (NaN for an item that failed); anything NumPy reads as floats."""


class AbstractScoreBatch(ABC):
    """The scores of one batch, which are under way."""

    @abstractmethod
    def result(self) -> Any:
        """Return one float an object, in order; wait until they are there."""

    @abstractmethod
    def cancel(self) -> None:
        """Want them no more; a second call does nothing."""


class AbstractAsyncScore(ABC):
    """A score that can have several batches under way at once, so that training need not wait for the slowest."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Return how many batches training should keep under way, >= 1; one means to wait for each."""

    @abstractmethod
    def __call__(self, objects: Sequence[str]) -> Any:
        """Return one float an object, in order."""

    @abstractmethod
    def submit(self, objects: Sequence[str]) -> AbstractScoreBatch:
        """Begin to score a batch."""

    @abstractmethod
    def first_of(self, batches: Sequence[AbstractScoreBatch]) -> int:
        """Wait until one of the batches is scored, and return its place in the list, the smallest if there are several."""


@dataclass(frozen=True)
class HostReward:
    """A log-reward that calls Python: a docking program, a folding code, a model of another library.

    Args:
        score: texts in, one score each out; NaN sets an item aside. An `AbstractAsyncScore` may overlap with training.
        env: names the objects (`to_text`).
        beta: inverse temperature; the log-reward is `beta` times the score.
        near: what was measured, and what being far from it takes off the score; None for nothing.
    """

    score: TextScore | AbstractAsyncScore
    env: AbstractEnvironment
    beta: float = 1.0
    near: Neighbourhood | None = None

    def __post_init__(self) -> None:
        check_inverse_temperature(self.beta)

    def __call__(self, states: Any) -> np.ndarray:
        """Return the log-reward of each of a batch of terminal states, float64; ValueError if the lengths differ."""
        texts = self.env.to_text(states)
        return self.log_reward(self.score(texts), texts)

    def log_reward(self, scores: Any, texts: Sequence[str]) -> np.ndarray:
        """Return the log-reward of scores, float64; ValueError unless there is one for each object."""
        num_objects = len(texts)
        scores = np.asarray(scores, dtype=np.float64)
        if scores.shape != (num_objects,):
            raise ValueError(
                f"the score returned shape {scores.shape} for {num_objects} objects. Return one number for each, in order."
            )
        if self.near is not None:
            scores = self.near.lowered(scores, self.near.edits(texts))
        with np.errstate(over="ignore"):  # infinite, and so set aside
            return self.beta * scores
