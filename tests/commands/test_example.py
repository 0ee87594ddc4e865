"""`narrows example`: an example's files, for whoever has only the installed package."""

import csv
from pathlib import Path

import pytest

from narrows.cli import main
from narrows.commands import check, example
from narrows.config import load_job

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_a_name_every_example_is_listed(capsys):
    assert main(["example"]) == 0
    shown = capsys.readouterr().out
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == {*example().names}
    assert "rna_binder" in shown and "from 2,000 measurements to 24 RNAs to make" in shown
    assert not list(Path().iterdir())


def test_the_main_job_begins_with_what_is_written(capsys):
    assert main(["example", "rna_binder"]) == 0
    assert "narrows fit job.toml" in capsys.readouterr().out
    for path in (EXAMPLES / "rna_binder").glob("*.*"):
        assert (Path("rna_binder") / path.name).read_bytes() == path.read_bytes()
    job = load_job("rna_binder/job.toml")
    assert job.data is not None
    checked = check(job.folder / job.data.path, job.data.space)
    assert (checked.num_rows, len(checked.errors)) == (2000, 0)


def test_its_table_is_the_one_that_its_script_makes(monkeypatch):
    pytest.importorskip("RNA", reason="ViennaRNA is not installed: pip install 'narrows[rna]'")
    monkeypatch.syspath_prepend(str(EXAMPLES / "rna_binder"))
    from make_measurements import measure  # pyright: ignore[reportMissingImports] (found through the path set above)

    sequences, scores = measure(seed=0)
    with open(EXAMPLES / "rna_binder" / "measurements.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["sequence"] for row in rows] == sequences
    assert [float(row["score"]) for row in rows] == pytest.approx(scores.round(4), abs=1e-9)


def test_nothing_is_written_over_and_nothing_is_written_elsewhere(capsys):
    Path("rna_binder").mkdir()
    assert main(["example", "rna_binder"]) == 1
    assert "rna_binder is there already. Move it away" in capsys.readouterr().err
    assert not list(Path("rna_binder").iterdir())
    Path("tfbind8").symlink_to("nowhere")
    assert main(["example", "tfbind8"]) == 1
    for name in ("../rna_binder", "rna", "", "."):
        assert main(["example", name]) == 1
        assert "There are: noisy_tfbind8, rna_binder," in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["rna_binder", "tfbind8"]
