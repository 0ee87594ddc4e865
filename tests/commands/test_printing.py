"""What reaches the terminal: nothing of a file that steers it, in no encoding an error, and no more than can be read."""

import contextlib
import io
import itertools
import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.commands.test_cli import JOB, SCORE

from narrows.cli import COMMANDS, main
from narrows.commands import listing
from narrows.data import write_table
from narrows.files import WriterLock, record_text
from narrows.printing import lenient_output, name_some, printable, quote, say

HOSTILE = "\x1b[31m\x9b2J\x07\x7f\u202e\u200b\u2028\rspoof"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder in which every command has written what it writes."""
    folder = tmp_path_factory.mktemp("printing")
    objects = ["".join(letters) for letters in itertools.product("ACGU", repeat=4)]
    scores = np.array([text.count("G") + 0.5 * text.count("C") for text in objects])
    write_table(folder / "landscape.csv", objects, scores)
    write_table(folder / "measured.csv", objects[::7], scores[::7])
    (folder / "job.toml").write_text(JOB.replace("num_steps = 60", "num_steps = 20"), encoding="utf-8")
    (folder / "my_score.py").write_text(SCORE, encoding="utf-8")
    run = str(folder / "run")
    assert main(["run", str(folder / "job.toml"), "--out", run]) == 0
    assert main(["shortlist", run]) == 0
    assert main(["verify", run, "--score", f"{folder / 'my_score.py'}:true", "--no-control"]) == 0
    return folder


def assert_harmless(text: str) -> None:
    bad = {letter for letter in text if not letter.isprintable() and letter != "\n"}
    assert not bad, f"{sorted(map(ascii, bad))} in {text!r}"


def shown_by(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return all that a command shows; what is no sentence yet shows the text of its exception."""
    try:
        main(words)
        told = ""
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    output = capsys.readouterr()
    return "\n".join([output.out, output.err, told])


def poisoned(value):
    """Return JSON values with control characters behind every text, and as one more name of every object."""
    if isinstance(value, dict):
        return {name: poisoned(item) for name, item in value.items()} | {HOSTILE: HOSTILE}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return value + HOSTILE if isinstance(value, str) else value


def commands_on(folder: Path) -> list[list[str]]:
    run = str(folder / "run")
    score = f"{folder / 'my_score.py'}:true"
    return [
        ["resume", run],
        ["shortlist", run, "--out", str(folder / "new.csv")],
        ["verify", run, "--score", score, "--no-control"],
        ["worst", run],
        ["report", run, "--out", str(folder / "new.html")],
    ]


@pytest.fixture
def run_copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(path, change):
    """Change a record as somebody would who knows how its checksum is made."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        record_text(change({name: value for name, value in content.items() if name != "checksum"})), encoding="utf-8"
    )


def without_pins(content):
    """Return what a run of an older version says of itself, so that its inputs are read and not compared."""
    return {name: value for name, value in content.items() if name not in ("inputs", "decides", "job_sha256")}


@pytest.mark.parametrize("names", [("run.json",), ("shortlist.json", "verification.json")])
def test_no_text_of_a_json_file_steers_the_terminal(run_copy, names, capsys):
    for path in (run_copy / "run" / name for name in names):
        rewrite(path, poisoned)
    assert_harmless(shown_by(commands_on(run_copy)[-1], capsys))


@pytest.mark.parametrize("value", [f"1{HOSTILE}", [HOSTILE], {HOSTILE: 1}, "x" * 100_000])
def test_a_format_version_is_shown_and_does_nothing(run_copy, value, capsys):
    path = run_copy / "run" / "run.json"
    rewrite(path, lambda content: {**content, "format_version": value})
    for words in commands_on(run_copy):
        shown = shown_by(words, capsys)
        assert_harmless(shown)
        assert "expected format 1" in shown and len(shown) < 1000


def test_no_text_of_a_job_steers_the_terminal(run_copy, capsys):
    rewrite(run_copy / "run" / "run.json", without_pins)
    path = run_copy / "run" / "job.toml"
    text = path.read_text(encoding="utf-8")
    escaped = json.dumps(HOSTILE)[1:-1].replace("\x7f", "\\u007f")
    lines = text.splitlines()
    for place, line in enumerate(lines):
        name, equals, value = line.partition(" = ")
        if line.startswith("["):
            new = [f'{line}\n"{escaped}" = "{escaped}"']
        elif equals:
            new = [f'{name} = "{value.strip(chr(34))}{escaped}"']
        else:
            continue
        path.write_text("\n".join([*lines[:place], *new, *lines[place + 1 :]]), encoding="utf-8")
        assert_harmless(shown_by(commands_on(run_copy)[1], capsys))
    path.write_text(f'{text}\n"{escaped}" = 1\n[broken{HOSTILE}', encoding="utf-8")
    assert_harmless(shown_by(commands_on(run_copy)[1], capsys))


@pytest.mark.parametrize(
    ("name", "command"), [("shortlist.csv", 4), ("history.csv", 0), ("inputs/measured.csv", 1), ("inputs/landscape.csv", 1)]
)
def test_no_cell_steers_the_terminal(run_copy, name, command, capsys):
    rewrite(run_copy / "run" / "run.json", without_pins)
    path = run_copy / "run" / name
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    poison = HOSTILE.replace("\r", "")
    for content in (f"{header}{poison}\n", "\n".join([header, *(f"{row}{poison}" for row in rows), f'"{poison}'])):
        path.write_text(content, encoding="utf-8")
        assert_harmless(shown_by(commands_on(run_copy)[command], capsys))


def test_nothing_that_an_archive_or_a_checkpoint_says_steers_the_terminal(run_copy, capsys):
    run = run_copy / "run"
    for key in ("run_id", "format_version"):
        with contextlib.closing(sqlite3.connect(run / "archive.sqlite")) as connection, connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (f"1{HOSTILE}", key))
        assert_harmless(shown_by(commands_on(run_copy)[0], capsys))
    manifest = next((run / "checkpoints").rglob("manifest.json"))
    manifest.write_text(json.dumps(poisoned(json.loads(manifest.read_text(encoding="utf-8")))), encoding="utf-8")
    assert_harmless(shown_by(commands_on(run_copy)[0], capsys))


def test_who_holds_a_lock_and_why_a_score_failed_steer_no_terminal(run_copy, capsys):
    lock = run_copy / "run" / "archive.sqlite.lock"
    with WriterLock.acquire(lock, "the archive"):
        note = {"process": 7, "host": HOSTILE, "since": HOSTILE * 9}
        lock.write_text(json.dumps(note), encoding="utf-8")
        shown = shown_by(commands_on(run_copy)[0], capsys)
        assert_harmless(shown)
        assert "process 7 on \\x1b[31m" in shown
    for fault in (
        "raise ValueError(hostile)",
        "print(hostile, file=sys.stderr); raise SystemExit",
        "return [hostile] * len(texts)",
    ):
        source = f"import sys\nhostile = {HOSTILE!a}\ndef true(texts):\n    {fault}\n"
        (run_copy / "my_score.py").write_text(source, encoding="utf-8")
        assert_harmless(shown_by(commands_on(run_copy)[2], capsys))


def test_no_name_of_a_file_or_letter_of_a_table_steers_the_terminal(tmp_path, capsys):
    folder = tmp_path / f"a{HOSTILE}{os.fsdecode(bytes([0xFF]))}"
    folder.mkdir()
    table = folder / "t.csv"
    table.write_text(
        f'sequence,score,{HOSTILE[:-6]}\nACGU{HOSTILE[:3]},1,x\n"ACGU",{HOSTILE[:5]},y\nACGU,2,z\n', encoding="utf-8"
    )
    for words in (["check", str(table), "--space", "rna"], ["check", str(table), "--space", HOSTILE]):
        assert_harmless(shown_by(words, capsys))
        assert_harmless(shown_by([*words, "--on-invalid", "skip"], capsys))
        assert_harmless(shown_by([*words, "--score-column", HOSTILE], capsys))
    for command in ("resume", "shortlist", "report"):
        assert_harmless(shown_by([command, str(folder)], capsys))
    assert_harmless(shown_by([HOSTILE], capsys))
    assert_harmless(shown_by(["games", HOSTILE], capsys))


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_terminal_without_the_letters_shows_their_numbers(tmp_path, monkeypatch, errors):
    """The encoding is changed, and not the process: this is what PYTHONIOENCODING=ascii gives."""
    table = tmp_path / f"na\u00efve-{os.fsdecode(bytes([0xFF]))}.csv"
    table.write_text("sequence,na\u00efve \u03b2\nACGU,1\nACG,2\n", encoding="utf-8")
    streams = [io.TextIOWrapper(io.BytesIO(), "ascii", errors) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    assert main(["check", str(table), "--space", "rna"]) == 0
    assert main(["check", str(table), "--space", "dna", "--on-invalid", "skip"]) == 0
    assert main(["check", str(table), "--space", "\u03b1"]) == 1
    shown, told = (stream.buffer.getvalue() for stream in streams)  # pyright: ignore[reportAttributeAccessIssue]  # BytesIO
    assert rb"column 'na\xefve \u03b2'" in shown and rb"na\xefve-\udcff.csv" in shown
    assert rb"unknown space '\u03b1'" in told
    assert [stream.errors for stream in streams] == [errors, errors], "they are the caller's again"
    assert "na\u00efve" in (tmp_path / "rejected.csv").read_text(encoding="utf-8"), "a file is UTF-8 whatever the terminal is"


def test_a_name_that_the_system_cannot_write_is_a_sentence(monkeypatch, capsys):
    def refuse(name=None):
        "na\u00efve.csv".encode("ascii")

    monkeypatch.setattr(listing, COMMANDS["list"].function, refuse)
    assert main(["list"]) == 1
    assert capsys.readouterr().err == (
        "narrows list: '\u00ef' cannot be written in ascii, which names of files have here. Set PYTHONUTF8=1; try again.\n"
    )


def test_streams_of_another_make_are_left_alone(monkeypatch):
    other = io.StringIO()
    monkeypatch.setattr(sys, "stdout", other)
    monkeypatch.setattr(sys, "stderr", None)
    with lenient_output():
        say("na\u00efve \ud800")
    assert other.getvalue() == "na\u00efve \\ud800\n"
    closed = io.TextIOWrapper(io.BytesIO(), "ascii")
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with lenient_output():
        pass


def test_say_keeps_lines_and_nothing_else(capsys):
    say("one\n\ttwo\x1b[0m\r\n" + "x" * 100_000)
    lines = capsys.readouterr().out.split("\n")
    assert lines[:2] == ["one", "    two\\x1b[0m\\r"] and 9_000 < len(lines[2]) < 11_000
    say("three", sys.stderr)
    assert capsys.readouterr().err == "three\n"


@pytest.mark.parametrize(
    "letter", [chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0xAD, 0x200B, 0x202E, 0x2028, 0xFEFF, 0xDCFF)]
)
def test_what_cannot_be_seen_is_written_out(letter):
    for text in (printable(letter), quote(letter), name_some([letter]), printable({letter: [letter]}), quote({letter: 1})):
        assert text.isprintable() and text


def test_what_can_be_seen_stays():
    for text in ("na\u00efve \u03b2 \u4e2d\u6587 \U0001f9ec", "a\u00a0b\u3000c", "C:\\x", "it's"):
        assert printable(text) == text
    assert len(printable("a" * 10**6)) == 200 and len(quote(["a" * 10**6])) == 40
    assert name_some(range(10**5)).endswith("and 99,980 more")
