"""`narrows worst` as a user meets it: exact where states can be listed, estimated elsewhere, and a sentence for mistakes."""

import csv
import itertools
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

from narrows import commands
from narrows.cli import main
from narrows.commands.worst_case import COLUMNS, WorstSettings, render, worst
from narrows.config import build, load_job
from narrows.data import write_table
from narrows.envs import Sequence
from narrows.exact import enumerate_graph, solve
from narrows.operators import GeneralMellowmax
from narrows.runs import RunFolder
from narrows.runs.worst_case import sets_of
from narrows.storage import checkpoint

LETTERS, BETA = "ACG", 4.0
OBJECTS = ["".join(word) for word in itertools.product(LETTERS, repeat=3)]
SCORES = np.array([(text.count("G") + 0.5 * text.count("C")) / 3 for text in OBJECTS])
JOB = f"""
name = "all 3-mers"
[env]
name = "Sequence"
alphabet = "{LETTERS}"
min_length = 3
max_length = 3
[reward]
name = "Landscape"
path = "landscape.csv"
beta = {BETA}
[policy]
name = "Tabular"
[objective]
omega = 2.0
[optimizer]
learning_rate = 0.05
[train]
num_steps = 400
batch_size = 16
every = 200
checkpoint_every = 200
[shortlist]
k = 3
min_distance = 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a shortlist."""
    folder = tmp_path_factory.mktemp("job")
    write_table(folder / "landscape.csv", OBJECTS, SCORES)
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    assert main(["run", str(folder / "job.toml"), "--out", str(folder / "run")]) == 0
    assert main(["shortlist", str(folder / "run")]) == 0
    return folder / "run"


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_exact_figures_of_every_set(run, capsys):
    assert main(["worst", str(run)]) == 0
    output = capsys.readouterr().out
    found = worst(run)
    assert found.reason is None and found.reference == "solution" and f"exact, over {found.num} states" in output
    assert [row.which.is_own for row in found.rows] == [True, False, False, False]
    env = Sequence(LETTERS, 3, 3)
    graph = enumerate_graph(env)
    truth = dict(zip(OBJECTS, SCORES, strict=True))
    log_reward = BETA * np.array([truth[name] for name in env.to_text(graph.terminal_states)])
    for row in found.rows:
        assert row.best_value is not None and row.margin is not None
        assert row.best_value == pytest.approx(solve(graph, log_reward, row.which.operator).root_value / BETA, abs=1e-6)
        assert row.value.value < row.best_value and f"{row.value.value:.4f}" in output
        assert row.contains_proxy == (row.which.operator.q == 1.0)
        # In a tree an adversary of q = 1 can leave the score as it is, one of q = 0 must raise it.
        sign = {0.0: 1.0, 1.0: -1.0}.get(row.which.operator.q)
        assert sign is None or sign * (row.value.value - found.mean_score.value) > 0.0
    # Trained against its own set, the policy is nearest to the optimum there.
    gaps = [(row.best_value or 0.0) - row.value.value for row in found.rows]
    assert gaps[0] == min(gaps) < 0.02
    assert commands.worst is worst


def test_objects_of_the_shortlist_come_first(run, tmp_path, capsys):
    out = tmp_path / "objects.csv"
    assert main(["worst", str(run), "--out", str(out), "--top", "5"]) == 0
    assert f"written: {out}" in capsys.readouterr().out
    rows = rows_of(out)
    assert tuple(rows[0]) == COLUMNS
    shortlist = [row["sequence"] for row in rows_of(run / "shortlist.csv")]
    assert [row["object"] for row in rows[:3]] == shortlist and {row["from"] for row in rows[:3]} == {"shortlist"}
    rest = rows[3:]
    assert {row["from"] for row in rest} <= {"most probable"} and len({row["object"] for row in rows}) == len(rows)
    truth = dict(zip(OBJECTS, SCORES, strict=True))
    for row in rows:
        assert float(row["score"]) == pytest.approx(truth[row["object"]], abs=1e-6)
        assert float(row["worst_score"]) == pytest.approx(float(row["score"]) + float(row["worst_change"]), abs=1e-6)
    assert main(["worst", str(run), "--out", str(out), "--top", "27"]) == 0
    everything = rows_of(out)
    total = sum(float(row["probability"]) * float(row["worst_score"]) for row in everything)
    assert len(everything) == 27 and total == pytest.approx(worst(run).rows[0].value.value, abs=1e-6)


def test_samples_where_states_are_too_many(run, tmp_path, capsys):
    exact_csv, sampled_csv = tmp_path / "exact.csv", tmp_path / "sampled.csv"
    exact = worst(run, settings=WorstSettings(reference="model", out=exact_csv, top=27))
    found = worst(run, settings=WorstSettings(states=20, out=sampled_csv, top=27, plot=tmp_path / "plot.svg"))
    assert found.reason is not None and "more than limit = 20 states" in found.reason
    assert found.reference == "model" and found.num == 4096
    for one, other in zip(found.rows, exact.rows, strict=True):
        assert one.which == other.which and one.best_value is None and one.contains_proxy is None
        assert abs(one.value.value - other.value.value) < 4.0 * one.value.standard_error < 0.05
    # Single objects of a tree need no sampling: their trajectory is known.
    known = {row["object"]: row for row in rows_of(exact_csv)}
    for row in rows_of(sampled_csv):
        for column in ("probability", "score", "worst_change"):
            assert float(row[column]) == pytest.approx(float(known[row["object"]][column]), abs=1e-4)
    text = render(found)
    assert "more than limit = 20 states" in text and "±" in text and "of the model's own values" in text


def test_the_picture_is_of_the_first_choice(run, tmp_path):
    for name, states in (("exact.svg", 1000), ("sampled.svg", 20)):
        worst(run, settings=WorstSettings(plot=tmp_path / name, states=states, samples=256))
        root = ElementTree.fromstring((tmp_path / name).read_text(encoding="utf-8"))
        words = root.attrib["aria-label"]
        # Letters that score more are taken more often.
        assert "changes of G and C, in units of the score" in words
        assert "q 0.5: worst case (" in words
    worst(run, settings=WorstSettings(plot=tmp_path / "exact.svg"))  # its own file may be replaced


def test_another_set_can_be_asked_for(run, capsys):
    assert main(["worst", str(run), "--omega", "1", "--q", "0.25", "--alpha", "0.5", "--samples", "300"]) == 0
    first = capsys.readouterr().out.split("score itself\n")[1].splitlines()[0]
    assert first.startswith("general mellowmax (omega 1, alpha 0.5, q 0.25) ")


def test_sets_by_name():
    own = GeneralMellowmax(2.0, 1.0, 0.5)
    assert [(one.name, one.is_own) for one in sets_of(own, None, None, None)] == [
        ("general mellowmax", True),
        ("GFlowNet", False),
        ("mellowmax", False),
        ("soft mellowmax", False),
    ]
    plain = sets_of(GeneralMellowmax(1.0, 1.0, 0.0), None, None, None)
    assert plain[0].name == "GFlowNet" and plain[0].is_own and plain[3].operator == GeneralMellowmax(1.0, 1.0, 0.5)
    asked = sets_of(own, None, None, 1.0)
    assert asked[0].name == "soft mellowmax" and not any(one.is_own for one in asked[:2]) and asked[3].is_own
    # Without alpha soft mellowmax is mellowmax; a run that maximises has no set of its own.
    assert [one.name for one in sets_of(own, None, 0.0, 1.0)] == ["mellowmax", "GFlowNet", "general mellowmax"]
    assert not any(one.is_own for one in sets_of(None, None, None, None))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--q", "1.5"], "q must lie in [0, 1], got 1.5"),
        (["--omega", "0"], "omega must be positive"),
        (["--states", "0"], "--states must be at least 1, got 0"),
        (["--samples", "1"], "--samples must be at least 2, got 1"),
        (["--out", "objects.txt"], "ends in .csv"),
        (["--plot", "nowhere/plot.svg"], "a folder that is there"),
        (["--score", "none.py:f"], "none.py"),
    ],
)
def test_mistakes_are_sentences(run, tmp_path, monkeypatch, words, expected, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["worst", str(run), *words]) == 1
    error = capsys.readouterr().err
    assert expected in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_is_overwritten(run, tmp_path, capsys):
    for name, option in (("table.csv", "--out"), ("drawing.svg", "--plot")):
        (tmp_path / name).write_text("sequence,score\n", encoding="utf-8")
        assert main(["worst", str(run), option, str(tmp_path / name)]) == 1
        assert "is something else" in capsys.readouterr().err
        assert (tmp_path / name).read_text(encoding="utf-8") == "sequence,score\n"


def test_a_run_without_a_checkpoint(run, tmp_path, capsys):
    folder = RunFolder.create(tmp_path / "new", RunFolder.open(run).job(), {})
    assert main(["worst", str(folder.path)]) == 1
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_under_noise_the_policy_has_a_worst_case_and_objects_have_none(run, tmp_path, capsys):
    job = run.parent / "noisy.toml"
    noisy = JOB.replace("[objective]\nomega = 2.0", '[noise]\nname = "Substitution"\nrate = 0.3\n[objective]\nname = "SoftQ"')
    job.write_text(noisy, encoding="utf-8")
    folder = RunFolder.create(tmp_path / "run", load_job(job), {})
    kept = folder.job()
    # A policy as it begins is one, too, and training takes longer than the rest.
    untrained = build(kept).trainer(kept).init(jax.random.key(0))
    checkpoint.save(folder.checkpoints, untrained, step=1, metadata={})
    assert main(["worst", str(tmp_path / "run")]) == 0
    assert "GFlowNet (omega 1, q 0) *" in capsys.readouterr().out
    assert main(["worst", str(tmp_path / "run"), "--out", str(tmp_path / "objects.csv")]) == 1
    assert "several ways" in capsys.readouterr().err
