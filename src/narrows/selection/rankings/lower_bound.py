"""Rank by the score less a share of its uncertainty."""

import numpy as np

from narrows.selection.candidates import ScoredCandidates
from narrows.selection.guide import Guide
from narrows.selection.rankings.base import AbstractScoreRanking


class LowerBound(AbstractScoreRanking):
    """Rank by the mean score less `kappa` standard deviations."""

    name = "lower_bound"
    meaning = "By a cautious reading of the score: the mean less kappa standard deviations."

    def label(self, guide: Guide, kappa: float) -> str:
        return f"lower bound (mean - {kappa:g} std)"

    def title(self, guide: Guide) -> str:
        return "lower bound"

    def values(self, scored: ScoredCandidates, kappa: float) -> np.ndarray:
        cure = "Rank by the mean, or fit several members."
        scored.refuse(np.isnan(scored.std), scored.std, "a lower bound needs a std", cure)
        return scored.mean - kappa * scored.std
