"""An account of objects: scores, each paid for once, and failures, each with its reason."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Self, final

import numpy as np
from jaxtyping import Float

from narrows.printing import printable, quote
from narrows.scorers.backends import ScoreError
from narrows.scorers.cache import ScoreCache, stds_of
from narrows.scorers.search import Voice
from narrows.scorers.worker import Unsure

OnFailure = Literal["collect", "raise"]
"""The fate of an object that cannot be scored: NaN with its reason, or an error at once."""

_GIVE_UP = 20
"""Objects that may fail one after the other before any has succeeded: then the score is at fault and not the objects."""


@final
@dataclass(frozen=True, eq=False)
class ScoreResult:
    """Scores in the order of the objects, NaN for those that failed, and why they did; NumPy reads it as the scores."""

    values: Float[np.ndarray, " n"]
    failures: dict[str, str] = field(default_factory=dict)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype) if copy else np.asarray(self.values, dtype=dtype)


@final
class Ledger:
    """Scores, remembered in a cache, and failures, remembered as long as this process lives.

    Args:
        identity: what names the score in its cache, None for one without a name that outlives the process.
        on_failure: "collect" or "raise", see `Scorer`.
        cache: SQLite file, or None for a cache that lives as long as this.
    """

    def __init__(self, identity: str | None, on_failure: OnFailure, cache: str | os.PathLike[str] | None) -> None:
        if on_failure not in ("collect", "raise"):
            raise ValueError(f"on_failure must be 'collect' or 'raise', got {on_failure!r}.")
        if cache is not None and identity is None:
            raise ValueError("a function without a file has no name to remember its scores under. Use FILE.py:FUNCTION.")
        self.identity = identity or "function"
        self._is_strict = on_failure == "raise"
        self._cache = ScoreCache(cache)
        self._failures: dict[str, str] = {}
        self._num_scored = 0
        self._failed_in_a_row = 0

    @property
    def failures(self) -> dict[str, str]:
        """Return every object that failed so far, with the reason."""
        return dict(self._failures)

    def sort_out(self, objects: Sequence[str]) -> tuple[dict[str, float], list[str]]:
        """Return the scores that are known, and the other objects, each once; one that failed before is not tried again.

        Raises ValueError for one text in place of a list of them, which would be scored letter by letter.
        """
        if isinstance(objects, str):
            raise ValueError(f"expected a list of objects, got one text {quote(objects)}. Put it in a list.")
        names = list(dict.fromkeys(objects))
        known = self._cache.get(self.identity, names)
        return known, [name for name in names if name not in known and name not in self._failures]

    def keep(self, values: Mapping[str, float], where: Callable[[str], int]) -> dict[str, float]:
        """Remember finite scores and their standard deviations, take the others for failures, and return the finite ones.

        `where` gives an object's place in the user's list, for the error.
        """
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        # Remembered at once: what was paid for survives whatever comes next.
        self._cache.put(self.identity, finite)
        stds = {name: value.std for name, value in finite.items() if isinstance(value, Unsure) and math.isfinite(value.std)}
        if stds:
            self._cache.put(stds_of(self.identity), stds)
        if finite:
            self._num_scored += len(finite)
            self._failed_in_a_row = 0
        for name, value in values.items():
            if name not in finite:
                self.fail(name, f"the score is {value}, not a finite number", where)
        return finite

    def fail(self, name: str, why: str, where: Callable[[str], int]) -> None:
        """Remember a failure; raise ScoreError when failures are not wanted, or when nothing but failures has come so far."""
        self._failures[name] = why
        self._failed_in_a_row += 1
        if self._is_strict:
            raise _failed(where(name), name, why)
        if not self._num_scored and self._failed_in_a_row >= _GIVE_UP:
            raise ScoreError(
                f"the first {_GIVE_UP} objects all failed, so the score itself seems to be at fault. "
                f"The last was {quote(name)}: {printable(why)}"
            )

    def result(self, objects: Sequence[str], known: Mapping[str, float]) -> ScoreResult:
        """Return the scores of objects in their order; what is not among the known ones has failed."""
        failures = {name: self._failures[name] for name in dict.fromkeys(objects) if name not in known}
        if failures and self._is_strict:
            name, why = next(iter(failures.items()))
            raise _failed(list(objects).index(name), name, why)
        return ScoreResult(np.array([known.get(name, math.nan) for name in objects], np.float64), failures)

    def close(self) -> None:
        """Close the cache; a second call does nothing."""
        self._cache.close()


class AbstractScorer(ABC):
    """A scorer's account of scores and failures, and the `with` statement that ends what it uses."""

    _ledger: Ledger
    _voice: Voice

    @property
    def identity(self) -> str:
        """Return what names this score in its cache: SHA-256 of the file and the function, or a built-in's settings."""
        return self._ledger.identity

    @property
    def failures(self) -> dict[str, str]:
        """Return every object that failed so far, with the reason."""
        return self._ledger.failures

    def heard_by(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Return a context manager in which another listener gets what `say` would."""
        return self._voice.heard_by(say)

    @abstractmethod
    def _begin(self) -> None:
        """Make ready; raise ScoreError if that is impossible."""

    @abstractmethod
    def close(self) -> None:
        """End what the score runs in and close the cache; a second call does nothing."""

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check_timeout(timeout: float) -> None:
    """Raise ValueError for a timeout that is no positive number of seconds."""
    if not 0.0 < timeout < math.inf:
        raise ValueError(f"timeout must be a positive number of seconds, got {timeout}.")


def _failed(index: int, name: str, why: str) -> ScoreError:
    return ScoreError(f"object {index} ({quote(name)}) could not be scored: {printable(why)}")
