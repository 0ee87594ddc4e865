"""What all tests share: a cache of compiled programs, so that the same small trainer is compiled once and not in every test."""

import os
import tempfile

import hypothesis

# Set before JAX is imported, and inherited by the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"narrows-tests-{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# A busy machine may take its time over any example.
hypothesis.settings.register_profile("narrows", deadline=None)
hypothesis.settings.load_profile("narrows")

# Importing them weaves checks into the package for the whole process; test_shapes.py runs it in one of its own.
collect_ignore = ["check_shapes.py", "vi/check_shapes.py"]
