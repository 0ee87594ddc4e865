"""Folders that came from somebody else, or were damaged on the way: data, never a hand on the disk, and never silent."""

import fcntl
import itertools
import json
import os
import random
import shutil
import sqlite3
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from narrows.cli import main
from narrows.commands.verifying import verify
from narrows.data import write_table
from narrows.files import ChangedFile, WriterLock, record_text
from narrows.runs import OpenRun, RunError, RunFolder, read_rows, read_set_aside
from narrows.runs.candidates import load_candidates
from narrows.runs.page import gather
from narrows.scorers.cache import ScoreCache
from narrows.selection import read_selection
from narrows.storage import checkpoint
from narrows.storage.archive import Archive

JOB = """
[data]
path = "measured.csv"
space = "rna"
[env]
name = "Sequence"
alphabet = "ACGU"
min_length = 3
max_length = 3
[reward]
name = "Score"
[policy]
name = "Tabular"
[train]
num_steps = 20
batch_size = 8
every = 5
checkpoint_every = 10
[shortlist]
k = 4
min_distance = 1
"""
# Finite for most objects, so that some are set aside.
SCORE = """
def score(texts):
    return [float("nan") if text.startswith("AA") else float(text.count("G")) for text in texts]
"""

READERS = (["resume"], ["shortlist"], ["report"], ["worst"], ["verify", "--score", "rna"])
"""Commands that open a run folder."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with everything that commands leave in its folder."""
    folder = tmp_path_factory.mktemp("made")
    objects = ["".join(letters) for letters in itertools.product("ACGU", repeat=3)][::5]
    write_table(folder / "measured.csv", objects, np.array([float(text.count("G")) for text in objects]))
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    (folder / "my.py").write_text(SCORE, encoding="utf-8")
    run = folder / "run"
    assert main(["run", str(folder / "job.toml"), "--out", str(run), "--score", f"{folder / 'my.py'}:score"]) == 0
    assert main(["shortlist", str(run)]) == 0
    verify(run, lambda texts: [float(text.count("C")) for text in texts], control=False)
    return run


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "run"))


def answer(path):
    """Return all that commands would read in a run folder and go on with."""
    folder = RunFolder.open(path)
    run = OpenRun(folder)
    page = asdict(gather(run))
    found = load_candidates([run])
    newest = checkpoint.latest(folder.checkpoints)
    for sentence in newest.skipped:
        warnings.warn(sentence, ChangedFile, stacklevel=1)
    manifest = None if newest.path is None else checkpoint.read_manifest(newest.path)
    rows, record = read_selection(folder.shortlist)
    lists = (found.candidates.objects, found.mean.tolist(), found.candidates.steps.tolist(), found.conflicts)
    return repr((run.job, folder.about(), page, lists, newest.path, manifest, rows, record, read_set_aside(folder.set_aside)))


def mutated(content, rng):
    """Return content with one byte changed, taken away or put in, or with its end cut off."""
    place = rng.randrange(len(content))
    kind = rng.choice(["change"] * 5 + ["bit"] * 3 + ["without", "more", "cut"])
    if kind == "bit":
        return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    middle = {"change": bytes([(content[place] + rng.randrange(1, 256)) % 256]), "more": content[place : place + 1] * 2}
    return content[:place] if kind == "cut" else content[:place] + middle.get(kind, b"") + content[place + 1 :]


MANY = pytest.param(600, marks=pytest.mark.slow("reads a folder 600 times; a quarter of them guards the same"))


@pytest.mark.parametrize("num", [150, MANY])
def test_no_mutation_of_any_file_is_silent(run, num):
    """Every file of a run folder, so many mutations in all: the same answer, a sentence, or a warning that names the file."""
    rng = random.Random(0)
    expected = answer(run)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    assert {"archive.sqlite", "run.json", "job.toml", "history.csv", "timing.csv", "set_aside.jsonl", "shortlist.csv"} <= {
        path.name for path in files
    }
    each = {path: num // 3 if path.name == "archive.sqlite" else -(-2 * num // 3 // (len(files) - 1)) for path in files}
    noticed, silent = 0, []
    for path, number in each.items():
        content = path.read_bytes()
        for _ in range(number):
            path.write_bytes(changed := mutated(content, rng))
            told = outcome(run, expected)
            if told is None:
                silent.append((path.name, changed))
            noticed += bool(told)
            assert not told or path.name in told or path.parent.name.startswith("step-"), (path, told)
        path.write_bytes(content)
    assert sum(each.values()) >= num and not silent, [name for name, _ in silent]
    assert noticed > num // 2
    assert answer(run) == expected


def outcome(run, expected):
    """Return what was told, "" for the same answer without a word, None for another one without a word."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            same = answer(run) == expected
        except (ValueError, OSError) as error:
            return str(error)
    told = [str(one.message) for one in caught if issubclass(one.category, ChangedFile)]
    return "; ".join(told) or ("" if same else None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "[]"),
        ("run.json", "null"),
        ("run.json", '{"format_version": 1, "created": "2026", "versions": {"narrows": "1"}, "machine": ""}'),
        ("run.json", '{"format_version": 1, "run_id": "a", "created": "2026", "versions": {}, "machine": ""}'),
        ("run.json", '{"format_version": "\\u001b[31m", "run_id": "a"}'),
        ("run.json", "[" * 100_000),
        ("shortlist.json", "5"),
        ("shortlist.json", '{"k": "many"}'),
        ("verification.json", "{}"),
        ("set_aside.jsonl", "[1]\n"),
        ("timing.csv", "stap,steps,seconds\n5,5,1.0\n"),
        ("timing.csv", "step,steps,seconds\n5,5,fast\n"),
        ("history.csv", 'step,loss\n5,"0.1\n'),
        ("history.csv", ""),
        ("shortlist.csv", '"rank,sequence'),
    ],
)
def test_a_file_of_the_wrong_shape_is_a_sentence_that_names_it(run, name, content, capsys):
    (run / name).write_text(content, encoding="utf-8")
    assert main(["report", str(run)]) == 1
    told = capsys.readouterr().err
    assert name in told and told.count("\n") == 1 and told.rstrip().endswith((".", "SCORE"))
    assert "\x1b" not in told


@pytest.mark.parametrize(
    "name",
    ["archive.sqlite.lock", "archive.sqlite-wal", "history.csv", "set_aside.jsonl", "inputs/measured.csv", "checkpoints/link"],
)
def test_links_are_not_followed(run, tmp_path, name, capsys):
    """Whatever a link leads to keeps its bytes, and is not read."""
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine)
    words = ["--score", f"{tmp_path / 'my.py'}:score"]
    (tmp_path / "my.py").write_text(SCORE)
    for command in (
        ["resume", str(run), *words],
        ["shortlist", str(run)],
        ["report", str(run)],
        ["verify", str(run), "--score", "rna"],
    ):
        assert main(command) == 1
        told = capsys.readouterr().err
        assert Path(name).name in told and "symbolic link" in told and "Remove it" in told
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("opener", [lambda p: WriterLock.acquire(p, "it"), ScoreCache, lambda p: Archive.open(p, create=True)])
def test_locks_and_databases_open_plain_files_only(tmp_path, opener):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / "link").symlink_to(mine)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "new-journal").symlink_to(mine)
    for name in ("link", "pipe"):
        with pytest.raises(ValueError, match=f"{name} is a .* where only a plain file may be"):
            opener(tmp_path / name)
    if opener is not WriterLock:
        with pytest.raises(ValueError, match="new-journal is a symbolic link"):
            ScoreCache(tmp_path / "new")
    assert mine.read_text() == "precious"


def test_a_pipe_is_refused_not_waited_for(run, capsys):
    (run / "history.csv").unlink()
    os.mkfifo(run / "history.csv")
    assert main(["report", str(run)]) == 1
    assert "history.csv is a named pipe" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/etc/measured.csv", "../measured.csv", "inputs/../../measured.csv", "C:\\measured.csv"])
def test_paths_in_a_run_folder_stay_inside(run, path, capsys):
    """The table outside is not read, and no rejected.csv appears beside it."""
    outside = run.parent
    (outside / "measured.csv").write_text("sequence,score\nACG,1\nAC!,2\n", encoding="utf-8")
    job = (run / "job.toml").read_text(encoding="utf-8").replace('"inputs/measured.csv"', json.dumps(path))
    (run / "job.toml").write_text(job.replace('"refuse"', '"skip"'), encoding="utf-8")
    for command in ("shortlist", "report"):
        assert main([command, str(run)]) == 1
        assert "[data] path" in capsys.readouterr().err
    assert not (outside / "rejected.csv").exists()


def test_a_changed_input_is_refused_by_name(run, capsys):
    table = run / "inputs" / "measured.csv"
    table.write_text(table.read_text().replace(",", ",-"))
    for command in READERS:
        assert main([*command, str(run)]) == 1
        assert "measured.csv: changed or gone since the run began" in capsys.readouterr().err


def test_a_job_that_decides_otherwise_is_refused_and_a_longer_one_is_told_once(run, tmp_path, capsys):
    (tmp_path / "my.py").write_text(SCORE)
    before = (run / "job.toml").read_text(encoding="utf-8")
    (run / "job.toml").write_text(before.replace("beta = 1.0", "beta = 2.0"), encoding="utf-8")
    assert main(["shortlist", str(run)]) == 1
    assert "job.toml was changed in reward since the run began" in capsys.readouterr().err
    (run / "job.toml").write_text(before.replace("num_steps = 20", "num_steps = 25"), encoding="utf-8")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().err.count("job.toml was changed since the run began") == 1
    # The run came from a copy of the folder where the score lies, whose text is the same.
    assert main(["resume", str(run), "--score", f"{tmp_path / 'my.py'}:score"]) == 0
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().err == ""


def test_conflicts_are_told(run, capsys):
    folder = RunFolder.open(run)
    with Archive.open(folder.archive) as archive:
        entry = archive.top(1)[0]
        archive.add([entry.object], np.array([entry.log_reward + 1.0]), entry.step)
    assert main(["shortlist", str(run)]) == 0
    assert "Once an object came again with another score" in capsys.readouterr().out


def test_an_archive_that_lost_objects_is_told(run):
    folder = RunFolder.open(run)
    with Archive.open(folder.archive) as archive:
        archive.rollback_after(1)
    with pytest.warns(ChangedFile, match="archive.sqlite holds .* objects, though the run has seen"):
        load_candidates([OpenRun(folder)])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE objects SET log_reward = log_reward + 1 WHERE step = 3",
        "UPDATE objects SET object = 'GGG' || object WHERE step = 3",
        "DELETE FROM objects WHERE step = 3",
        "UPDATE objects SET log_reward = 'high' WHERE step = 3",
        "INSERT INTO objects VALUES ('GGGG', 99.0, 3, 0)",
        "UPDATE totals SET number = 'none'",
        "DELETE FROM totals",
    ],
)
def test_rows_changed_behind_the_archives_back_are_noticed(tmp_path, statement):
    path = tmp_path / "a.sqlite"
    with Archive.open(path, create=True) as archive:
        archive.add(["A", "C", "G"], np.array([1.0, 2.0, 3.0]), np.array([1, 2, 3]))
    with sqlite3.connect(path) as database:
        triggers = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        texts = [sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
        for name in triggers:
            database.execute(f"DROP TRIGGER {name}")
        database.execute(statement)
        for sql in texts:
            database.execute(sql)
    database.close()
    with Archive.open(path, read_only=True) as archive, pytest.raises(ValueError, match="a.sqlite is damaged.*Restore it"):
        assert archive.top(1) and archive.count()


def test_archives_and_folders_from_before_checksums_still_open(run):
    """As version 0.1.0 left them: an archive of format 1, and text files without checksums."""
    folder = RunFolder.open(run)
    expected = ranked(folder)
    with Archive.open(folder.archive, read_only=True) as archive:
        digest, conflicts = archive.content_hash(), archive.conflicts()
    as_format_1(folder.archive)
    for path, new in ((folder.about_file, {"inputs", "decides", "job_sha256"}), (run / "shortlist.json", {"sha256"})):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in facts.items() if name not in {"checksum", *new}}))
    for path in (folder.history, folder.timing):
        path.write_text("".join(line.rpartition(",")[0] + "\n" for line in path.read_text().splitlines()))
    lines = [json.loads(line) for line in folder.set_aside.read_text().splitlines()]
    folder.set_aside.write_text(
        "".join(json.dumps({k: v for k, v in line.items() if k != "checksum"}) + "\n" for line in lines)
    )
    with Archive.open(folder.archive, read_only=True) as archive:
        assert (archive.content_hash(), archive.conflicts()) == (digest, conflicts)
    assert ranked(RunFolder.open(run)) == expected
    with Archive.open(folder.archive) as archive:  # the first writer brings it to the present format
        assert archive.meta()["format_version"] == "2" and archive.content_hash() == digest
        archive.add(["GGGG"], np.array([9.0]), 30)
    with Archive.open(folder.archive, read_only=True) as archive:
        assert archive.top(1)[0].object == "GGGG"


def ranked(folder):
    """Return what does not depend on how a folder is kept."""
    found = load_candidates([OpenRun(folder)])
    rows, record = read_selection(folder.shortlist)
    set_aside = read_set_aside(folder.set_aside)
    history = read_rows(folder.history)
    page = gather(OpenRun(folder))
    return found.candidates.objects, found.mean.tolist(), rows, record and record.k, set_aside, history, page.name


def as_format_1(path):
    with sqlite3.connect(path) as old:
        objects = old.execute("SELECT object, log_reward, step FROM objects").fetchall()
        run_id = old.execute("SELECT value FROM meta WHERE key = 'run_id'").fetchone()[0]
    old.close()
    path.unlink()
    with sqlite3.connect(path, isolation_level=None) as new:
        new.execute("PRAGMA application_id = 1312903762")
        new.execute("CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID")
        new.execute(
            "CREATE TABLE objects(object TEXT PRIMARY KEY NOT NULL, log_reward REAL NOT NULL, step INTEGER NOT NULL)"
            " WITHOUT ROWID"
        )
        new.execute("CREATE INDEX best_first ON objects(log_reward DESC, step, object)")
        new.execute("CREATE TABLE conflicts(step INTEGER PRIMARY KEY NOT NULL, number INTEGER NOT NULL)")
        new.executemany("INSERT INTO meta VALUES (?, ?)", [("format_version", "1"), ("run_id", run_id)])
        new.executemany("INSERT INTO objects VALUES (?, ?, ?)", objects)
    new.close()


def test_a_selection_changes_as_a_whole(run, tmp_path, monkeypatch):
    """With a disk that fails at any of the three files."""
    names = ("shortlist.csv", "shortlist.fasta", "shortlist.json")
    before = {name: (run / name).read_bytes() for name in names}
    real = os.fsync
    for fails_at in range(1, 4):
        calls = itertools.count(1)

        def fail(descriptor, calls=calls, fails_at=fails_at):
            if next(calls) == fails_at:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fail)
        assert main(["shortlist", str(run), "--k", "2"]) == 1
        monkeypatch.undo()
        assert {name: (run / name).read_bytes() for name in names} == before
    assert main(["shortlist", str(run), "--k", "2"]) == 0
    assert {name for name in names if (run / name).read_bytes() != before[name]} == {*names}
    assert not list(run.glob(".*.tmp"))


def test_drafts_of_killed_writers_are_tidied_and_those_in_use_are_not(run, capsys):
    left = run / f".shortlist.csv.{'0' * 32}.tmp"
    left.write_text("half")
    strange = run / ".shortlist.csv.notes.tmp"
    strange.write_text("mine")
    in_use = run / f".shortlist.csv.{'1' * 32}.tmp"
    with open(in_use, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert main(["shortlist", str(run)]) == 0
        assert not left.exists() and strange.exists() and in_use.exists()


def test_drafts_of_killed_runs_are_tidied(tmp_path, made):
    job = RunFolder.open(made).job()
    left = tmp_path / f".new.{'0' * 32}.tmp"
    (left / "inputs").mkdir(parents=True)
    RunFolder.create(tmp_path / "new", job, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
    with pytest.raises(RunError, match="already holds a run"):
        RunFolder.create(tmp_path / "new", job, {})


def test_a_verification_names_each_group_and_as_many_numbers(run):
    facts = json.loads((run / "verification.json").read_text())
    del facts["checksum"]
    facts["groups"][0]["true_scores"].pop()
    (run / "verification.json").write_text(record_text(facts))
    with pytest.raises(ValueError, match="verification.json.*expected one number for each of 4 objects"):
        gather(OpenRun(run))
    assert read_rows(run / "nothing.csv") == []
