"""Every integer that a user can give has an upper bound, and a sentence that names it."""

import importlib
import inspect
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from narrows.cli import COMMANDS, GAMES, main
from narrows.config import JobError, NearSettings, ShortlistSettings, TrainSettings, load_job, parse_job
from narrows.config.names import CONTEXT, NAMES
from narrows.config.parts import build_env
from narrows.config.schema import validate_fields
from narrows.sizes import MOST, Count, Few, Seed, check_sizes
from narrows.training import Surrogate, adam
from narrows.training.replay import Replay

HUGE = 10**23
SCHEMAS = [
    *((section, made) for section, names in NAMES.items() for made in names.values()),
    *(("train", TrainSettings), ("shortlist", ShortlistSettings), ("near", NearSettings), ("replay", Replay)),
    *(("optimizer", adam), ("optimizer.surrogate", Surrogate)),
]
# What each command cannot do without, beside its integers.
NEEDED = {
    "new": ["t.csv"],
    "check": ["t.csv", "--space", "rna"],
    "fit": ["t.csv"],
    "tune": ["t.csv", "--encoder", "e", "--out", "o"],
    "run": ["job.toml", "--out", "o"],
    "resume": ["o"],
    "shortlist": ["o"],
    "worst": ["o"],
    "games train": ["tic_tac_toe", "--out", "o"],
    "games eval": ["random"],
    "games tournament": ["random", "tactic"],
    "games play": ["random"],
    "games solve": ["connect4"],
    "games build-set": ["--out", "o.npz"],
}


def integers(function, leaving=()):
    """Return the names of a function's parameters that are integers, perhaps absent ones."""
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    names = [name for name in inspect.signature(function).parameters if name not in leaving]
    own = [name for name in names if hints.get(name) is int or hints.get(name) == int | None]
    records = [hints[name] for name in names if is_dataclass(hints.get(name))]
    return [*own, *(name for record in records for name in integers(record))]


@pytest.mark.parametrize(("section", "constructor"), SCHEMAS, ids=lambda thing: getattr(thing, "__name__", thing))
def test_every_integer_of_a_job_has_a_bound_that_says_so(section, constructor):
    context = CONTEXT.get(section, ())
    parameters = {name: p for name, p in inspect.signature(constructor).parameters.items() if name not in context}
    hints = get_type_hints(constructor.__init__ if inspect.isclass(constructor) else constructor)
    needed = {name: "x" if hints[name] is str else 1 for name, p in parameters.items() if p.default is p.empty}
    for name in integers(constructor, context):
        with pytest.raises(JobError, match=rf"^\[{section}\] {name} must be at most [\d,]+, got 100,000,000,0"):
            validate_fields(section, {**needed, name: HUGE}, constructor, context)
        with pytest.raises(JobError, match=rf"^\[{section}\] {name} must be at least -?[\d,]+, got -100,0"):
            validate_fields(section, {**needed, name: -HUGE}, constructor, context)


@pytest.mark.parametrize("command", NEEDED)
def test_every_integer_of_a_command_has_a_bound_that_says_so(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry = (GAMES if command.startswith("games ") else COMMANDS)[command.split()[-1]]
    names = integers(getattr(importlib.import_module(f"narrows.commands.{entry.module}"), entry.function))
    assert names
    for name in names:
        option = f"--{name.replace('_', '-')}"
        assert main([*command.split(), *NEEDED[command], option, str(HUGE)]) == 1
        assert f"narrows {command}: {option} must be at most" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_command_with_integers_is_forgotten():
    entries = {**COMMANDS, **{f"games {name}": entry for name, entry in GAMES.items()}}
    functions = {
        name: getattr(importlib.import_module(f"narrows.commands.{entry.module}"), entry.function)
        for name, entry in entries.items()
    }
    assert {name for name, function in functions.items() if integers(function)} == set(NEEDED)


def test_bounds_are_those_of_the_annotation():
    def takes(plain: int, count: Count, few: Few | None = None, seed: Seed = 0, many: tuple[int, ...] = ()) -> None: ...

    check_sizes(takes, {"plain": MOST, "count": 2**31 - 1, "few": 1000, "seed": 2**32 - 1, "many": (1, 2), "other": "x"})
    check_sizes(takes, {"few": None, "plain": -1})
    for name, value in {"plain": MOST + 1, "count": 2**31, "few": 1001, "seed": 2**32, "many": (1, MOST + 1)}.items():
        with pytest.raises(ValueError, match=f"{name} must be at most"):
            check_sizes(takes, {name: value})
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        check_sizes(takes, {"seed": -1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "Hypergrid", "ndim": 1000, "side": 1_000_000},
            "side = 1000000 has 999,999,001 steps to an object",
        ),
        ({"name": "Hypergrid", "ndim": 1_000_000, "side": 2}, "steps to an object, at most 1,000,000 will do"),
        ({"name": "Subsets", "num_items": 1_000_000, "max_size": 3}, "has 1,000,001 actions"),
        ({"name": "Sequence", "alphabet": "AC", "min_length": 1, "max_length": 1_000_000}, "has 1,000,001 steps"),
    ],
)
def test_objects_larger_than_arrays_hold_are_refused(settings, message):
    with pytest.raises(JobError, match=message):
        build_env(parse_job({"env": settings, "reward": {"name": "Score"}}, Path()))


def test_a_number_too_long_to_be_read_is_a_sentence(tmp_path):
    (tmp_path / "job.toml").write_text(f"seed = {'9' * 5000}\n", encoding="utf-8")
    with pytest.raises(JobError, match="not a TOML file"):
        load_job(tmp_path / "job.toml")
