"""The benchmark of kills, without a kill: when it kills, and that it sees what is not whole."""

import sqlite3
from dataclasses import replace

from benchmarks import kills
from benchmarks._kills.process import Ended, Moment
from benchmarks._kills.scenes import SCENES

SCENE = replace(SCENES["report"], opened=lambda folder: None)


def test_moments_are_spread_over_the_time_and_over_the_changes():
    moments = kills._moments(Ended(0, 10.0, 4), 8)
    assert moments[:4] == [Moment(seconds=seconds) for seconds in (1.25, 3.75, 6.25, 8.75)]
    assert moments[4:] == [Moment(changes=change) for change in (1, 2, 3, 4)]


def test_what_is_not_whole_is_seen(tmp_path):
    (tmp_path / "run").mkdir()
    kept, page, base = (tmp_path / "run" / name for name in ("job.toml", "report.html", "archive.sqlite"))
    kept.write_text("kept")
    page.write_text("old")
    sqlite3.connect(base).execute("create table seen (name)")
    before = kills._contents(tmp_path)
    page.write_text("new")
    known = {"before": before, "after": kills._contents(tmp_path)}
    assert kills._fault(SCENE, tmp_path, known) is None
    page.write_text("ne")
    assert kills._fault(SCENE, tmp_path, known) == "run/report.html is neither the old one nor the new one"
    page.write_text("old")
    assert kills._fault(SCENE, tmp_path, known) is None
    kept.write_text("kep")
    assert kills._fault(SCENE, tmp_path, known) == "run/job.toml has changed"
    kept.unlink()
    assert kills._fault(SCENE, tmp_path, known) == "run/job.toml is gone"
    kept.write_text("kept")
    base.write_bytes(b"no data base, though long enough to be one" * 40)
    assert kills._fault(SCENE, tmp_path, known) == "run/archive.sqlite: file is not a database"
    (tmp_path / "run" / ".report.html.0.tmp").write_text("")
    assert kills._drafts(tmp_path) == 1
