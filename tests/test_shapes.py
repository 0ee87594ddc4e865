"""Shape and type annotations of the core hold at run time (jaxtyping and beartype, in tests only)."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.slowly import slowly


@pytest.mark.parametrize(
    "words",
    [
        ["check_shapes.py"],
        ["vi/check_shapes.py"],
        *slowly(
            "trains, and goes through every objective and method with every annotation checked; a few of them guard it quickly",
            *(["check_shapes.py", "all"], ["vi/check_shapes.py", "all"]),
        ),
    ],
    ids=" ".join,
)
def test_annotations_hold_at_run_time(words):
    # A process of its own: the checks are woven in when the package is imported.
    command = [sys.executable, str(Path(__file__).parent / words[0]), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "every shape is as annotated" in done.stdout
