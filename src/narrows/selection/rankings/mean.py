"""Rank by the score itself."""

import numpy as np

from narrows.selection.candidates import ScoredCandidates
from narrows.selection.guide import Guide
from narrows.selection.rankings.base import AbstractScoreRanking


class Mean(AbstractScoreRanking):
    """Rank by the mean score."""

    name = "mean"
    meaning = "By the score itself; the mean, where it says how unsure it is."

    def label(self, guide: Guide, kappa: float) -> str:
        return guide.mean

    def title(self, guide: Guide) -> str:
        return guide.mean

    def values(self, scored: ScoredCandidates, kappa: float) -> np.ndarray:
        return scored.mean
