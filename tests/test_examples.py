"""The examples and the README run as they stand."""

import functools
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


@pytest.mark.parametrize(
    "num", [200, pytest.param(2000, marks=pytest.mark.slow("folds thousands of RNAs; a tenth of them guards the same"))]
)
def test_measurements_are_as_stated(rna_scripts, tmp_path, monkeypatch, num):
    import make_measurements  # pyright: ignore[reportMissingImports] (found through the fixture's path)

    assert make_measurements.NUM == 2000
    monkeypatch.setattr(make_measurements, "NUM", num)
    monkeypatch.setattr(sys, "argv", ["make_measurements.py", "--out", str(tmp_path / "m.csv")])
    make_measurements.main()
    check = check_table(tmp_path / "m.csv", space("rna", 14, 14))
    assert (check.num_rows, len(check.errors), len(check.warnings)) == (num, 0, 0)
    true = make_measurements.RnaBinding()(check.table.sequences)
    assert true.max() < make_measurements.MID_BELOW
    assert np.mean(true >= make_measurements.WEAK_BELOW) == pytest.approx(make_measurements.SHARE_MID)
    noise = check.table.scores - true
    # The standard deviation of 2,000 normal draws is within 5 % of its own with probability 0.998.
    assert np.std(noise) == pytest.approx(make_measurements.NOISE_STD, rel=0.05 * (2000 / num) ** 0.5)


def test_the_quickstart_runs(rna_scripts, tmp_path, monkeypatch):
    import make_measurements  # pyright: ignore[reportMissingImports] (found through the fixture's path)
    import quickstart  # pyright: ignore[reportMissingImports] (found through the fixture's path)

    monkeypatch.setattr(make_measurements, "NUM", 200)
    monkeypatch.setattr(quickstart, "fit", functools.partial(quickstart.fit, models=["ridge-letters"], refit=False))
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


@pytest.fixture
def robust(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "robust_generation"))
    import robust  # pyright: ignore[reportMissingImports] (found through the path set above)

    return robust


def test_an_exact_game_is_robust_and_without_an_adversary_a_projection(robust):
    task = robust.make_task(1)
    believer = robust.trusting(task)
    exact = robust.exactly(task, robust.BUDGET)
    assert robust.judge(task, exact).worst > robust.judge(task, believer).worst + 0.05
    np.testing.assert_allclose(robust.exactly(task, 0.0), believer, atol=1e-4)


@pytest.mark.slow("trains a network, projects fifty times; the exact game above, and the steps of tests/test_descent.py")
def test_a_generator_against_an_adversary_ends_where_the_exact_game_does(robust):
    found = robust.compare(seed=1)
    believer, control, exact, network = found.values()
    assert exact.worst > max(believer.worst, control.worst) + 0.05
    assert control.num_effective == pytest.approx(exact.num_effective, rel=1e-3)
    assert network.worst == pytest.approx(exact.worst, abs=0.02)
    assert np.linalg.norm(network.law - exact.law) < 0.3 * np.linalg.norm(exact.law)


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


SHORTER = ("num_steps=2000, every=500", "num_steps=4, every=2")
"""What trains, and how little of it shows that the code runs."""


TRAINER = pytest.mark.slow("runs a Trainer, as tests/tuning/test_far_trainer.py does; its names are read below")


def test_the_readme_imports_what_tuning_has():
    (names,) = re.findall("^from narrows.tuning import (.*)$", "\n".join(BLOCKS), flags=re.MULTILINE)
    offered = (ROOT / "src" / "narrows" / "tuning" / "__init__.py").read_text(encoding="utf-8").split("__all__")[1]
    assert all(f'"{name}"' in offered for name in names.split(", "))


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=TRAINER if "Trainer" in block else ()) for n, block in enumerate(BLOCKS)]
)
def test_the_readme_code_runs(number, tmp_path, monkeypatch):
    block = BLOCKS[number].replace(*SHORTER)
    if "narrows.tuning" in block:
        pytest.importorskip("torch", reason="PyTorch is missing: pip install 'narrows[tuning]'")
        block = ENCODER + block
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    if "save_pretrained" in block:
        assert {path.suffix for path in (tmp_path / "adapter").iterdir()} == {".json", ".safetensors"}


@pytest.mark.slow("trains 2,000 steps in a process; the test above takes two of them")
def test_the_readme_code_that_trains_runs_to_its_end(tmp_path):
    (block,) = (block for block in BLOCKS if SHORTER[0] in block)
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, timeout=300, cwd=tmp_path, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 0.2


def test_the_readme_has_code():
    assert len(BLOCKS) >= 3
