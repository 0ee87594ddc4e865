"""What a model of a table is, and what learns one."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.data import Space


@dataclass(frozen=True, eq=False)
class Lesson:
    """Rows to learn from.

    Args:
        tokens: sequences, padded with the number of letters.
        scores: of them, standardised; higher is better.
        noise: variance of the error of measurement of each row beside that of a usual row: 1 for a usual one, less where
            several measurements were joined.
        bounds: 0 where the score is known, -1 where it is at most what is given, 1 where it is at least that.
        space: of the sequences.
        seed: of whatever is drawn.
    """

    tokens: Int[np.ndarray, "row length"]
    scores: Float[np.ndarray, " row"]
    noise: Float[np.ndarray, " row"]
    bounds: Int[np.ndarray, " row"]
    space: Space
    seed: int

    def at(self, rows: Int[np.ndarray, " some"]) -> "Lesson":
        return replace(
            self, tokens=self.tokens[rows], scores=self.scores[rows], noise=self.noise[rows], bounds=self.bounds[rows]
        )

    def errors(self, mean: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """Return score less prediction; none where a prediction is beyond a bound, as it should be."""
        errors = self.scores - mean
        return np.where(self.bounds * errors < 0, 0.0, errors)

    @property
    def places(self) -> tuple[int, ...] | None:
        """The positions at which sequences differ, None where they differ in length."""
        size = len(self.space.alphabet)
        if self.space.min_length != self.space.max_length or (self.tokens[:, : self.space.max_length] == size).any():
            return None
        return tuple(np.flatnonzero((self.tokens != self.tokens[0]).any(axis=0)).tolist())


class AbstractModel(eqx.Module):
    """A function from sequences to the mean and the standard deviation of their standardised scores, in JAX."""

    @abc.abstractmethod
    def __call__(self, tokens: Int[Array, "batch length"]) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Return mean and standard deviation of the score that would be measured, before calibration."""

    def members(self, tokens: Int[Array, "batch length"]) -> Float[Array, "member batch"]:
        """Return what each of several opinions says; one alone is the mean."""
        return self(tokens)[0][None]

    @abc.abstractmethod
    def described(self) -> dict[str, Any]:
        """Return what a file must say, beside the arrays, to make this model again; values for JSON."""

    @classmethod
    @abc.abstractmethod
    def blank(cls, plain: dict[str, Any], space: Space) -> Self:
        """Return a model of the sizes that `described` gave, nothing learned; ValueError for what is no such description."""


@dataclass(frozen=True)
class Learner:
    """A way to learn a model from a table.

    Args:
        name: what tables and files call it; distinct.
        meaning: what it is, in a few words for readers.
        suits: whether it can learn from some rows, within a time that people wait for.
        prepare: what is found once on all rows that may be learned from, such as how strongly each place counts.
        learn: a model of some rows, from them, what was prepared, and how many rows there are in all: models of fewer rows have
            arrays of the same shapes, so that one program evaluates them.
    """

    name: str
    meaning: str
    suits: Callable[[Lesson], bool]
    prepare: Callable[[Lesson], Any]
    learn: Callable[[Lesson, Any, int], AbstractModel]
