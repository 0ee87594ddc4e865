"""Expensive scores on a real dask cluster of two workers: one is killed, one object is slow, and nothing is lost."""

import collections
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("distributed")

from tests.rewards.dask_cluster import LocalCluster, wait_until

from narrows.cli import main
from narrows.runs import RunFolder, read_rows
from narrows.scorers import ExecutorScorer, ScoreError, load_scorer
from narrows.scorers import cluster as cluster_module
from narrows.scorers.cluster import connected
from narrows.storage.archive import Archive

pytestmark = pytest.mark.slow(
    "starts a cluster; test_executor.py has lost, late, repeated and refused pieces with executors of this process"
)

NUM_STEPS, BATCH = 30, 8
JOB = f"""
seed = 3
[env]
name = "BitSequence"
num_bits = 12
word_bits = 4
[reward]
name = "Score"
beta = 2.0
[policy]
name = "MLP"
hidden = 16
[objective]
name = "TrajectoryBalance"
[train]
num_steps = {NUM_STEPS}
batch_size = {BATCH}
every = 2
checkpoint_every = 4
"""
SCORE = """
import json, os, time
LOG = {log!r}
def note(*what):
    with open(LOG, "a") as file:  # one short write: lines of two processes do not mix
        file.write(json.dumps([time.time(), os.getppid(), *what]) + "\\n")
def num_ended():
    with open(LOG) as file:
        return sum('"end"' in line for line in file)
def score(objects):
    note("begin", objects)
    time.sleep({seconds})
    try:
        os.close(os.open(LOG + ".slow", os.O_CREAT | os.O_EXCL))  # the first one of all
    except FileExistsError:
        pass
    else:
        give_up = time.time() + 60.0
        while num_ended() < {slow} and time.time() < give_up:
            time.sleep(0.02)
    note("end", objects)
    return [0.25 * one.count("1") + 0.125 * one.startswith("0") for one in objects]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = LocalCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.add_worker()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def two_workers(cluster):
    while len(cluster.workers) < 2:
        cluster.add_worker()
    return cluster


def write_score(folder, seconds=0.0, slow=0):
    """Write a score of so many seconds, the first object of which waits until `slow` others have ended, or a minute."""
    folder.mkdir(exist_ok=True)
    path = folder / "my_score.py"
    path.write_text(SCORE.format(log=str(folder / "calls.txt"), seconds=seconds, slow=slow), encoding="utf-8")
    return f"{path}:score", folder / "calls.txt"


def calls(log, kind):
    """Return (seconds, pid of the worker, object) of the calls that began or ended."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [(when, worker, name) for when, worker, what, names in lines if what == kind for name in names]


def expected(folder, names):
    """Return the scores that the same file gives on this machine."""
    local, _ = write_score(folder / "local")
    with load_scorer(local) as score:
        return score(names).values


def test_a_worker_is_killed_in_mid_batch(two_workers, tmp_path):
    name, log = write_score(tmp_path, seconds=0.1)
    names = [f"{number:06b}" for number in range(30)]
    killed = {}

    def kill():
        wait_until(lambda: len(calls(log, "end")) >= 6 and len({worker for _, worker, _ in calls(log, "end")}) == 2)
        victim = next(iter(two_workers.workers.values()))
        killed[victim.pid] = None
        two_workers.kill(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    with (
        connected(two_workers.address) as engine,
        ExecutorScorer(name, engine.executor(), watch=engine.watch, cache=tmp_path / "scores.sqlite") as score,
    ):
        result = score([*names, names[0]])
        killer.join()
        (victim,) = killed
        assert score(names[:3]).values.tolist() == result.values[:3].tolist()
    np.testing.assert_array_equal(result.values, expected(tmp_path, [*names, names[0]]))
    assert result.failures == {}
    begun, ended = calls(log, "begin"), calls(log, "end")
    assert {name for _, _, name in ended} == set(names)
    assert {worker for _, worker, _ in begun} >= {victim} and len({worker for _, worker, _ in begun}) == 2
    # Only what the dead worker had not handed over is scored again: the object it was at, or had just ended.
    again = [name for name, number in collections.Counter(name for _, _, name in begun).items() if number > 1]
    assert len(again) <= 2
    assert set(again) <= {name for _, worker, name in begun if worker == victim}


def test_training_goes_on_beside_a_slow_object_and_a_killed_worker(two_workers, tmp_path, capsys):
    name, log = write_score(tmp_path, slow=6 * BATCH)
    job, run = tmp_path / "job.toml", tmp_path / "run"
    job.write_text(JOB, encoding="utf-8")

    def kill():
        slow = wait_until(lambda: calls(log, "begin"))[0][1]
        wait_until(lambda: len(calls(log, "end")) > 4 * BATCH)
        two_workers.kill(next(one for pid, one in two_workers.workers.items() if pid != slow))
        two_workers.add_worker()

    killer = threading.Thread(target=kill)
    killer.start()
    assert main(["run", str(job), "--out", str(run), "--score", name, "--scheduler", two_workers.address]) == 0
    killer.join()
    capsys.readouterr()
    (_, _, slow), begun, ended = calls(log, "begin")[0], calls(log, "begin"), calls(log, "end")
    back = next(when for when, _, name in ended if name == slow)
    # Without a step in the meantime, only the four batches that may be pending could have been sent.
    assert len({name for when, _, name in begun if when < back}) > 4 * BATCH
    rows = read_rows(run / "history.csv")
    assert [row["step"] for row in rows] == list(range(2, NUM_STEPS + 1, 2))
    assert rows[-1]["sampled"] == NUM_STEPS * BATCH and rows[-1]["set_aside"] == 0
    with Archive.open(run / "archive.sqlite", read_only=True) as archive:
        entries = archive.entries()
        assert archive.conflicts() == 0
    assert len(set(entries.objects)) == len(entries.objects) == rows[-1]["distinct"]
    assert set(entries.objects) == {name for _, _, name in ended}
    np.testing.assert_allclose(entries.log_rewards, 2.0 * expected(tmp_path, entries.objects))


def test_one_pending_batch_repeats_a_local_run_bit_for_bit(two_workers, tmp_path, capsys):
    name, log = write_score(tmp_path)
    job = tmp_path / "job.toml"
    job.write_text(JOB, encoding="utf-8")
    cluster = ["--scheduler", two_workers.address, "--pending", "1", "--piece", "3"]
    assert main(["run", str(job), "--out", str(tmp_path / "far"), "--score", name, *cluster]) == 0
    assert main(["run", str(job), "--out", str(tmp_path / "near"), "--score", name]) == 0
    assert (tmp_path / "far" / "history.csv").read_bytes() == (tmp_path / "near" / "history.csv").read_bytes()
    far, near = (Archive.open(tmp_path / run / "archive.sqlite", read_only=True) for run in ("far", "near"))
    with far, near:
        assert far.content_hash() == near.content_hash()
    capsys.readouterr()


def test_a_killed_run_is_resumed_whole(two_workers, tmp_path, capsys):
    name, log = write_score(tmp_path, seconds=0.02)
    job, run = tmp_path / "job.toml", tmp_path / "run"
    job.write_text(JOB, encoding="utf-8")
    words = ["--score", name, "--scheduler", two_workers.address]
    command = [sys.executable, "-m", "narrows", "run", str(job), "--out", str(run), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(read_rows(run / "history.csv")) >= 5 or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before, last = (run / "history.csv").read_text().splitlines(), read_rows(run / "history.csv")[-1]["step"]
    assert last < NUM_STEPS
    assert main(["resume", str(run), *words]) == 0
    rows = read_rows(run / "history.csv")
    assert [row["step"] for row in rows] == list(range(2, NUM_STEPS + 1, 2))
    num_saved = 1 + int(last) // 4 * 2  # rows up to the last checkpoint, below the line of names
    assert (run / "history.csv").read_text().splitlines()[:num_saved] == before[:num_saved]
    with Archive.open(run / "archive.sqlite", read_only=True) as archive:
        entries = archive.entries()
    assert len(entries.objects) == rows[-1]["distinct"]
    assert set(entries.objects) <= {name for _, _, name in calls(log, "end")}
    np.testing.assert_allclose(entries.log_rewards, 2.0 * expected(tmp_path, entries.objects))
    # A piece is in the cache when it has come back: little but what was under way at the kill is ever scored twice.
    again = [name for name, number in collections.Counter(name for _, _, name in calls(log, "begin")).items() if number > 1]
    assert len(again) <= 5 * BATCH
    assert (RunFolder.open(run).about().score_identity or "").endswith(":score")
    capsys.readouterr()


def test_faults_of_the_file_are_told_as_the_file_and_not_as_a_folder_of_ours(two_workers, tmp_path):
    path = tmp_path / "mine.py"
    with connected(two_workers.address) as engine:
        for source, message in (
            ("import no_such_library\n", "mine.py could not be loaded:\n(.|\n)*No module named 'no_such_library'"),
            ("def other(objects): ...\n", "mine.py has no function 'score'. It has: other"),
        ):
            path.write_text(source, encoding="utf-8")
            with pytest.raises(ScoreError, match=message) as caught, ExecutorScorer(f"{path}:score", engine.executor()):
                pass
            assert "narrows-score-" not in str(caught.value)


def test_a_cluster_without_workers_or_without_a_scheduler_is_told_in_words(tmp_path, monkeypatch, capsys):
    lonely = LocalCluster(tmp_path)
    said = []
    try:
        with (
            pytest.raises(ScoreError, match="has had no worker for 0.5 s. Start some with `dask worker"),
            connected(lonely.address, patience=0.5, say=said.append),
        ):
            pass
        assert len(said) == 1 and "has no worker; waiting up to 0.5 s" in said[0]
        bare = lonely.add_worker(has_narrows=False)
        with (
            pytest.raises(ScoreError, match="the worker at tcp://.* has no narrows. Install narrows"),
            connected(lonely.address),
        ):
            pass
        lonely.kill(bare)
        worker = lonely.add_worker()
        name, log = write_score(tmp_path / "score", slow=10**9)
        with connected(lonely.address) as engine, ExecutorScorer(name, engine.executor(), watch=engine.watch) as score:
            batch = score.submit(["0", "1"])
            wait_until(lambda: calls(log, "begin"))
            lonely.kill(lonely.scheduler)
            began = time.monotonic()
            with pytest.raises(ScoreError, match="connection to the scheduler at .* is lost"):
                batch.result()
        assert time.monotonic() - began < 20.0
        lonely.kill(worker)
    finally:
        lonely.stop()
    job = tmp_path / "job.toml"
    job.write_text(JOB, encoding="utf-8")
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    began = time.monotonic()
    words = ["run", str(job), "--out", str(tmp_path / "run"), "--score", name]
    assert main([*words, "--scheduler", lonely.address]) == 1
    assert "no dask scheduler answered at" in capsys.readouterr().err
    assert time.monotonic() - began < 5.0
    assert main([*words, "--scheduler", "nonsense://"]) == 1
    assert "Expected tcp://HOST:PORT" in capsys.readouterr().err
    assert main([*words, "--pending", "2"]) == 1
    assert "--pending say how to use a cluster" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main([*words, "--scheduler", lonely.address]) == 1
    assert 'pip install "narrows[cluster]"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
