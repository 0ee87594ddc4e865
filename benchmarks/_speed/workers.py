"""Workers as seen from outside: started side by side on the same cores, asked in turn, ended in any case."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks._speed.problem import Problem
from benchmarks.harness.places import ROOT

OURS = "narrows"
ONE = "narrows-one"
"""Ours on one device; `narrows` has one a core."""
REFERENCE = "reference"
TIMEOUT = 900.0
_LAST_WORDS = 600


@dataclass(frozen=True)
class Library:
    """Who solves a problem: a name, the virtual environment it lives in (None for our own) and the worker's module."""

    name: str
    environment: str | None
    module: str

    def python(self) -> Path:
        """Return the interpreter; ValueError with how to install it where it is missing."""
        if self.environment is None:
            return Path(sys.executable)
        path = ROOT / self.environment / "bin" / "python"
        if not path.is_file():
            raise ValueError(
                f"{self.name} is measured in {self.environment}, which is not there. `make {self.environment}` installs it; "
                "`--against none` measures ours alone."
            )
        return path


LIBRARIES = {
    library.name: library
    for library in (
        Library(OURS, None, "benchmarks._speed.ours"),
        Library(ONE, None, "benchmarks._speed.ours_one"),
        Library(REFERENCE, None, "benchmarks._speed.reference"),
        Library("gfnx", ".venv-bench", "benchmarks._speed.peer_gfnx"),
        Library("gfnx-pinned", ".venv-bench-pinned", "benchmarks._speed.peer_gfnx"),
        Library("torchgfn", ".venv-bench", "benchmarks._speed.peer_torchgfn"),
    )
}
PEERS = tuple(name for name in LIBRARIES if name not in (OURS, REFERENCE))


class Worker:
    """One library at work on one problem, in a process of its own."""

    def __init__(self, library: Library, problem: Problem) -> None:
        self.name = library.name
        self.problem = problem
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [str(library.python()), "-m", library.module, problem.to_json()],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.versions: dict[str, str] = {}

    def wait_until_built(self) -> "Worker":
        """Wait for the first answer: the problem is built. ValueError says why it could not be."""
        self.versions = self._hear()["versions"]
        return self

    def ask(self, ask: str, **details: Any) -> dict[str, Any]:
        """Ask and wait for the answer; ValueError tells of a worker that failed or fell silent."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps({"ask": ask, **details}) + "\n").encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ValueError(self._failure("ended before it was asked")) from None
        return self._hear()

    def close(self) -> None:
        """End the process; what it had to say has been heard."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(BrokenPipeError):  # a question that a dead worker never took
                    stream.close()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], TIMEOUT)[0]:
            raise ValueError(self._failure(f"gave no answer within {TIMEOUT:g} s"))
        line = self._process.stdout.readline()
        if not line:
            raise ValueError(self._failure("ended without an answer"))
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(self._failure(f"failed: {answer['error']}"))
        return answer

    def _failure(self, what: str) -> str:
        self._errors.seek(0)
        words = " ".join(self._errors.read().decode(errors="replace").split())
        # The error output of a killed process tells nothing; anything else ends with the reason.
        tail = f" Its last words: ...{words[-_LAST_WORDS:]}" if words and "failed" not in what else ""
        return f"{self.name} on {self.problem.space} ({self.problem.objective}) {what}.{tail}"


@contextmanager
def at_work(names: Sequence[str], problem: Problem) -> Iterator[list[Worker]]:
    """Start a worker for each library, one after the other, so that none is built or compiled beside another."""
    with ExitStack() as stack:
        workers = []
        for name in names:
            worker = Worker(LIBRARIES[name], problem)
            stack.callback(worker.close)
            workers.append(worker.wait_until_built())
        yield workers


def cores() -> int:
    """Return the number of cores that every worker may use: those that this process may."""
    return len(os.sched_getaffinity(0))


def _environment() -> dict[str, str]:
    """Return the environment of every worker: a CPU, the same cores (inherited), and nothing compiled beforehand."""
    number = str(cores())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "PYTHON"))}
    return {
        **kept,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "0",
        "OMP_NUM_THREADS": number,
        "OPENBLAS_NUM_THREADS": number,
        "PYTHONPATH": str(ROOT),
    }
