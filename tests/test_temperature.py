"""A job that leaves its temperature to be found, and what a run writes of it."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from narrows.config import JobError, build, load_job, parse_job
from narrows.data import write_table
from narrows.runs import RunFolder, temperature, with_temperature

OBJECTS = ["".join(word) for word in itertools.product("ACGU", repeat=5)]
SCORES = np.array([text.count("G") + 0.25 * text.count("CA") for text in OBJECTS])


def document(**objective):
    return {
        "env": {"name": "Sequence", "alphabet": "ACGU", "min_length": 5, "max_length": 5},
        "reward": {"name": "Landscape", "path": "landscape.csv", "scale": "none", "beta": "auto"},
        "objective": {"name": "TrajectoryGeneralMellowmax", **objective},
        "shortlist": {"k": 2},
    }


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path / "landscape.csv", OBJECTS, SCORES)
    return tmp_path


@pytest.mark.parametrize(
    ("objective", "greed"), [({"q": 0.0, "omega": 1.0}, 1.0), ({"q": 0.5, "omega": 2.0, "alpha": 4.0}, 4.0)]
)
def test_the_policy_spreads_over_a_hundred_objects_for_each_row(folder, objective, greed):
    job = with_temperature(parse_job(document(**objective), folder))
    log_weights = greed * job.reward["beta"] * SCORES
    shares = np.exp(log_weights - log_weights.max())
    shares /= shares.sum()
    assert np.exp(-np.sum(shares * np.log(shares))) == pytest.approx(200.0, rel=0.01)
    assert with_temperature(job) is job


def test_a_run_writes_into_its_job_what_was_found(folder):
    run = RunFolder.create(folder / "run", parse_job(document(), folder), {})
    assert run.job().reward["beta"] == with_temperature(parse_job(document(), folder)).reward["beta"] > 0


def test_where_it_cannot_be_found_the_job_says_so(folder):
    with pytest.raises(JobError, match="which a run finds when it begins"):
        build(parse_job(document(), folder))
    own = {"env": document()["env"], "reward": {"name": "Score", "beta": "auto"}}
    with pytest.raises(JobError, match="no function of your own. Give a number"):
        with_temperature(parse_job(own, folder))
    sets = {"env": {"name": "Subsets", "num_items": 4}, "reward": {"name": "PairwiseSubsets", "beta": "auto"}}
    with pytest.raises(JobError, match="needs a reward of sequences"):
        with_temperature(parse_job(sets, folder))
    with pytest.raises(JobError, match="beta"):
        parse_job({**own, "reward": {"name": "Score", "beta": "hot"}}, folder)


def test_a_proxy_of_measurements_has_its_temperature_found_unless_the_job_says_one(folder):
    write_table(folder / "t.csv", OBJECTS[:30], SCORES[:30])
    data = '[data]\npath = "t.csv"\nspace = "rna"\n'
    for more, beta, steps in (("", "auto", 0), ("[reward]\nbeta = 3.0\n[train]\nnum_steps = 7\n", 3.0, 7)):
        (folder / "job.toml").write_text(data + more, encoding="utf-8")
        job = load_job(folder / "job.toml")
        assert (job.reward["beta"], job.train.num_steps) == (beta, steps)
    long = [text * 5 for text in OBJECTS[:30]]
    write_table(folder / "t.csv", long, SCORES[:30])
    (folder / "job.toml").write_text(data, encoding="utf-8")
    assert load_job(folder / "job.toml").train.num_steps == 2000


def test_the_limit_of_distance_is_what_the_fit_found(folder, monkeypatch):
    write_table(folder / "t.csv", [text * 5 for text in OBJECTS[:30]], SCORES[:30])
    (folder / "job.toml").write_text('[data]\npath = "t.csv"\nspace = "rna"\n[near]\nlimit = "auto"\n', encoding="utf-8")
    job = load_job(folder / "job.toml")
    assert job.near is not None and job.near.limit == "auto"
    with pytest.raises(JobError, match="which a run finds when it begins"):
        _ = job.near.edits
    given = replace(job, reward={**job.reward, "beta": 2.0})
    for trusted in (7, None):
        quality = SimpleNamespace(trusted_distance=trusted)
        monkeypatch.setattr(temperature, "quality_of_proxy", lambda job, quality=quality: quality)
        found = with_temperature(given)
        assert (None if found.near is None else found.near.edits) == trusted
