"""What all tests share: programs compiled cheaply and once, memory given back between files, and what is slow marked so."""

import gc
import os
import tempfile

import hypothesis
import pytest

# Set before JAX is imported, and inherited by the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"narrows-tests-{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Nearly all the time goes to compiling small programs that run once: compile them cheaply. `make test-all` does not.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

# A busy machine may take its time over any example.
hypothesis.settings.register_profile("narrows", deadline=None)
hypothesis.settings.load_profile("narrows")

# Importing them weaves checks into the package for the whole process; test_shapes.py runs it in one of its own.
collect_ignore = ["check_shapes.py", "vi/check_shapes.py"]


def pytest_collection_finish() -> None:
    """Spare every later collection of garbage the million objects of the libraries and of the tests themselves."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Drop the compiled programs of a file when its tests are done: all of them together take gigabytes."""
    yield
    import jax

    jax.clear_caches()
