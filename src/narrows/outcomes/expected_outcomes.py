"""The outcomes of a run's objects under noise, as far as they can be known, and why not further."""

from dataclasses import dataclass

import numpy as np

from narrows.envs import AbstractEnvironment, AbstractKernel
from narrows.envs.sequence import AbstractSequence
from narrows.outcomes.predictor import OutcomePredictor, Score, outcome_predictor
from narrows.selection import Outcomes, OutcomeSummary, Shortlist, with_outcomes

_FIRST_LOOK = 32
"""Where outcomes are simulated, so many of each of the best means decide which candidates are looked at closely."""


@dataclass(frozen=True, eq=False)
class ExpectedOutcomes:
    """The outcomes of objects, as far as they are known.

    Args:
        noise: name and settings of the noise, in words.
        closely: predicts what comes out of objects; None for objects that are no sequences.
        at_first: predicts it from a few simulated outcomes; None where that is not needed.
        reason: why something is not known, and what would help.
    """

    noise: str
    closely: OutcomePredictor | None
    at_first: OutcomePredictor | None = None
    reason: str | None = None

    def explain(self, chosen: Shortlist) -> Shortlist:
        """Return a shortlist whose rows say what comes out of them."""
        if self.closely is None:
            return with_outcomes(chosen, None, OutcomeSummary(self.noise, "unknown", reason=self.reason))
        outcomes = self.closely([row.sequence for row in chosen.rows])
        return with_outcomes(chosen, outcomes, self.summary(outcomes))

    def summary(self, outcomes: Outcomes, num_not_ranked: int = 0) -> OutcomeSummary:
        """Return how the outcomes of a shortlist's rows were found."""
        assert self.closely is not None, "there are outcomes of sequences only"
        errors = self.closely.standard_error(outcomes)
        error = None if np.isnan(errors).any() else float(f"{max(errors, default=0.0):.6g}")
        method, num = self.closely.method, self.closely.num_outcomes
        return OutcomeSummary(self.noise, method, num, error, num_not_ranked, self.reason)


def outcomes_under_noise(noise: str, env: AbstractEnvironment, kernel: AbstractKernel, score: Score | None) -> ExpectedOutcomes:
    """Return what can be said of the outcomes of an environment's objects under a kernel.

    Args:
        noise: name and settings of the noise, in words.
        env: the rules, without noise.
        kernel: what becomes of each action.
        score: the score of finished objects, None for a function of the user's, which is not called.
    """
    if not isinstance(env, AbstractSequence):
        reason = (
            "what comes out of a row is not known: it is worked out for sequences, which are asked for letter by letter, while "
            f"an object of {type(env).__name__} can be asked for in many orders. Rows are ranked by their own score"
        )
        return ExpectedOutcomes(noise, None, reason=reason)
    closely = outcome_predictor(env, kernel, score)
    if score is None:
        reason = (
            "the expected score of what comes out is not known: the score is a function of yours, which is not called for a "
            'shortlist. Fit a proxy to scores that it gave (narrows fit) and run a job with [reward] name = "Proxy"'
        )
        return ExpectedOutcomes(noise, closely, reason=reason)
    is_simulated = closely.method == "simulated"
    return ExpectedOutcomes(noise, closely, outcome_predictor(env, kernel, score, num=_FIRST_LOOK) if is_simulated else None)
