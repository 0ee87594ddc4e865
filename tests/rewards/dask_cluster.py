"""A real dask scheduler and workers on this machine, each a process that can be killed."""

import contextlib
import json
import os
import subprocess
import sys
import time

WITHOUT_NARROWS = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "narrows":
            raise ModuleNotFoundError("No module named 'narrows'", name="narrows")
sys.meta_path.insert(0, Hide())
from dask.__main__ import main
main()
"""


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


class LocalCluster:
    """A scheduler, and workers that are started and killed one by one."""

    def __init__(self, folder):
        self._folder = folder
        self._processes = []
        self.workers = {}
        described = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(described))
        self.address = wait_until(lambda: described.exists() and _address(described))

    def add_worker(self, has_narrows=True):
        """Start a worker with one thread and return its process; it is there when it has said so."""
        log = self._folder / f"worker-{len(self._processes)}.log"
        settings = ["--nthreads", "1", "--no-nanny", "--local-directory", str(self._folder)]
        if has_narrows:  # loaded before it takes work, or the other worker would have done it all by then
            settings += ["--preload", "narrows.scorers.remote"]
        process = self._start("worker", self.address, *settings, log=log, has_narrows=has_narrows)
        wait_until(lambda: "Registered to" in log.read_text())
        self.workers[process.pid] = process
        return process

    def kill(self, process):
        process.kill()
        process.wait()
        self.workers.pop(process.pid, None)

    def stop(self):
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, kind, *arguments, log=None, has_narrows=True):
        program = ["-m", "dask"] if has_narrows else ["-c", WITHOUT_NARROWS]
        command = [sys.executable, *program, kind, *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        with open(log or os.devnull, "w") as stream:
            # Another folder than the tests': nothing of theirs can be imported on a worker.
            process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=self._folder)
        self._processes.append(process)
        return process


def _address(described):
    with contextlib.suppress(json.JSONDecodeError):  # half written
        return json.loads(described.read_text())["address"]
