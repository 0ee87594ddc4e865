"""Where a score runs: the user's file in a process of its own, a built-in or a notebook's function in this one."""

import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

from narrows.rewards.scoring import worker
from narrows.rewards.scoring.worker import WrongResult, as_floats, reason

START_TIMEOUT = 120.0
"""Seconds that the user's file has to load: importing a large library takes a while on a cold disk."""

_SHOWN_LINES = 12
_PATIENCE = 5.0


class ScoreError(ValueError):
    """A score that cannot be used: a file, a function or a result with a fault that no retry mends."""


class BatchFailed(Exception):
    """A batch without scores, for a reason that may lie in one of its objects."""


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
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.Queue[str] = queue.Queue()
        self._printed: deque[str] = deque(maxlen=_SHOWN_LINES)
        self._readers: list[threading.Thread] = []

    @property
    def identity(self) -> str:
        return named_with(f"{self._sha256}:{self._function}", self._kappa)

    @property
    def is_running(self) -> bool:
        """Return whether there is a process, which the next batch need not start."""
        return self._process is not None

    def start(self) -> None:
        if self._process is not None:
            return
        if self._hash() != self._sha256:
            raise ScoreError(f"{self._path} was changed while it was in use, so old and new scores would mix. Start again.")
        self._spawn()
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
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(objects) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise BatchFailed(self._obituary()) from None
        reply = self._receive(timeout)
        if "wrong" in reply:
            raise ScoreError(f"{self._path}: {reply['wrong']}")
        if "error" in reply:
            raise BatchFailed(reply["error"])
        return reply["values"]

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        for reader in self._readers:
            reader.join(_PATIENCE)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _spawn(self) -> None:
        # -P: the folder of the worker's own file must not be searched for what the user's file imports.
        command = [sys.executable, "-P", worker.__file__, str(self._path), self._function, str(os.getpid()), repr(self._kappa)]
        command += ["temporary"] if self._is_temporary else []
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            # A group of its own: Ctrl-C stops us in good order first, and a kill reaches the programs that a score started.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._replies, self._printed = queue.Queue(), deque(maxlen=_SHOWN_LINES)
        self._readers = [
            threading.Thread(target=_collect, args=(process.stdout, self._replies), daemon=True),
            threading.Thread(target=_forward, args=(process.stderr, self._printed), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _receive(self, timeout: float) -> dict[str, Any]:
        """Return the next reply; kill the worker and raise BatchFailed when it takes too long or has died."""
        try:
            line = self._replies.get(timeout=timeout)
        except queue.Empty:
            self.stop()
            raise BatchFailed(f"took longer than {timeout:g} s") from None
        except BaseException:  # Ctrl-C: the reply that is under way would answer the wrong request
            self.stop()
            raise
        if not line.endswith("\n"):  # the end of the pipe, perhaps in the middle of a reply
            raise BatchFailed(self._obituary())
        return json.loads(line)

    def _obituary(self) -> str:
        """Say how the worker ended, and clear it away."""
        assert self._process is not None
        process = self._process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        status = process.returncode
        self.stop()
        how = f"the process of the score ended with status {status}"
        if status is not None and status < 0:
            with contextlib.suppress(ValueError):
                how = f"the process of the score was killed by {signal.Signals(-status).name}"
        last = " | ".join(line for line in self._printed if line)
        return f"{how}; it last printed: {last}" if last else how

    def _hash(self) -> str:
        if not self._path.is_file():
            raise ScoreError(f"{self._path} does not exist. --score takes FILE.py:FUNCTION.")
        return hashlib.sha256(self._path.read_bytes()).hexdigest()


def check_kappa(kappa: float) -> None:
    """Raise ValueError unless a number of standard deviations to subtract is one."""
    if not 0.0 <= kappa < float("inf"):
        raise ValueError(f"kappa must be at least 0 and finite, got {kappa}.")


def named_with(identity: str, kappa: float) -> str:
    """Return the name of a score that counts as `mean - kappa std`: another one than that of the mean."""
    return identity if kappa == 0.0 else f"{identity}:kappa {kappa!r}"


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a worker with everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)


def _collect(stream: Any, replies: "queue.Queue[str]") -> None:
    """Pass on the worker's replies, and an empty one at the end."""
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            replies.put(line)
    replies.put("")


def _forward(stream: Any, printed: deque[str]) -> None:
    """Show what the user's code prints, and keep the last lines for an obituary."""
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            printed.append(line.rstrip())
            sys.stderr.write(line)
