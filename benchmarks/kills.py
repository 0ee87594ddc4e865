"""Kills: commands ended at any moment, whether what was there is whole, and whether they can be given again."""

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from benchmarks._kills.process import Ended, Moment, Server
from benchmarks._kills.scenes import SCENES, Scene
from benchmarks.harness.case import Case, chosen, prose
from benchmarks.harness.rows import Context, Row, Target

_KILLS = 30
_QUICK = 4
_CHANGING = (".sqlite", ".sqlite-wal", ".sqlite-shm", ".lock")
"""Files that change without being replaced: of a data base each change is whole, and a lock holds nothing."""


class _Kill(NamedTuple):
    """What a kill has left: what is wrong, in words, and whether drafts lay about, right after it and in the end."""

    fault: str | None
    again: str | None
    drafts: int
    drafts_at_last: int


def measure(context: Context) -> Iterator[Row]:
    """Kill each command at moments spread over its time and its changes of the folder."""
    asked = chosen(context.cases, SCENES)
    with tempfile.TemporaryDirectory() as root:
        server = Server(Path(root) / "log.txt", Path(root) / "compiled")
        try:
            for name in asked:
                yield from _rows(context, name, _killed(SCENES[name], server, Path(root) / name, context.quick))
        except BaseException:
            if context.data is not None:  # what the commands have said may explain it
                context.data.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(root) / "log.txt", context.data / "log.txt")
            raise


def _killed(scene: Scene, server: Server, root: Path, quick: bool) -> list[_Kill]:
    """Return what is left after each kill, from the first to the last moment."""
    before, folder = root / "before", root / "folder"
    before.mkdir(parents=True)

    def call(words: list[str]) -> None:
        ended = server.call(words, folder, Moment())
        if ended.status != 0:
            raise ValueError(f"narrows {' '.join(words)}: exit status {ended.status}")

    # Always in the same place, which some results name.
    folder.mkdir()
    scene.prepare(folder, call)
    shutil.copytree(folder, before, dirs_exist_ok=True)
    _uninterrupted(scene, server, before, folder)
    first = _contents(folder)  # the first one compiles; what the second one has otherwise holds times
    whole = _uninterrupted(scene, server, before, folder)
    after = {name: content for name, content in _contents(folder).items() if first.get(name) == content}
    known = {"before": _contents(before), "after": after}
    result = scene.result(folder)
    kills: list[_Kill] = []
    # What is given the same files does the same: a kill that has left nothing new needs no second run to tell.
    told: dict[str, str | None] = {_state(before): None}
    for moment in _moments(whole, _QUICK if quick else _KILLS):
        _again(before, folder)
        ended = server.call(scene.words(folder), folder, moment)
        while not ended.was_killed:  # faster than before: a little earlier, then
            moment = Moment(None if moment.seconds is None else 0.9 * moment.seconds, moment.changes and moment.changes - 1)
            _again(before, folder)
            ended = server.call(scene.words(folder), folder, moment)
        fault, drafts = _fault(scene, folder, known), _drafts(folder)
        left = _state(folder)
        if left not in told:
            told[left] = _given_again(scene, server, folder, result)
        again = told[left]
        kills.append(_Kill(fault, again, drafts, _drafts(folder)))
        for problem in (fault, again):
            if problem is not None:
                print(f"kills: {' '.join(scene.command)}: {moment}: {problem}", flush=True)
    return kills


def _moments(whole: Ended, num: int) -> list[Moment]:
    """Return moments spread evenly over the time, and as many over the changes of the folder."""
    half = num // 2
    by_time = [Moment(seconds=whole.seconds * (place + 0.5) / half) for place in range(half)]
    num_changes = max(whole.changes, 1)
    return [*by_time, *(Moment(changes=1 + place * num_changes // (num - half)) for place in range(num - half))]


def _uninterrupted(scene: Scene, server: Server, before: Path, folder: Path) -> Ended:
    _again(before, folder)
    ended = server.call(scene.words(folder), folder, Moment())
    if ended.status != 0:
        raise ValueError(f"narrows {' '.join(scene.words(folder))}: exit status {ended.status}")
    return ended


def _again(before: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(before, folder)


def _contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _state(folder: Path) -> str:
    """Return everything about a folder that a command could go by, its empty folders too."""
    folders = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir())
    return repr((folders, _contents(folder)))


def _fault(scene: Scene, folder: Path, known: dict[str, dict[str, str]]) -> str | None:
    """Return what is not whole of what was there before, None where all is."""
    now = _contents(folder)
    for name, content in known["before"].items():
        if scene.is_replaced(name):
            is_file_of_its_own = name in scene.replaced and not name.endswith(_CHANGING) and name in known["after"]
            if is_file_of_its_own and now.get(name) not in (content, known["after"][name]):
                return f"{name} is neither the old one nor the new one"
        elif name.endswith(".sqlite"):
            fault = _fault_of_database(folder / name)
            if fault is not None:
                return f"{name}: {fault}"
        elif not name.endswith(_CHANGING) and now.get(name) != content:
            return f"{name} is gone" if name not in now else f"{name} has changed"
    try:
        scene.opened(folder)
    except (ValueError, OSError) as error:
        return f"cannot be opened: {error}"
    return None


def _fault_of_database(path: Path) -> str | None:
    if not path.is_file():
        return "is gone"
    try:
        with closing(sqlite3.connect(path)) as database:
            (found,) = database.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return None if found == "ok" else found


def _given_again(scene: Scene, server: Server, folder: Path, result: object) -> str | None:
    """Return why the command, given again, does not come to what it comes to uninterrupted; None where it does."""
    if scene.is_done is not None and scene.is_done(folder):
        return None if scene.result(folder) == result else "killed at its end: another result"
    ended = server.call(scene.words(folder), folder, Moment())
    if ended.status != 0:
        return f"given again: exit status {ended.status}"
    return None if scene.result(folder) == result else "given again: another result"


def _drafts(folder: Path) -> int:
    """Return how many unfinished files and folders a kill has left: their names begin with a dot or say tmp."""
    return sum(path.name.startswith(".") or ".tmp" in path.name for path in folder.rglob("*"))


def _rows(context: Context, name: str, kills: list[_Kill]) -> Iterator[Row]:
    num = len(kills)
    all_of_them = Target(">=", num)
    whole, again = sum(kill.fault is None for kill in kills), sum(kill.again is None for kill in kills)
    yield context.row(f"kills/{name}", "kills", [num])
    yield context.row(f"kills/{name}", "what was there is whole", [whole], target=all_of_them)
    yield context.row(f"kills/{name}", "given again, it ends as it would have", [again], target=all_of_them)
    yield context.row(f"kills/{name}", "kills that leave a draft", [sum(kill.drafts > 0 for kill in kills)])
    left = sum(kill.drafts_at_last > 0 for kill in kills)
    yield context.row(f"kills/{name}", "drafts that are still there once it has ended", [left])


CASE = Case(*("Kills at any moment", prose("kills")["text"], measure), takes=("--case",))
