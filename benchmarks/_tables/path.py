"""The commands of a user on one job, in this process alone: `python -m benchmarks._tables.path FOLDER ROWS`.

Processor seconds of each go into `seconds.json`, those that it takes to start among them.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

JOB, PROXY, RUN, SECONDS = "job.toml", "proxy", "run", "seconds.json"


def main(folder: Path, num_rows: int) -> None:
    """Fit the job of a folder and, where a list of so many rows is asked for, run it and write its list."""
    from narrows.commands import fit, run, shortlist

    commands: dict[str, Callable[[], object]] = {"fit": lambda: fit(folder / JOB)}
    if num_rows:
        commands["run"] = lambda: run(folder / JOB, folder / RUN)
        commands["shortlist"] = lambda: shortlist((folder / RUN,), k=num_rows)
    seconds = {"start": time.process_time()}
    for name, command in commands.items():
        before = time.process_time()
        command()
        seconds[name] = time.process_time() - before
    (folder / SECONDS).write_text(json.dumps(seconds), encoding="utf-8")


def read_seconds(folder: Path) -> dict[str, float]:
    """Return the processor seconds of each command."""
    return json.loads((folder / SECONDS).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
