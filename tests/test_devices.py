"""Several devices train as one does: the same objects, the same numbers up to the order of sums, in one process or two."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from tests import sharing

from narrows.cli import main
from narrows.runs import RunFolder, read_rows
from narrows.storage.archive import Archive
from narrows.training import Devices, join

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
[replay]
capacity = 64
batch_size = 4
[train]
num_steps = {num_steps}
batch_size = 8
every = 3
checkpoint_every = 6
max_set_aside = 0
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


def found_by(*parts):
    """Return what `sharing` finds, each part in a process of its own."""
    command = [sys.executable, sharing.__file__]
    started = [subprocess.Popen([*command, *names], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) for names in parts]
    done = finish(*started)
    assert {status for status, _ in done} == {0}  # what went wrong is among the captured errors
    return {name: value for _, output in done for name, value in json.loads(output).items()}


@pytest.fixture(scope="module")
def found():
    return found_by(["quick", "refused"])


@pytest.fixture(scope="module")
def found_slowly():
    return found_by(["others"], ["moved", "hosted", "compiles"])


in_other_ways = pytest.mark.slow("trains on one and on four devices in other ways, half a minute each; one way guards the code")


def check_same(result):
    assert result["same_objects"] and result["distinct"] > 10 and result["same_key"]
    assert result["losses"] < 1e-5 and result["parameters"] < 1e-5 and result["buffer"] in (True, 0.0)
    assert result["skipped"][0] == result["skipped"][1]


def test_four_devices_train_as_one(found):
    check_same(found["quick"][sharing.QUICK])
    assert found["quick"][sharing.QUICK]["skipped"][0] == 0


@in_other_ways
@pytest.mark.parametrize("name", [name for name in sharing.CASES if name != sharing.QUICK])
def test_four_devices_train_as_one_in_other_ways(found_slowly, name):
    result = found_slowly["others"][name]
    check_same(result)
    assert result["skipped"][0] == (sharing.STEPS if name == "nothing has a score" else 0)


@in_other_ways
def test_a_run_moves_from_one_device_to_four_and_back_by_way_of_checkpoints(found_slowly):
    check_same(found_slowly["moved"])


@in_other_ways
def test_a_score_outside_jax_is_asked_for_the_whole_batch_one_at_a_time_or_overlapping(found_slowly):
    for result in found_slowly["hosted"].values():
        check_same(result)


@in_other_ways
def test_the_second_chunk_compiles_nothing(found_slowly):
    assert found_slowly["compiles"] == [0, 0]


def test_what_cannot_be_shared_is_refused_in_a_sentence(found):
    said = found["refused"]
    assert said["batch"] == "batch_size 6 cannot be shared alike by 4 devices. Make it a multiple of them."
    assert "batch_size of replay 6" in said["replay"] and "batch_size of given objects 3" in said["given"]
    assert said["none"] == "devices must be at least 1, got 0."
    assert said["many"].startswith("5 devices were asked for and there are 4 (cpu). On a CPU they are threads")


# --- the command ---


in_processes = pytest.mark.slow(
    "starts processes that train together, minutes of them; four devices in one process train as one in the tests above, and "
    "nothing quick has two processes"
)


@pytest.fixture
def job_file(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(num_steps=12), encoding="utf-8")
    return path


def start(*words):
    command = [sys.executable, "-m", "narrows", *map(str, words)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*processes):
    """Return the exit status and the output of each."""
    try:
        return [(process.returncode, output) for process in processes for output in [process.communicate(timeout=300)[0]]]
    finally:
        for process in processes:
            process.kill()


def pair(*words):
    """Start a command twice, as two processes that train together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = ("--coordinator", address, "--processes", 2, "--process")
    return start(*words, *options, 0), start(*words, *options, 1)


def check_same_run(one, two):
    """Compare what two runs have seen, and their histories up to rounding."""
    rows, rows_2 = read_rows(one / "history.csv"), read_rows(two / "history.csv")
    assert rows == [pytest.approx(row, rel=1e-4, nan_ok=True) for row in rows_2] and len(rows) == 4
    seen = []
    for path in (one, two):
        with Archive.open(RunFolder.open(path).archive, read_only=True) as archive:
            seen.append({entry.object for entry in archive.top(1000)})
    assert seen[0] == seen[1] and len(seen[0]) > 20


@in_processes
def test_the_command_trains_on_two_devices_or_in_two_processes_and_goes_on_with_another_number(job_file, capsys):
    alone, together, apart = (job_file.parent / name for name in ("alone", "together", "apart"))
    first_half = ("--set", "train.num_steps=6")
    started = start("run", job_file, "--out", together, "--devices", 2), *pair("run", job_file, "--out", apart, *first_half)
    assert main(["run", str(job_file), "--out", str(alone)]) == 0
    done = finish(*started)
    assert [status for status, _ in done] == [0, 0, 0], done
    check_same_run(alone, together)
    assert RunFolder.open(together).about().devices == 2
    assert "Trained 6 steps" in done[1][1] and "Followed to step 6 of 6" in done[2][1]
    lengthen(apart, 6, 12)
    done = finish(*pair("resume", apart))  # two processes restore what the first one reads
    assert [status for status, _ in done] == [0, 0], done
    check_same_run(alone, apart)
    lengthen(alone, 12, 15)
    lengthen(apart, 12, 15)
    assert main(["resume", str(alone)]) == main(["resume", str(apart)]) == 0
    assert read_rows(alone / "history.csv")[-1] == pytest.approx(read_rows(apart / "history.csv")[-1], rel=1e-4, nan_ok=True)
    capsys.readouterr()


def lengthen(folder, before, after):
    path = folder / "job.toml"
    path.write_text(path.read_text().replace(f"num_steps = {before}", f"num_steps = {after}"))


@in_processes
def test_a_process_that_is_told_to_stop_stops_all_and_one_that_cannot_begin_keeps_none_waiting(job_file):
    job_file.write_text(JOB.format(num_steps=1_000_000), encoding="utf-8")
    out = job_file.parent / "run"
    leader, follower = pair("run", job_file, "--out", out)
    give_up = time.monotonic() + 120
    while not (out / "history.csv").exists() and leader.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)
    follower.send_signal(signal.SIGINT)
    done = finish(leader, follower)
    assert [status for status, _ in done] == [130, 130], done
    assert "Continue with: narrows resume" in done[0][1]
    occupied = finish(*pair("run", job_file, "--out", out))
    assert [status for status, _ in occupied] == [1, 1], occupied
    assert "already holds a run" in occupied[0][1]
    assert "another process could not begin" in occupied[1][1]


@in_processes
def test_where_the_first_process_gives_up_the_others_end_too(job_file):
    leader, follower = finish(*pair("run", job_file, "--out", job_file.parent / "run", "--set", "optimizer.learning_rate=1e38"))
    assert leader[0] == 1 and "more than [train] max_set_aside = 0" in leader[1], leader
    assert follower[0] == 130 and "of 12; the first process has the run" in follower[1], follower


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--devices", "0"], "--devices must be at least 1, got 0."),
        (["--devices", "3", "--set", "train.batch_size=9"], "3 devices were asked for and there are 1 (cpu)."),
        (["--coordinator", "127.0.0.1:1", "--process", "0"], "add --processes."),
        (["--coordinator", "127.0.0.1:1", "--process", "2", "--processes", "2"], "got process 2 of 2."),
        (["--coordinator", "here", "--process", "0", "--processes", "2"], "HOST:PORT of the first process, got 'here'."),
    ],
)
def test_mistakes_are_sentences_and_leave_no_folder(job_file, capsys, options, sentence):
    jax.devices()  # too late for another number of them
    assert main(["run", str(job_file), "--out", str(job_file.parent / "run"), *options]) == 1
    assert sentence in capsys.readouterr().err
    assert not (job_file.parent / "run").exists()


@pytest.mark.slow("starts a process; a batch that is refused, and mistakes that leave no folder, guard it quickly above")
def test_a_batch_that_cannot_be_shared_leaves_no_folder(job_file):
    out = job_file.parent / "run"
    ((status, output),) = finish(start("run", job_file, "--out", out, "--devices", 3))
    assert status == 1 and "batch_size 8 cannot be shared alike by 3 devices" in output
    assert not out.exists()


def test_one_device_needs_no_mesh():
    assert Devices.first(1).mesh is None
    with pytest.raises(ValueError, match="two or more processes"):
        join("127.0.0.1:1", 1, 0)
