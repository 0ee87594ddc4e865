"""Commands in processes of their own that are killed: at a share of their time, or the moment a folder changes."""

import os
import signal
import sys
import time
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

_POLL = 0.0005
"""Seconds between two looks at a folder: a file of a few kilobytes takes about as long."""
_LIBRARIES = (
    *("jax", "equinox", "optax", "narrows.cli", "narrows.runs", "narrows.runs.self_play", "narrows.proxies.fit"),
    *(f"narrows.commands.{name}" for name in ("fitting", "tuning", "selecting", "verifying", "reporting", "games.training")),
    *("narrows.tuning.scoring", "transformers.models.bert.modeling_bert", "narrows.games.solver"),
)
"""What is loaded once; where one is not installed, the command says so."""


class Moment(NamedTuple):
    """When a process is killed: after so many seconds, or after so many changes of its folder. Of neither: never."""

    seconds: float | None = None
    changes: int | None = None


class Ended(NamedTuple):
    """How a process ended: its exit status, negative for a signal, how long it ran and how often its folder changed."""

    status: int
    seconds: float
    changes: int

    @property
    def was_killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Server:
    """Starts commands as copies of a process that has loaded the libraries but nothing else."""

    def __init__(self, log: Path, cache: Path) -> None:
        os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        self._log = log
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(list(_LIBRARIES))

    def call(self, arguments: list[str], folder: Path, moment: Moment) -> Ended:
        """Run a command on a folder, until it ends or its moment has come."""
        process = self._context.Process(target=_command, args=(arguments, str(self._log)))
        process.start()
        began = time.perf_counter()
        seen, changes = _looks(folder), 0
        while process.is_alive():
            now = _looks(folder)
            changes, seen = changes + (now != seen), now
            is_late = moment.seconds is not None and time.perf_counter() - began >= moment.seconds
            if is_late or (moment.changes is not None and changes >= moment.changes):
                process.kill()
                break
            time.sleep(_POLL)
        process.join()
        seconds = time.perf_counter() - began
        _end_family(process)
        assert process.exitcode is not None, "it was joined"
        return Ended(process.exitcode, seconds, changes)


def _looks(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return every file below a folder with what changes when it is written."""
    found: dict[str, tuple[int, int, int]] = {}
    waiting = [str(folder)]
    while waiting:
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    found[entry.path] = (about.st_ino, about.st_size, about.st_mtime_ns)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return found


def _command(arguments: list[str], log: str) -> None:
    os.setsid()  # what it starts can be ended with it
    with open(log, "ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    from narrows.cli import main

    sys.exit(main(arguments))


def _end_family(process: BaseProcess) -> None:
    """End what a killed command has left running, such as the process of a score."""
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
