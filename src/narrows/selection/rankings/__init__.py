"""The rules that rank the candidates of a shortlist. A new one is a file of this folder and a name in `__all__`."""

from typing import TYPE_CHECKING, Final, Literal

from narrows.selection.rankings.base import AbstractOwnRanking as AbstractOwnRanking
from narrows.selection.rankings.base import AbstractRanking as AbstractRanking
from narrows.selection.rankings.base import AbstractScoreRanking as AbstractScoreRanking
from narrows.selection.rankings.base import RankedRun as RankedRun
from narrows.selection.rankings.base import RankingTask as RankingTask
from narrows.selection.rankings.expected import Expected
from narrows.selection.rankings.lower_bound import LowerBound
from narrows.selection.rankings.mean import Mean
from narrows.selection.rankings.neighbourhood import Neighbourhood
from narrows.selection.rankings.sampler import Sampler
from narrows.selection.rankings.thompson import Thompson

__all__ = ["Mean", "LowerBound", "Expected", "Sampler", "Neighbourhood", "Thompson"]  # noqa: RUF022, in the order in which readers are shown them

RANKINGS: Final[dict[str, AbstractRanking]] = {rule.name: rule() for rule in map(globals().__getitem__, __all__)}
"""Every rule by its name."""

# A type checker reads names; what checks a job or an option reads the list of them.
if TYPE_CHECKING:
    RankingName = str
else:
    RankingName = Literal[tuple(RANKINGS)]


def ranking_named(name: str) -> AbstractRanking:
    """Return the rule of a name; ValueError says which names there are."""
    if name not in RANKINGS:
        *names, last = (repr(known) for known in RANKINGS)
        raise ValueError(f"by must be {', '.join(names)} or {last}, got {name!r}.")
    return RANKINGS[name]
