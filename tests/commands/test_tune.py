"""`narrows tune` as a user meets it, from a table to a score that guides a run."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch", reason="PyTorch is missing: pip install 'narrows[tuning]'")
pytest.importorskip("transformers", reason="transformers is missing: pip install 'narrows[tuning]'")

from tests.tuning.tiny import make_encoder, make_sequences

from narrows.cli import main
from narrows.commands import TuneSettings
from narrows.commands import tune as tune_table
from narrows.data import write_table
from narrows.files import WriterLock

JOB = """
[env]
name = "Sequence"
alphabet = "ACDEFGHIKLMNPQRSTVWY"
min_length = 8
max_length = 8
[reward]
name = "Score"
beta = 2.0
[policy]
name = "MLP"
hidden = 16
[train]
num_steps = 20
batch_size = 16
every = 10
checkpoint_every = 10
[shortlist]
k = 4
min_distance = 2
"""
QUICK = ("--method", "full", "--learning-rate", "0.002", "--epochs", "5")


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are faster on one thread."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as a user has it: an encoder, a table, a job."""
    folder = tmp_path_factory.mktemp("tune")
    make_encoder(folder / "encoder")
    sequences, scores = make_sequences()
    write_table(folder / "data.csv", sequences, scores)
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    return folder


def tune(place, table, out, *more):
    return main(["tune", str(place / table), "--encoder", str(place / "encoder"), "--out", str(place / out), *more])


def test_from_a_table_to_a_run_that_a_tuned_encoder_guides(place, capsys):
    assert tune(place, "data.csv", "scorer", "--space", "protein", "--members", "2", *QUICK) == 0
    shown = capsys.readouterr()
    assert "240 rows with scores from 0 to" in shown.err
    assert "Held out by clusters" in shown.err
    assert "optimizer s" in shown.err, "the costs are shown before training"
    assert "epoch 1/5" in shown.err
    assert "spearman" in shown.out and "knowing nothing" in shown.out and "--proxy" in shown.out
    run = place / "run"
    assert main(["run", str(place / "job.toml"), "--out", str(run)]) == 1
    assert "--proxy FOLDER" in capsys.readouterr().err
    assert main(["run", str(place / "job.toml"), "--out", str(run), "--proxy", str(place / "scorer")]) == 0
    assert main(["shortlist", str(run)]) == 0
    from narrows.tuning.scoring import TunedScorer

    rows = (run / "shortlist.csv").read_text().splitlines()
    header = rows[0].split(",")
    first = dict(zip(header, rows[1].split(","), strict=True))
    found = TunedScorer.load(place / "scorer").score([first["sequence"]]).mean[0]
    assert float(first["score"]) == pytest.approx(found, rel=1e-4)


@pytest.mark.slow("tunes twice and trains; tests/test_runs.py refuses another score, test_scoring.py has identities")
def test_another_scorer_cannot_go_on_with_a_run(place, capsys):
    assert tune(place, "data.csv", "first", "--space", "protein", "--method", "bitfit", "--epochs", "1") == 0
    assert tune(place, "data.csv", "second", "--space", "protein", "--method", "bitfit", "--epochs", "2") == 0
    run = str(place / "guided")
    assert main(["run", str(place / "job.toml"), "--out", run, "--proxy", str(place / "first")]) == 0
    assert main(["resume", run, "--proxy", str(place / "first")]) == 0
    capsys.readouterr()
    assert main(["resume", run, "--proxy", str(place / "second")]) == 1
    assert "guided by another score" in capsys.readouterr().err


def test_what_is_no_scorer_is_no_proxy(place, tmp_path, capsys):
    command = ["run", str(place / "job.toml"), "--out", str(tmp_path / "run"), "--proxy"]
    assert main([*command, str(place / "encoder")]) == 1
    assert "holds no scorer.json" in capsys.readouterr().err
    (tmp_path / "fitted").mkdir()
    (tmp_path / "fitted" / "manifest.json").write_text("{}")
    assert main([*command, str(tmp_path / "fitted")]) == 1
    assert 'name = "Proxy"' in capsys.readouterr().err
    (tmp_path / "mine.py").write_text("def f(texts):\n    return [0.0] * len(texts)\n")
    both = ["--score", f"{tmp_path / 'mine.py'}:f"]
    assert main([*command, str(tmp_path / "fitted"), *both]) == 1
    assert "Give one of them" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_classes_are_seen_by_themselves(place, capsys):
    sequences, scores = make_sequences()
    lines = [f"{text},{'yes' if score > 1 else 'no'}" for text, score in zip(sequences, scores, strict=True)]
    (place / "classes.csv").write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    assert tune(place, "classes.csv", "classes", *QUICK, "--positive", "no") == 0
    shown = capsys.readouterr()
    assert "240 rows of 2 classes: no, yes" in shown.err
    assert "accuracy" in shown.out
    fields = json.loads((place / "classes" / "scorer.json").read_text())
    assert fields["positive"] == "no"
    assert "the probability of 'no'" in shown.out
    assert tune(place, "classes.csv", "classes", *QUICK) == 1
    assert "holds a finished scorer" in capsys.readouterr().err
    numbers = [f"{text},{int(score > 1)}" for text, score in zip(sequences, scores, strict=True)]
    (place / "zeros.csv").write_text("text,label\n" + "\n".join(numbers), encoding="utf-8")
    assert tune(place, "zeros.csv", "zeros", "--profile-only") == 0
    assert "240 rows of 2 classes: 0, 1" in capsys.readouterr().err
    assert tune(place, "zeros.csv", "zeros", "--profile-only", "--task", "regression") == 0
    assert "scores from 0 to 1" in capsys.readouterr().err
    assert not (place / "zeros").exists()


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("a,b\nACD,1\nACE,x\n", (), "--sequence-column"),
        ("sequence,score\nACD,1\nACE,high\nACF,2\nACG,3\n", (), "row 3, column 'score': score 'high' is not a number"),
        ("sequence,score\nACD,1\n,2\n", (), "row 3, column 'sequence': the sequence cell is empty"),
        ("sequence,score\nACD,1\nACX,2\n", ("--space", "protein"), "'X' at position 3"),
        ("sequence,score\nACD,1\nACE,2\nACF,3\n", (), "3 rows are too few"),
        ("sequence,score\n" + "".join(f"{'A' * n},1\n" for n in range(1, 30)), (), "nothing to learn"),
        ("sequence,label\n" + "".join(f"{'A' * n},x\n" for n in range(1, 30)), (), "nothing to learn"),
        ("", (), "empty"),
    ],
)
def test_bad_tables_are_refused_before_anything_is_made(place, tmp_path, capsys, text, more, message):
    (tmp_path / "bad.csv").write_text(text, encoding="utf-8")
    assert tune(place, tmp_path / "bad.csv", tmp_path / "out", *more) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--test-fraction", "1.5"), "test_fraction must be between 0 and 1"),
        (("--members", "0"), "members must be at least 1"),
        (("--max-length", "999"), "reads at most 32 tokens"),
        (("--max-distance", "2"), "counts edits between sequences"),
        (("--positive", "yes"), "there is no class 'yes'"),
        (("--method", "lora", "--retention", "0.1"), "retention is about far"),
    ],
)
def test_options_that_make_no_sense_are_refused(place, tmp_path, capsys, more, message):
    assert tune(place, "data.csv", tmp_path / "out", *more) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


OPTIONS = {
    **dict.fromkeys(("encoder", "out"), "required"),
    **{"space": "text", "method": "far", "task": "auto", "retention": "None", "rank": "None", "members": "1"},
    **{"members-by": "heads", "epochs": "5", "batch-size": "16", "learning-rate": "None", "precision": "fp32"},
    **{"max-length": "None", "spaced": "False", "test-fraction": "0.2", "max-distance": "None", "patience": "2"},
    **{"positive": "None", "seed": "0", "sequence-column": "None", "score-column": "None", "score-sense": "higher"},
    **{"on-invalid": "refuse", "replicates": "mean", "censored": "bound", "inactive": "", "score-transform": "none"},
    **{"case": "upper", "parent": "None", "parent-start": "1", "profile-only": "False"},
}


def test_the_options_and_their_defaults_are_these(capfd):
    """Those that scripts and notes of users have, whatever records the function takes."""
    with pytest.raises(SystemExit):
        main(["tune", "--help"])
    words = re.sub(r"[^\x20-\x7e]+", " ", re.sub(r"\x1b\[[\d;]*m", "", capfd.readouterr().out))
    _, _, shown = " ".join(words.split()).partition("show this help message and exit")
    found = re.findall(r"--([a-z-]+)(?:, --no-[a-z-]+)? (?:(?!--).)*?\((?:default: )?(required|(?<=default: )[^)]*)\)", shown)
    assert dict(found) == OPTIONS


def test_a_notebook_tunes_with_the_same_function(place, tmp_path, capsys):
    settings = TuneSettings(space="protein", method="bitfit", epochs=1, score_column="score")
    given = {"encoder": str(place / "encoder"), "out": tmp_path / "out", "settings": settings}
    assert tune_table(place / "data.csv", **given, profile_only=True).is_profile and not (tmp_path / "out").exists()
    done = tune_table(place / "data.csv", **given)
    assert done.fitted is not None
    assert tune(place, "data.csv", tmp_path / "again", "--space", "protein", "--method", "bitfit", "--epochs", "1") == 0
    assert str(done.fitted.quality) in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["tune", "--members-by", "luck"])
    capsys.readouterr()
    assert tune(place, "data.csv", tmp_path / "many", "--members", "2000") == 1
    assert "--members must be at most 1,000, got 2,000" in capsys.readouterr().err


@pytest.mark.slow("trains in two processes; tests/tuning/test_scoring.py stops a fit and goes on bit for bit, at any epoch")
def test_an_interrupted_tuning_goes_on(place, capsys):
    command = [sys.executable, "-m", "narrows", "tune", "data.csv", "--encoder", "encoder", "--out", "stopped"]
    command += ["--method", "full", "--epochs", "60", "--patience", "60"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith("epoch 2/"):
            first.send_signal(signal.SIGINT)
            break
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 0
    assert "Stopped, saved in stopped. The same command continues." in out
    begun = time.monotonic()
    second = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert second.stderr is not None
    epochs = []
    for line in second.stderr:
        if line.startswith("epoch "):
            epochs.append(int(line.split()[1].split("/")[0]))
            if len(epochs) == 2 or time.monotonic() - begun > 60:
                second.kill()  # no chance to tidy up
                break
    second.communicate(timeout=60)
    assert epochs and epochs[0] > 2, "it went on where it had stopped"
    assert not (place / "stopped" / "scorer.json").exists()
    with WriterLock.acquire(place / "stopped" / "training" / "lock", "the test"):  # as another process would
        assert tune(place, "data.csv", "stopped", "--method", "full", "--epochs", "60", "--patience", "60") == 1
    assert f"the scorer in {place / 'stopped'} is being written by process {os.getpid()}" in capsys.readouterr().err
