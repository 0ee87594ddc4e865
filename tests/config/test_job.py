"""Job files: defaults filled in, every mistake named with what would be right, and a round trip through TOML."""

import pytest

from narrows.config import JobError, dump_job, load_job
from narrows.runs.pinned import what_decides

JOB = """
seed = 3
[env]
name = "Hypergrid"
ndim = 2
side = 8
[reward]
name = "HypergridReward"
beta = 2.0
"""


def write(tmp_path, text):
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_filled_in(tmp_path):
    job = load_job(write(tmp_path, JOB))
    assert (job.name, job.seed, job.train.batch_size, job.shortlist.k) == ("job", 3, 64, 24)
    assert job.objective["name"] == "TrajectoryGeneralMellowmax"
    assert job.reward["r0"] == 0.1 and job.reward["beta"] == 2.0


def test_round_trip_through_toml(tmp_path):
    extra = '[replay]\nprioritised = true\n[data]\npath = "a \\"b\\".csv"\nspace = "rna"\n[exploration]\nepsilon = 1e-3\n'
    for name in ("", 'name = "Conservative"\ndelta = 0.25\n'):
        job = load_job(write(tmp_path, JOB + extra + name))
        again = load_job(write(tmp_path, dump_job(job)))
        assert again == job and job.exploration["epsilon"] == 1e-3 and job.exploration.get("delta") == (0.25 if name else None)


def test_a_run_from_before_explorations_had_names_goes_on(tmp_path):
    job = load_job(write(tmp_path, JOB + "[exploration]\nepsilon = 0.5\n[replay]\n"))
    assert what_decides(job)["exploration"] == "[('epsilon', 0.5), ('temperature', 1.0)]"
    assert "keep" not in what_decides(job)["replay"]
    named = load_job(write(tmp_path, JOB + '[exploration]\nname = "LocalSearch"\n[replay]\nkeep = "best"\n'))
    assert "LocalSearch" in what_decides(named)["exploration"] and "best" in what_decides(named)["replay"]


def test_noise_is_a_table_like_any_other(tmp_path):
    quiet = load_job(write(tmp_path, JOB))
    assert quiet.noise is None and "noise" not in dump_job(quiet)
    job = load_job(write(tmp_path, JOB + '[noise]\nname = "Substitution"\n'))
    assert job.noise == {"name": "Substitution", "rate": 0.1}
    assert load_job(write(tmp_path, dump_job(job))) == job
    assert load_job(write(tmp_path, JOB), {"noise.name": "Substitution", "noise.rate": 1}).noise == {
        "name": "Substitution",
        "rate": 1.0,
    }
    learned = load_job(write(tmp_path, JOB + '[noise]\nname = "Observed"\npath = "seen.csv"\nmodel = "network"\n'))
    assert learned.noise is not None and (learned.noise["model"], learned.noise["seed"]) == ("network", 0)
    assert load_job(write(tmp_path, dump_job(learned))) == learned


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('name = "Fog"', r"\[noise\] unknown name 'Fog'. Known: Observed, Substitution, Table\."),
        ('name = "Matrix"', r"\[noise\] unknown name 'Matrix'"),
        ("rate = 0.1", r"\[noise\] it has no name. Known: Observed"),
        ('name = "Substitution"\nrates = 0.1', r"\[noise\] unknown fields \['rates'\]. Did you mean 'rate'\? Known: rate;"),
        ('name = "Substitution"\nrate = "high"', r"\[noise\] rate: .*number, got 'high'"),
        ('name = "Substitution"\nenv = "Hypergrid"', r"\[noise\] unknown fields \['env'\]"),
        ('name = "Table"', r"\[noise\] path is missing. Fields: path"),
        ('name = "Observed"\npath = "x.csv"\nmodel = "forest"', r"\[noise\] model: .*'table' or 'network', got 'forest'"),
    ],
)
def test_mistakes_in_noise_are_named(tmp_path, table, expected):
    with pytest.raises(JobError, match=expected):
        load_job(write(tmp_path, f"{JOB}[noise]\n{table}\n"))


def test_overrides_replace_values_and_make_tables(tmp_path):
    job = load_job(write(tmp_path, JOB), {"train.num_steps": 7, "seed": 9, "replay.capacity": 5})
    assert (job.train.num_steps, job.seed) == (7, 9)
    assert job.replay is not None and job.replay["capacity"] == 5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("side = 8", "sides = 8"), r"\[env\] unknown fields \['sides'\]. Did you mean 'side'\? Known: ndim, side"),
        (("side = 8", 'side = "8"'), r"\[env\] side: .*integer, got '8'"),
        (("side = 8", "side = true"), r"\[env\] side: .*integer, got True"),
        (('"Hypergrid"', '"Grid"'), r"\[env\] unknown name 'Grid'. Known: BitSequence, ConnectFour, Hypergrid"),
        (('name = "Hypergrid"\n', ""), r"\[env\] it has no name. Known"),
        (('"HypergridReward"', '"os.system"'), r"\[reward\] unknown name 'os.system'. Known"),
        (("seed = 3", "seed = -3"), "seed must be an integer from 0"),
        (("seed = 3", "sed = 3"), r"unknown entries \['sed'\]. Did you mean 'seed'\? A job has: name, seed, env"),
        (("beta = 2.0", "beta = 'hot'"), r"\[reward\] beta: .*number or 'auto', got 'hot'"),
        (("seed = 3", "seed = = 3"), "not a TOML file"),
        (("[env]", "[environment]"), r"unknown entries \['environment'\]"),
    ],
)
def test_mistakes_are_named(tmp_path, change, expected):
    with pytest.raises(JobError, match=expected):
        load_job(write(tmp_path, JOB.replace(*change)))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("[train]\nnum_steps = -1", "num_steps must be at least 0, got -1"),
        ("[train]\nsteps = 10", r"\[train\] unknown fields \['steps'\]. Did you mean 'num_steps'\? Known: batch_size"),
        ("[shortlist]\nk = 0", "expected k >= 1"),
        ('[shortlist]\nby = "best"', "by: .*'mean', .*'neighbourhood' or 'thompson', got 'best'"),
        ('[data]\npath = "x.csv"', "space is missing"),
        ("train = 3", "train must be a table"),
    ],
)
def test_mistakes_in_sections_are_named(tmp_path, section, expected):
    text = f"{section}\n{JOB}" if section.startswith("train") else f"{JOB}\n{section}\n"
    with pytest.raises(JobError, match=expected):
        load_job(write(tmp_path, text))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(JobError, match="there is no such job file"):
        load_job(tmp_path / "none.toml")
    with pytest.raises(JobError, match="is a folder"):
        load_job(tmp_path)
