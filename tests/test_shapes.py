"""Shape and type annotations of the core hold at run time (jaxtyping and beartype, in tests only)."""

import subprocess
import sys
from pathlib import Path


def test_annotations_hold_at_run_time():
    script = Path(__file__).with_name("check_shapes.py")
    # A process of its own: the checks are woven in when the package is imported.
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "every shape is as annotated" in done.stdout
