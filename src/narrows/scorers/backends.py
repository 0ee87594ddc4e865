"""Where a score runs: the user's file in a process of its own, a built-in or a notebook's function in this one."""

import hashlib
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from narrows.scorers import worker
from narrows.scorers.process import EndedError, Process
from narrows.scorers.worker import Unsure, WrongResult, as_floats, reason

START_TIMEOUT = 120.0
"""Seconds that the user's file has to load: importing a large library takes a while on a cold disk."""


class ScoreError(ValueError):
    """A score that cannot be used: a file, a function or a result with a fault that no retry mends."""


class BatchFailed(Exception):
    """A batch without scores, for a reason that may lie in one of its objects; `is_late` when it took too long."""

    def __init__(self, why: str, *, is_late: bool = False) -> None:
        super().__init__(why)
        self.is_late = is_late


class Reply(NamedTuple):
    """The answer to a piece: its values, or why there are none.

    A `failure` may lie in one of its objects; a `fault` lies in the score or the installation, and no retry mends it.
    """

    values: list[float] | None = None
    failure: str | None = None
    fault: str | None = None
    is_late: bool = False
    """Whether it failed because it took too long."""
    seconds: float = 0.0
    """Seconds that it took."""
    loading: float = 0.0
    """Seconds that the score took to load before."""


class AbstractBackend(ABC):
    """Something that scores batches."""

    @property
    @abstractmethod
    def identity(self) -> str | None:
        """Return what names this score in a cache, None for one without a name that outlives the process."""

    @abstractmethod
    def start(self) -> None:
        """Make ready; raise ScoreError if that is impossible."""

    @abstractmethod
    def score(self, objects: list[str], timeout: float) -> list[float]:
        """Return one float an object; raise BatchFailed, or ScoreError for a fault of the score itself."""

    @abstractmethod
    def stop(self) -> None:
        """End whatever runs; a second call does nothing."""

    @final
    def reply(self, objects: list[str], timeout: float) -> Reply:
        """Return what comes of a piece, and how long it took; without objects it is only made ready. ScoreError as `score`."""
        begun = time.monotonic()
        self.start()
        loaded = time.monotonic()
        try:
            reply = Reply(values=self.score(objects, timeout) if objects else [])
        except BatchFailed as error:
            reply = Reply(failure=str(error), is_late=error.is_late)
        return reply._replace(seconds=time.monotonic() - loaded, loading=loaded - begun)


@final
class Local(AbstractBackend):
    """A function of this process, which cannot be stopped when it takes too long."""

    def __init__(self, function: Callable[[Sequence[str]], Any], identity: str | None, kappa: float = 0.0) -> None:
        self._function = function
        self._identity = identity if identity is None else named_with(identity, kappa)
        self._kappa = kappa

    @property
    def identity(self) -> str | None:
        return self._identity

    def start(self) -> None:
        pass

    def score(self, objects: list[str], timeout: float) -> list[float]:
        try:
            return as_floats(self._function(list(objects)), objects, self._kappa)
        except WrongResult as error:
            raise ScoreError(str(error)) from error
        except ImportError:
            raise
        except Exception as error:
            raise BatchFailed(reason(error)) from error

    def stop(self) -> None:
        pass


@final
class Worker(AbstractBackend):
    """A function in a file of the user's, in a process that is killed when it takes too long and replaced when it dies."""

    def __init__(self, path: Path, function: str, kappa: float = 0.0, *, is_temporary: bool = False) -> None:
        """Take a function of a file; the folder of a temporary one goes when its process ends, whoever ends it."""
        self._is_temporary = is_temporary
        self._kappa = kappa
        self._path = path.resolve()
        self._function = function
        self._sha256 = self._hash()
        self._process: Process | None = None
        self._number = 0

    @property
    def identity(self) -> str:
        return named_with(f"{self._sha256}:{self._function}", self._kappa)

    @property
    def is_running(self) -> bool:
        """Return whether there is a process, which the next batch need not start."""
        return self._process is not None and not self._process.has_ended

    def start(self) -> None:
        if self.is_running:
            return
        self.stop()  # one that died while nothing was asked of it: no object is to blame
        if self._hash() != self._sha256:
            raise ScoreError(f"{self._path} was changed while it was in use, so old and new scores would mix. Start again.")
        # -P: the folder of the worker's own file must not be searched for what the user's file imports.
        command = [sys.executable, "-P", worker.__file__, str(self._path), self._function, str(os.getpid()), repr(self._kappa)]
        self._process = Process(command + (["temporary"] if self._is_temporary else []))
        self._number = 0
        try:
            reply = self._receive(START_TIMEOUT)
        except BatchFailed as error:
            raise ScoreError(f"{self._path} could not be loaded: {error}") from None
        if "error" in reply:
            self.stop()
            fault = reply["error"]
            what = f"{self._path} could not be loaded:\n{fault}" if "\n" in fault else fault
            raise ScoreError(what.rstrip())

    def score(self, objects: list[str], timeout: float) -> list[float]:
        self.start()
        assert self._process is not None
        self._number += 1
        self._process.send({"number": self._number, "objects": objects})
        reply = self._receive(timeout)
        if "wrong" in reply:
            raise ScoreError(f"{self._path}: {reply['wrong']}")
        if "error" in reply:
            raise BatchFailed(reply["error"])
        return reply["values"] if reply["stds"] is None else list(map(Unsure, reply["values"], reply["stds"]))

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _receive(self, timeout: float) -> dict[str, Any]:
        """Return the answer to the newest request; kill the worker and raise BatchFailed when it takes too long or has died."""
        assert self._process is not None
        end = time.monotonic() + timeout
        try:
            while True:
                reply = self._process.receive(end - time.monotonic())
                if reply.get("number") == self._number:  # others answer nothing that was asked
                    return reply
        except TimeoutError:
            self.stop()
            raise BatchFailed(f"took longer than {timeout:g} s", is_late=True) from None
        except EndedError as error:
            self.stop()
            raise BatchFailed(str(error)) from None
        except BaseException:  # Ctrl-C: the reply that is under way would answer the wrong request
            self.stop()
            raise

    def _hash(self) -> str:
        if not self._path.is_file():
            raise ScoreError(f"{self._path} does not exist. --score takes FILE.py:FUNCTION.")
        return hashlib.sha256(self._path.read_bytes()).hexdigest()


def place_of(score: str) -> tuple[Path, str] | None:
    """Return the file and the function that "FILE.py:FUNCTION" names, None for another text."""
    file, _, function = score.rpartition(":")
    return (Path(file), function) if file and function.isidentifier() else None


def check_kappa(kappa: float) -> None:
    """Raise ValueError unless a number of standard deviations to subtract is one."""
    if not 0.0 <= kappa < float("inf"):
        raise ValueError(f"kappa must be at least 0 and finite, got {kappa}.")


def named_with(identity: str, kappa: float) -> str:
    """Return the name of a score that counts as `mean - kappa std`: another one than that of the mean."""
    return identity if kappa == 0.0 else f"{identity}:kappa {kappa!r}"
