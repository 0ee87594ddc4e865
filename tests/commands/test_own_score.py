"""A run by a score of the user's, from its first words to making it again: nothing speaks of a proxy that is not there."""

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.report.reading import read

from narrows.cli import main
from narrows.config import DataSettings
from narrows.runs import OpenRun, RunFolder, reproduce
from narrows.runs.page import gather

JOB = """
[env]
name = "Sequence"
alphabet = "ACGU"
min_length = 4
max_length = 4
[reward]
name = "Score"
beta = 4.0
kappa = 0.5
[policy]
name = "Tabular"
[train]
num_steps = 20
batch_size = 16
every = 20
checkpoint_every = 20
[shortlist]
k = 5
min_distance = 1
"""
SCORE = """
from narrows.scorers import Scores

def guess(texts):
    return Scores([text.count("G") for text in texts], [0.25 * (1 + text.count("C")) for text in texts])

def broken(texts):
    return Scores([float("nan") if text == "CCCC" else 1.0 for text in texts], [0.0] * len(texts))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a user with a finished run, its shortlist, its verification and its page; commands are typed there."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    (folder / "my_score.py").write_text(SCORE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["run", "job.toml", "--out", "a run", "--score", "my_score.py:guess", "--timeout", "99", "--set", "seed=3"]
        assert main(words) == 0
        assert main(["shortlist", "a run", "--k", "4", "--by", "lower_bound"]) == 0
        assert main(["verify", "a run", "--score", "my_score.py:guess", "--no-control"]) == 0
    return folder


def test_the_score_is_called_a_score_and_what_is_empty_is_left_out(made, capsys):
    assert main(["shortlist", str(made / "a run"), "--out", str(made / "other.csv")]) == 0
    output = capsys.readouterr().out
    assert "proxy" not in output and "from data" not in output and "not known" not in output
    assert output.splitlines()[0].split() == ["rank", "sequence", "score", "std", "why"]
    html = (made / "a run" / "report.html").read_text(encoding="utf-8")
    page = read(html)
    text = "".join(page.text)
    assert "proxy" not in text.lower() and "Not drawn" not in text
    assert "–" not in html.split('id="shortlist"')[1].split('id="truth"')[0], "no cell of the table is empty"
    assert page.has_text("This run searched all sequences over ACGU of 4 letters for those with the highest score.")
    headings = [value for tag, name, value in page.attributes if tag == "a" and name == "href" and "#shortlist-" in value]
    columns = ("rank", "sequence", "score", "lower_bound", "true_score", "cluster", "why")
    assert headings == [f"#shortlist-{column}" for column in columns]


def test_a_score_that_says_how_unsure_it_is_is_shown_with_it(made):
    with open(made / "a run" / "shortlist.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        std = 0.25 * (1 + row["sequence"].count("C"))
        assert float(row["score_std"]) == std
        # What [reward] kappa took off already is not taken off again: the bound is one standard deviation below the mean.
        assert float(row["score"]) == row["sequence"].count("G") - 0.5 * std
        assert float(row["lower_bound"]) == row["sequence"].count("G") - std
    facts = json.loads((made / "a run" / "shortlist.json").read_text(encoding="utf-8"))
    assert (facts["k"], facts["min_distance"], facts["kappa"]) == (4, 1, 1.0)
    fasta = (made / "a run" / "shortlist.fasta").read_text(encoding="utf-8")
    assert fasta.startswith(f">rank_1 score={float(rows[0]['score']):g} score_std={float(rows[0]['score_std']):g} ")


def test_the_commands_on_the_page_are_those_that_were_given(made, monkeypatch):
    monkeypatch.chdir(made)
    provenance = gather(OpenRun(Path("a run"))).provenance
    assert provenance is not None and provenance.commands == (
        "narrows run job.toml --out 'a run' --score my_score.py:guess --timeout 99.0 --set seed=3",
        "narrows shortlist 'a run' --k 4 --min-distance 1 --by lower_bound",
        "narrows verify 'a run' --score my_score.py:guess --no-control",
        "narrows report 'a run'",
    )


@pytest.mark.slow("trains by a score again; the same seed and score lead to the same bits in tests/test_runs.py")
def test_the_commands_on_the_page_make_the_run_again(made, monkeypatch):
    monkeypatch.chdir(made)
    provenance = gather(OpenRun(Path("a run"))).provenance
    assert provenance is not None
    (made / "a run").rename(made / "before")
    for line in provenance.commands:
        assert main(shlex.split(line)[1:]) == 0
    for name in ("history.csv", "shortlist.csv", "shortlist.json", "shortlist.fasta", "verification.json"):
        assert (made / "a run" / name).read_bytes() == (made / "before" / name).read_bytes(), name


def test_a_proxy_is_fitted_first_with_the_options_it_was_fitted_with(made, monkeypatch):
    about = SimpleNamespace(job="jobs/job.toml", overrides=("reward.path=p",), options={})
    folder: Any = SimpleNamespace(path="runs/rna", about=lambda: about)
    settings = {"models": "trees gp-words", "seed": 0, "test_fraction": 0.2, "max_distance": None, "refit": False}
    monkeypatch.setattr(reproduce, "quality_of_proxy", lambda job: SimpleNamespace(settings=settings))
    job = RunFolder.open(made / "a run").job()
    job = replace(job, reward={"name": "Proxy", "path": "p", "beta": 1.0}, data=DataSettings(path="t.csv", space="rna"))
    opened: Any = SimpleNamespace(folder=folder, job=job, selection=None, verification=None, is_user_score=False)
    found = reproduce.commands(opened)
    assert found == (
        "narrows fit jobs/job.toml --no-refit --out jobs/p --models trees gp-words",
        "narrows run jobs/job.toml --out runs/rna --set reward.path=p",
        "narrows report runs/rna",
    )
    asked: dict[str, Any] = {}

    def stop(*words, **options):
        asked.update(options)
        raise ValueError("far enough")

    monkeypatch.setattr("narrows.commands.fitting.fit_table", stop)
    monkeypatch.chdir(made)
    text = JOB.replace('name = "Score"\nbeta = 4.0\nkappa = 0.5', 'name = "Proxy"\npath = "p"')
    (made / "jobs").mkdir()
    (made / "jobs" / "job.toml").write_text(f'{text}[data]\npath = "t.csv"\nspace = "rna"\n', encoding="utf-8")
    (made / "jobs" / "t.csv").write_text("sequence,score\nACGU,1\nAGGU,2\n", encoding="utf-8")
    assert main(shlex.split(found[0])[1:]) == 1, "which is our own error: the words were understood"
    assert (asked["models"], asked["refit"], asked["seed"]) == (("trees", "gp-words"), False, 0)


def test_a_score_that_is_missing_in_a_mean_is_named_with_what_to_do(made, capsys):
    assert main(["worst", str(made / "a run"), "--score", f"{made / 'my_score.py'}:broken"]) == 1
    error = capsys.readouterr().err
    assert "1 of 256 have no score that is a finite number. The first is 'CCCC': the score is nan" in error
    assert "Let the score return a number for each of them" in error and "Mend" not in error
