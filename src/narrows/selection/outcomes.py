"""The outcomes of a shortlist's rows under noise, and how they were found."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

Method: TypeAlias = Literal["enumerated", "simulated", "unknown"]


class Outcomes(NamedTuple):
    """The outcomes of objects that are asked for, float64; mean and standard deviation are NaN where the score is not known.

    Attributes:
        mean: expected score of what comes out.
        std: standard deviation of that score from one outcome to the next.
        prob_as_asked: probability that the object itself comes out, always exact.
    """

    mean: Float[np.ndarray, " object"]
    std: Float[np.ndarray, " object"]
    prob_as_asked: Float[np.ndarray, " object"]


@dataclass(frozen=True)
class OutcomeSummary:
    """A summary of how the outcomes of rows were found in a run under noise.

    Args:
        noise: the noise and its settings, in words.
        method: `enumerated` if every outcome was weighed, `simulated` if some were drawn, `unknown` if neither could be done.
        num_outcomes: how many outcomes a row was weighed or drawn.
        standard_error: the largest standard error of a row's expected score; 0 where every outcome was weighed.
        num_not_ranked: candidates that were left out of a ranking by expected score, because something spoke against them
            before: a lower mean, or a lower expected score in a first look at a few outcomes.
        reason: why something is not known, and what would help; `None` where all is.
    """

    noise: str
    method: Method
    num_outcomes: int | None = None
    standard_error: float | None = None
    num_not_ranked: int = 0
    reason: str | None = None

    def sentences(self) -> list[str]:
        """Return what a reader of the figures has to know."""
        found = []
        if self.method == "enumerated":
            found.append(f"expected scores are exact: each of {self.num_outcomes:,} outcomes is weighed with its probability")
        if self.method == "simulated":
            error = f"; their standard error is at most {self.standard_error:.2g}"
            found.append(f"expected scores are means of {self.num_outcomes:,} simulated outcomes a row{error}")
        if self.num_not_ranked:
            found.append(
                f"{self.num_not_ranked:,} candidates with less promise at first sight were not ranked by expected score"
            )
        return [*found, self.reason] if self.reason else found
