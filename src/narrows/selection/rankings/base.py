"""Rankings: rules that say which candidates of a shortlist come first, and how each is called."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from narrows.selection.candidates import ScoredCandidates
from narrows.selection.guide import Guide
from narrows.selection.outcomes import Outcomes, OutcomeSummary
from narrows.selection.rows import Shortlist

Choose = Callable[[ScoredCandidates, np.ndarray | None], Shortlist]
"""From scored candidates, and the numbers that rank them where the rule has numbers of its own, to a shortlist."""


class Predictor(Protocol):
    """Predicts what comes out of objects that are asked for; `None` for `moments` means that no expected score is known."""

    @property
    def moments(self) -> object | None: ...

    def __call__(self, objects: Sequence[str]) -> Outcomes: ...


class ExpectedOutcomes(Protocol):
    """The outcomes of a run's objects under noise, as far as they are known (`narrows.outcomes.ExpectedOutcomes`)."""

    @property
    def closely(self) -> Predictor | None: ...

    @property
    def at_first(self) -> Predictor | None: ...

    @property
    def reason(self) -> str | None: ...

    def summary(self, outcomes: Outcomes, num_not_ranked: int = 0) -> OutcomeSummary: ...


class RankedRun(Protocol):
    """A run as a rule may question it (`narrows.runs.OpenRun`); each answer is worked out when it is asked for."""

    @property
    def is_fitted(self) -> bool: ...

    @property
    def is_user_score(self) -> bool: ...

    @property
    def is_noisy(self) -> bool: ...

    @property
    def is_sequence(self) -> bool: ...

    @property
    def letters(self) -> str | None: ...

    @property
    def is_tree(self) -> bool: ...

    @property
    def env_name(self) -> str: ...

    @property
    def missing_model(self) -> str | None: ...

    @cached_property
    def outcomes(self) -> ExpectedOutcomes | None: ...

    def log_likelihoods(self, objects: Sequence[str]) -> np.ndarray: ...

    def predict(self, objects: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class RankingTask:
    """The candidates of one or more runs, and the choice that a rule makes among them.

    Args:
        runs: the runs, of one score and one environment.
        scored: all candidates.
        measured: objects that cannot be chosen.
        k: rows that are wanted.
        choose: the choice by this rule, from some of the candidates and the rule's numbers for them.
        choose_by_mean: the choice by the mean score.
        both_strands: an object and its reverse complement are one.
    """

    runs: Sequence[RankedRun]
    scored: ScoredCandidates
    measured: frozenset[str]
    k: int
    choose: Choose
    choose_by_mean: Callable[[ScoredCandidates], Shortlist]
    both_strands: bool = False


class AbstractRanking(abc.ABC):
    """A rule that says which candidates come first.

    Attributes:
        name: what a job's `by` and the option `--by` call it.
        meaning: what the page's glossary says of it.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]

    @abc.abstractmethod
    def label(self, guide: Guide, kappa: float) -> str:
        """Return what a row's reason calls the number that ranks, as in "highest LABEL of 9 candidates"."""

    @abc.abstractmethod
    def title(self, guide: Guide) -> str:
        """Return what the page says rows were taken by."""

    @abc.abstractmethod
    def rank(self, task: RankingTask) -> Shortlist:
        """Return the shortlist; ValueError says what a run lacks."""

    def is_usual(self, run: RankedRun) -> bool:
        """Return whether this rule ranks a run whose job and command name none."""
        return False


class AbstractScoreRanking(AbstractRanking):
    """A rule that ranks by what is known of every candidate, its mean score and standard deviation."""

    @abc.abstractmethod
    def values(self, scored: ScoredCandidates, kappa: float) -> np.ndarray:
        """Return the number that ranks each candidate, the largest first; ValueError where one is not known."""

    def rank(self, task: RankingTask) -> Shortlist:
        return task.choose(task.scored, None)


class AbstractOwnRanking(AbstractRanking):
    """A rule that ranks by numbers of its own.

    Attributes:
        noun: what one of them is called.
    """

    noun: ClassVar[str]
