"""Rank by the expected score of what comes out when an object is asked for under noise."""

from collections.abc import Sequence

import numpy as np

from narrows.selection.candidates import ScoredCandidates
from narrows.selection.digits import rounded
from narrows.selection.guide import Guide
from narrows.selection.outcomes import Outcomes
from narrows.selection.rankings.base import AbstractOwnRanking, ExpectedOutcomes, RankedRun, RankingTask
from narrows.selection.rows import Shortlist, with_outcomes

_WEIGHED = (4096, 16_384, 65_536)
"""Candidates, best means first, whose every outcome is weighed: more of them if fewer do not fill the list."""
_LOOKED_AT = 4096
"""Candidates with the best means at which a first look is taken where outcomes are simulated."""
_FEWEST_CLOSE, _CLOSE_A_ROW = 256, 8
"""After that look, candidates that are looked at closely: at least, and for each row that is wanted."""


class Expected(AbstractOwnRanking):
    """Rank by the expected score of what comes out.

    Candidates that promise most are predicted and ranked, and the rows of the shortlist by mean with them: more of them if
    these do not fill the list.
    """

    name = "expected"
    noun = "expected score"
    meaning = "In a run under noise, by the mean score of what comes out when an object is asked for."

    def label(self, guide: Guide, kappa: float) -> str:
        return "expected score"

    def title(self, guide: Guide) -> str:
        return "expected score of what comes out"

    def is_usual(self, run: RankedRun) -> bool:
        return run.is_noisy and run.is_sequence and not run.is_user_score

    def rank(self, task: RankingTask) -> Shortlist:
        found, scored = task.runs[0].outcomes, task.scored
        if found is None:
            raise ValueError("by = expected ranks what comes out under noise, and this job has none. Use --by mean.")
        closely = found.closely
        if closely is None or closely.moments is None:
            raise ValueError(f"by = expected needs expected scores; {found.reason}. Use --by mean.")
        objects = scored.candidates.objects
        chosen = task.choose_by_mean(scored)
        chosen_by_mean = {row.sequence for row in chosen.rows}
        is_measured = np.array([name in task.measured for name in objects], bool)
        order, sizes = _promising(found, scored, is_measured, task.k)
        kept = np.flatnonzero([name in chosen_by_mean for name in objects])
        columns = Outcomes(*(np.full(len(objects), np.nan) for _ in range(3)))
        ranked = order[:0]
        for size in sizes:
            ranked = np.union1d(order[:size], kept)
            new = ranked[np.isnan(columns.mean[ranked])]
            for column, values in zip(columns, closely([objects[place] for place in new.tolist()]), strict=True):
                column[new] = values
            # Measured ones come along so that they are counted as left out; what ranks them is never read.
            measured = np.flatnonzero(is_measured)
            values = np.concatenate([rounded(columns.mean[ranked]), np.zeros(len(measured))])
            chosen = task.choose(scored.at(np.concatenate([ranked, measured])), values)
            if len(chosen.rows) == task.k or len(ranked) == len(order):
                break
        places = {objects[place]: place for place in ranked.tolist()}
        rows = [places[row.sequence] for row in chosen.rows]
        outcomes = Outcomes(*(column[rows] for column in columns))
        return with_outcomes(chosen, outcomes, found.summary(outcomes, len(order) - len(ranked)))


def _promising(
    found: ExpectedOutcomes, scored: ScoredCandidates, is_measured: np.ndarray, k: int
) -> tuple[np.ndarray, Sequence[int]]:
    """Return the candidates that can be chosen, the most promising first, and how many to try before trying more."""
    best_first = np.argsort(-scored.mean, kind="stable")
    order = best_first[~is_measured[best_first]]
    if found.at_first is None:
        return order, _WEIGHED
    looked_at = order[:_LOOKED_AT]
    glimpsed = found.at_first([scored.candidates.objects[place] for place in looked_at.tolist()])
    order = np.concatenate([looked_at[np.argsort(-glimpsed.mean, kind="stable")], order[_LOOKED_AT:]])
    close = max(_FEWEST_CLOSE, _CLOSE_A_ROW * k)
    return order, (close, 4 * close)
