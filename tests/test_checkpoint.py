"""Checkpoint folders: no kill, full disk, damage or forged file loses the last good one or does harm."""

import errno
import hashlib
import itertools
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from tests import saving
from tests.saving import LIKE, load_whole, names, save_step

from narrows.files.records import checksum
from narrows.storage.checkpoint import ARRAYS, MANIFEST, latest, read_manifest, restore, save

# --- newest, damaged, pruned, replaced ---


def test_the_last_ones_are_kept_and_the_newest_is_found(tmp_path):
    for step in (0, 10, 999_999, 1_000_000):
        saved = save_step(tmp_path, step, keep=3)
        assert saved.not_removed == () and latest(tmp_path) == (saved.path, ())
    assert names(tmp_path) == ["step-000010", "step-1000000", "step-999999"]
    assert load_whole(latest(tmp_path).path) == (1_000_000, 0)


def test_saving_a_step_again_replaces_it_and_later_steps_are_left_alone(tmp_path):
    for step, attempt in ((1, 0), (2, 0), (3, 0), (2, 1)):
        save_step(tmp_path, step, attempt)
    save_step(tmp_path, 2, 2, keep=1)
    assert names(tmp_path) == ["step-000002", "step-000003"]
    assert load_whole(tmp_path / "step-000002") == (2, 2)
    assert load_whole(latest(tmp_path).path) == (3, 0)


def damage(path, how):
    content = path.read_bytes()
    if how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flip":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncate", "flip", "empty", "remove"])
@pytest.mark.parametrize("name", [ARRAYS, MANIFEST])
def test_a_damaged_newer_checkpoint_is_skipped_with_a_reason(tmp_path, name, how):
    for step in (1, 2):
        save_step(tmp_path, step)
    damage(tmp_path / "step-000002" / name, how)
    found = latest(tmp_path)
    assert found.path == tmp_path / "step-000001" and load_whole(found.path) == (1, 0)
    assert len(found.skipped) == 1 and "step-000002" in found.skipped[0] and name in found.skipped[0]
    with pytest.raises(ValueError, match="step-000002.*Use another checkpoint"):
        restore(tmp_path / "step-000002", LIKE)
    damage(tmp_path / "step-000001" / name, how)
    found = latest(tmp_path)
    assert found.path is None and len(found.skipped) == 2


def test_no_flipped_bit_changes_what_is_loaded(tmp_path):
    path = save_step(tmp_path, 5).path
    manifest, rng = read_manifest(path), random.Random(0)
    for name, trials in ((ARRAYS, 30), (MANIFEST, 150)):
        content, num_caught = (path / name).read_bytes(), 0
        for _ in range(trials):
            flipped = bytearray(content)
            flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            (path / name).write_bytes(flipped)
            found = latest(tmp_path)
            num_caught += found.path is None
            # White space in the manifest means nothing; whatever verifies is what was saved.
            assert found.path is None or read_manifest(path) == manifest
        assert num_caught == trials if name == ARRAYS else num_caught > trials // 2
        (path / name).write_bytes(content)
    assert load_whole(path) == (5, 0)


def test_a_renamed_checkpoint_is_not_taken_for_another_step(tmp_path):
    save_step(tmp_path, 1)
    (tmp_path / "step-000001").rename(tmp_path / "step-000009")
    found = latest(tmp_path)
    assert found.path is None and "holds step 1" in found.skipped[0]


def test_damaged_checkpoints_do_not_push_out_good_ones(tmp_path):
    for step in (1, 2, 3):
        save_step(tmp_path, step, keep=3)
    for step in (2, 3):
        damage(tmp_path / f"step-00000{step}" / ARRAYS, "truncate")
    save_step(tmp_path, 4, keep=2)
    assert load_whole(tmp_path / "step-000001") == (1, 0)
    save_step(tmp_path, 5, keep=2)
    assert names(tmp_path) == ["step-000004", "step-000005"]


def test_leftovers_of_a_killed_writer_go_with_the_next_save_and_nothing_else_does(tmp_path):
    save_step(tmp_path, 1)
    for name in ("step-000002.tmp-0123abcd", "step-000003.tmp-notours", "notes", "step-7"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / "step-000000").symlink_to(tmp_path / "notes")
    assert latest(tmp_path) == (tmp_path / "step-000001", ())
    save_step(tmp_path, 2, keep=1)
    assert names(tmp_path) == ["notes", "step-000000", "step-000002", "step-000003.tmp-notours", "step-7"]
    assert (tmp_path / "notes" / "file").exists()


def test_an_old_checkpoint_that_cannot_be_removed_is_told_and_does_not_stop_the_run(tmp_path, monkeypatch):
    save_step(tmp_path, 1, keep=1)

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    saved = save_step(tmp_path, 2, keep=1)
    assert "step-000001: Permission denied" in saved.not_removed[0]
    assert load_whole(saved.path) == (2, 0)


# --- forged files ---


def forge(path, content, arrays=None):
    """Give a checkpoint a manifest whose checksums are right, as someone who knows the format would."""
    if arrays is not None:
        (path / ARRAYS).write_bytes(arrays)
        content["arrays_sha256"] = hashlib.sha256(arrays).hexdigest()
    content.pop("checksum", None)
    content["checksum"] = checksum(content)
    (path / MANIFEST).write_text(json.dumps(content))


@pytest.fixture
def forged(tmp_path):
    path = save(tmp_path / "run", {"x": np.arange(4)}, step=1, metadata={}).path
    return path, json.loads((path / MANIFEST).read_text())


LIKE_X = {"x": np.zeros(4, np.int64)}


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": [["../../../evil", [4], "int64"]]},
        {"arrays": [["/etc/passwd", [4], "int64"]]},
        {"arrays": [["['x']", [2**62, 2**62], "int64"]]},
        {"arrays": [["['x']", [0, 2**62, 2**62], "int64"]]},
        {"arrays": [["['x']", [-4], "int64"]]},
        {"arrays": [["['x']", [True], "int64"]]},
        {"arrays": [["['x']", [4.0], "int64"]]},
        {"arrays": [["['x']", [4], "object"]]},
        {"arrays": [["['x']", [4], "int64"], ["['x']", [4], "int64"]]},
        {"arrays": [["['x']", [4], "int64"], [["a"], [4], "int64"]]},
        {"arrays": {"['x']": [4]}},
        {"statics": [["s"]]},
        {"step": "1"},
        {"step": None},
        {"metadata": []},
        {"format": "other"},
        {"version": 2},
        {"surplus": 1},
    ],
)
def test_a_forged_manifest_is_refused(forged, tmp_path, change):
    path, content = forged
    before = names(tmp_path)
    forge(path, content | change)
    with pytest.raises(ValueError):
        restore(path, LIKE_X)
    assert names(tmp_path) == before and names(path) == [ARRAYS, MANIFEST]


@pytest.mark.parametrize(
    "text",
    [
        '{"step": 1, "step": 2}',
        "[" * 200_000,
        '{"step": 1' + "0" * 9000 + "}",
        '{"step": NaN}',
        "[1, 2]",
        "null",
        "\ufeff{}",
        '"\\ud800"',
    ],
)
def test_a_manifest_that_is_no_honest_json_is_refused(forged, text):
    path, _ = forged
    (path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match="damaged or foreign"):
        restore(path, LIKE_X)
    assert latest(path.parent).path is None


def test_a_manifest_with_duplicate_keys_is_refused_even_if_the_last_one_is_right(forged):
    path, _ = forged
    text = (path / MANIFEST).read_text()
    (path / MANIFEST).write_text(text.replace('"step": 1,', '"step": 0,\n "step": 1,'))
    with pytest.raises(ValueError, match="occurs twice"):
        restore(path, LIKE_X)


def header(text, data=b""):
    return struct.pack("<Q", len(text)) + text.encode() + data


class Exploit:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


@pytest.mark.parametrize(
    "arrays",
    [
        pickle.dumps(Exploit()),
        header('{"[\'x\']":{"dtype":"I64","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
        header('{"[\'x\']":{"dtype":"I64","shape":[0,4611686018427387904,4611686018427387904],"data_offsets":[0,0]}}'),
        header('{"[\'x\']":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}', b"1"),
        header('{"[\'x\']":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}', b"12"),
        struct.pack("<Q", 2**63) + b"{}",
        b"",
        safetensors.numpy.save({"['x']": np.arange(5)}),
        safetensors.numpy.save({"['x']": np.arange(4.0)}),
        safetensors.numpy.save({"['y']": np.arange(4)}),
        safetensors.numpy.save({"['x']": np.arange(4), "../evil": np.arange(4)}),
    ],
)
def test_a_forged_arrays_file_is_refused(forged, tmp_path, monkeypatch, arrays):
    path, content = forged
    monkeypatch.chdir(tmp_path)
    forge(path, content, arrays)
    assert latest(path.parent).path == path  # its hashes are right: only restoring can tell
    with pytest.raises(ValueError, match=ARRAYS):
        restore(path, LIKE_X)
    assert names(tmp_path) == ["run"]


def test_a_pipe_does_not_hang_and_names_do_not_steer_the_terminal(forged):
    path, content = forged
    forge(path, content | {"arrays": [["\x1b]0;evil\x07", [4], "int64"]]})
    with pytest.raises(ValueError) as caught:
        restore(path, LIKE_X)
    assert "\x1b" not in str(caught.value) and "evil" in str(caught.value)
    (path / ARRAYS).unlink()
    os.mkfifo(path / ARRAYS)
    assert latest(path.parent).path is None


# --- the disk refuses ---


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_when_the_disk_fails_the_earlier_checkpoint_remains_and_the_error_says_so(tmp_path, monkeypatch, nth, step):
    for earlier in (1, 2):
        save_step(tmp_path, earlier)
    calls, real = itertools.count(1), os.fsync

    def fsync(descriptor):
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(
        OSError, match=rf"checkpoint of step {step} in .*No space left.*untouched. Free some disk space"
    ) as caught:
        save_step(tmp_path, step, attempt=1)
    assert caught.value.errno == errno.ENOSPC
    # The fourth is the folder's own: the new checkpoint is already in its place, only perhaps not durable.
    assert load_whole(latest(tmp_path).path) == ((step, 1) if nth == 4 else (2, 0))
    assert not [name for name in names(tmp_path) if "tmp" in name]
    monkeypatch.undo()
    save_step(tmp_path, 4)
    assert load_whole(latest(tmp_path).path) == (4, 0)
    assert not [name for name in names(tmp_path) if "." in name]


@pytest.mark.parametrize("nth", [1, 2])
def test_a_replaced_checkpoint_gets_its_name_back_when_the_rename_fails(tmp_path, monkeypatch, nth):
    save_step(tmp_path, 2)
    calls, real = itertools.count(1), Path.rename

    def rename(path, target):
        if next(calls) == nth:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(PermissionError, match="Permission denied.*Make the folder writable"):
        save_step(tmp_path, 2, attempt=1)
    assert names(tmp_path) == ["step-000002"] and load_whole(tmp_path / "step-000002") == (2, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_write_permission_is_an_error_with_a_cure(tmp_path):
    save_step(tmp_path, 1)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="Make the folder writable"):
            save_step(tmp_path, 2)
        assert load_whole(latest(tmp_path).path) == (1, 0)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_is_an_error_with_a_sentence(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match="could not save the checkpoint of step 1 in"):
        save_step(tmp_path / "run", 1)


# --- kills ---


def in_own_process(work, folder):
    command = [sys.executable, saving.__file__, work, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_at_random_points_the_last_good_checkpoint_always_loads(tmp_path):
    result = in_own_process("kill_at_random", tmp_path)
    assert result["trials"] >= 50 and result["last_step"] >= 40
    assert result["killed_while_writing"] >= 10, "the kills must hit checkpoints that are being written"


def test_killed_before_any_system_call_of_a_save_a_good_checkpoint_loads(tmp_path):
    result = in_own_process("kill_everywhere", tmp_path)
    assert all(count > 10 for count in result.values()), result


def test_a_write_that_stops_half_way_leaves_the_earlier_checkpoint_and_a_sentence(tmp_path):
    result = in_own_process("fill_the_disk", tmp_path)
    assert "File too large. Earlier checkpoints there are untouched. Raise the file size limit" in result["message"]
    assert result["names"] == ["step-000001"]
