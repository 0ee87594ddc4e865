"""Commands killed at each step in which files take their names: what was there is whole, and they can be given again."""

import hashlib
import itertools
import json
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tests.games.recipes import tiny
from tests.killing import kill_everywhere
from tests.rewards.proxies import make_quality

from narrows.commands import fitting, reporting, selecting, verifying
from narrows.config import load_job
from narrows.data import space, write_table
from narrows.files import ChangedFile
from narrows.games.folder import load_player
from narrows.games.recipe import Recipe
from narrows.games.self_play import SelfPlayInfo, SelfPlayTrainer
from narrows.policies import Scaled
from narrows.policies.base import Model
from narrows.proxies import fitted
from narrows.proxies.fit import Fit
from narrows.proxies.models.constant import Constant
from narrows.report import page as report_page
from narrows.runs import OpenRun, RunFolder, execute
from narrows.runs import self_play as game_runs
from narrows.runs.verification import Comparison
from narrows.selection import read_selection
from narrows.storage import checkpoint

JOB = """
[env]
name = "Sequence"
alphabet = "ACGU"
min_length = 4
max_length = 4
[reward]
name = "Ehrlich"
motif_length = 2
quantization = 2
[policy]
name = "MLP"
hidden = 16
[train]
num_steps = 10
batch_size = 8
every = 5
[shortlist]
k = 3
min_distance = 1
"""
QUIET = Console(quiet=True)
ALL = ("",)
"""Every name may change: what can be opened tells whether it is whole."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a shortlist of its own."""
    place = tmp_path_factory.mktemp("kills")
    (place / "job.toml").write_text(JOB, encoding="utf-8")
    folder = RunFolder.create(place / "run", load_job(place / "job.toml"), {})
    execute(folder, console=QUIET)
    selecting.shortlist((folder.path,))
    return folder


def fixed(monkeypatch, module, name, value):
    """Let a module take for granted what was computed once: only the writing is killed."""
    monkeypatch.setattr(module, name, lambda *arguments, **options: value)


def drawn_once(monkeypatch, module, run):
    """Let a command take its page for granted."""
    page = module.gather(OpenRun(run))
    fixed(monkeypatch, module, "gather", page)
    fixed(monkeypatch, report_page, "render", report_page.render(page))


def test_shortlist(run, monkeypatch):
    opened = [OpenRun(run)]
    scored = selecting.load_candidates(opened)
    chosen = selecting.choose(opened, scored, replace(selecting.resolve_ranking(opened), k=4))
    fixed(monkeypatch, selecting, "load_candidates", scored)
    fixed(monkeypatch, selecting, "choose", chosen)

    def is_whole():
        """Each file is the old or the new one, and where they are not of one selection the reader is told."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            rows, record = read_selection(run.shortlist)
        assert record is not None and len(rows) in (3, 4)
        assert len(rows) == record.k or [one.category for one in told] == [ChangedFile]

    kill_everywhere(run.path, partial(selecting.shortlist, (run.path,), k=4), is_whole=is_whole, changing=("shortlist.",))


def test_report(run, monkeypatch):
    drawn_once(monkeypatch, reporting, run)
    run.report.write_text("<html>an older page</html>\n", encoding="utf-8")

    def is_whole():
        assert run.report.read_text(encoding="utf-8").rstrip().endswith("</html>")

    kill_everywhere(run.path, partial(reporting.report, run.path), is_whole=is_whole, changing=("report.html",))


def test_verify(run, monkeypatch):
    group = verifying.Group("shortlist", "shortlist", "the rows of shortlist.csv", ("ACGU",), (1.0,), (1.0,))
    fixed(monkeypatch, verifying, "compare", Comparison((group,), None, {}))
    fixed(
        monkeypatch,
        verifying,
        "open_scorer",
        nullcontext(lambda texts: SimpleNamespace(values=np.ones(len(texts)), failures={})),
    )
    drawn_once(monkeypatch, verifying, run)
    run.report.write_text("<html>an older page</html>\n", encoding="utf-8")
    run.verification.write_text('{"groups": ["an older one"]}\n', encoding="utf-8")

    def is_whole():
        assert json.loads(run.verification.read_text(encoding="utf-8"))["groups"]
        assert run.report.read_text(encoding="utf-8").rstrip().endswith("</html>")

    call = partial(verifying.verify, run.path, lambda texts: [1.0] * len(texts), control=False)
    kill_everywhere(run.path, call, is_whole=is_whole, changing=("verification.json", "report.html"))


def test_fit(tmp_path, monkeypatch):
    write_table(tmp_path / "data.csv", ["".join(letters) for letters in itertools.product("ACGU", repeat=3)], [1.0] * 64)
    rna, one = space("rna").closed_over(["ACG"]), jnp.ones((), jnp.float32)
    old, new = (fitted.FittedProxy((Constant(one, one),), jnp.ones(1), offset, one, one, rna) for offset in (0.0, 1.0))
    folder = fitted.save(old, make_quality(), tmp_path / "proxy")
    fixed(monkeypatch, fitting, "fit_table", Fit(new, make_quality()))

    def is_whole():
        known = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["weights_sha256"]
        assert hashlib.sha256((folder / f"weights-{known[:16]}.safetensors").read_bytes()).hexdigest() == known

    fit = partial(fitting.fit, tmp_path / "data.csv", "rna", out=folder)
    kill_everywhere(folder, fit, is_whole=is_whole, changing=ALL)
    assert float(fitted.load(folder)[0].offset) == 0.0
    fit()
    assert float(fitted.load(folder)[0].offset) == 1.0


FROM_NOTHING = pytest.mark.slow("writes as often again; a training that goes on takes the same steps")


class _Games(NamedTuple):
    """How many games were played."""

    total: Any


class _State(NamedTuple):
    """What is kept of a training by self-play."""

    step: Any
    average: Any
    games: Any
    num_moves: Any
    num_rows: Any


@pytest.mark.parametrize("is_begun", [pytest.param(False, marks=FROM_NOTHING), True])
def test_games_train(tmp_path, monkeypatch, is_begun):
    recipe = tiny(num_steps=4, every=2)
    policy = Scaled(recipe.make_policy(jax.random.key(0)), recipe.scale, recipe.scale)

    def init(key) -> Any:
        zeros = (jnp.zeros((), jnp.int32) for _ in range(4))
        average = Model(jax.tree.map(jnp.copy, policy), jnp.zeros(()))  # training donates what it starts from
        return _State(next(zeros), average, _Games(next(zeros)), *zeros)

    def step(state):
        return state._replace(step=state.step + 1), SelfPlayInfo(jnp.zeros(()), jnp.zeros((), bool))

    monkeypatch.setattr(Recipe, "trainer", lambda recipe: SelfPlayTrainer(init, step))
    folder = tmp_path / "player"
    folder.mkdir()
    if is_begun:  # its time is up after the first chunk
        assert game_runs.train(folder, recipe, seconds=1e-9, console=QUIET).step == 2

    def is_whole():
        found = checkpoint.latest(folder / "checkpoints")
        assert not found.skipped
        if is_begun:
            assert found.path is not None and checkpoint.read_manifest(found.path).step in (2, 4)
            load_player(folder, "player")

    train = partial(game_runs.train, folder, recipe, console=QUIET)
    kill_everywhere(folder, train, is_whole=is_whole, changing=ALL)
    assert train().step == 4
