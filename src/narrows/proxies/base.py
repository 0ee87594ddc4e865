"""What a proxy is: a reward that was fitted to measurements, with what is known of its quality."""

from abc import abstractmethod
from collections.abc import Sequence as Objects
from pathlib import Path

import numpy as np
from jaxtyping import Float

from narrows.proxies.quality import Quality
from narrows.rewards import AbstractReward


class AbstractProxy(AbstractReward):
    """A reward that was fitted to measurements, and guesses where they say nothing.

    In a job, a field named `path` is the folder or file that its fit wrote.
    """

    @abstractmethod
    def predict(self, objects: Objects[str]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return mean and standard deviation of the score of each object, float64; NaN for a deviation that is not known."""

    @abstractmethod
    def predicted_mean(self) -> AbstractReward:
        """Return the predicted mean alone, as a reward with nothing taken off for being unsure."""

    @classmethod
    def read_quality(cls, path: Path) -> Quality | None:
        """Return what the fit at a path found out about its proxy, None where it keeps no such record."""
        return None

    @classmethod
    def read_table_sha256(cls, path: Path) -> str | None:
        """Return the hash of the table that the fit at a path learned from, None where that is not known."""
        return None
