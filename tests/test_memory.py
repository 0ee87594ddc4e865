"""What does not fit into memory is refused before anything is made, and where memory runs out later, that is a sentence."""

import importlib

import jax
import pytest

from narrows.cli import main
from narrows.config import build, load_job
from narrows.runs import RunError, RunFolder, execute, memory
from narrows.training import Devices

JOB = """
[env]
name = "Subsets"
num_items = 6
[reward]
name = "PairwiseSubsets"
[policy]
name = "MLP"
hidden = 16
[replay]
capacity = 100
[train]
num_steps = 10
batch_size = 8
every = 5
"""
EXECUTE = importlib.import_module("narrows.runs.execution")
EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes."


@pytest.fixture
def job_file(tmp_path):
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    return tmp_path / "job.toml"


OTHER = pytest.mark.slow("traces a trainer; another term of the same sum, whose total a compiled step judges below")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["policy.hidden=1000000"], "[policy] hidden = 1,000,000: the run needs at least 14,9"),
        pytest.param(
            ["replay.capacity=2000000000"], "[replay] capacity = 2,000,000,000: the run needs at least 1", marks=OTHER
        ),
        (["train.batch_size=1000000", "env.num_items=1000"], "[train] batch_size = 1,000,000: the run needs at least "),
        pytest.param(
            ["train.every=2000000000", "train.num_steps=2000000000"],
            "[train] every = 2,000,000,000: the run needs at least 4",
            marks=OTHER,
        ),
        (["train.batch_size=1000000", "env.num_items=10000"], "10,001 steps have 10,002,160,032 states, and at most"),
        (["env.num_items=100000"], "[reward] PairwiseSubsets has a weight for every pair of items"),
    ],
)
def test_what_cannot_fit_is_refused_before_there_is_a_folder(job_file, capsys, monkeypatch, changes, message):
    monkeypatch.setattr(memory, "_on_machine", lambda: 16 * 2**30)
    run = job_file.parent / "run"
    assert main(["run", str(job_file), "--out", str(run), "--set", *changes]) == 1
    assert message in capsys.readouterr().err
    assert not run.exists() and [path.name for path in job_file.parent.iterdir()] == ["job.toml"]


def test_the_estimate_is_below_what_a_step_takes_and_not_far(job_file):
    """Judged by XLA's own count of a compiled step: arguments and what it holds meanwhile."""
    job = load_job(job_file, {"policy.hidden": 256, "train.batch_size": 256, "train.every": 1, "replay.capacity": 10_000})
    parts = build(job)
    trainer = parts.trainer(job)
    needs = {need.field: need.num_bytes for need in memory.needs_of(job, parts, trainer)}
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    found = jax.jit(trainer.step).lower(state).compile().memory_analysis()
    assert found is not None
    taken = found.argument_size_in_bytes + found.temp_size_in_bytes
    assert 0.2 * taken < sum(needs.values()) < taken


def test_devices_of_one_machine_share_its_memory_and_accelerators_have_their_own(monkeypatch):
    needs = [memory.Need("a = 1", 100), memory.Need("b = 2", 300, is_shared=True)]
    monkeypatch.setattr(memory, "_on_machine", lambda: 400)
    memory.refuse_too_large(needs, Devices())
    monkeypatch.setattr(memory, "_on_machine", lambda: 399)
    with pytest.raises(RunError, match=r"b = 2: the run needs at least"):
        memory.refuse_too_large(needs, Devices())
    monkeypatch.setattr(memory, "_on_device", lambda: 400)
    memory.refuse_too_large(needs, Devices())
    monkeypatch.setattr(memory, "_on_device", lambda: None)
    monkeypatch.setattr(memory, "_on_machine", lambda: None)
    memory.refuse_too_large([memory.Need("a = 1", 2**80)], Devices())


def test_free_memory_is_read_where_the_system_says_it(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal:  900 kB\nMemAvailable:  300 kB\nSwapFree:  100 kB\n")
    assert memory._on_machine() == 400 * 1024
    (tmp_path / "meminfo").write_text("nothing of use\n")
    pages = memory._on_machine()
    assert pages is None or pages > 2**20


HOST = pytest.mark.slow("trains; the device's error above it is told alike, and any command tells both below")


@pytest.mark.parametrize(
    "error",
    [jax.errors.JaxRuntimeError(EXHAUSTED), pytest.param(MemoryError("Unable to allocate 1 TiB"), marks=HOST)],
)
def test_memory_that_runs_out_later_leaves_no_empty_folder(job_file, capsys, monkeypatch, error):
    monkeypatch.setattr(EXECUTE, "train", lambda *arguments, **options: (_ for _ in ()).throw(error))
    run = job_file.parent / "run"
    assert main(["run", str(job_file), "--out", str(run)]) == 1
    said = capsys.readouterr().err
    assert "narrows run: memory ran out (" in said and "[train] batch_size" in said and "[policy] hidden" in said
    assert not run.exists()
    # A run that has learned something stays.
    folder = RunFolder.create(run, load_job(job_file, {"train.num_steps": 5}), {})
    monkeypatch.undo()
    execute(folder)
    monkeypatch.setattr(EXECUTE, "train", lambda *arguments, **options: (_ for _ in ()).throw(error))
    assert main(["resume", str(run)]) == 1
    assert "memory ran out" in capsys.readouterr().err
    assert folder.history.exists()


def test_any_command_that_runs_out_of_memory_says_so_in_a_sentence(capsys, monkeypatch):
    for error in (jax.errors.JaxRuntimeError(EXHAUSTED), MemoryError()):
        monkeypatch.setattr("narrows.commands.listing.list_names", _raising(error))
        assert main(["list"]) == 1
        said = capsys.readouterr().err
        assert said.startswith("narrows list: memory ran out (") and "RESOURCE" not in said


def _raising(error):
    def command() -> None:
        raise error

    return command
