"""The source of a run's scores, in the words that a reader is told."""

from typing import NamedTuple, final


@final
class Guide(NamedTuple):
    """The names of a run's guide: `noun` is the thing itself, `score` what it gives an object, `mean` what it ranks by."""

    noun: str
    score: str
    mean: str

    @property
    def is_proxy(self) -> bool:
        """Whether it was fitted to measurements, so that its scores are guesses."""
        return self == PROXY_GUIDE


PROXY_GUIDE = Guide("proxy", "proxy score", "proxy mean")
"""A model that was fitted to measurements and stands in for the score that counts."""

SCORE_GUIDE = Guide("score", "score", "score")
"""The score itself: a function of the user's, a table or a formula."""
