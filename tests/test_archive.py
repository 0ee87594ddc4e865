"""The archive against a dictionary, through kills, full disks, second writers and files that are not archives."""

import inspect
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.files import WriterLock
from narrows.storage.archive import CONFLICT_TOLERANCE, Archive, Entry

BATCH = 50


def batch(step: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return what training makes at `step`: many repeats, log-rewards that are a function of the object."""
    rng = random.Random(step)
    objects = ["".join(rng.choices("ACGU", k=4)) for _ in range(BATCH)]
    return objects, np.array([sum(map(ord, name)) / 7.0 for name in objects]), np.full(BATCH, step)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archive.sqlite"


def script(body: str, *arguments: object, **options) -> subprocess.Popen:
    """Start another Python that knows `Archive` and `batch` and runs `body`."""
    imports = (
        "import os, random, sys\nfrom pathlib import Path\nimport numpy as np\nfrom narrows.storage.archive import Archive\n"
    )
    lines = [imports + f"BATCH = {BATCH}", inspect.getsource(batch), body]
    command = [sys.executable, "-c", "\n".join(lines), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def output(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


# What it stores


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.tuples(st.text(max_size=4), st.floats(-1e6, 1e6), st.integers(0, 9)), max_size=6), max_size=6))
def test_agrees_with_a_dictionary(batches):
    first: dict[str, tuple[float, int]] = {}
    num_conflicts = 0
    with tempfile.TemporaryDirectory() as folder, Archive.open(Path(folder) / "a.sqlite", create=True) as archive:
        for rows in batches:
            known = len(first)
            for name, log_reward, step in sorted(rows, key=lambda row: row[2]):
                kept, seen = first.setdefault(name, (log_reward, step))
                first[name] = kept, min(seen, step)
                num_conflicts += abs(log_reward - kept) > CONFLICT_TOLERANCE * max(1.0, abs(kept))
            steps = np.array([step for _, _, step in rows], np.int64)
            added = archive.add([name for name, _, _ in rows], np.array([value for _, value, _ in rows]), steps)
            assert added == len(first) - known
        expected = sorted((Entry(n, r, s) for n, (r, s) in first.items()), key=lambda e: (-e[1], e[2], e[0].encode()))
        assert archive.count() == len(expected)
        assert archive.conflicts() == num_conflicts
        assert archive.top(3) == expected[:3]
        objects, log_rewards, steps = archive.entries()
        assert [Entry(*row) for row in zip(objects, log_rewards.tolist(), steps.tolist(), strict=True)] == expected
        assert archive.last_step() == max((step for _, step in first.values()), default=None)


def test_keeps_float64_and_accepts_float32(path):
    third = np.float32(1) / np.float32(3)
    with Archive.open(path, create=True) as archive:
        archive.add(["a"], np.array([1 / 3]), 0)
        archive.add(["b"], np.array([third]), np.array(1, np.int32))
        assert archive.entries().log_rewards.tolist() == [float(third), 1 / 3]


def test_order_of_equal_log_rewards_is_step_then_alphabet(path):
    with Archive.open(path, create=True) as archive:
        archive.add(["c", "b", "a", "d"], np.zeros(4), np.array([1, 2, 2, 0]))
        assert list(archive.entries().objects) == ["d", "c", "a", "b"]


def test_rounding_is_no_conflict(path):
    with Archive.open(path, create=True) as archive:
        archive.add(["a", "b"], np.array([100.0, 0.0]), 0)
        archive.add(["a", "b"], np.array([100.0005, 5e-6]), 1)
        assert archive.conflicts() == 0
        archive.add(["a", "b"], np.array([100.01, 5e-5]), 2)
        assert archive.conflicts() == 2
        assert archive.top(1) == [Entry("a", 100.0, 0)]


def test_hash_knows_content_but_not_order(path, tmp_path):
    def digest(name: str, rows: list[tuple[str, float, int]], size: int) -> str:
        with Archive.open(tmp_path / name, create=True) as archive:
            for start in range(0, len(rows), size):
                objects, rewards, steps = zip(*rows[start : start + size], strict=True)
                archive.add(objects, np.array(rewards), np.array(steps))
            return archive.content_hash()

    rows = [(f"x{i}", i / 3, i) for i in range(20)]
    assert digest("1", rows, 20) == digest("2", rows[::-1], 3)
    others = [[("x0", 0.5, 0), *rows[1:]], [("x0", 0.0, 1), *rows[1:]], [("y0", 0.0, 0), *rows[1:]], rows[1:]]
    assert len({digest(str(i), other, 20) for i, other in enumerate([rows, *others], start=3)}) == 5


def test_rollback_and_continue_equals_a_run_that_was_never_stopped(path, tmp_path):
    def conflicting(step):
        objects, rewards, steps = batch(step)
        return objects, rewards + (step == 7), steps

    with Archive.open(tmp_path / "whole.sqlite", create=True) as archive:
        for step in range(12):
            archive.add(*conflicting(step))
        expected = archive.content_hash(), archive.conflicts(), archive.count(), archive.last_step()
    with Archive.open(path, create=True) as archive:
        for step in range(9):
            archive.add(*conflicting(step))
        count = archive.count()
    with Archive.open(path) as archive:
        gone = archive.rollback_after(5)
        assert gone > 0 and archive.count() == count - gone and archive.last_step() == 5
        for step in range(6, 12):
            archive.add(*conflicting(step))
        assert (archive.content_hash(), archive.conflicts(), archive.count(), archive.last_step()) == expected
        assert expected[1] > 0


def test_meta_and_run_id(path):
    with Archive.open(path, create=True, run_id="runs/rna"):
        pass
    with Archive.open(path, create=True, run_id="runs/rna") as archive:
        assert archive.meta() == {"format_version": "2", "run_id": "runs/rna"}
    with pytest.raises(ValueError, match="belongs to run 'runs/rna', not 'other'"):
        Archive.open(path, create=True, run_id="other")
    Archive.open(path).close()


@pytest.mark.parametrize(
    ("objects", "rewards", "steps", "message"),
    [
        (["a", "b"], [1.0, np.nan], 0, "finite, got nan for object 1 \\('b'\\)"),
        (["a", "b"], [-np.inf, 0.0], 0, "finite, got -inf for object 0"),
        (["a", "b"], [1.0], 0, "one log-reward and one step for each of 2 objects"),
        (["a", "b"], [1.0, 2.0], [0, 1, 2], "steps of shape \\(3,\\)"),
        (["a"], [1.0], -1, "integers of at least 0"),
        (["a"], [1.0], 0.5, "integers of at least 0"),
        ("ab", [1.0, 2.0], 0, "got the single string 'ab'"),
        (["a", 3], [1.0, 2.0], 0, "got int for object 1: 3"),
        (["a", "\ud800"], [1.0, 2.0], 0, "surrogates"),
    ],
)
def test_refuses_a_batch_with_one_wrong_item_and_stores_none_of_it(path, objects, rewards, steps, message):
    with Archive.open(path, create=True) as archive:
        with pytest.raises(ValueError, match=message):
            archive.add(objects, np.array(rewards), steps if isinstance(steps, int) else np.array(steps))
        assert archive.count() == 0
        assert archive.add(["a"], np.array([1.0]), 0) == 1


def test_numpy_strings_are_strings(path):
    with Archive.open(path, create=True) as archive:
        assert archive.add(list(np.array(["ac", "gu", "ac"])), np.zeros(3), 0) == 2
        assert [type(entry.object) for entry in archive.top(2)] == [str, str]


def test_small_refusals(path):
    with Archive.open(path, create=True) as archive:
        assert archive.add([], np.zeros(0), 0) == 0
        with pytest.raises(ValueError, match="k must be at least 1"):
            archive.top(0)
    with Archive.open(path, read_only=True) as archive:
        with pytest.raises(ValueError, match="was opened to read"):
            archive.add(["a"], np.zeros(1), 0)
        with pytest.raises(ValueError, match="was opened to read"):
            archive.rollback_after(0)
    with pytest.raises(ValueError, match="exclude each other"):
        Archive.open(path, create=True, read_only=True)


# Other processes, and kills

KILLED = """
archive = Archive.open(sys.argv[1], create=True)
for step in range(100000):
    archive.add(*batch(step))
    print(step, flush=True)
"""


def kill_while_writing(path: Path, seconds: float) -> int:
    """Run a writer, kill it `seconds` after its first batch, and return the last step it reported."""
    process = script(KILLED, path)
    assert process.stdout is not None
    reported = [process.stdout.readline()]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    # Not by `communicate`: it reads the pipe itself and misses the lines that came along with the first one.
    reported += process.stdout.read().splitlines()
    process.communicate()
    return int([line for line in reported if line.strip()][-1])


@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.05, 0.1])
def test_what_was_added_survives_kill_9(path, tmp_path, seconds):
    last = kill_while_writing(path, seconds)
    with Archive.open(tmp_path / "whole.sqlite", create=True) as archive:
        for step in range(last + 1):
            archive.add(*batch(step))
        complete = archive.content_hash()
        archive.add(*batch(last + 1))
        one_more = archive.content_hash()
    with Archive.open(path, read_only=True) as archive:
        # The kill may have come between the end of a batch and its report, never inside a batch.
        assert archive.content_hash() in (complete, one_more)
    with Archive.open(path) as archive:
        archive.rollback_after(last)
        archive.add(*batch(last + 1))
        assert archive.content_hash() == one_more


def test_reads_while_another_process_writes(path):
    process = script(KILLED, path)
    assert process.stdout is not None
    process.stdout.readline()
    counts = []
    with Archive.open(path, read_only=True) as archive:
        for _ in range(10):
            counts.append(archive.count())
            assert all(entry.log_reward == sum(map(ord, entry.object)) / 7.0 for entry in archive.top(5))
            assert len(archive.entries().objects) >= counts[-1]
            time.sleep(0.02)
    process.kill()
    process.communicate()
    assert counts == sorted(counts) and counts[-1] > counts[0]


def test_a_second_writer_is_told_who_writes(path):
    with Archive.open(path, create=True) as archive:
        archive.add(["a"], np.zeros(1), 0)
        with pytest.raises(OSError, match=f"archive.sqlite is being written by process {os.getpid()} on .* since 20"):
            Archive.open(path)
        told = output(script("try: Archive.open(sys.argv[1])\nexcept OSError as error: print(error)", path))
        assert f"written by process {os.getpid()}" in told and "Wait for it" in told
        with Archive.open(path, read_only=True) as reader:
            assert reader.count() == 1
    Archive.open(path).close()


def test_a_killed_writer_holds_no_lock_and_a_strange_lock_file_does_no_harm(path):
    kill_while_writing(path, 0.0)
    Archive.open(path).close()
    lock = path.with_name("archive.sqlite.lock")
    lock.write_bytes(b"\xff[[[")
    with Archive.open(path) as archive:
        archive.close()
        archive.close()
    with WriterLock.acquire(lock, "it"):
        lock.write_bytes(b"\xff[[[")
        with pytest.raises(OSError, match="it is being written by another process"):
            WriterLock.acquire(lock, "it")


def test_a_closed_archive_is_one_file(path):
    with Archive.open(path, create=True) as archive:
        archive.add(*batch(0))
    assert {file.name for file in path.parent.iterdir()} == {"archive.sqlite", "archive.sqlite.lock"}
    with Archive.open(path, read_only=True) as reader, Archive.open(path) as archive:
        archive.add(*batch(1))
        archive.close()
        assert reader.last_step() == 1
    with Archive.open(path, read_only=True) as reader:
        assert reader.last_step() == 1


# Folders that cannot be written

# Root may write everywhere, so these readers become somebody else once everything is imported.
AS_NOBODY = """
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert not os.access(Path(sys.argv[1]).parent, os.W_OK)
"""
READ = AS_NOBODY + "with Archive.open(sys.argv[1], read_only=True) as archive: print(archive.content_hash())"


@pytest.fixture
def locked_folder():
    """Yield an empty folder and a function that takes away the right to write there."""
    folder = Path(tempfile.mkdtemp())
    yield folder, lambda: [file.chmod(0o444) for file in folder.iterdir()] and folder.chmod(0o555)
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
@pytest.mark.parametrize("leftovers", ["none", "wal and shm", "wal"])
def test_reads_in_a_folder_one_may_not_write(locked_folder, tmp_path, leftovers):
    folder, lock = locked_folder
    path = tmp_path / "archive.sqlite"
    last = kill_while_writing(path, 0.01) if leftovers != "none" else 3
    if leftovers == "none":
        with Archive.open(path, create=True) as archive:
            for step in range(last + 1):
                archive.add(*batch(step))
    suffixes = {"none": [""], "wal and shm": ["", "-wal", "-shm"], "wal": ["", "-wal"]}[leftovers]
    for suffix in suffixes:
        shutil.copyfile(f"{path}{suffix}", folder / f"archive.sqlite{suffix}")
    assert leftovers == "none" or (folder / "archive.sqlite-wal").stat().st_size > 0
    lock()
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    digest = output(script(READ, folder / "archive.sqlite")).strip()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    with Archive.open(path, read_only=True) as archive:
        assert archive.content_hash() == digest and archive.count() > 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_says_so_when_it_may_not_write(locked_folder):
    folder, lock = locked_folder
    Archive.open(folder / "archive.sqlite", create=True).close()
    lock()
    body = AS_NOBODY + "try: Archive.open(sys.argv[1])\nexcept OSError as error: print(error)"
    told = output(script(body, folder / "archive.sqlite"))
    assert "cannot write to the archive" in told and "archive.sqlite" in told and "Choose a folder" in told


# Full disks


def test_a_full_disk_is_told_in_a_sentence_and_loses_nothing(path):
    with Archive.open(path, create=True) as archive:
        archive.add(*batch(0))
        digest = archive.content_hash()
        num_pages = archive._connection.execute("PRAGMA page_count").fetchone()[0]
        archive._connection.execute(f"PRAGMA max_page_count = {num_pages + 2}")
        with pytest.raises(OSError, match="archive.sqlite: database or disk is full. Free some disk space and resume"):
            archive.add([f"long{i:090d}" for i in range(1000)], np.zeros(1000), 1)
        assert archive.content_hash() == digest
        archive._connection.execute("PRAGMA max_page_count = 100000")
        assert archive.add(["new"], np.zeros(1), 1) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_quota_is_told_in_a_sentence_and_loses_nothing(path):
    body = """
import resource
archive = Archive.open(sys.argv[1], create=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))
for step in range(1000):
    try: archive.add([f"{step} {i:090d}" for i in range(50)], np.zeros(50), step)
    except OSError as error: print(step); print(error); break
archive.close()
"""
    step, told = output(script(body, path)).splitlines()
    assert "cannot use the archive" in told and "resume the run" in told
    with Archive.open(path) as archive:
        assert archive.count() == 50 * int(step) > 0


# Files that are not archives


def test_missing_files_and_folders(path, tmp_path):
    for read_only in (False, True):
        with pytest.raises(FileNotFoundError, match="there is no archive at .*archive.sqlite"):
            Archive.open(path, read_only=read_only)
        with pytest.raises(ValueError, match="is a folder. Expected an archive"):
            Archive.open(tmp_path, read_only=read_only)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="cannot write to the archive .*No such file"):
        Archive.open(tmp_path / "no" / "archive.sqlite", create=True)


@pytest.mark.parametrize("read_only", [False, True])
def test_foreign_and_damaged_files_are_refused_and_left_alone(path, read_only):
    with Archive.open(path, create=True) as archive:
        archive.add([f"{i:0100d}" for i in range(2000)], np.arange(2000.0), 0)
    good = path.read_bytes()

    def refused(content: bytes, message: str) -> None:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message), Archive.open(path, read_only=read_only) as archive:
            archive.content_hash()
        assert path.name in str(archive_error(path, read_only))
        assert path.read_bytes() == content

    refused(b"sequence,score\nACGU,1.0\n" * 100, "damaged or not an archive")
    refused(b"", "is empty")
    refused(good[: len(good) // 2], "damaged or not an archive")
    refused(good[:4096] + bytes(len(good) - 4096), "damaged or not an archive")
    path.write_bytes(b"")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE objects(object TEXT, log_reward REAL, step INTEGER)")
    connection.close()
    refused(path.read_bytes(), "not an archive of Narrows")


def archive_error(path: Path, read_only: bool) -> ValueError:
    with pytest.raises(ValueError) as caught, Archive.open(path, read_only=read_only) as archive:
        archive.content_hash()
    return caught.value


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE meta SET value = '3' WHERE key = 'format_version'", "has format '3', this version of Narrows reads"),
        ("CREATE TRIGGER t AFTER INSERT ON objects BEGIN DELETE FROM objects; END", "not an intact archive"),
        ("DROP TRIGGER objects_insert", "not an intact archive"),
        ("DROP TABLE conflicts", "not an intact archive"),
        ("DROP TABLE meta", "not an intact archive"),
    ],
)
def test_another_version_or_another_schema_is_refused(path, statement, message):
    Archive.open(path, create=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    for read_only in (False, True):
        with pytest.raises(ValueError, match=message):
            Archive.open(path, read_only=read_only)
    # A refused file stays free for the next one.
    with WriterLock.acquire(path.with_name("archive.sqlite.lock"), "it"):
        pass


def test_a_run_killed_in_its_first_moment_can_start_again(path):
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        Archive.open(path)
    with Archive.open(path, create=True, run_id="r") as archive:
        assert archive.count() == 0 and archive.last_step() is None and archive.run_id == "r"
        assert archive.entries().objects == ()


def test_needs_no_jax():
    body = "import sys, narrows.storage.archive, narrows.selection; print([m for m in ('jax', 'torch') if m in sys.modules])"
    assert output(subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True)).strip() == "[]"
