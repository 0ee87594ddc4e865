"""What all tests share: programs compiled cheaply and once, and memory given back between files."""

import gc
import importlib.metadata
import os
import tempfile

import hypothesis
import pytest

CHEAP = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
}
"""Nearly all the time of tests goes to compiling small programs that run once, so compile them cheaply: in less than half of
it. `make test-all` compiles them as for users."""
GONE = {"xla_cpu_use_fusion_emitters"}
"""Flags that newer versions do not have."""


def cheap_flags() -> str:
    """Return XLA's flags of `CHEAP` that the installed version has: it ends a process that sets one which it does not know."""
    is_old = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11)
    return " ".join(f"--{name}={value}" for name, value in CHEAP.items() if is_old or name not in GONE)


# Set before JAX is imported, and inherited by the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"narrows-tests-{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("XLA_FLAGS", cheap_flags())
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
