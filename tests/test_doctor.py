"""The doctor: a healthy machine is called ready, and each ailment is found, named and given a cure."""

import errno
import importlib.metadata
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest

from narrows import doctor as module
from narrows.doctor import Check, Report, doctor, extras

TRIALS = ["compile", "checkpoint", "SQLite", "archive"]


def by_name(report):
    return {check.name: check for check in report.checks}


def problems(report):
    assert all(check.cure for check in report.problems), "each problem says the cure"
    return {check.name: check.found for check in report.problems}


def with_versions(monkeypatch, changes):
    """Let the packages in `changes` have these versions, None for not installed."""
    real = importlib.metadata.version

    def version(name):
        if name in changes:
            if changes[name] is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return changes[name]
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_healthy_machine_is_ready_and_nothing_is_left_behind_or_printed(tmp_path, capsys):
    report = doctor(tmp_path)
    checks = by_name(report)
    assert report.problems == () and len(checks) == len(report.checks)
    for name in (
        "Python",
        "narrows",
        "jax",
        "jaxlib",
        "equinox",
        "optax",
        "numpy",
        "safetensors",
        "devices",
        "folder",
        *TRIALS,
    ):
        assert checks[name].status == "ok", checks[name]
    assert checks["numpy"].found == importlib.metadata.version("numpy")
    assert {f"extra {extra.name}" for extra in extras()} <= set(checks)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")
    lines = report.summary().splitlines()
    assert lines[-1] == "Verdict: ready. Everything that Narrows needs works here."
    assert len(lines) == len(report.checks) + sum(bool(check.cure) for check in report.checks) + 1


def test_the_summary_puts_the_cure_under_its_problem_and_the_verdict_last():
    checks = (Check("a", "ok", "fine"), Check("disk", "problem", "full", "Free it."), Check("b", "problem", "bad", "Mend it."))
    assert Report(checks).summary().splitlines() == [
        "ok       a     fine",
        "PROBLEM  disk  full",
        "               -> Free it.",
        "PROBLEM  b     bad",
        "               -> Mend it.",
        "Verdict: not ready, 2 problems: disk, b. What to do stands behind each arrow.",
    ]


def test_missing_and_outdated_packages_are_problems(tmp_path, monkeypatch):
    with_versions(monkeypatch, {"optax": None, "rapidfuzz": "0.0.1", "equinox": "0.13.1", "scipy": "2.0.0rc1"})
    report = doctor(tmp_path)
    assert problems(report).keys() == {"optax", "rapidfuzz"}
    assert problems(report)["rapidfuzz"].startswith("0.0.1 is older than")
    assert by_name(report)["optax"].cure.startswith('pip install --upgrade "optax>=')


def test_extras_are_looked_up_without_importing_the_big_ones(tmp_path, monkeypatch):
    for name, version in (("torch", "2.13.0"), ("transformers", "5.1.0")):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('imported')")
        (tmp_path / f"{name}-{version}.dist-info").mkdir()
        (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with_versions(monkeypatch, {"mctx": None})
    checks = by_name(doctor(tmp_path))
    assert checks["extra tuning"].status == "ok" and "torch 2.13.0, transformers 5.1.0" in checks["extra tuning"].found
    assert checks["extra games"].status == "note" and 'pip install "narrows[games]"' in checks["extra games"].cure


def test_extras_are_those_of_the_package_and_only_what_is_there():
    """All that pyproject declares but what joins others, what the devices tell, and the tools of developers."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {name: len(packages) for name, packages in project["optional-dependencies"].items()}
    assert {extra.name: len(extra.packages) for extra in extras()} == {
        name: number for name, number in declared.items() if name not in ("all", "cuda", "dev", "test")
    }


def test_an_extra_that_is_installed_and_broken_is_a_problem(tmp_path, monkeypatch):
    with_versions(monkeypatch, {"ViennaRNA": "2.8.0"})
    monkeypatch.setitem(sys.modules, "RNA", None)
    assert "cannot be imported" in problems(doctor(tmp_path))["extra rna"]


def test_without_jax_the_report_still_comes(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    found = problems(doctor(tmp_path))
    assert {"devices", "compile"} <= found.keys() and "archive" not in found


def test_a_platform_that_jax_cannot_start_is_a_problem(monkeypatch):
    fake = namedtuple("Fake", "devices")(lambda: 1 / 0)
    monkeypatch.setitem(sys.modules, "jax", fake)  # pyright: ignore[reportArgumentType] - only devices() is asked
    check = module._devices()
    assert check.status == "problem" and "JAX_PLATFORMS" in check.cure


def test_an_idle_gpu_is_noted(tmp_path, monkeypatch):
    (tmp_path / "version").write_text("NVRM")
    monkeypatch.setattr(module, "_NVIDIA_DRIVER", tmp_path / "version")
    device = namedtuple("Device", "platform id device_kind")
    for platform, status in (("cpu", "note"), ("gpu", "ok")):
        fake = namedtuple("Fake", "devices")(lambda p=platform: [device(p, 0, "kind")])
        monkeypatch.setitem(sys.modules, "jax", fake)  # pyright: ignore[reportArgumentType] - only devices() is asked
        check = module._devices()
        assert check.status == status and ("jax[cuda12]" in check.cure) == (status == "note")


def test_a_folder_that_is_missing_or_a_file_is_a_problem_and_the_trials_go_on_elsewhere(tmp_path):
    (tmp_path / "file").write_text("x")
    for name, words in (("absent", "does not exist"), ("file", "is a file")):
        report = doctor(tmp_path / name)
        assert problems(report).keys() == {"folder"} and words in problems(report)["folder"]
        assert by_name(report)["checkpoint"].status == "ok"


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    real = tempfile.NamedTemporaryFile

    def refuse(*args, **kwargs):
        if kwargs.get("dir") == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(*args, **kwargs)

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    report = doctor(tmp_path)
    assert "cannot be written: Permission denied" in problems(report)["folder"] and len(report.problems) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_read_only_folder_is_a_problem(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert "Permission denied" in problems(doctor(tmp_path))["folder"]
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(("free", "status"), [(10_000_000, "problem"), (1_000_000_000, "note"), (10_000_000_000, "ok")])
def test_little_disk_space_is_told(tmp_path, monkeypatch, free, status):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free, 0, free))
    check = list(module._folder(tmp_path))[-1]
    assert (check.name, check.status) == ("disk", status) and bool(check.cure) == (status != "ok")


def test_a_disk_without_write_ahead_log_is_a_problem(tmp_path, monkeypatch):
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: real(":memory:"))
    check = module._tried("SQLite", module._sqlite, tmp_path, "Put runs on a local disk.")
    assert check.status == "problem" and "journal mode memory" in check.found


def test_a_fault_in_a_trial_is_found(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    assert {"folder", "checkpoint"} <= problems(doctor(tmp_path)).keys()


def test_a_container_limits_cores_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{1 << 29}\n")
    checks = {check.name: check for check in module._system()}
    assert checks["CPU cores"].found == "0.5"
    assert checks["memory"].status == "note" and checks["memory"].found.startswith("0.5 GiB")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert module._num_cores() >= 1 and (module._memory() or 0) > 1 << 29


def test_the_callers_own_trial_is_part_of_the_report(tmp_path):
    def broken():
        raise ValueError("the loss is not finite")

    good, bad = doctor(tmp_path, self_test=lambda: "a run learned"), doctor(tmp_path, self_test=broken)
    assert by_name(good)["self test"].found.startswith("a run learned (") and good.problems == ()
    assert problems(bad) == {"self test": "ValueError: the loss is not finite"}
    assert "Verdict: not ready, 1 problem: self test." in bad.summary()


def test_importing_the_doctor_loads_neither_jax_nor_numpy():
    code = "import sys, narrows.doctor; print([m for m in ('jax', 'numpy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    assert done.stdout.strip() == "[]"
