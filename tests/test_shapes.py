"""Shape and type annotations of the core hold at run time (jaxtyping and beartype, in tests only)."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("script", ["check_shapes.py", "vi/check_shapes.py"])
def test_annotations_hold_at_run_time(script):
    # A process of its own: the checks are woven in when the package is imported.
    command = [sys.executable, str(Path(__file__).parent / script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "every shape is as annotated" in done.stdout
