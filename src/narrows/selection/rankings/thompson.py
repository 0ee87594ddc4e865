"""Rank by draws from what is believed of the scores (Thompson 1933, Biometrika 25(3/4))."""

import numpy as np
from jaxtyping import Float

from narrows.selection.candidates import ScoredCandidates
from narrows.selection.guide import Guide
from narrows.selection.rankings.base import AbstractOwnRanking, RankingTask
from narrows.selection.rows import Shortlist


class Thompson(AbstractOwnRanking):
    """Give each row of the list a draw of all scores of its own, and the row its best candidate in that draw.

    Where candidates are too close to better rows, rows go on to their second best and so on, taking turns.
    """

    name = "thompson"
    noun = "turn in the draws"
    meaning = (
        "Each row of the list has a draw of its own of every score, from a normal distribution with the score's mean and "
        "standard deviation, and takes the best by that draw: what is unsure has its chance, and rows bet on different things."
    )

    def label(self, guide: Guide, kappa: float) -> str:
        return "draws of the score"

    def title(self, guide: Guide) -> str:
        return "draws of the score, one a row"

    def rank(self, task: RankingTask) -> Shortlist:
        scored = task.scored
        cure = "Rank by the mean, or fit several members."
        scored.refuse(np.isnan(scored.std), scored.std, "draws of a score need a std", cure)
        draws = _draws(scored, task.k, scored.candidates.runs[0].seed or 0)
        return task.choose(scored, -_turns(draws))


def _draws(scored: ScoredCandidates, num: int, seed: int) -> Float[np.ndarray, "draw candidate"]:
    """Return draws of all scores, each candidate's by itself: where members can be drawn together, this is the place."""
    return scored.mean + scored.std * np.random.default_rng(seed).standard_normal((num, len(scored.mean)))


def _turns(draws: Float[np.ndarray, "draw candidate"]) -> Float[np.ndarray, " candidate"]:
    """Return each candidate's first turn, where all draws in order name their best, then all their second best, and so on."""
    num, candidates = draws.shape
    turns = np.full(candidates, np.inf)
    for draw, values in enumerate(draws):
        order = np.argsort(-values, kind="stable")
        turns[order] = np.minimum(turns[order], np.arange(candidates) * num + draw)
    return turns
