"""A ranking, a proxy and an exploration are one file and one name each: made up beside a copy of the package, and used."""

import os
import subprocess
import sys
from pathlib import Path

import narrows

RANKING = '''
"""Rank by name."""

import numpy as np

from narrows.selection.rankings.base import AbstractOwnRanking


class Alphabetical(AbstractOwnRanking):
    """Rank by the alphabet, the last word first."""

    name = "alphabetical"
    noun = "place in the alphabet"
    meaning = "By the alphabet, which means nothing."

    def label(self, guide, kappa):
        return "place in the alphabet"

    def title(self, guide):
        return "place in the alphabet"

    def rank(self, task):
        return task.choose(task.scored, np.argsort(np.argsort(task.scored.candidates.objects)).astype(float))
'''
PROXY = '''
"""A proxy of two letters."""

import jax.numpy as jnp
import numpy as np

from narrows.proxies.base import AbstractProxy


class LetterCount(AbstractProxy):
    """How often the second letter of the alphabet stands in a sequence.

    Args:
        env: a `Sequence` environment.
        std: how unsure it says it is.
    """

    std: float

    def __init__(self, env, std: float = 0.5) -> None:
        self.std = std

    def __call__(self, states):
        return jnp.sum(states.tokens == 1, axis=-1).astype(jnp.float32)

    def predict(self, objects):
        return np.array([float(text.count("B")) for text in objects]), np.full(len(objects), self.std)

    def predicted_mean(self):
        return self
'''
EXPLORATION = '''
"""Begin with a letter."""

import jax.numpy as jnp

from narrows.training.exploration.base import AbstractExploration, Plan


class FirstLetter(AbstractExploration):
    """Begin every object with one letter.

    Args:
        letter: its place in the alphabet.
    """

    letter: int = 0

    def plan(self, key, scene):
        return Plan(jnp.full((scene.num, scene.env.max_steps), -1).at[:, 0].set(self.letter))
'''
JOB = """
[env]
name = "Sequence"
alphabet = "AB"
min_length = 2
max_length = 3
[reward]
name = "LetterCount"
std = 0.25
[policy]
name = "Tabular"
[objective]
name = "TrajectoryBalance"
[exploration]
name = "FirstLetter"
letter = 1
[train]
num_steps = 4
batch_size = 16
every = 4
[shortlist]
k = 2
min_distance = 1
"""


def add(package: Path, room: str, module: str, name: str, text: str) -> None:
    """Give a room of its own files one file more and its `__init__` one name."""
    source = Path(narrows.__file__).parent / room
    (package / room).mkdir(parents=True)
    for path in source.iterdir():
        if path.name not in ("__init__.py", "__pycache__"):
            (package / room / path.name).symlink_to(path)
    (package / room / f"{module}.py").write_text(text, encoding="utf-8")
    init = (source / "__init__.py").read_text(encoding="utf-8")
    line = f"from narrows.{room.replace('/', '.')}.{module} import {name}\n\n__all__ = ["
    assert init.count("\n__all__ = [") == 1
    (package / room / "__init__.py").write_text(init.replace("\n__all__ = [", f'{line}"{name}", '), encoding="utf-8")


def test_a_ranking_a_proxy_and_an_exploration_are_one_file_and_one_name_each(tmp_path):
    package = tmp_path / "copy" / "narrows"
    add(package, "selection/rankings", "alphabetical", "Alphabetical", RANKING)
    add(package, "proxies", "letter_count", "LetterCount", PROXY)
    add(package, "training/exploration", "first_letter", "FirstLetter", EXPLORATION)
    for room, place in (("", package), *((room, package / room) for room in ("selection", "training"))):
        for path in (Path(narrows.__file__).parent / room).iterdir():
            if path.name != "__pycache__" and not (place / path.name).exists():
                (place / path.name).symlink_to(path)
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    script = (
        "from narrows.cli import main\n"
        "assert main(['run', 'job.toml', '--out', 'run']) == 0\n"
        "assert main(['shortlist', 'run']) == 0\n"
        "assert main(['shortlist', 'run', '--by', 'alphabetical', '--out', 'named.csv']) == 0\n"
        "assert main(['shortlist', 'run', '--by', 'alphabetical']) == 0\n"
        "assert main(['report', 'run']) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "copy")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "highest proxy mean" in done.stdout and "highest place in the alphabet of" in done.stdout
    rows = (tmp_path / "named.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [row.split(",")[1:4] for row in rows] == [["BBB", "3.0", "0.25"], ["BBA", "2.0", "0.25"]]
    seen = (tmp_path / "run" / "shortlist.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert all(row.split(",")[1].startswith("B") for row in seen)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "taken from the top by place in the alphabet" in page and "By the alphabet, which means nothing." in page
