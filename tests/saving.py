"""Saves to look at and to kill: the states that the checkpoint tests save, and the program whose children they kill.

As a program it imports JAX once and never starts a device, so that a fork is safe and costs a millisecond.
"""

import itertools
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from narrows.storage.checkpoint import latest, restore, save, tree_hash


def make_state(step, attempt=0, size=2000):
    """Return arrays that tell which step and attempt they belong to, all through."""
    rng = np.random.default_rng((step, attempt))
    return {"weights": [rng.normal(size=size), rng.integers(0, 9, size)], "stamp": np.array([step, attempt])}


LIKE = make_state(0)


def save_step(folder, step, attempt=0, keep=2):
    return save(folder, make_state(step, attempt), step=step, metadata={"attempt": attempt}, keep=keep)


def load_whole(path):
    """Return (step, attempt) of a checkpoint, once every bit of it is what that step and attempt saved."""
    state, manifest = restore(path, LIKE)
    step, attempt = manifest.step, manifest.metadata["attempt"]
    assert tree_hash(state) == tree_hash(make_state(step, attempt))
    return step, attempt


def names(folder):
    return sorted(item.name for item in Path(folder).iterdir())


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Run `work` in a child that ends with it, and return its process number and the end of a pipe it can write to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work(writing)
            os._exit(0)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
    os.close(writing)
    return child, reading


def read_all(descriptor):
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()


def save_forever(folder, first, keep, pipe):
    for step in itertools.count(first):
        for attempt in range(2 if step % 3 == 0 else 1):
            save_step(folder, step, attempt, keep)
            os.write(pipe, struct.pack("<2q", step, attempt))


def kill_at_random(folder, num_trials=60, seed=0):
    """Kill a child that saves without pause, again and again; after each kill the newest checkpoint is whole and new."""
    rng, reported, num_torn = random.Random(seed), (0, 0), 0
    start = time.monotonic()
    for _ in range(5):
        save_step(folder, 0)
    longest = min(0.3, 4 * (time.monotonic() - start) / 5)  # a few saves long, however slow the disk is
    for trial in range(num_trials):
        child, pipe = forked(partial(save_forever, folder, reported[0] + 1, 1 + trial % 2))
        told = os.read(pipe, 16) if trial % 3 else b""  # most children live to report a save, whatever else the machine does
        time.sleep(rng.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the child must have been killed, not have failed"
        told += read_all(pipe)
        reported = struct.unpack("<2q", told[-16:]) if told else reported
        found = latest(folder)
        assert found.path is not None and found.skipped == (), found
        assert load_whole(found.path) >= reported
        num_torn += any("." in name for name in names(folder))
        reported = load_whole(found.path)
    return {"trials": num_trials, "killed_while_writing": num_torn, "last_step": reported[0]}


WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.fsync"}


def die_at(nth, work):
    """Kill this process right before the n-th thing that `work` does to the file system."""
    calls, real = itertools.count(1), os.fsync

    def fsync(descriptor):
        sys.audit("os.fsync", descriptor)
        real(descriptor)

    def hook(event, _):
        if event in WATCHED and next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync
    sys.addaudithook(hook)
    work()


def kill_everywhere(folder):
    """Kill a save before each of its system calls, for a new step, a replaced one, and the only one replaced."""
    counts = {}
    for case, (earlier, step, keep) in {"new": ((1, 2), 3, 2), "again": ((1, 2), 2, 2), "only": ((2,), 2, 1)}.items():
        prepared = folder / case
        for before in earlier:
            save_step(prepared, before)
        for nth in itertools.count(1):
            trial = folder / f"{case}-{nth}"
            shutil.copytree(prepared, trial)
            child, pipe = forked(lambda _, t=trial, n=nth, s=step, k=keep: die_at(n, lambda: save_step(t, s, 1, k)))
            status = os.waitpid(child, 0)[1]
            os.close(pipe)
            found = latest(trial)
            assert found.path is not None and found.skipped == (), (case, nth, found)
            assert load_whole(found.path) in ((earlier[-1], 0), (step, 1)), (case, nth)
            if status == 0:
                assert load_whole(found.path) == (step, 1)
                counts[case] = nth
                break
            assert os.WIFSIGNALED(status), (case, nth, status)
            save_step(trial, 5, keep=keep)
            assert len(names(trial)) <= keep and not any("." in name for name in names(trial)), (case, nth, names(trial))
            assert load_whole(latest(trial).path) == (5, 0)
    return counts


def fill_the_disk(folder):
    """Save under a limit on the size of files, which stops a write half-way as a full disk does."""
    save_step(folder, 1)

    def work(pipe):
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            save_step(folder, 2)
        except OSError as error:
            os.write(pipe, str(error).encode())

    child, pipe = forked(work)
    message = read_all(pipe).decode()
    assert os.waitpid(child, 0)[1] == 0
    assert load_whole(latest(folder).path) == (1, 0)
    return {"message": message, "names": names(folder)}


if __name__ == "__main__":
    works = {"kill_at_random": kill_at_random, "kill_everywhere": kill_everywhere, "fill_the_disk": fill_the_disk}
    print(json.dumps(works[sys.argv[1]](Path(sys.argv[2]))))
