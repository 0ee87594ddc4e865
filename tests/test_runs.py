"""Runs on disk: started, stopped, killed and continued bit for bit; nothing lost, nothing half written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from narrows.config import load_job, parse_job
from narrows.distance import EDITS
from narrows.files import ChangedFile
from narrows.runs import OpenRun, RunError, RunFolder, RunResult, TooManySetAside, execute, read_rows, read_set_aside
from narrows.runs.criterion import Criterion, has_settled
from narrows.runs.interrupt import interruptible
from narrows.runs.page import gather
from narrows.runs.pinned import what_decides
from narrows.runs.recorder import Recorder
from narrows.storage import checkpoint
from narrows.storage.archive import Archive

JOB = """
[env]
name = "Subsets"
num_items = 6
[reward]
name = "PairwiseSubsets"
beta = 2.0
[policy]
name = "MLP"
hidden = 16
learned_backward = true
[objective]
name = "TrajectoryBalance"
[replay]
capacity = 100
batch_size = 4
prioritised = true
[train]
num_steps = 60
batch_size = 8
every = 5
checkpoint_every = 10
"""
QUIET = Console(quiet=True)


@pytest.fixture
def job_file(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, for tests that copy it."""
    place = tmp_path_factory.mktemp("finished")
    (place / "job.toml").write_text(JOB, encoding="utf-8")
    folder = create(place / "job.toml", "run")
    return folder, execute(folder, console=QUIET)


@pytest.fixture
def folder(finished, tmp_path):
    """A finished run of one's own."""
    return RunFolder.open(shutil.copytree(finished[0].path, tmp_path / "run"))


def create(job_file, name, **overrides):
    return RunFolder.create(job_file.parent / name, load_job(job_file, overrides), {"job": "job.toml"})


def fingerprint(folder):
    """Everything that a continued run must share with an uninterrupted one."""
    found = checkpoint.latest(folder.checkpoints)
    assert found.path is not None
    with Archive.open(folder.archive, read_only=True) as archive:
        objects = archive.content_hash()
    manifest = checkpoint.read_manifest(found.path)
    return manifest.step, manifest.arrays_sha256, objects, folder.history.read_bytes()


def test_a_run_leaves_a_whole_folder(finished):
    folder, outcome = finished
    assert outcome.is_finished and outcome.step == 60
    rows = read_rows(folder.history)
    assert [row["step"] for row in rows] == list(range(5, 61, 5))
    assert rows[-1]["distinct"] == outcome.distinct <= 64
    assert rows[-1]["sampled"] == 60 * 8
    assert folder.job() == load_job(folder.job_file)
    before = fingerprint(folder)
    assert execute(folder, console=QUIET).step == 60
    assert fingerprint(folder) == before


@pytest.mark.slow("trains three times each; a killed run comes to the same end below, whatever the leaves of its state")
@pytest.mark.parametrize("objective", ["TrajectoryBalance", "BellmanGeneralMellowmax"])
def test_stopping_and_resuming_repeats_an_uninterrupted_run_bit_for_bit(job_file, objective):
    """Once with a learned backward policy, once with a target copy of the model."""
    overrides = {"objective.name": objective, "policy.learned_backward": objective == "TrajectoryBalance"}
    whole = create(job_file, "whole", **overrides)
    execute(whole, console=QUIET)
    parted = create(job_file, "parted", **overrides, **{"train.num_steps": 30})
    execute(parted, console=QUIET)
    parted.job_file.write_bytes(whole.job_file.read_bytes())
    with pytest.warns(ChangedFile, match="job.toml was changed"):
        execute(parted, console=QUIET)
    assert fingerprint(parted) == fingerprint(whole)


def test_a_run_ends_where_its_list_no_longer_becomes_better_also_if_it_was_stopped(job_file):
    whole = create(job_file, "whole", **{"train.num_steps": 5000, "train.patience": 20})
    result = execute(whole, console=QUIET)
    assert result.is_finished and result.exit_status == 0 and 20 < result.step < 5000
    rows = read_rows(whole.history)
    assert has_settled(rows, 20) and not has_settled(rows[:-1], 20)
    search = gather(OpenRun(whole)).search
    assert search is not None and search.status == "finished"
    parted = create(job_file, "parted", **{"train.num_steps": 10, "train.patience": 20})
    execute(parted, console=QUIET)
    parted.job_file.write_bytes(whole.job_file.read_bytes())
    with pytest.warns(ChangedFile, match="job.toml was changed"):
        again = execute(parted, console=QUIET)
    assert again.step == result.step and fingerprint(parted) == fingerprint(whole)
    assert execute(whole, console=QUIET).step == result.step, "there is nothing to go on with"


SLOWLY = """
import importlib, sys, time
from narrows.runs import RunFolder, execute
execution = importlib.import_module("narrows.runs.execution")
train = execution.train
def rest(chunk):
    time.sleep(0.3)
    return {}
execution.train = lambda *parts, observers, **options: train(*parts, observers=[*observers, rest], **options)
execute(RunFolder.open(sys.argv[1]))
"""
"""A run that rests after each look, so that it can be killed before it ends."""


TWICE = pytest.mark.slow("starts two processes; the one that is killed once guards the same")


@pytest.mark.parametrize("kills", [(5,), pytest.param((3, 4), marks=TWICE)])
def test_killed_runs_resume_bit_for_bit(job_file, finished, kills):
    killed = create(job_file, "killed")
    for new_rows in kills:
        wanted = len(read_rows(killed.history)) + new_rows
        process = subprocess.Popen([sys.executable, "-c", SLOWLY, str(killed.path)], stdout=subprocess.DEVNULL)
        wait_until(lambda wanted=wanted: len(read_rows(killed.history)) >= wanted)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert read_rows(killed.history)[-1]["step"] < 60
    execute(killed, console=QUIET)
    assert fingerprint(killed) == fingerprint(finished[0])


def wait_until(is_true, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow("trains; interruptible() takes both signals alike"))],
)
def test_a_longer_run_goes_on_and_stops_cleanly_at_a_signal(folder, number):
    text = folder.job_file.read_text(encoding="utf-8")
    text = text.replace("num_steps = 60", "num_steps = 100_000").replace("checkpoint_every = 10", "checkpoint_every = 100_000")
    folder.job_file.write_text(text, encoding="utf-8")

    def send():
        wait_until(lambda: read_rows(folder.history)[-1]["step"] > 60)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.warns(ChangedFile, match="job.toml was changed"):
        outcome = execute(folder, console=QUIET)
    sender.join()
    assert outcome.step > 60 and not outcome.is_finished
    found = checkpoint.latest(folder.checkpoints)
    assert found.path is not None
    assert checkpoint.read_manifest(found.path).step == outcome.step == read_rows(folder.history)[-1]["step"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "a scheduler's"])
def test_one_signal_asks_to_stop(number):
    with interruptible() as should_stop:
        assert not should_stop()
        signal.raise_signal(number)
        assert should_stop()


def test_a_second_run_in_the_same_folder_is_refused(job_file):
    folder = create(job_file, "run")
    with pytest.raises(RunError, match="already holds a run. `narrows resume"):
        create(job_file, "run")
    with Archive.open(folder.archive, create=True, run_id=folder.about().run_id), pytest.raises(OSError):
        execute(folder, console=QUIET)


def test_foreign_folders_are_refused(tmp_path, job_file):
    with pytest.raises(RunError, match="there is no such run folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.open(tmp_path)
    (tmp_path / "table.csv").touch()
    with pytest.raises(RunError, match="table.csv is a file. Give the run folder"):
        RunFolder.open(tmp_path / "table.csv")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        create(job_file, "full")
    assert (tmp_path / "full" / "thesis.doc").read_text() == "mine"


def test_a_missing_input_leaves_nothing_behind(tmp_path, job_file):
    with pytest.raises(ValueError, match=r"\[data\] path: .*gone.csv does not exist"):
        create(job_file, "run", **{"data.path": "gone.csv", "data.space": "rna"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.toml"]


def test_non_finite_rewards_are_set_aside_and_listed(job_file):
    def score(texts):
        return [float("nan") if text.startswith("1") else text.count("1") for text in texts]

    folder = create(job_file, "run", **{"reward.name": "Score", "train.num_steps": 10})
    execute(folder, score=score, console=QUIET)
    lines = read_set_aside(folder.set_aside)
    assert lines and all((line.object or "").startswith("1") for line in lines)
    assert read_rows(folder.history)[-1]["set_aside"] == len(lines)
    with Archive.open(folder.archive, read_only=True) as archive:
        assert not any(entry.object.startswith("1") for entry in archive.top(100))


@pytest.mark.slow("compiles a run; the records alone below")
def test_the_budget_of_set_aside_items_ends_a_run(job_file):
    folder = create(job_file, "run", **{"reward.name": "Score", "train.max_set_aside": 20})
    with pytest.raises(TooManySetAside, match=r"more than \[train\] max_set_aside = 20.*set_aside.jsonl"):
        execute(folder, score=lambda texts: [float("inf")] * len(texts), console=QUIET)
    assert [json.loads(line)["reason"] for line in folder.set_aside.read_text().splitlines()][0] == "log-reward is inf"


def test_the_budget_of_set_aside_items_ends_the_records(tmp_path, monkeypatch):
    monkeypatch.setattr("narrows.runs.recorder.objects_of", lambda info, env: ("0 1", "2"))
    info = SimpleNamespace(log_reward=np.array([[np.inf, 1.0]]), loss=np.zeros(1), is_skipped=np.array([False]))
    env: Any = None
    with Archive.open(tmp_path / "a.sqlite", create=True) as archive:
        criterion = Criterion(archive, EDITS, 1, 1, 1.0)
        record = Recorder(env, archive, 1.0, (), tmp_path / "set_aside.jsonl", budget=2, criterion=criterion)
        for step in (1, 2, 3):
            chunk: Any = SimpleNamespace(info=info, num_steps=1, last_step=step, state=SimpleNamespace(reference=None))
            if step < 3:
                assert record(chunk)["set_aside"] == step
                continue
            with pytest.raises(TooManySetAside, match=r"more than \[train\] max_set_aside = 2.*set_aside.jsonl"):
                record(chunk)
    lines = read_set_aside(tmp_path / "set_aside.jsonl")
    assert [(line.step, line.object, line.reason) for line in lines] == [
        (step, "0 1", "log-reward is inf") for step in (1, 2, 3)
    ]


def test_checkpoints_hold_the_whole_state(folder):
    found = checkpoint.latest(folder.checkpoints)
    assert found.path is not None
    names = {leaf.name for leaf in checkpoint.read_manifest(found.path).leaves.arrays}
    for part in (".model", ".opt_state", ".buffer", ".key", ".step"):
        assert any(name.startswith(part) for name in names), part


def test_a_lost_archive_is_no_empty_archive(folder):
    folder.archive.unlink()
    with pytest.raises(RunError, match="archive.sqlite is missing"):
        execute(folder, console=QUIET)
    assert not folder.archive.exists()


def test_only_the_files_of_a_proxy_are_copied(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "thesis.doc").write_text("mine")
    (tmp_path / "folder").mkdir()
    text = '[env]\nname = "Sequence"\nalphabet = "AB"\nmin_length = 2\nmax_length = 2\n[reward]\nname = "Proxy"\npath = "."\n'
    (tmp_path / "job.toml").write_text(text, encoding="utf-8")
    folder = RunFolder.create(tmp_path / "run", load_job(tmp_path / "job.toml"), {})
    assert [path.name for path in folder.inputs.rglob("*") if path.is_file()] == ["manifest.json"]


def test_a_stopped_run_says_so_in_its_exit_status(job_file):
    folder = create(job_file, "run")
    assert RunResult(folder, 5, 60, 1).exit_status == 130
    assert RunResult(folder, 60, 60, 1).exit_status == 0


def test_a_changed_job_cannot_be_resumed(folder):
    text = folder.job_file.read_text(encoding="utf-8")
    folder.job_file.write_text(
        text.replace("beta = 2.0", "beta = 20.0").replace("learning_rate = 0.001", "learning_rate = 0.1")
    )
    with pytest.raises(RunError, match="changed in reward, optimizer since the run began"):
        execute(folder, console=QUIET)


def test_a_run_without_its_history_is_refused(folder):
    folder.history.unlink()
    with pytest.raises(RunError, match="history.csv has no row for step 60"):
        execute(folder, console=QUIET)


def test_a_run_that_learns_nothing_ends_with_an_error(job_file):
    folder = create(job_file, "run", **{"reward.beta": 1e30})
    with pytest.raises(TooManySetAside, match="none of steps 1 to 5 could train"):
        execute(folder, console=QUIET)
    assert len(read_set_aside(folder.set_aside)) == 5


def test_another_score_cannot_take_over_a_run(job_file):
    folder = create(job_file, "run")
    folder.remember_score("first")
    folder.remember_score("first")
    with pytest.raises(RunError, match="guided by another score"):
        folder.remember_score("second")


def test_settings_that_runs_may_be_older_than_decide_nothing_unless_they_are_used():
    document = {"env": {"name": "Hypergrid"}, "reward": {"name": "HypergridReward"}}
    job = parse_job(document | {"objective": {"name": "DetailedBalance"}, "policy": {"name": "Transformer"}}, Path())
    decides = what_decides(job)
    assert decides["objective"] == (
        "[('alpha', 1.0), ('dag_correction', True), ('name', 'DetailedBalance'), ('omega', 1.0), ('q', 0.0)]"
    )
    assert decides["policy"] == (
        "[('activation', 'relu'), ('feed_forward', 64), ('head_width', None), ('heads', 8), ('layers', 3), "
        "('learned_backward', False), ('name', 'Transformer'), ('norm', 'post'), ('precision', 'f32'), ('width', 64)]"
    )
    robust = parse_job(document | {"objective": {"name": "DetailedBalance", "huber": 1.0}}, Path())
    assert "('huber', 1.0)" in what_decides(robust)["objective"]
