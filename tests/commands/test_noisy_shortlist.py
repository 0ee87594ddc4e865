"""A run under noise as a user meets it: what is asked for, what is expected to come out, and the page that says so."""

import csv
import functools
import itertools
import json

import numpy as np
import pytest

from narrows.cli import main
from narrows.config import load_job, parse_job
from narrows.data import write_table
from narrows.outcomes import outcome_predictor
from narrows.runs import RunFolder
from narrows.selection import COLUMNS, OUTCOME_COLUMNS, read_csv
from narrows.selection.rankings import expected
from narrows.storage.archive import Archive

LETTERS = "ACGU"
OBJECTS = ["".join(word) for word in itertools.product(LETTERS, repeat=4)]
RATE = 0.4
JOB = f"""
name = "noisy 4-mers"
[data]
path = "measured.csv"
space = "rna"
[env]
name = "Sequence"
alphabet = "ACGU"
min_length = 4
max_length = 4
[noise]
name = "Substitution"
rate = {RATE}
[reward]
name = "Landscape"
path = "landscape.csv"
beta = 4.0
[policy]
name = "Tabular"
[objective]
name = "ExpectedDetailedBalance"
[optimizer]
learning_rate = 0.05
[train]
num_steps = 20
batch_size = 16
every = 20
checkpoint_every = 20
[shortlist]
k = 5
min_distance = 2
"""


def own_scores() -> np.ndarray:
    """Return scores with a lonely peak, which is not worth asking for: its neighbours score nothing."""
    scores = np.array([(text.count("G") + 0.5 * text.count("C")) / 5 for text in OBJECTS])
    for place, text in enumerate(OBJECTS):
        if sum(letter != "U" for letter in text) == 1:
            scores[place] = 0.0
    scores[OBJECTS.index("UUUU")] = 1.0
    return scores


def expected_by_loops(asked: str, scores: np.ndarray) -> tuple[float, float, float]:
    """Return mean, standard deviation and the probability as asked, letter by letter."""
    law = np.ones(len(OBJECTS))
    for row, text in enumerate(OBJECTS):
        for letter, came in zip(asked, text, strict=True):
            law[row] *= RATE / 4 + (1 - RATE) * (letter == came)
    mean = float(law @ scores)
    return mean, float(np.sqrt(law @ (scores - mean) ** 2)), float(law[OBJECTS.index(asked)])


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory):
    """A folder as a user has it, with a run that has seen every object."""
    folder = tmp_path_factory.mktemp("noisy")
    scores = own_scores()
    write_table(folder / "landscape.csv", OBJECTS, scores)
    write_table(folder / "measured.csv", OBJECTS[1:250:7], scores[1:250:7])
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    (folder / "my_score.py").write_text("def true(texts):\n    return [text.count('G') for text in texts]\n", encoding="utf-8")
    made_run(folder / "run", load_job(folder / "job.toml"), OBJECTS, scores)
    return folder


@pytest.fixture
def searched(job_folder, tmp_path):
    """A run folder whose archive holds every object but some, as a long run would leave it."""
    return made_run(tmp_path / "searched", load_job(job_folder / "job.toml"), OBJECTS, own_scores())


def made_run(path, job, objects, scores) -> RunFolder:
    folder = RunFolder.create(path, job, {"job": "job.toml"})
    with Archive.open(folder.archive, create=True, run_id="test") as archive:
        archive.add(objects, np.asarray(scores) * job.reward["beta"], 1)
    return folder


def facts_of(folder: RunFolder) -> dict:
    return json.loads(folder.shortlist.with_suffix(".json").read_text(encoding="utf-8"))


def test_from_a_noisy_run_to_its_page(job_folder, capsys):
    run = job_folder / "run"
    assert main(["shortlist", str(run)]) == 0
    output = capsys.readouterr().out
    assert "expected" in output and "as asked" in output and "noise: Substitution (rate 0.4)" in output
    assert "each of 256 outcomes is weighed" in output
    rows = read_csv(run / "shortlist.csv")
    scores = own_scores()
    for row in rows:
        assert (row.expected_mean, row.expected_std, row.prob_as_asked) == pytest.approx(
            expected_by_loops(row.sequence, scores), rel=2e-5
        )
        assert row.asked == row.sequence and row.score == pytest.approx(scores[OBJECTS.index(row.sequence)], abs=1e-6)
    score = f"{job_folder / 'my_score.py'}:true"
    assert main(["verify", str(run), "--score", score, "--no-control"]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    for words in ("Substitution, rate 0.4", "Sequence to ask for", "Comes as asked", "What is asked for, what comes out"):
        assert words in page
    assert "more often than as asked" in page and "not checked here" in page


def test_expected_scores_rank_unless_told_otherwise(searched, capsys):
    scores = own_scores()
    measured = {*OBJECTS[1:250:7]}
    assert main(["shortlist", str(searched.path), "--min-distance", "1"]) == 0
    free = [text for text in OBJECTS if text not in measured]
    best = sorted(-expected_by_loops(text, scores)[0] for text in free)[:5]
    rows = read_csv(searched.shortlist)
    assert [-row.expected_mean for row in rows if row.expected_mean is not None] == pytest.approx(best, rel=2e-5)
    assert "UUUU" not in [row.sequence for row in rows], "the lonely peak is not worth asking for"
    facts = facts_of(searched)
    assert facts["ranked_by"] == "expected" and facts["num_left_out"] == len(measured)
    assert facts["outcomes"] == {
        "noise": "Substitution (rate 0.4)",
        "method": "enumerated",
        "num_outcomes": 256,
        "standard_error": 0.0,
        "num_not_ranked": 0,
        "reason": None,
    }
    assert main(["shortlist", str(searched.path), "--by", "mean"]) == 0
    first = read_csv(searched.shortlist)[0]
    assert first.sequence == "UUUU" and first.expected_mean == pytest.approx(expected_by_loops("UUUU", scores)[0], rel=2e-5)
    assert first.why.startswith("highest score") and facts_of(searched)["ranked_by"] == "mean"


def test_few_are_predicted_first_and_more_where_they_do_not_fill_the_list(searched, monkeypatch, capsys):
    monkeypatch.setattr(expected, "_WEIGHED", (20, 40))
    assert main(["shortlist", str(searched.path), "--k", "3"]) == 0
    free = len(OBJECTS) - len(OBJECTS[1:250:7])
    assert free - 23 <= facts_of(searched)["outcomes"]["num_not_ranked"] <= free - 20
    assert "were not ranked by expected score" in capsys.readouterr().out
    assert main(["shortlist", str(searched.path), "--k", "30", "--min-distance", "2"]) == 0
    assert free - 70 <= facts_of(searched)["outcomes"]["num_not_ranked"] <= free - 40
    assert len(read_csv(searched.shortlist)) >= 20


def test_a_large_space_is_simulated_after_a_first_look(searched, monkeypatch, capsys):
    monkeypatch.setattr(
        "narrows.outcomes.expected_outcomes.outcome_predictor", functools.partial(outcome_predictor, max_enumerated=0)
    )
    monkeypatch.setattr(expected, "_FEWEST_CLOSE", 30)
    assert main(["shortlist", str(searched.path), "--k", "3"]) == 0
    assert "means of 1,000 simulated outcomes a row; their standard error is at most" in capsys.readouterr().out
    told = facts_of(searched)["outcomes"]
    assert told["method"] == "simulated" and 0.0 < told["standard_error"] < 0.01 and told["num_not_ranked"] > 150
    scores = own_scores()
    for row in read_csv(searched.shortlist):
        mean, std, probability = expected_by_loops(row.sequence, scores)
        assert row.expected_mean == pytest.approx(mean, abs=5 * std / 1000**0.5)
        assert row.expected_std == pytest.approx(std, rel=0.15) and row.prob_as_asked == pytest.approx(probability, rel=1e-5)


def test_a_score_of_the_users_is_not_called(searched, job_folder, tmp_path, capsys):
    text = JOB.replace('name = "Landscape"\npath = "landscape.csv"', 'name = "Score"')
    (job_folder / "scored.toml").write_text(text, encoding="utf-8")
    run = made_run(tmp_path / "run", load_job(job_folder / "scored.toml"), OBJECTS, own_scores())
    assert main(["shortlist", str(run.path)]) == 0
    output = capsys.readouterr().out
    assert "the score is a function of yours, which is not called for a shortlist" in output and "narrows fit" in output
    rows = read_csv(run.shortlist)
    assert rows[0].sequence == "UUUU" and facts_of(run)["ranked_by"] == "mean"
    assert facts_of(run)["outcomes"]["method"] == "unknown" and facts_of(run)["outcomes"]["standard_error"] is None
    assert {(row.expected_mean, row.expected_std) for row in rows} == {(None, None)}
    assert [row.prob_as_asked for row in rows] == pytest.approx([(1 - RATE + RATE / 4) ** 4] * 5, rel=1e-5)
    assert main(["report", str(run.path)]) == 0
    page = run.report.read_text(encoding="utf-8")
    assert "The expected score of what comes out is not known" in page and "mean expected score" not in page
    assert main(["shortlist", str(run.path), "--by", "expected"]) == 1
    assert "a function of yours" in capsys.readouterr().err


def test_objects_that_are_no_sequences_keep_their_own_scores(tmp_path, capsys):
    document = {
        "env": {"name": "Hypergrid", "ndim": 2, "side": 4},
        "noise": {"name": "Substitution"},
        "reward": {"name": "HypergridReward"},
        "objective": {"name": "ExpectedDetailedBalance"},
        "shortlist": {"k": 2, "min_distance": 1},
    }
    run = made_run(tmp_path / "run", parse_job(document, tmp_path), ["0 1", "2 3", "3 3"], [0.3, 0.2, 0.1])
    assert main(["shortlist", str(run.path)]) == 0
    assert "an object of Hypergrid can be asked for in many orders" in capsys.readouterr().out
    rows = read_csv(run.shortlist)
    assert [(row.asked, row.expected_mean, row.prob_as_asked) for row in rows] == [("0 1", None, None), ("2 3", None, None)]
    assert main(["report", str(run.path)]) == 0


def test_runs_under_different_noise_are_not_merged(searched, job_folder, tmp_path, capsys):
    other = load_job(job_folder / "job.toml", {"noise.rate": 0.1})
    run = made_run(tmp_path / "other", other, OBJECTS[:9], np.zeros(9))
    assert main(["shortlist", str(searched.path), str(run.path), "--out", str(tmp_path / "both.csv")]) == 1
    assert "other noise" in capsys.readouterr().err


def test_without_noise_nothing_is_added(job_folder, tmp_path, capsys):
    text = JOB.replace(f'[noise]\nname = "Substitution"\nrate = {RATE}\n', "")
    (job_folder / "plain.toml").write_text(text.replace("ExpectedDetailedBalance", "VarGrad"), encoding="utf-8")
    run = made_run(tmp_path / "run", load_job(job_folder / "plain.toml"), OBJECTS, own_scores())
    assert main(["shortlist", str(run.path)]) == 0
    output = capsys.readouterr().out
    assert "noise:" not in output and "as asked" not in output and "outcomes" not in facts_of(run)
    with run.shortlist.open(encoding="utf-8", newline="") as stream:
        assert tuple(next(csv.reader(stream))) == COLUMNS
    assert not set(COLUMNS) & set(OUTCOME_COLUMNS)
    assert main(["shortlist", str(run.path), "--by", "expected"]) == 1
    assert "this job has none. Use --by mean" in capsys.readouterr().err
