"""Call a score safely: cached, in batches, with a timeout, and an account of every object that could not be scored."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, final

import numpy as np
from jaxtyping import Float

from narrows.rewards.rna import TARGET_1, RnaBinding
from narrows.rewards.scoring.backends import AbstractBackend, BatchFailed, Local, ScoreError, Worker
from narrows.rewards.scoring.cache import ScoreCache

BUILT_IN: dict[str, str] = {"rna": "duplex energy with target 1 of the published RNA landscapes (needs ViennaRNA)"}

_GIVE_UP = 20
"""Objects that may fail one after the other before any has succeeded: then the score is at fault and not the objects."""


@final
@dataclass(frozen=True, eq=False)
class ScoreResult:
    """Hold scores in the order of the objects, NaN for those that failed, and why they did; NumPy reads it as the scores."""

    values: Float[np.ndarray, " n"]
    failures: dict[str, str] = field(default_factory=dict)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype) if copy else np.asarray(self.values, dtype=dtype)


@final
class Scorer:
    """Score objects with a function that may hang, crash or fail on some of them.

    A batch that fails or takes too long is tried again object by object, so that one bad object costs nobody else the score.
    An object that failed is not tried again as long as this scorer lives. Use it in a `with` statement, which ends the
    process that the function runs in. Make one with `load_scorer`.

    Args:
        backend: where the score runs.
        timeout: seconds for a batch, and for each object of a batch that is tried again.
        batch_size: objects of one call of the function.
        on_failure: "collect" gives NaN for an object that failed and records why, "raise" raises ScoreError.
        cache: SQLite file that remembers scores from run to run; None remembers them while this scorer lives.
    """

    def __init__(
        self,
        backend: AbstractBackend,
        *,
        timeout: float = 600.0,
        batch_size: int = 256,
        on_failure: Literal["collect", "raise"] = "collect",
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        if not 0.0 < timeout < math.inf:
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout}.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if on_failure not in ("collect", "raise"):
            raise ValueError(f"on_failure must be 'collect' or 'raise', got {on_failure!r}.")
        if cache is not None and backend.identity is None:
            raise ValueError("a function without a file has no name to remember its scores under. Use FILE.py:FUNCTION.")
        self._backend = backend
        self._timeout = timeout
        self._batch_size = batch_size
        self._is_strict = on_failure == "raise"
        self._identity = backend.identity or "function"
        self._cache = ScoreCache(cache)
        self._failures: dict[str, str] = {}
        self._num_scored = 0
        self._failed_in_a_row = 0

    @property
    def identity(self) -> str:
        """Return what names this score in its cache: SHA-256 of the file and the function, or a built-in's settings."""
        return self._identity

    @property
    def failures(self) -> dict[str, str]:
        """Return every object that failed so far, with the reason."""
        return dict(self._failures)

    def __enter__(self) -> Self:
        try:
            self._backend.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process of the score and close the cache; a second call does nothing."""
        self._backend.stop()
        self._cache.close()

    def __call__(self, objects: Sequence[str]) -> ScoreResult:
        """Return the score of each object; an object that occurs twice is scored once.

        Raises ScoreError for a score that returns the wrong number of values or something that is no number, for one that
        fails on everything, and with `on_failure="raise"` for the first object that fails.
        """
        if isinstance(objects, str):
            raise ValueError(f"expected a list of objects, got one text {objects!r}. Put it in a list.")
        names = list(dict.fromkeys(objects))
        position = {name: index for index, name in reversed(list(enumerate(objects)))}
        known = self._cache.get(self._identity, names)
        open_names = [name for name in names if name not in known and name not in self._failures]
        for start in range(0, len(open_names), self._batch_size):
            known |= self._score_batch(open_names[start : start + self._batch_size], position)
        failures = {name: self._failures[name] for name in names if name not in known}
        if failures and self._is_strict:
            name, why = next(iter(failures.items()))
            raise _failed(position[name], name, why)
        return ScoreResult(np.array([known.get(name, math.nan) for name in objects], np.float64), failures)

    def _score_batch(self, names: list[str], position: dict[str, int]) -> dict[str, float]:
        """Return the finite scores of a batch; record why the others have none."""
        try:
            return self._keep(names, self._backend.score(names, self._timeout), position)
        except BatchFailed as error:
            if len(names) == 1:
                self._fail(names[0], str(error), position)
                return {}
        scores: dict[str, float] = {}
        for name in names:
            scores |= self._score_batch([name], position)
        return scores

    def _keep(self, names: list[str], values: list[float], position: dict[str, int]) -> dict[str, float]:
        finite = {name: value for name, value in zip(names, values, strict=True) if math.isfinite(value)}
        # Remembered batch by batch: what was paid for survives whatever comes next.
        self._cache.put(self._identity, finite)
        if finite:
            self._num_scored += len(finite)
            self._failed_in_a_row = 0
        for name, value in zip(names, values, strict=True):
            if name not in finite:
                self._fail(name, f"the score is {value}, not a finite number", position)
        return finite

    def _fail(self, name: str, why: str, position: dict[str, int]) -> None:
        self._failures[name] = why
        self._failed_in_a_row += 1
        if self._is_strict:
            raise _failed(position[name], name, why)
        if not self._num_scored and self._failed_in_a_row >= _GIVE_UP:
            raise ScoreError(
                f"the first {_GIVE_UP} objects all failed, so the score itself seems to be at fault. "
                f"The last was {name!r}: {why}"
            )


def _failed(index: int, name: str, why: str) -> ScoreError:
    return ScoreError(f"object {index} ({name!r}) could not be scored: {why}")


def load_scorer(
    score: str | Callable[[Sequence[str]], Any],
    *,
    timeout: float = 600.0,
    batch_size: int = 256,
    on_failure: Literal["collect", "raise"] = "collect",
    cache: str | os.PathLike[str] | None = None,
) -> Scorer:
    """Return a scorer for a built-in score, for a function in a file of the user's, or for a function at hand.

    A file runs in a process of its own, with what it prints shown on the error stream. A built-in and a function at hand run
    in this process, where `timeout` cannot stop them. A cache knows a file by its content: what it imports from other files
    is not part of that, so delete the cache when one of those changes.

    Args:
        score: "rna", "FILE.py:FUNCTION", or a function; a list of texts in, one number each out, higher is better.
        timeout, batch_size, on_failure, cache: see `Scorer`.

    Raises ScoreError for a file or name that does not exist; entering the scorer loads the file and reports its faults.

    >>> with load_scorer(lambda objects: [text.count("G") for text in objects]) as score:
    ...     score(["GAG", "ACU"]).values.tolist()
    [2.0, 0.0]
    """
    settings: dict[str, Any] = {"timeout": timeout, "batch_size": batch_size, "on_failure": on_failure, "cache": cache}
    return Scorer(_backend(score), **settings)


def _backend(score: str | Callable[[Sequence[str]], Any]) -> AbstractBackend:
    if not isinstance(score, str):
        if not callable(score):
            raise ScoreError(f"expected FILE.py:FUNCTION or a function, got {score!r}.")
        return Local(score, None)
    if score == "rna":
        from importlib.metadata import version

        binding = RnaBinding(TARGET_1, length=None)
        return Local(binding, f"rna:{binding.target}:ViennaRNA {version('ViennaRNA')}")
    file, colon, function = score.rpartition(":")
    if not colon or not file or not function.isidentifier():
        known = ", ".join(BUILT_IN)
        raise ScoreError(f"unknown score {score!r}. Built in: {known}. For a score of your own write FILE.py:FUNCTION.")
    return Worker(Path(file), function)
