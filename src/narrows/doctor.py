"""The doctor: what this machine has, what of it works, and a cure for each thing that does not.

Every finding is a `Check`. A problem stops Narrows here, a note costs something it could have. This module imports the standard
library alone, so that it also runs where JAX does not.
"""

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_CGROUP = Path("/sys/fs/cgroup")
_GIB = 1 << 30
_OF_EXTRA = re.compile(r"""extra\s*==\s*["'](?P<name>[\w.-]+)["']""")
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(>=\s*(?P<least>[\d.]+))?")


class Extra(NamedTuple):
    """An optional part of Narrows: its name, what it is for, its packages, and a module light enough to try importing."""

    name: str
    purpose: str
    packages: tuple[str, ...]
    module: str | None = None


_PURPOSES = {
    "rna": "RNA folding and duplex energies",
    "games": "games of the pgx library, a solver, an AlphaZero opponent",
    "cluster": "scores that run on a cluster",
    "excel": "tables of measurements in Excel workbooks",
    "mujoco": "environments of gymnasium for TD learning",
    "tuning": "memory-efficient fine-tuning of encoders",
}
_UNADVERTISED = {"all", "cuda", "dev", "test"}
"""Extras that join others, that the devices tell better, or that only those need who work on Narrows."""
_MODULES = {"rna": "RNA"}


def extras() -> tuple[Extra, ...]:
    """Return the optional parts that the metadata of the installed package declares."""
    found: dict[str, list[str]] = {}
    for requirement in _requirements():
        match, extra = _REQUIREMENT.match(requirement), _OF_EXTRA.search(requirement)
        if match is not None and extra is not None and extra["name"] not in _UNADVERTISED:
            found.setdefault(extra["name"], []).append(match["name"])
    return tuple(
        Extra(name, _PURPOSES.get(name, "see its documentation"), tuple(packages), _MODULES.get(name))
        for name, packages in found.items()
    )


def _requirements() -> tuple[str, ...]:
    """Return what the installed package requires, nothing where it is only on the path."""
    try:
        return tuple(importlib.metadata.requires("narrows") or ())
    except importlib.metadata.PackageNotFoundError:
        return ()


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, what was found, how bad that is, and what to do about it ("" when nothing)."""

    name: str
    status: Literal["ok", "note", "problem"]
    found: str
    cure: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def problems(self) -> tuple[Check, ...]:
        """Return the findings that stop Narrows here."""
        return tuple(check for check in self.checks if check.status == "problem")

    def summary(self) -> str:
        """Return a line for each finding, its cure below it, and the verdict as the last line.

        >>> print(Report((Check("disk", "problem", "0.1 GiB free", "Free some disk space."),)).summary())
        PROBLEM  disk  0.1 GiB free
                       -> Free some disk space.
        Verdict: not ready, 1 problem: disk. What to do stands behind each arrow.
        """
        width = max((len(check.name) for check in self.checks), default=0)
        lines: list[str] = []
        for check in self.checks:
            status = check.status.upper() if check.status == "problem" else check.status
            lines.append(f"{status:<8} {check.name:<{width}}  {check.found}")
            lines += [" " * (width + 11) + f"-> {check.cure}"] if check.cure else []
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        names = [check.name for check in self.problems]
        if names:
            count = "1 problem" if len(names) == 1 else f"{len(names)} problems"
            return f"Verdict: not ready, {count}: {', '.join(names)}. What to do stands behind each arrow."
        return "Verdict: ready. Everything that Narrows needs works here."


def doctor(folder: str | Path = ".", *, self_test: Callable[[], str] | None = None) -> Report:
    """Examine this machine for running jobs in a folder, and try the real thing: compile, checkpoint, archive.

    Args:
        folder: where runs shall be written; it gets temporary files, which are removed.
        self_test: one more trial, such as a tiny training run; returns a line for the report and raises on failure.
    """
    folder = Path(folder)
    checks = [*_system(), *_packages(), _devices(), *map(_extra, extras()), *_folder(folder)]
    trials: list[tuple[str, Callable[[Path], str], str]] = [
        ("compile", _compile, 'Reinstall JAX: pip install --force-reinstall "jax" "jaxlib".'),
        ("checkpoint", _checkpoint, "Choose a folder on a healthy local disk, then reinstall safetensors and equinox."),
        ("SQLite", _sqlite, "Put runs on a local disk: network file systems often lack the locks SQLite needs."),
        ("archive", _archive, "Put runs on a local disk: network file systems often lack the locks SQLite needs."),
    ]
    if self_test is not None:
        trials.append(("self test", lambda _: self_test(), "Read the error; if all else is well here, report it as a bug."))
    is_writable = all(check.status != "problem" for check in checks if check.name == "folder")
    try:
        with tempfile.TemporaryDirectory(prefix="narrows-doctor-", dir=folder if is_writable else None) as scratch:
            checks += [_tried(name, work, Path(scratch), cure) for name, work, cure in trials]
    except OSError as error:
        checks.append(Check("self test", "problem", f"no place for temporary files: {error}", "Make one folder writable."))
    return Report(tuple(checks))


def _tried(name: str, work: Callable[[Path], str], scratch: Path, cure: str) -> Check:
    """Return how a trial ended; whatever it raises is a finding."""
    start = time.monotonic()
    try:
        found = work(scratch)
    except Exception as error:  # any failure at all is what the doctor is here to tell
        return Check(name, "problem", f"{type(error).__name__}: {error}", cure)
    return Check(name, "ok", f"{found} ({time.monotonic() - start:.1f} s)")


# --- what is installed ---


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _packages() -> Iterator[Check]:
    """Yield Narrows and each package its metadata requires, held against the lower bound there."""
    version = _version("narrows")
    if version is None:
        yield Check("narrows", "note", "not installed, only on the path", 'Install it: pip install "narrows".')
        return
    yield Check("narrows", "ok", version)
    for requirement in (*_requirements(), "jaxlib"):
        match = _REQUIREMENT.match(requirement)
        if match is None or ";" in requirement:  # behind the semicolon stands an extra
            continue
        name, least = match["name"], match["least"]
        found, cure = _version(name), f'pip install --upgrade "{requirement}"'
        if found is None:
            yield Check(name, "problem", "not installed", cure)
        elif least and _numbers(found) < _numbers(least):
            yield Check(name, "problem", f"{found} is older than {least}, the oldest that Narrows works with", cure)
        else:
            yield Check(name, "ok", found)


def _extra(extra: Extra) -> Check:
    """Return what is there of an extra; big packages are looked up, not imported."""
    versions = {package: _version(package) for package in extra.packages}
    missing = [package for package, version in versions.items() if version is None]
    name = f"extra {extra.name}"
    if missing:
        found = f"not installed: {', '.join(missing)} ({extra.purpose})"
        return Check(name, "note", found, f'If you want it: pip install "narrows[{extra.name}]"')
    found = ", ".join(f"{package} {version}" for package, version in versions.items())
    try:
        importlib.import_module(extra.module or "sys")
    except Exception as error:  # a broken native library can raise anything
        cure = f"pip install --force-reinstall {' '.join(extra.packages)}"
        return Check(name, "problem", f"{found} is installed and cannot be imported: {error}", cure)
    return Check(name, "ok", f"{found} ({extra.purpose})")


# --- the machine ---


def _system() -> Iterator[Check]:
    yield Check("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Check("CPU cores", "ok", f"{_num_cores():g}")
    memory = _memory()
    if memory is None:
        yield Check("memory", "note", "cannot tell on this system")
    elif memory < 2 * _GIB:
        cure = "Close other programs, or use small batches and networks."
        yield Check("memory", "note", f"{memory / _GIB:.1f} GiB, and 2 GiB are comfortable", cure)
    else:
        yield Check("memory", "ok", f"{memory / _GIB:.1f} GiB")


def _limits(name: str) -> list[str]:
    """Return the words of a limit that a container sets on this process; none without such a limit."""
    try:
        words = (_CGROUP / name).read_text().split()
    except OSError:
        return []
    return words if words and words[0].isdecimal() else []


def _num_cores() -> float:
    cores = len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count() or 1
    match _limits("cpu.max"):
        case [quota, period]:
            return min(cores, round(int(quota) / int(period), 1))
    return cores


def _memory() -> int | None:
    """Return the memory that this process may use, in bytes; None where the system does not tell."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return min([physical, *map(int, _limits("memory.max"))])


def _devices() -> Check:
    """Return what JAX computes on."""
    try:
        devices = importlib.import_module("jax").devices()
    except Exception as error:  # import errors, a platform asked for that is not there, a driver too old
        cure = 'Unset JAX_PLATFORMS if it is set; otherwise reinstall: pip install --force-reinstall "jax" "jaxlib".'
        return Check("devices", "problem", f"JAX does not start: {error}", cure)
    found = ", ".join(f"{device.platform}:{device.id} ({device.device_kind})" for device in devices)
    if _NVIDIA_DRIVER.exists() and all(device.platform == "cpu" for device in devices):
        cure = 'To compute on it: pip install --upgrade "jax[cuda12]", and unset JAX_PLATFORMS.'
        return Check("devices", "note", f"{found}; an NVIDIA GPU is here and JAX does not use it", cure)
    return Check("devices", "ok", found)


def _folder(folder: Path) -> Iterator[Check]:
    """Yield whether runs can be written in a folder, and how much room is there."""
    if not folder.is_dir():
        found = f"{folder} is a file" if folder.exists() else f"{folder} does not exist"
        yield Check("folder", "problem", found, "Name a folder that exists, or make it with mkdir.")
        return
    try:
        with tempfile.NamedTemporaryFile(prefix="narrows-doctor-", dir=folder) as file:
            file.write(b"narrows")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        found = f"{folder.resolve()} cannot be written: {error.strerror or error}"
        yield Check("folder", "problem", found, "Make it writable, free some space, or choose another folder.")
        return
    yield Check("folder", "ok", f"{folder.resolve()} can be written")
    free = shutil.disk_usage(folder).free
    status = "problem" if free < 0.2 * _GIB else "note" if free < 2 * _GIB else "ok"
    cure = "" if status == "ok" else "Free some disk space or choose a folder on another disk."
    yield Check("disk", status, f"{free / _GIB:.1f} GiB free", cure)


# --- trials ---


def _compile(_: Path) -> str:
    """Multiply two matrices of small integers, which every device does without rounding, in a compiled function."""
    import jax
    import numpy as np

    left, right = np.random.default_rng(0).integers(-3, 4, (2, 64, 64))
    product = jax.jit(lambda a, b: a @ b)(left.astype(np.float32), right.astype(np.float32))
    if not np.array_equal(np.asarray(product), left @ right):
        raise ArithmeticError("a compiled matrix product differs from NumPy's")
    return f"a compiled matrix product is right on {jax.default_backend()}"


def _checkpoint(scratch: Path) -> str:
    import jax
    import jax.numpy as jnp

    from narrows.storage.checkpoint import latest, restore, save, tree_hash

    state = {"key": jax.random.key(1), "weights": jnp.arange(1000, dtype=jnp.bfloat16)}
    saved = save(scratch / "checkpoints", state, step=1, metadata={})
    restored, _ = restore(saved.path, jax.eval_shape(lambda: state))
    if latest(scratch / "checkpoints").path != saved.path or tree_hash(restored) != tree_hash(state):
        raise OSError("a checkpoint came back changed")
    return "a checkpoint comes back bit for bit"


def _sqlite(scratch: Path) -> str:
    import sqlite3  # some builds of Python lack it

    with closing(sqlite3.connect(scratch / "wal.sqlite")) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute("CREATE TABLE trial (x)")
    if mode != "wal":
        raise OSError(f"SQLite {sqlite3.sqlite_version} gives journal mode {mode} and not wal here")
    return f"{sqlite3.sqlite_version} with write-ahead log"


def _archive(scratch: Path) -> str:
    import numpy as np

    from narrows.storage.archive import Archive

    path = scratch / "archive.sqlite"
    with Archive.open(path, create=True) as archive:
        archive.add(["ACGU", "GGGG"], np.array([0.5, 2.0]), steps=1)
    with Archive.open(path, read_only=True) as archive:
        if [entry.object for entry in archive.top(2)] != ["GGGG", "ACGU"]:
            raise OSError("an archive came back changed")
    return "an archive comes back whole"
