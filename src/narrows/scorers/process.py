"""A process that is spoken to in lines of JSON: its end is noticed whoever holds its pipes, and what it started ends with it.

A program that a score started inherits the pipes, so that their end says nothing about the process: a thread waits for the
process itself. Each pipe belongs to one thread, which closes it: closing a pipe that another thread reads waits for the reader.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO, Any, final

from narrows.printing import printable, say

_SHOWN_LINES = 12
_PATIENCE = 1.0
"""Seconds for a process that was killed to be gone, and for its last lines to be read."""
_LONGEST_ANSWER = 1 << 26
"""Characters; whatever writes more without an end of line into the pipe writes no answer."""
_LONGEST_LINE = 1 << 16


class EndedError(Exception):
    """A process that gives no more answers, with how it ended."""


@final
class Process:
    """A process of a session of its own, which reads a line of JSON and writes one for each.

    Ending it ends its process group, and so everything that it started except what made a session of its own. On Windows only
    the process itself ends.

    Args:
        command: what to run; its error stream is shown on ours.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
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
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._printed: deque[str] = deque(maxlen=_SHOWN_LINES)
        self._fault: str | None = None
        self._lock = threading.Lock()
        self._writer = _thread(self._write)
        self._readers = (_thread(self._collect), _thread(self._forward))
        self._watcher = _thread(self._watch)

    @property
    def has_ended(self) -> bool:
        """Return whether the process is gone, whatever became of what it started."""
        return self._process.returncode is not None

    def send(self, message: Any) -> None:
        """Write a line, without waiting for it to be read."""
        self._requests.put(json.dumps(message))

    def receive(self, seconds: float) -> dict[str, Any]:
        """Return the next answer; raise TimeoutError, or EndedError once the process or its pipe has ended."""
        try:
            answer = self._answers.get(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))
        except queue.Empty:
            raise TimeoutError from None
        if answer is None:
            raise EndedError(self._obituary())
        return answer

    def end(self) -> None:
        """Kill the process with everything it started; a second call does nothing."""
        with self._lock:
            if not self.has_ended:
                _kill(self._process)
        self._requests.put(None)
        for thread in (self._watcher, *self._readers):
            thread.join(_PATIENCE)

    def _obituary(self) -> str:
        """End what is left, and say how it ended."""
        fault = self._fault
        if fault is None:  # the pipe ends a moment before the process does
            self._watcher.join(_PATIENCE)
        has_ended = self.has_ended
        self.end()
        status = self._process.returncode
        if fault is not None:
            how = fault
        elif not has_ended:
            how = "the process of the score closed the pipe for its answers and was ended"
        elif status is not None and status < 0:
            how = f"the process of the score was killed by {_signal_name(-status)}"
        else:
            how = f"the process of the score ended with status {status}"
        last = " | ".join(printable(line) for line in self._printed if line)
        return f"{how}; it last printed: {last}" if last else how

    def _write(self) -> None:
        stream = _given(self._process.stdin)
        # A process that is gone has a watcher to say so.
        with contextlib.suppress(OSError, ValueError), stream:
            for line in iter(self._requests.get, None):
                stream.write(line + "\n")
                stream.flush()

    def _collect(self) -> None:
        """Pass on answers until something else comes, which also stops a flood before it fills the memory."""
        stream = _given(self._process.stdout)
        with contextlib.suppress(OSError, ValueError), stream:
            for line in iter(lambda: stream.readline(_LONGEST_ANSWER), ""):
                answer = _parsed(line)
                if answer is None:
                    if line.endswith("\n") or len(line) >= _LONGEST_ANSWER:  # otherwise it died in the middle of an answer
                        shown = line[:40].rstrip()
                        self._fault = f"something else than an answer came through the pipe for answers: {shown!r}"
                    break
                self._answers.put(answer)
        self._answers.put(None)

    def _forward(self) -> None:
        """Show what the user's code prints, and keep the last lines for an obituary."""
        stream = _given(self._process.stderr)
        with contextlib.suppress(OSError, ValueError), stream:
            for line in iter(lambda: stream.readline(_LONGEST_LINE), ""):
                self._printed.append(line.rstrip())
                say(line.rstrip("\n"), sys.stderr)

    def _watch(self) -> None:
        """Wait for the process, and then end what it started."""
        if sys.platform == "linux":  # leaves the number of the process taken until its group was killed by that number
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        with self._lock:
            if os.name != "nt":
                _kill(self._process)
            self._process.wait()
        self._readers[0].join(_PATIENCE)  # an answer that came before the end counts
        self._answers.put(None)


def _thread(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _given(stream: IO[str] | None) -> IO[str]:
    assert stream is not None, "all three streams are pipes"
    return stream


def _parsed(line: str) -> dict[str, Any] | None:
    """Return an answer, None for anything else."""
    try:
        answer = json.loads(line) if line.endswith("\n") else None
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill(process: "subprocess.Popen[str]") -> None:
    """Kill a process and its group; on Windows, which has no such groups, the process alone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
