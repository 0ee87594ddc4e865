"""`narrows new`: a job that is accepted as it is, says what was guessed, and replaces nothing."""

import os
import re

import pytest

from narrows.cli import main
from narrows.config import load_job, measurements

TABLE = """id,variants,IC50 (nM),std
1,MKVLAWGG,10,0.1
2,MKVLAWGS,>5000,0.1
3,MKVLAWGT,200,0.1
4,MKVLAWGT,220,0.1
5,mkvlawst,0.5,0.1
6,MKVLAWRR,inactive,0.1
7,MKVLAW,1500,0.1
8,MKVLA1,15,0.1
9,MKVLAWRN,33,0.1
10,QQQQAWRN,12000,0.1
11,QQQQAWDD,7,0.1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path


def test_the_job_is_accepted_as_it_is_and_says_what_was_guessed(folder, capsys):
    assert main(["new", "t.csv"]) == 0
    output = capsys.readouterr().out
    text = (folder / "job.toml").read_text(encoding="utf-8")
    assert text in output and output.rstrip().endswith("written: job.toml. Next: narrows fit job.toml")
    job = load_job(folder / "job.toml")
    assert job.data is not None
    assert (job.data.path, job.data.space, job.data.score_sense) == ("t.csv", "protein", "lower")
    assert (job.data.sequence_column, job.data.score_column) == ("variants", "IC50 (nM)")
    assert (job.data.inactive, job.data.on_invalid) == (("inactive",), "skip")
    assert (job.env["min_length"], job.env["max_length"]) == (6, 8)
    table = measurements(job)
    assert table is not None and len(table) == 9 and table.counts.sum() == 10
    words = re.sub(r"\s+# ", " ", text)  # comments are wrapped
    assert "1 with a letter outside the alphabet: row 9" in words and "10 of 11 rows can be used" in words
    assert "1 sequence measured more than once; a single measurement has a standard deviation of" in words
    assert "bounds such as '>5000' in 1 row: row 3" in words and "lower case read as upper case in 1 row" in words
    assert "--" not in words.replace("--out runs/first", "")  # settings are named as a job names them
    for comment in ('censored = "bound"', 'replicates = "mean"', 'case = "upper"', "min_length = 6", "min_distance = 2"):
        assert f"\n# {comment}" in text


def test_what_is_commented_out_is_what_holds(folder):
    """With every comment taken as said, but for the alternatives, the job is the same."""
    assert main(["new", "t.csv"]) == 0
    path = folder / "job.toml"
    job, lines = load_job(path), path.read_text(encoding="utf-8").splitlines()
    alternatives = ("# score_sense", "# score_transform")
    said = [re.sub(r"^# (?=\[|[a-z_]+ = )", "", line) if not line.startswith(alternatives) else line for line in lines]
    assert said != lines
    path.write_text("\n".join(said), encoding="utf-8")
    assert load_job(path) == job


def test_scores_over_powers_of_ten_suggest_a_transform(folder):
    table = folder / "wide.csv"
    for name, first, expected in (("score", "0.001", "log10"), ("kd", "0.001", "-log10"), ("score", "0", "rank")):
        rows = [f"ACGU{letter}{letter},{100.0**place if place else first}" for place, letter in enumerate("ACGU")]
        table.write_text("\n".join([f"sequence,{name}", *rows]), encoding="utf-8")
        out = folder / f"{expected}.toml"
        assert main(["new", "wide.csv", "--out", str(out)]) == 0
        assert f'\n# score_transform = "{expected}"\n' in out.read_text(encoding="utf-8")
    table.write_text("sequence,score\nACGU,-1\nACGA,1000\nACCC,10\n", encoding="utf-8")
    assert main(["new", "wide.csv", "--out", "signed.toml"]) == 0
    assert "score_transform" not in (folder / "signed.toml").read_text(encoding="utf-8")


def test_what_is_given_is_written_and_not_guessed(folder):
    words = ["--space", "letters:AGKLMQRSTVWDN", "--score-column", "std", "--score-sense", "higher", "--on-invalid", "skip"]
    (folder / "jobs").mkdir()
    assert main(["new", "t.csv", "--out", "jobs/mine.toml", *words]) == 0
    job = load_job(folder / "jobs" / "mine.toml")
    assert job.data is not None and (job.data.path, job.data.score_column) == ("../t.csv", "std")
    assert job.env["alphabet"] == "AGKLMQRSTVWDN"
    assert "# as given\nspace = " in (folder / "jobs" / "mine.toml").read_text(encoding="utf-8")


def test_nothing_is_replaced(folder, capsys):
    (folder / "job.toml").write_text("mine", encoding="utf-8")
    assert main(["new", "t.csv"]) == 1
    assert "job.toml is there already" in capsys.readouterr().err
    assert (folder / "job.toml").read_text(encoding="utf-8") == "mine"
    os.symlink("nowhere.toml", folder / "link.toml")
    assert main(["new", "t.csv", "--out", "link.toml"]) == 1
    assert not (folder / "nowhere.toml").exists()


@pytest.mark.parametrize("text", [None, "", "ACGU,1\n", "a,b,c\nx y,z z,q q\n", "sequence,score\n", "sequence,score\nACGU,x\n"])
def test_a_table_that_cannot_be_read_is_told_as_check_tells_it(folder, capsys, text):
    if text is None:
        (folder / "t.csv").unlink()
    else:
        (folder / "t.csv").write_text(text, encoding="utf-8")
    space = "rna" if text and "ACGU,x" in text else "protein"
    assert main(["check", "t.csv", "--space", space]) == 1
    expected = capsys.readouterr().err.removeprefix("narrows check: ")
    assert main(["new", "t.csv"]) == 1
    assert capsys.readouterr().err.removeprefix("narrows new: ") == expected
    assert not (folder / "job.toml").exists()
