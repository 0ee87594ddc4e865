"""The far side of an executor: functions that a worker finds by name in its own installation, and what they are sent.

Only names of ours and plain data travel. The text of the user's file goes with each piece, so that workers need not have it,
and runs in a process of its own there, as it does here: it can be timed out, and it cannot take a worker along.
"""

import atexit
import contextlib
import hashlib
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import narrows
from narrows.scorers.backends import Local, Reply, ScoreError, Worker, named_with, place_of

IDLE_SECONDS = 120.0
"""Seconds that the process of a score waits for its next piece: loading a model again costs more than keeping it a while."""


class ScoreFile(NamedTuple):
    """A file of the user's as it was when the run began, and the function in it; `ScoreFile.read` makes one."""

    name: str
    text: bytes
    function: str
    version: str
    """Release of this package that sent it."""
    kappa: float = 0.0

    @classmethod
    def read(cls, score: str, kappa: float = 0.0) -> "ScoreFile":
        """Read "FILE.py:FUNCTION"; raise ScoreError for anything else and for a file that is not there."""
        place = place_of(score)
        if place is None:
            raise ScoreError(f"an executor runs a function of a file of yours: write FILE.py:FUNCTION, got {score!r}.")
        path, function = place
        if not path.is_file():
            raise ScoreError(f"{path} does not exist. Write the score as FILE.py:FUNCTION.")
        return cls(path.name, path.read_bytes(), function, narrows.__version__, kappa)

    @property
    def identity(self) -> str:
        """Return what names this score in a cache, the same as when the file runs on this machine."""
        return named_with(f"{hashlib.sha256(self.text).hexdigest()}:{self.function}", self.kappa)


def run_file(file: ScoreFile, timeout: float, objects: list[str], ticket: str) -> Reply:
    """Score a piece with a function of a file; `timeout` in seconds, after its process has loaded the file.

    Without objects it only loads the file, which shows whether that can be done.
    `ticket` differs from call to call: an engine that merges equal calls must not answer a second try with the first. It
    begins with the name of who sent the piece.
    """
    host = socket.gethostname()
    if file.version != narrows.__version__:
        there, here = narrows.__version__, file.version
        return Reply(fault=f"narrows is {there} on the worker {host} and {here} here. Install the same release on both.")
    try:
        with _BENCH.borrowed(file, ticket) as worker:
            reply = worker.reply(objects, timeout)
    except ScoreError as error:
        return Reply(fault=f"on the worker {host}: {error}")
    return reply if reply.failure is None else reply._replace(failure=f"{reply.failure} (on {host})")


def run_function(
    function: Callable[[Sequence[str]], Any], kappa: float, timeout: float, objects: list[str], ticket: str
) -> Reply:
    """Score a piece with a function that the executor could send; nothing can end it when it takes too long."""
    try:
        return Local(function, None, kappa).reply(objects, timeout)
    except ScoreError as error:
        return Reply(fault=str(error))


def stop(sender: str) -> None:
    """End the processes that work in threads of this process for a sender who is gone; nobody else could end them."""
    _BENCH.stop(sender)


@final
class _Seat:
    """The process of a score with the folder that its file lies in."""

    def __init__(self, file: ScoreFile) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="narrows-score-", ignore_cleanup_errors=True)
        self._place = self._folder.name
        path = Path(self._place) / file.name
        path.write_bytes(file.text)
        self._worker = Worker(path, file.function, file.kappa, is_temporary=True)
        self.timer: threading.Timer | None = None

    @property
    def is_usable(self) -> bool:
        return self._worker.is_running

    def reply(self, objects: list[str], timeout: float) -> Reply:
        try:
            return self._worker.reply(objects, timeout)
        except ScoreError as error:  # the user knows the file by its name, not by where it lies for now
            for place in (self._place, os.path.realpath(self._place)):
                error = ScoreError(str(error).replace(place + os.sep, ""))
            raise error from None

    def stop(self) -> None:
        self._worker.stop()

    def clear(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self._folder.cleanup()  # first: once its process is gone nobody else would do it
        self._worker.stop()


@final
class _Bench:
    """Processes that wait for their next piece; a worker may run several pieces at once, each in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[ScoreFile, list[_Seat]] = {}
        self._busy: dict[str, _Seat] = {}

    @contextlib.contextmanager
    def borrowed(self, file: ScoreFile, ticket: str) -> Iterator[_Seat]:
        with self._lock:
            waiting = self._idle.get(file, [])
            seat = waiting.pop() if waiting else None
        if seat is not None and seat.timer is not None:
            seat.timer.cancel()
        seat = seat or _Seat(file)
        self._busy[ticket] = seat
        try:
            yield seat
        finally:
            del self._busy[ticket]
            self._give_back(file, seat)

    def stop(self, sender: str) -> None:
        for ticket, seat in list(self._busy.items()):
            if ticket.startswith(sender):
                seat.stop()

    def clear(self) -> None:
        with self._lock:
            seats = [seat for waiting in self._idle.values() for seat in waiting]
            self._idle.clear()
        for seat in seats:
            seat.clear()

    def forget(self) -> None:
        """Drop what a fork copied: the processes answer the parent, and its lock may never open here."""
        self.__init__()

    def _give_back(self, file: ScoreFile, seat: _Seat) -> None:
        if not seat.is_usable:
            seat.clear()
            return
        seat.timer = threading.Timer(IDLE_SECONDS, self._retire, (file, seat))
        seat.timer.daemon = True
        seat.timer.start()
        with self._lock:
            self._idle.setdefault(file, []).append(seat)

    def _retire(self, file: ScoreFile, seat: _Seat) -> None:
        with self._lock:
            waiting = self._idle.get(file, [])
            if seat not in waiting:  # borrowed at the last moment
                return
            waiting.remove(seat)
            if not waiting:
                del self._idle[file]
        seat.clear()


# One a process: an executor gives a function no other place to keep what should outlive a call.
_BENCH = _Bench()
atexit.register(_BENCH.clear)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_BENCH.forget)
