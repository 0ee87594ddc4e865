"""Kills within the process: at every step in which files take or lose their names, and nothing happens after it."""

import os
import shutil
from contextlib import contextmanager

import pytest

STEPS = ("replace", "rename", "unlink", "rmdir", "mkdir")
"""What is done to names; bytes under a draft's name are nobody's yet."""


class Killed(BaseException):
    """The process is gone."""


class _Life:
    """Counts steps, and ends before or after one of them; what is dead does nothing more."""

    def __init__(self, place, is_before):
        self.place, self.is_before, self.steps, self.is_over = place, is_before, 0, False

    def wrap(self, step):
        def wrapped(*arguments, **options):
            if self.is_over:
                raise Killed
            self.steps += 1
            is_last = self.steps - 1 == self.place
            self.is_over = is_last
            if is_last and self.is_before:
                raise Killed
            done = step(*arguments, **options)
            if is_last:
                raise Killed
            return done

        return wrapped


@contextmanager
def life(place=None, is_before=False):
    """Hold a block that is killed at a step, counted from 0; yields what has counted them."""
    found = _Life(place, is_before)
    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, found.wrap(getattr(os, name)))
        yield found


def contents(folder):
    """Return the bytes of every file, by name; a draft, whose name begins with a dot, is nobody's."""
    names = {path: str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()}
    is_draft = {name: any(part.startswith(".") or ".tmp" in part for part in name.split("/")) for name in names.values()}
    return {name: path.read_bytes() for path, name in names.items() if not is_draft[name]}


def kill_everywhere(folder, call, *, is_whole, is_done=lambda: False, changing=()):
    """Kill a call at each of its steps; assert what was there is whole each time, and that it then comes to the same end.

    The folder is put back in the end.

    Args:
        folder: what it works on; is put back each time.
        call: what is killed.
        is_whole: asserts that what it replaces is the old or the new; all else is compared with what was there.
        is_done: whether it has ended, for one that refuses to be called again then.
        changing: beginnings of the names of what it replaces or that holds times.
    """
    backup = folder.with_name(f"{folder.name}-backup")
    shutil.copytree(folder, backup)

    def put_back():
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)

    with life() as whole:
        call()
    before, after = contents(backup), contents(folder)
    assert whole.steps
    kept = {name for name in before if not name.startswith(changing)}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    for place in range(whole.steps):
        for is_before in (True, False):
            put_back()
            with pytest.raises(Killed), life(place, is_before):
                call()
            now = contents(folder)
            assert {name: now.get(name) for name in kept} == {name: before[name] for name in kept}, (place, is_before)
            is_whole()
            if not is_done():
                call()
                assert not [*folder.rglob(".*.tmp")], "who is called next tidies what a killed one left"
            assert set(contents(folder)) == set(after), (place, is_before)
            is_whole()
    put_back()
    shutil.rmtree(backup)
