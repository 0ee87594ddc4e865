"""Scores that were paid for once: what is remembered, for whom, and in which files."""

import contextlib
import json
import sqlite3

import numpy as np
import pytest

from narrows.scorers import ScoreError, load_scorer
from narrows.scorers.cache import ScoreCache

LENGTHS = "def score(objects):\n    return [float(len(one)) for one in objects]\n"
COUNTED = """
import json, pathlib
LOG = pathlib.Path(__file__).with_name("calls.txt")
def score(objects):
    with LOG.open("a") as file: file.write(json.dumps(objects) + "\\n")
    return [float("nan") if one == "bad" else 0.1 * len(one) for one in objects]
"""


def asked(tmp_path):
    return [name for line in (tmp_path / "calls.txt").read_text().splitlines() for name in json.loads(line)]


def test_an_object_is_scored_once(write, tmp_path):
    with load_scorer(write(COUNTED)) as score:
        assert score(["AA", "A", "AA"]).values.tolist() == [0.2, 0.1, 0.2]
        assert score(["A", "AAA"]).values[0] == 0.1
    assert asked(tmp_path) == ["AA", "A", "AAA"]


def test_a_cache_file_serves_the_next_run_until_the_score_changes(write, tmp_path):
    name, cache = write(COUNTED), tmp_path / "scores.sqlite"
    with load_scorer(name, cache=cache) as score:
        first = score(["A", "bad", "AA"])
    with load_scorer(name, cache=cache) as score:
        second = score(["AA", "A", "AAA"])
        identity = score.identity
    assert second.values.tolist() == [first.values[2], first.values[0], 0.1 * 3]
    assert asked(tmp_path) == ["A", "bad", "AA", "AAA"]  # a failure is not remembered for the next run
    write(COUNTED.replace("0.1 *", "0.5 *"))
    with load_scorer(name, cache=cache) as score:
        assert score.identity != identity
        assert score(["AA"]).values.tolist() == [1.0]


def test_many_objects_are_looked_up_at_once(write, tmp_path):
    names, cache = [f"{n}" for n in range(1500)], tmp_path / "scores.sqlite"
    for _ in range(2):
        with load_scorer(write(COUNTED), cache=cache) as score:
            np.testing.assert_allclose(score(names).values, [0.1 * len(name) for name in names])
    assert len(asked(tmp_path)) == 1500


def test_batches_finished_before_a_fault_are_remembered(write, tmp_path):
    name, cache = write(COUNTED.replace('"bad" else', '"bad" else "text" if one == "text" else')), tmp_path / "scores.sqlite"
    with load_scorer(name, cache=cache, batch_size=1) as score, pytest.raises(ScoreError, match="'text'"):
        score(["A", "text", "AA"])
    with load_scorer(name, cache=cache) as score:
        score(["A"])
    assert asked(tmp_path) == ["A", "text"]


def test_a_file_that_is_no_cache_is_refused_untouched(write, tmp_path):
    text, other = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("these are my notes, and they are long enough to look at\n" * 20)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(ValueError, match=f"{path.name} is no cache of scores"):
            load_scorer(write(LENGTHS), cache=path)
        assert path.read_bytes() == before
    with pytest.raises(ValueError, match="cannot be"):
        load_scorer(write(LENGTHS), cache=tmp_path / "no" / "such" / "folder.sqlite")


def test_a_changed_score_is_noticed_and_an_older_file_goes_on(tmp_path):
    path = tmp_path / "scores.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old, old:  # as version 0.1.0 left it
        old.execute("CREATE TABLE scores (scorer TEXT, object TEXT, value REAL, PRIMARY KEY (scorer, object)) WITHOUT ROWID")
        old.execute("INSERT INTO scores VALUES ('s', 'old', 1.0)")
        old.execute("PRAGMA user_version = 1")
    with contextlib.closing(ScoreCache(path, read_only=True)) as cache:
        assert cache.get("s", ["old"]) == {"old": 1.0}
    with contextlib.closing(ScoreCache(path)) as cache:
        cache.put("s", {"new": 2.0})
        assert cache.get("s", ["old", "new"]) == {"old": 1.0, "new": 2.0}
    for change in ("value = 3.0", "value = 'high'", "object = 'gnu'"):
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute(f"UPDATE scores SET {change} WHERE object = 'new'")
        with contextlib.closing(ScoreCache(path)) as cache, pytest.raises(ValueError, match="scores.sqlite is damaged.*asked"):
            cache.get("s", ["new", "gnu"])
