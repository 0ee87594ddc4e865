"""What every search takes and gives: a problem, and all objects that were asked for with their scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from narrows.search.space import Space

Score = Callable[[Sequence[str]], Float[np.ndarray, " text"]]
"""Texts in, a score each out, higher is better; NaN for what cannot be scored."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A score over a space of texts, and what is known of it at first.

    Args:
        score: asked for many distinct texts at once.
        space: which texts there are.
        starts: distinct texts of the space to begin with, the most promising first.
        start_scores: what the score says of them, shape `[start]`: they are not asked for again.
    """

    score: Score
    space: Space
    starts: tuple[str, ...] = ()
    start_scores: Float[np.ndarray, " start"] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if np.shape(self.start_scores) != (len(self.starts),):
            raise ValueError(f"expected one score for each of {len(self.starts)} starts, got {np.shape(self.start_scores)}.")
        if len(set(self.starts)) < len(self.starts):
            raise ValueError("expected distinct starts. Give each once.")

    def first(self, num: int) -> "Problem":
        """Return the problem with at most so many of the starts, the first ones."""
        return replace(self, starts=self.starts[:num], start_scores=self.start_scores[:num])


class Found(NamedTuple):
    """Every object that a search asked for, in the order of asking, and its score, NaN where it has none."""

    objects: tuple[str, ...]
    scores: Float[np.ndarray, " object"]


class Search(Protocol):
    """A search: what it asks for depends on the problem, the budget and the seed alone."""

    def __call__(self, problem: Problem, budget: int, seed: int = 0) -> Found:
        """Return what was asked for.

        Args:
            problem: what is searched.
            budget: the most distinct objects whose score is asked, beside the starts.
            seed: of everything that is drawn.
        """
        ...


class Asked:
    """The scores that a search knows, and how many more it may ask for.

    Args:
        problem: what is searched.
        budget: the most distinct objects to ask for.
    """

    def __init__(self, problem: Problem, budget: int) -> None:
        if budget < 0:
            raise ValueError(f"a budget is at least 0 calls, got {budget}.")
        self._score, self._budget = problem.score, budget
        self._known = dict(zip(problem.starts, np.asarray(problem.start_scores, np.float64).tolist(), strict=True))
        self._num_starts = len(self._known)

    @property
    def num(self) -> int:
        """How many objects were asked for."""
        return len(self._known) - self._num_starts

    @property
    def is_spent(self) -> bool:
        return self.num >= self._budget

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Return the scores of texts, -inf where there is none: not a number, or no budget is left to ask."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))[: self._budget - self.num]
        if new:
            values = np.asarray(self._score(new), np.float64)
            if values.shape != (len(new),):
                raise ValueError(f"the score gave shape {values.shape} for {len(new)} texts. Return one number each.")
            self._known.update(zip(new, values.tolist(), strict=True))
        scores = np.array([self._known.get(text, np.nan) for text in texts], np.float64)
        return np.where(np.isnan(scores), -np.inf, scores)

    def found(self) -> Found:
        """Return everything that was asked for."""
        asked = list(self._known.items())[self._num_starts :]
        return Found(tuple(text for text, _ in asked), np.array([score for _, score in asked], np.float64))
