"""Rewards computed by ordinary Python between a compiled sampling step and a compiled update."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from narrows.envs.base import AbstractEnvironment
from narrows.rewards.base import check_inverse_temperature

TextScore = Callable[[Sequence[str]], Any]
"""Texts of objects in, one float each out (NaN for an item that failed); anything NumPy reads as floats."""


@dataclass(frozen=True)
class HostReward:
    """A log-reward that calls Python: a docking program, a folding code, a model of another library.

    Args:
        score: texts in, one score each out; NaN sets an item aside.
        env: names the objects (`to_text`).
        beta: inverse temperature; the log-reward is `beta` times the score.
    """

    score: TextScore
    env: AbstractEnvironment
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_inverse_temperature(self.beta)

    def __call__(self, states: Any) -> np.ndarray:
        """Return the log-reward of each of a batch of terminal states, float32; ValueError if the lengths differ."""
        texts = self.env.to_text(states)
        scores = np.asarray(self.score(texts), dtype=np.float64)
        if scores.shape != (len(texts),):
            raise ValueError(
                f"the score returned shape {scores.shape} for {len(texts)} objects. Return one number for each, in order."
            )
        return (self.beta * scores).astype(np.float32)
