"""`narrows shortlist --by sampler` as a user meets it."""

import itertools
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from narrows.cli import main
from narrows.config import build, build_env, parse_job
from narrows.data import write_table
from narrows.exact import enumerate_graph, solve
from narrows.operators import GeneralMellowmax
from narrows.runs import OpenRun, RunFolder
from narrows.runs.shortlists import resolve_ranking
from narrows.selection import read_csv
from narrows.selection.rankings.sampler import mixed_log_likelihoods
from narrows.storage import checkpoint
from narrows.storage.archive import Archive

OBJECTS = ["".join(word) for word in itertools.product("ACG", repeat=3)]
SCORES = np.array([(text.count("G") + 0.5 * text.count("C")) / 3 for text in OBJECTS])
JOB = """
[env]
name = "Sequence"
alphabet = "ACG"
min_length = 3
max_length = 3
[reward]
name = "Landscape"
path = "landscape.csv"
beta = 6.0
[policy]
name = "Tabular"
[optimizer]
learning_rate = 0.05
[train]
num_steps = 200
batch_size = 16
epochs = 2
minibatches = 2
every = 100
checkpoint_every = 100
[shortlist]
k = 3
min_distance = 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampler")
    write_table(folder / "landscape.csv", OBJECTS, SCORES)
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    assert main(["run", str(folder / "job.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_rows_are_ranked_by_the_trained_policy(run, capsys):
    assert main(["shortlist", str(run), "--by", "sampler"]) == 0
    assert "probability under the sampler" in capsys.readouterr().out
    folder = RunFolder.open(run)
    job = folder.job()
    assert (job.train.epochs, job.train.minibatches) == (2, 2)
    rows = [row.sequence for row in read_csv(folder.shortlist)]
    likely = mixed_log_likelihoods([OpenRun(folder)], OBJECTS)
    assert rows == [OBJECTS[place] for place in np.argsort(-likely, kind="stable")[:3]]
    # Trained in parts of batches, it has learned what the dynamic programme says.
    env = build_env(job)
    graph = enumerate_graph(env)
    truth = dict(zip(OBJECTS, SCORES, strict=True))
    log_reward = 6.0 * np.array([truth[name] for name in env.to_text(graph.terminal_states)])
    settings = {name: job.objective[name] for name in ("omega", "alpha", "q")}
    law = dict(
        zip(env.to_text(graph.terminal_states), solve(graph, log_reward, GeneralMellowmax(**settings)).log_probs, strict=True)
    )
    assert 0.5 * np.sum(np.abs(np.exp(likely) - np.exp([law[name] for name in OBJECTS]))) < 0.05
    assert json.loads(folder.shortlist.with_suffix(".json").read_text())["ranked_by"] == "sampler"
    assert main(["report", str(run)]) == 0
    assert "how likely the sampler itself is to make them" in folder.report.read_text(encoding="utf-8")
    # Several runs speak with one voice: the same twice is the same.
    np.testing.assert_allclose(mixed_log_likelihoods([OpenRun(folder), OpenRun(folder)], OBJECTS), likely)


def test_unless_told_a_score_ranks_itself_and_under_noise_what_comes_out(run):
    folder = RunFolder.open(run)
    known = folder.job()
    fitted = replace(known, reward={"name": "Proxy", "path": "proxy", "beta": 1.0})

    def by(job):
        return resolve_ranking([OpenRun(folder, job=job)]).by

    assert by(known) == by(fitted) == "mean"
    assert by(replace(fitted, shortlist=replace(fitted.shortlist, by="lower_bound"))) == "lower_bound"
    assert by(replace(fitted, noise={"name": "Substitution", "rate": 0.1})) == "expected"


def test_without_a_whole_checkpoint_there_is_no_sampler_to_rank_by(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    for path in folder.checkpoints.glob("*/manifest.json"):
        path.write_bytes(path.read_bytes()[:100])
    assert main(["shortlist", str(folder.path), "--by", "sampler"]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "there is no trained sampler to rank by" in error
    assert "skipped a checkpoint that does not verify" in error and "use --by mean" in error
    assert main(["shortlist", str(folder.path)]) == 0


@pytest.mark.slow("trains by a score; below the ranking says so of an untrained run")
def test_where_it_cannot_be_told_how_likely_an_object_is_the_command_says_so(tmp_path, capsys):
    job = """
[env]
name = "Subsets"
num_items = 4
[reward]
name = "Score"
beta = 1.0
[train]
num_steps = 2
batch_size = 4
"""
    (tmp_path / "job.toml").write_text(job, encoding="utf-8")
    (tmp_path / "mine.py").write_text("def size(texts):\n    return [float(len(text)) for text in texts]\n", encoding="utf-8")
    run = tmp_path / "run"
    assert main(["run", str(tmp_path / "job.toml"), "--out", str(run), "--score", f"{tmp_path / 'mine.py'}:size"]) == 0
    capsys.readouterr()
    assert main(["shortlist", str(run), "--by", "sampler", "--k", "2", "--min-distance", "1"]) != 0
    output = capsys.readouterr()
    assert "can be made in several ways. Use --by mean." in " ".join((output.out + output.err).split())


def test_where_it_cannot_be_told_how_likely_an_object_is_the_ranking_says_so(tmp_path, capsys):
    document = {"env": {"name": "Subsets", "num_items": 4}, "reward": {"name": "PairwiseSubsets"}}
    folder = RunFolder.create(tmp_path / "run", parse_job(document, tmp_path), {})
    job = folder.job()
    untrained = build(job).trainer(job).init(jax.random.key(0))
    checkpoint.save(folder.checkpoints, untrained, step=1, metadata={})
    with Archive.open(folder.archive, create=True, run_id=folder.about().run_id) as archive:
        archive.add(["0110", "1000"], np.array([1.0, 0.0]), 1)
    assert main(["shortlist", str(folder.path), "--by", "sampler", "--k", "2", "--min-distance", "1"]) == 1
    assert "can be made in several ways" in (told := " ".join(capsys.readouterr().err.split())) and "Use --by mean." in told


@pytest.mark.parametrize("field", ["epochs", "minibatches"])
def test_passes_must_make_sense(tmp_path, capsys, field):
    write_table(tmp_path / "landscape.csv", OBJECTS, SCORES)
    (tmp_path / "job.toml").write_text(JOB.replace(f"{field} = 2", f"{field} = 0"), encoding="utf-8")
    assert main(["run", str(tmp_path / "job.toml"), "--out", str(tmp_path / "run")]) != 0
    output = capsys.readouterr()
    assert f"{field} must be at least 1, got 0" in " ".join((output.out + output.err).split())
