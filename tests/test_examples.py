"""The examples and the README run as they stand."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from narrows.config import load_job
from narrows.data import check_table, space

ROOT = Path(__file__).parent.parent
RNA = ROOT / "examples" / "rna_binder"


@pytest.fixture
def rna_scripts(monkeypatch):
    pytest.importorskip("RNA", reason="ViennaRNA is not installed: pip install 'narrows[rna]'")
    monkeypatch.syspath_prepend(str(RNA))


def test_measurements_are_as_stated(rna_scripts, tmp_path):
    import make_measurements  # pyright: ignore[reportMissingImports] (found through the fixture's path)

    subprocess.run([sys.executable, str(RNA / "make_measurements.py"), "--out", str(tmp_path / "m.csv")], check=True)
    check = check_table(tmp_path / "m.csv", space("rna", 14, 14))
    assert (check.num_rows, len(check.errors), len(check.warnings)) == (2000, 0, 0)
    true = make_measurements.RnaBinding()(check.table.sequences)
    assert true.max() < make_measurements.MID_BELOW
    assert np.mean(true >= make_measurements.WEAK_BELOW) == pytest.approx(make_measurements.SHARE_MID)
    noise = check.table.scores - true
    # The standard deviation of 2,000 normal draws is within 5 % of its own with probability 0.998.
    assert np.std(noise) == pytest.approx(make_measurements.NOISE_STD, rel=0.05)


def test_the_quickstart_runs(rna_scripts, tmp_path, monkeypatch):
    import quickstart  # pyright: ignore[reportMissingImports] (found through the fixture's path)

    sequences, scores = quickstart.measure(seed=0)
    monkeypatch.setattr(quickstart, "measure", lambda seed: (sequences[:200], scores[:200]))
    monkeypatch.setattr(quickstart, "fit", functools.partial(quickstart.fit, members=2, max_epochs=2, refit=False))
    assert 0.0 <= quickstart.main(num_steps=10, proxy=str(tmp_path / "proxy")) <= 1.0


@pytest.mark.slow("fits and trains at full size; the test above takes the same steps in small")
def test_the_quickstart_finds_better_binders_than_were_measured(rna_scripts, tmp_path, capsys):
    import quickstart  # pyright: ignore[reportMissingImports] (found through the fixture's path)

    best_measured = np.sort(quickstart.measure(seed=0)[1])[-24:].mean()
    assert quickstart.main(num_steps=200, proxy=str(tmp_path / "proxy")) > best_measured
    assert "Spearman" in capsys.readouterr().out


def test_the_quickstart_is_short():
    body = (RNA / "quickstart.py").read_text(encoding="utf-8").split("def main")[1]
    assert len([line for line in body.splitlines() if line.strip()]) < 40


def test_a_generator_against_an_adversary_ends_where_the_exact_game_does(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "robust_generation"))
    import robust  # pyright: ignore[reportMissingImports] (found through the path set above)

    found = robust.compare(seed=1)
    believer, control, exact, network = found.values()
    assert exact.worst > max(believer.worst, control.worst) + 0.05
    assert control.num_effective == pytest.approx(exact.num_effective, rel=1e-3)
    assert network.worst == pytest.approx(exact.worst, abs=0.02)
    assert np.linalg.norm(network.law - exact.law) < 0.3 * np.linalg.norm(exact.law)
    # Without an adversary the game is a projection.
    task = robust.make_task(1)
    np.testing.assert_allclose(robust.exactly(task, 0.0), robust.trusting(task), atol=1e-4)


@pytest.mark.parametrize("job", sorted(ROOT.glob("examples/*/job.toml")), ids=lambda path: path.parent.name)
def test_jobs_are_valid(job):
    assert load_job(job).train.num_steps >= 100


BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
ENCODER = """
import torch, transformers
from tests.tuning.tiny import make_encoder
path = make_encoder("encoder")
rows = [{"input_ids": torch.randint(5, 25, (8,)), "labels": n % 2} for n in range(16)]
batch = {"input_ids": torch.stack([row["input_ids"] for row in rows[:4]]), "labels": torch.tensor([0, 1, 0, 1])}
loader, args = [batch], transformers.TrainingArguments("out", max_steps=2, report_to=[], use_cpu=True)
"""
"""What the block about tuning takes for granted."""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_readme_code_runs(number, tmp_path):
    block = BLOCKS[number]
    if "narrows.tuning" in block:
        pytest.importorskip("torch", reason="PyTorch is missing: pip install 'narrows[tuning]'")
        block = ENCODER + block
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", block]
    done = subprocess.run(command, check=False, capture_output=True, timeout=300, cwd=tmp_path, env=environment, text=True)
    assert done.returncode == 0, done.stderr
    if "save_pretrained" in block:
        assert {path.suffix for path in (tmp_path / "adapter").iterdir()} == {".json", ".safetensors"}


def test_the_readme_has_code():
    assert len(BLOCKS) >= 3
