"""The sdist and the wheel: built, checked, listed, installed where nothing else is, and used from an empty folder."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow(
    "builds and installs the package, minutes of downloads; only an installed wheel shows that it works"
)


def run(*words: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the sdist, and the wheel that was built from it."""
    pytest.importorskip("build", reason="build is not installed: pip install build twine")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def test_the_index_would_take_them(built):
    assert run(sys.executable, "-m", "twine", "check", "--strict", *built, cwd=ROOT).count("PASSED") == 2


def test_the_wheel_holds_the_package_and_nothing_else(built):
    sdist, wheel = built
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src" / "narrows"
    tracked = run("git", "ls-files", "src/narrows", "examples", cwd=ROOT).splitlines()
    expected = {name.removeprefix("src/") if name.startswith("src/") else f"narrows/{name}" for name in tracked}
    assert {name for name in names if not name.startswith("narrows-")} == expected
    assert {"narrows/py.typed", "narrows/examples/rna_binder/measurements.csv"} <= names and source.is_dir()
    assert {name.split("/")[-1] for name in names if ".dist-info/" in name} >= {"METADATA", "LICENSE", "entry_points.txt"}
    held = {name.split("/", 1)[1] for name in tarfile.open(sdist).getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "Makefile", "tests/conftest.py", "examples/rna_binder/job.toml"} <= held
    assert not {name for name in held if name.startswith((".git/", ".venv", "runs/"))}


def test_the_page_on_the_index_leads_somewhere(built):
    metadata = zipfile.ZipFile(built[1]).read("narrows-0.1.0.dist-info/METADATA").decode()
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert len(links) > 5 and all(link.startswith(("https://", "#")) for link in links), links
    for link in links:
        if "/narrows/" in link:
            assert (ROOT / re.sub(r".*/main/", "", link)).exists(), link
    assert "Typing :: Typed" in metadata and "Project-URL: Repository" in metadata


def test_the_main_job_runs_with_nothing_but_the_wheel(built, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", built[1], cwd=tmp_path)
    narrows = tmp_path / "env" / "bin" / "narrows"
    (tmp_path / "empty").mkdir()
    run(narrows, "example", "rna_binder", cwd=tmp_path / "empty")
    folder = tmp_path / "empty" / "rna_binder"
    run(narrows, "check", "measurements.csv", "--space", "rna", cwd=folder)
    run(narrows, "fit", "job.toml", cwd=folder)
    run(narrows, "run", "job.toml", "--out", "run", "--set", "train.num_steps=100", cwd=folder)
    run(narrows, "shortlist", "run", "--k", "24", "--min-distance", "4", cwd=folder)
    run(narrows, "report", "run", cwd=folder)
    assert len((folder / "run" / "shortlist.csv").read_text().splitlines()) == 25
    assert (folder / "run" / "report.html").stat().st_size > 10_000
