"""A run is opened once: what its job names is made, and its newest checkpoint hashed, once a command and only if asked for."""

import functools
from collections import Counter

import numpy as np
import pytest
from rich.console import Console

from narrows.cli import main
from narrows.config import load_job
from narrows.data import read_table, space, write_table
from narrows.proxies import fit
from narrows.proxies.fitted import save
from narrows.runs import RunFolder, execute

RNG = np.random.default_rng(0)
OBJECTS = sorted({"".join(row) for row in np.array(list("ACGU"))[RNG.integers(0, 4, (60, 6))]})
JOB = """
[data]
path = "table.csv"
space = "rna"
[env]
name = "Sequence"
alphabet = "ACGU"
min_length = 6
max_length = 6
{noise}
[reward]
name = "Proxy"
path = "proxy"
[policy]
name = "Tabular"
[objective]
name = "{objective}"
[train]
num_steps = 4
batch_size = 16
every = 4
checkpoint_every = 4
[shortlist]
k = 3
min_distance = 1
"""
NOISE = '[noise]\nname = "Substitution"\nrate = 0.1'


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Makes a finished run guided by a proxy, "quiet" or "noisy", once."""
    folder = tmp_path_factory.mktemp("opened")
    write_table(folder / "table.csv", OBJECTS, np.array([text.count("G") / 6 for text in OBJECTS]))
    table = read_table(folder / "table.csv", space("rna"))
    fitted = fit.fit(table, space("rna", 6, 6), models=["ridge-letters"], max_distance=1, refit=False)
    save(fitted.proxy, fitted.quality, folder / "proxy", table.sha256)
    (folder / "true.py").write_text("def score(texts):\n    return [text.count('G') for text in texts]\n", encoding="utf-8")

    @functools.cache
    def made(name):
        noise, objective = {"quiet": ("", "TrajectoryBalance"), "noisy": (NOISE, "ExpectedDetailedBalance")}[name]
        (folder / f"{name}.toml").write_text(JOB.format(noise=noise, objective=objective), encoding="utf-8")
        execute(RunFolder.create(folder / name, load_job(folder / f"{name}.toml"), {}), console=Console(quiet=True))
        assert main(["shortlist", str(folder / name)]) == 0
        return folder / name

    return made


def counted(monkeypatch):
    """Count what is made from now on."""
    counts: Counter[str] = Counter()

    def counting(name, function):
        def call(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return call

    for where, name in (
        *(("narrows.runs.opened.build_env", "environment"), ("narrows.config.parts.build_env", "environment")),
        *(("narrows.runs.opened.build_kernel", "kernel"), ("narrows.config.parts.build_kernel", "kernel")),
        *(("narrows.proxies.reward.load", "proxy"), ("narrows.storage.checkpoint.latest", "checkpoint")),
        ("narrows.runs.opened.measurements", "table"),
    ):
        module, _, function = where.rpartition(".")
        original = getattr(__import__(module, fromlist=[function]), function)
        monkeypatch.setattr(where, counting(name, original))
    return counts


OTHERS = pytest.mark.slow(
    "a run in noise, or a whole command; it asks the same object as those that have every part between them"
)


@pytest.mark.parametrize(
    ("command", "run", "expected"),
    [
        ("shortlist", "quiet", {"environment", "kernel", "proxy", "table"}),
        pytest.param("shortlist", "noisy", {"environment", "kernel", "proxy", "table"}, marks=OTHERS),
        pytest.param("report", "quiet", {"environment", "table"}, marks=OTHERS),
        pytest.param("report", "noisy", {"environment", "kernel", "table"}, marks=OTHERS),
        ("worst", "quiet", {"environment", "kernel", "proxy", "checkpoint"}),
        ("verify", "quiet", {"environment", "kernel", "proxy", "table"}),
        pytest.param("verify", "noisy", {"environment", "kernel", "proxy", "table"}, marks=OTHERS),
    ],
)
def test_everything_is_made_once(runs, monkeypatch, command, run, expected):
    folder = runs(run)
    made = counted(monkeypatch)
    words = {
        "worst": ["--states", "50", "--samples", "32"],
        "verify": ["--score", f"{folder.parent / 'true.py'}:score", "--no-control"],
    }
    assert main([command, str(folder), *words.get(command, [])]) == 0
    assert made == dict.fromkeys(expected, 1)
