"""The command line as a user meets it: from a table to a page, and a sentence instead of a traceback for every mistake."""

import csv
import errno
import importlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from narrows.cli import COMMANDS, main
from narrows.commands import listing
from narrows.config import load_job
from narrows.data import write_table
from narrows.runs import OpenRun, RunFolder
from narrows.runs.page import gather
from narrows.runs.progress import PatientConsole
from narrows.storage.archive import Archive

EXECUTION = importlib.import_module("narrows.runs.execution")
LETTERS = "ACGU"
JOB = """
name = "all 4-mers"
[data]
path = "measured.csv"
space = "rna"
[reward]
name = "Landscape"
path = "landscape.csv"
beta = 4.0
[policy]
name = "Tabular"
[optimizer]
learning_rate = 0.05
[train]
num_steps = 60
batch_size = 16
every = 20
checkpoint_every = 20
[shortlist]
k = 5
min_distance = 2
"""
SPACE = """[env]
name = "Sequence"
alphabet = "ACGU"
min_length = 4
max_length = 4
"""
SCORE = """
def true(texts):
    return [text.count("G") / len(text) for text in texts]
"""


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory):
    """A folder as a user has it: a job, a landscape, some measurements and a score of one's own; one finished run."""
    folder = tmp_path_factory.mktemp("job")
    objects = ["".join(letters) for letters in itertools.product(LETTERS, repeat=4)]
    scores = np.array([text.count("G") + 0.5 * text.count("C") for text in objects])
    write_table(folder / "landscape.csv", objects, scores)
    write_table(folder / "measured.csv", objects[::7], scores[::7])
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    (folder / "my_score.py").write_text(SCORE, encoding="utf-8")
    assert main(["run", str(folder / "job.toml"), "--out", str(folder / "run")]) == 0
    return folder


def seen(job_folder, path, **changes):
    """Return a run folder with all objects in its archive, which nobody has trained."""
    folder = RunFolder.create(path, load_job(job_folder / "job.toml", changes), {"job": "job.toml"})
    rows = rows_of(folder.path / folder.job().reward["path"])
    with Archive.open(folder.archive, create=True, run_id=folder.about().run_id) as archive:
        archive.add([row["sequence"] for row in rows], np.array([4.0 * float(row["score"]) for row in rows]), 1)
    return folder.path


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_run_folder_keeps_what_the_table_said(job_folder):
    text = (job_folder / "run" / "job.toml").read_text(encoding="utf-8")
    assert '[env]\nname = "Sequence"\nalphabet = "ACGU"\nmin_length = 4\nmax_length = 4\n' in text


@pytest.mark.slow("fits networks for a minute; tests/config/test_derived.py guards what the table says of the job")
def test_a_table_and_its_space_are_a_whole_job(job_folder, tmp_path, capsys):
    shutil.copyfile(job_folder / "measured.csv", tmp_path / "measured.csv")
    job = tmp_path / "job.toml"
    job.write_text('[data]\npath = "measured.csv"\nspace = "rna"\n', encoding="utf-8")
    assert main(["run", str(job), "--out", str(tmp_path / "run")]) == 1
    assert "narrows fit" in capsys.readouterr().err
    assert main(["fit", str(job), "--models", "ridge-letters", "--no-refit"]) == 0
    assert main(["run", str(job), "--out", str(tmp_path / "run"), "--set", "train.num_steps=5", "policy.name=Tabular"]) == 0
    assert main(["shortlist", str(tmp_path / "run"), "--k", "2"]) == 0
    assert len(rows_of(tmp_path / "run" / "shortlist.csv")) == 2


def test_shortlist_writes_exactly_k_distinct_rows(job_folder, capsys):
    assert main(["shortlist", str(job_folder / "run")]) == 0
    rows = rows_of(job_folder / "run" / "shortlist.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert float(rows[0]["score"]) >= float(rows[-1]["score"]) > 0.5
    assert (job_folder / "run" / "shortlist.fasta").read_text().count(">") == 5
    assert "5 rows of 5" in capsys.readouterr().out


def test_shortlist_says_what_was_seen_and_not_considered(job_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("narrows.runs.candidates._POOL", 20)
    assert main(["shortlist", str(job_folder / "run"), "--k", "2", "--out", str(tmp_path / "few.csv")]) == 0
    output = capsys.readouterr().out
    seen = int(rows_of(job_folder / "run" / "history.csv")[-1]["distinct"])
    assert f"{seen - 20} more objects were seen, all of a lower score" in output


def test_shortlist_says_why_there_are_fewer_rows(job_folder, tmp_path, capsys):
    out = tmp_path / "few.csv"
    assert main(["shortlist", str(job_folder / "run"), "--k", "9", "--min-distance", "4", "--out", str(out)]) == 0
    assert len(rows_of(out)) < 9
    assert "min_distance" in capsys.readouterr().out


def test_shortlist_merges_runs(job_folder, tmp_path, capsys):
    second = seen(job_folder, tmp_path / "second", seed=5)
    assert main(["shortlist", str(job_folder / "run"), str(second)]) == 1
    assert "--out shortlist.csv" in capsys.readouterr().err
    assert main(["shortlist", str(job_folder / "run"), str(second), "--out", str(tmp_path / "both.csv")]) == 0
    assert len(rows_of(tmp_path / "both.csv")) == 5 and "from 219 candidates" in capsys.readouterr().out


def test_verify_compares_and_the_report_shows_it(job_folder, tmp_path, capsys):
    run, score = job_folder / "run", f"{job_folder / 'my_score.py'}:true"
    assert main(["shortlist", str(run), "--k", "3", "--min-distance", "4"]) == 0
    assert main(["verify", str(run), "--score", score]) == 0
    output = capsys.readouterr().out
    for label in ("shortlist", "best measured", "random", "plain GFlowNet, matched"):
        assert label in output
    facts = json.loads((run / "verification.json").read_text())
    assert [group["role"] for group in facts["groups"]] == ["shortlist", "measured", "random", "control"]
    # omega 1, alpha 1, q 1, beta 4: (1 + 1) 4
    assert facts["matched_inverse_temperature"] == 8.0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "all 4-mers" in page and "<script" not in page
    # The control is selected like the shortlist.
    groups = {group["role"]: group["objects"] for group in facts["groups"]}
    for chosen in (groups["shortlist"], groups["control"]):
        assert len(chosen) == 3
        assert all(Levenshtein.distance(a, b) >= 4 for a, b in itertools.combinations(chosen, 2))
    # Beside a job that was changed since, it is the control of another job.
    job = shutil.copytree(run, tmp_path / "run") / "job.toml"
    job.write_text(job.read_text(encoding="utf-8").replace("num_steps = 60", "num_steps = 80"), encoding="utf-8")
    assert main(["verify", str(tmp_path / "run"), "--score", score]) == 1
    assert "changed in train" in capsys.readouterr().err


def test_a_plain_gflownet_is_its_own_control(job_folder, tmp_path, capsys):
    run = seen(job_folder, tmp_path / "run", **{"objective.name": "VarGrad"})
    assert main(["shortlist", str(run)]) == 0
    assert main(["verify", str(run), "--score", f"{job_folder / 'my_score.py'}:true"]) == 0
    assert "GFlowNet" not in capsys.readouterr().out.split("true score by")[1]
    assert not (run / "control").exists()


@pytest.mark.slow("starts a process; tests/test_archive.py reads while another writes, tests/test_runs.py kills")
def test_shortlists_of_a_running_and_of_a_killed_run(job_folder, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["run", str(job_folder / "job.toml"), "--out", str(run), "--set", "train.num_steps=1000000"]
    process = subprocess.Popen([sys.executable, "-m", "narrows", *words], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90.0
        while not (run / "history.csv").exists() or len(rows_of(run / "history.csv")) < 2:
            assert process.poll() is None and time.monotonic() < deadline, "the run did not start"
            time.sleep(0.05)
        assert main(["shortlist", str(run), "--out", str(tmp_path / "running.csv")]) == 0
        assert main(["report", str(run)]) == 0
        assert process.poll() is None, "the run ended while it was read"
    finally:
        process.kill()
        process.wait()
    assert main(["shortlist", str(run), "--out", str(tmp_path / "killed.csv")]) == 0
    assert len(rows_of(tmp_path / "running.csv")) == len(rows_of(tmp_path / "killed.csv")) == 5


@pytest.mark.slow("trains; tests/test_training.py has what given objects teach, and below what they need")
def test_measured_objects_can_teach_too(job_folder, tmp_path, capsys):
    words = ["run", str(job_folder / "job.toml"), "--out", str(tmp_path / "run"), "--set", "train.given_per_step=4"]
    assert main([*words, "train.num_steps=20"]) == 0
    assert main(["resume", str(tmp_path / "run")]) == 0
    history = rows_of(tmp_path / "run" / "history.csv")
    plain = rows_of(job_folder / "run" / "history.csv")
    # The first objects are the same ones; what is learned from them is not.
    assert history[0]["sampled"] == plain[0]["sampled"] and history[0]["loss"] != plain[0]["loss"]


def test_measured_objects_need_a_table(job_folder, tmp_path, capsys):
    text = (job_folder / "job.toml").read_text().replace('[data]\npath = "measured.csv"\nspace = "rna"\n', SPACE)
    (job_folder / "bare.toml").write_text(text, encoding="utf-8")
    assert main(["run", str(job_folder / "bare.toml"), "--out", str(tmp_path / "no"), "--set", "train.given_per_step=4"]) == 1
    assert "Add a [data] table" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_a_job_speaks_of_its_own_fields(job_folder, tmp_path, capsys):
    (job_folder / "bad.csv").write_text("sequence,score\nACGU,1\nACGX,2\n", encoding="utf-8")
    words = ["run", str(job_folder / "job.toml"), "--out", str(tmp_path / "run"), "--set", "data.path=bad.csv"]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "row 3" in error and 'on_invalid = "skip"' in error and "--on-invalid" not in error
    assert not (tmp_path / "run").exists()


def test_runs_of_different_scores_are_not_merged(job_folder, tmp_path, capsys):
    other = tmp_path / "other.csv"
    text = (job_folder / "landscape.csv").read_text().splitlines()
    other.write_text("\n".join([text[0], text[1].split(",")[0] + ",9.0", *text[2:]]) + "\n", encoding="utf-8")
    run = seen(job_folder, tmp_path / "run", **{"reward.path": str(other)})
    assert main(["shortlist", str(job_folder / "run"), str(run), "--out", str(tmp_path / "both.csv")]) == 1
    assert "cannot be ranked together" in capsys.readouterr().err
    assert not (tmp_path / "both.csv").exists()


@pytest.mark.slow("trains by a score; tests/test_runs.py refuses another score")
def test_a_changed_score_file_cannot_take_over_a_run(job_folder, tmp_path, capsys):
    text = JOB.replace('name = "Landscape"\npath = "landscape.csv"', 'name = "Score"').replace(
        "num_steps = 60", "num_steps = 20"
    )
    (tmp_path / "job.toml").write_text(text.replace('"measured.csv"', f'"{job_folder / "measured.csv"}"'), encoding="utf-8")
    score = tmp_path / "mine.py"
    score.write_text(SCORE, encoding="utf-8")
    assert main(["run", str(tmp_path / "job.toml"), "--out", str(tmp_path / "run"), "--score", f"{score}:true"]) == 0
    assert main(["resume", str(tmp_path / "run"), "--score", f"{score}:true"]) == 0
    score.write_text(SCORE.replace("G", "C"), encoding="utf-8")
    assert main(["resume", str(tmp_path / "run"), "--score", f"{score}:true"]) == 1
    assert "guided by another score" in capsys.readouterr().err


def test_resume_of_a_finished_run_changes_nothing(job_folder, capsys):
    before = (job_folder / "run" / "history.csv").read_bytes()
    assert main(["resume", str(job_folder / "run")]) == 0
    assert (job_folder / "run" / "history.csv").read_bytes() == before
    assert "Trained 60 steps" in capsys.readouterr().out


def test_a_run_by_the_users_own_score_needs_it(job_folder, tmp_path, capsys):
    text = JOB.replace('name = "Landscape"\npath = "landscape.csv"', 'name = "Score"').replace(
        "num_steps = 60", "num_steps = 20"
    )
    job = tmp_path / "job.toml"
    job.write_text(text.replace('path = "measured.csv"', f'path = "{job_folder / "measured.csv"}"'), encoding="utf-8")
    assert main(["run", str(job), "--out", str(tmp_path / "run")]) == 1
    assert "Add --score FILE.py:FUNCTION" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow("trains by a score; test_own_score.py selects from such a run and verifies it")
def test_a_run_by_the_users_own_score(job_folder, tmp_path, capsys):
    text = JOB.replace('name = "Landscape"\npath = "landscape.csv"', 'name = "Score"').replace(
        "num_steps = 60", "num_steps = 20"
    )
    job = tmp_path / "job.toml"
    job.write_text(text.replace('path = "measured.csv"', f'path = "{job_folder / "measured.csv"}"'), encoding="utf-8")
    score = f"{job_folder / 'my_score.py'}:true"
    assert main(["run", str(job), "--out", str(tmp_path / "run"), "--score", score]) == 0
    assert main(["shortlist", str(tmp_path / "run")]) == 0
    assert rows_of(tmp_path / "run" / "shortlist.csv")[0]["score_std"] == ""
    assert main(["verify", str(tmp_path / "run"), "--score", score, "--no-control"]) == 0
    saved = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.suffix in (".toml", ".json", ".csv"))
    assert b"my_score" not in saved.replace(b'"scorer"', b"").split(b"verification")[0] or b"def true" not in saved


def test_list_shows_every_name_and_the_fields_of_one(capsys):
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for name in ("Sequence", "Hypergrid", "TrajectoryGeneralMellowmax", "Transformer", "Landscape", "Score"):
        assert name in output
    assert main(["list", "Hypergrid"]) == 0
    assert "side" in capsys.readouterr().out
    assert main(["list", "Hypergird"]) == 1
    assert "Nearest: env.Hypergrid" in capsys.readouterr().err


def test_check_refuses_or_skips(tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("sequence,score\nACGU,1.0\nACGX,2.0\nACGA,nan\n", encoding="utf-8")
    assert main(["check", str(table), "--space", "rna"]) == 1
    error = capsys.readouterr().err
    assert "row 3" in error and "row 4" in error and "--on-invalid skip" in error
    assert main(["check", str(table), "--space", "rna", "--on-invalid", "skip"]) == 0
    assert len(rows_of(tmp_path / "rejected.csv")) == 2
    assert "1 rows can be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "none.toml", "--out", "x"], "there is no such job file"),
        (["resume", "nowhere"], "there is no such run folder"),
        (["shortlist", "nowhere"], "there is no such run folder"),
        (["report", "nowhere"], "there is no such run folder"),
        (["check", "nowhere.csv", "--space", "rna"], "nowhere.csv"),
        (["check", "nowhere.csv", "--space", "rnaa"], "rna"),
    ],
)
def test_mistakes_are_sentences(words, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert expected in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "narrows list: No space left on device. Check the path"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a", None, "b/c"), "narrows list: b/c: No space left on device. Ch"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a"), "narrows list: a: No such file or directory. Check"),
        (OSError(errno.ENOSPC, "could not save. Free some space."), "narrows list: could not save. Free some space.\n"),
        (OSError("the run is being written"), "narrows list: the run is being written\n"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(error, expected, capsys, monkeypatch):
    def refuse(name=None):
        raise error

    monkeypatch.setattr(listing, COMMANDS["list"].function, refuse)
    assert main(["list"]) == 1
    assert capsys.readouterr().err.startswith(expected)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"narrows {command}" in capsys.readouterr().out


def test_the_command_itself():
    shown = subprocess.run([sys.executable, "-m", "narrows", "--help"], capture_output=True, text=True, check=True).stdout
    assert all(command in shown for command in COMMANDS)
    assert subprocess.run([sys.executable, "-m", "narrows", "narow"], capture_output=True).returncode == 2


def test_every_set_counts_and_none_may_contradict_another(job_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(EXECUTION, "train", lambda trainer, state, *parts, **options: (state, []))
    words = ["run", str(job_folder / "job.toml"), "--out", str(tmp_path / "run")]
    assert main([*words, "--set", "seed=5", "--set", "seed=6"]) == 1
    assert "names seed twice" in capsys.readouterr().err
    assert main([*words, "--set", "seed=5", "--set", "train.num_steps=20", "train.every=10"]) == 130, "it was not trained"
    made = (tmp_path / "run" / "job.toml").read_text(encoding="utf-8")
    assert "seed = 5" in made and "num_steps = 20" in made and "every = 10" in made


def test_more_like_one_object(job_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(EXECUTION, "train", lambda trainer, state, *parts, **options: (state, []))
    words = ["run", str(job_folder / "job.toml"), "--out", str(tmp_path / "run")]
    assert main([*words, "--keep", "0.5"]) == 1
    assert "Add --like OBJECT" in capsys.readouterr().err
    assert main([*words, "--like", "GGGA", "--keep", "1"]) == 1
    assert "[exploration] keep must lie in [0, 1), got 1" in capsys.readouterr().err
    assert main([*words, "--like", "GGTA"]) == 1
    assert "'T' at position 3" in capsys.readouterr().err
    assert main([*words, "--like", "GGGA", "--keep", "0.5"]) == 130, "it was not trained"
    made = RunFolder(tmp_path / "run")
    assert made.job().exploration == {
        **{"name": "Variants", "parent": "GGGA", "keep": 0.5, "share": 1.0},
        **{name: load_job(job_folder / "job.toml").exploration[name] for name in ("temperature", "epsilon")},
    }
    assert (made.about().options["like"], made.about().options["keep"]) == ("GGGA", 0.5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("optimizer.learning_rate=0", "[optimizer] learning_rate must be positive"),
        ("policy.init_scale=-1", "[policy]"),
        ("data.space=dna", "U is RNA"),
        ("data.path=.", "is a folder"),
        ("shortlist.kappa=nan", "kappa must be at least 0 and finite"),
    ],
)
def test_a_mistake_in_a_job_leaves_no_run_folder(job_folder, tmp_path, change, expected, capsys):
    assert main(["run", str(job_folder / "job.toml"), "--out", str(tmp_path / "run"), "--set", change]) == 1
    assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow("trains in a process; below a console speaks to somebody who has left")
def test_a_reader_who_leaves_does_not_end_a_run(job_folder, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "narrows", "run", str(job_folder / "job.toml"), "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
    assert b"Traceback" not in error
    assert json.loads((folder / "checkpoints" / "step-000060" / "manifest.json").read_text())["step"] == 60


def test_a_console_goes_on_when_its_reader_has_left(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console = PatientConsole()
        for _ in range(2):
            console.print("step 1", soft_wrap=True)
        assert console.quiet


def test_a_verification_is_shown_with_its_own_shortlist_only(job_folder, tmp_path, capsys):
    folder, score = seen(job_folder, tmp_path / "run"), f"{job_folder / 'my_score.py'}:true"
    assert main(["shortlist", str(folder)]) == 0
    assert main(["verify", str(folder), "--score", score, "--no-control"]) == 0
    assert gather(OpenRun(folder)).truth is not None
    assert main(["shortlist", str(folder), "--k", "3"]) == 0
    assert gather(OpenRun(folder)).truth is None


def test_verify_tries_the_score_before_it_trains_a_control(job_folder, tmp_path, capsys):
    folder = seen(job_folder, tmp_path / "run")
    assert main(["shortlist", str(folder)]) == 0
    (tmp_path / "bad.py").write_text("def bad(texts):\n    return [float('nan')] * len(texts)\n", encoding="utf-8")
    assert main(["verify", str(folder), "--score", f"{tmp_path / 'bad.py'}:bad"]) == 1
    assert "failed for every row of the shortlist" in capsys.readouterr().err
    assert not (folder / "control").exists() and not (folder / "verification.json").exists()


def test_fit_refuses_a_place_where_no_folder_can_be_before_it_learns(job_folder, capsys):
    table = job_folder / "measured.csv"
    assert main(["fit", str(table), "--space", "rna", "--out", str(table / "proxy")]) == 1
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["job.toml", "measured.csv", "s.fasta"])
def test_shortlist_overwrites_nothing_but_a_shortlist(job_folder, tmp_path, name, capsys):
    (tmp_path / name).write_text("sequence,score\n", encoding="utf-8")
    assert main(["shortlist", str(job_folder / "run"), "--out", str(tmp_path / name)]) == 1
    assert "--out" in capsys.readouterr().err
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["sequence,score\n"]


def test_report_writes_a_page_only(job_folder, tmp_path, capsys):
    assert main(["report", str(job_folder / "run"), "--out", str(tmp_path / "job.toml")]) == 1
    assert "ends in .html" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
