"""What a job may say, explained: each section, name and field, with what it takes, its default, and its line in a docstring."""

import difflib
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser

from narrows.config.derived import FROM_DATA
from narrows.config.job import SECTIONS, SURROGATE, Job, toml
from narrows.config.names import CONTEXT, NAMES, OLD_NAMES, SCORE, USUAL_NAMES
from narrows.config.settings import (
    DataSettings,
    NearSettings,
    PolicySettings,
    RewardSettings,
    ScoreSettings,
    ShortlistSettings,
    TrainSettings,
)
from narrows.training import Surrogate, adam
from narrows.training.replay import Replay
from narrows.trajectories.behaviour import Behaviour

_FIELDS: Final[Mapping[str, Callable[..., Any]]] = {
    "reward": RewardSettings,
    "policy": PolicySettings,
    "optimizer": adam,
    "exploration": Behaviour,
    "replay": Replay,
    "train": TrainSettings,
    "shortlist": ShortlistSettings,
    "data": DataSettings,
    "near": NearSettings,
}
"""What each section is made by; where it has a `name`, the fields that stand beside those of every name."""
_KINDS: Final = {bool: "true or false", int: "integer", float: "number", str: "text"}
_REFERENCE = re.compile(r"^as for `(\w+)`(.*)$", re.DOTALL)
_NEAREST = 3


@dataclass(frozen=True)
class Entry:
    """A section of a job, a name that it may have, or a field.

    Args:
        path: how `narrows list` calls it: `train`, `reward.Proxy`, `reward.Proxy.kappa`.
        what: which of the three it is.
        line: what it is, in words, with the unit of a number.
        takes: what a field may hold; nothing for sections and names.
        default: what stands for a field that is left out, as TOML writes it, or `none`; `required` where it must be given.
            What the measurements of a job say instead has the default of a job `without [data]`.
        entries: the fields of a section, then its names; the fields of a name.
    """

    path: str
    what: Literal["section", "name", "field"]
    line: str
    takes: str = ""
    default: str = ""
    entries: tuple["Entry", ...] = ()

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def use(self) -> str:
        """What a field may hold, and what happens where it is left out, in words."""
        left_out = f"by default {self.default}"
        left_out = "may be left out" if self.default == "none" else left_out
        return f"{self.takes}, {self.default if self.default.startswith('required') else left_out}"

    @property
    def fields(self) -> tuple["Entry", ...]:
        return tuple(entry for entry in self.entries if entry.what == "field")

    @property
    def names(self) -> tuple["Entry", ...]:
        return tuple(entry for entry in self.entries if entry.what == "name")

    def walk(self) -> Iterator["Entry"]:
        """Yield it and everything under it."""
        yield self
        for entry in self.entries:
            yield from entry.walk()


@cache
def explain_job() -> tuple[Entry, ...]:
    """Return everything that a job may say, in the order in which a job is kept: its two own fields, then its sections."""
    lines = _lines_of(Job)
    own = (
        Entry("name", "field", lines["name"], "text", "the file's name"),
        Entry("seed", "field", lines["seed"], "integer", "0"),
    )
    return (*own, *(_section(section, lines[section]) for section in SECTIONS))


def explain(path: str) -> tuple[Entry, ...]:
    """Return what a path stands for: `data`, `reward.Proxy`, `reward.beta`; also the end of one, such as `Proxy` or `kappa`.

    Raises ValueError naming the nearest that there are.
    """
    every = [entry for top in explain_job() for entry in top.walk()]
    found = [entry for entry in every if entry.path == path] or [entry for entry in every if entry.path.endswith(f".{path}")]
    if found:
        return tuple(found)
    section, _, field = path.partition(".")
    name, _, field = field.partition(".")
    if name in NAMES.get(section, ()) and field:  # what each name of the section has
        shared = [entry for entry in every if entry.path == f"{section}.{field}"]
        if shared:
            return tuple(shared)
    raise ValueError(f"nothing in a job is called {path!r}. {_nearest(path, every)}")


def _nearest(path: str, every: list[Entry]) -> str:
    by_name: dict[str, list[str]] = {}
    for entry in every:
        by_name.setdefault(entry.name.lower(), []).append(entry.path)
        by_name.setdefault(entry.path.lower(), []).append(entry.path)
    near = difflib.get_close_matches(path.lower(), by_name, _NEAREST)
    near = near or difflib.get_close_matches(path.lower().rpartition(".")[2], by_name, _NEAREST)
    paths = list(dict.fromkeys(path for name in near for path in by_name[name]))
    asked = f"Nearest: {', '.join(paths)}. " if paths else ""
    return f"{asked}`narrows list` shows all: {', '.join(SECTIONS)}."


def _section(section: str, line: str) -> Entry:
    entries: list[Entry] = []
    if section in NAMES:
        usual = USUAL_NAMES.get(section, inspect.Parameter.empty)
        entries.append(_field(f"{section}.name", "which of the names below.", "text", usual))
    if section in _FIELDS:
        entries += _fields(section, _FIELDS[section])
    if section == "optimizer":
        surrogate = f"{section}.{SURROGATE}"
        made = tuple(_fields(surrogate, Surrogate))
        entries.append(Entry(surrogate, "field", _first_line(Surrogate), "table", "none", made))
    for name, constructor in NAMES.get(section, {}).items():
        if name not in OLD_NAMES:
            path = f"{section}.{name}"
            fields = tuple(_fields(path, constructor))
            entries.append(Entry(path, "name", _first_line(constructor), entries=fields))
    if section == "reward":
        path = f"{section}.{SCORE}"
        entries.append(Entry(path, "name", _first_line(ScoreSettings), entries=tuple(_fields(path, ScoreSettings))))
    return Entry(section, "section", line[:1].upper() + line[1:], entries=tuple(entries))


def _fields(path: str, constructor: Callable[..., Any]) -> Iterator[Entry]:
    """Yield the fields of a constructor that a job can give, those whose values TOML has; first what must be given."""
    section = path.partition(".")[0]
    hints = get_type_hints(constructor.__init__ if inspect.isclass(constructor) else constructor)
    lines = _lines_of(constructor)
    parameters = inspect.signature(constructor).parameters.items()
    for name, parameter in sorted(parameters, key=lambda item: item[1].default is not inspect.Parameter.empty):
        takes = None if name in CONTEXT.get(section, ()) else _takes(hints[name])
        if takes is not None:
            line = _followed(lines.get(name, ""), name, NAMES.get(section, {}))
            yield _field(f"{path}.{name}", line, takes, parameter.default)


def _field(path: str, line: str, takes: str, default: Any) -> Entry:
    shown = "required" if default is inspect.Parameter.empty else "none" if default is None else toml(default)
    return Entry(path, "field", line, takes, f"{shown} without [data]" if path in FROM_DATA else shown)


def _takes(hint: Any) -> str | None:
    """Return in words what a field of a type takes, None for a type that TOML does not have."""
    if get_origin(hint) is Literal:
        *others, last = map(toml, get_args(hint))
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(hint) in (Union, types.UnionType):
        words = [_takes(part) for part in get_args(hint) if part is not type(None)]
        return None if None in words else " or ".join(filter(None, words))
    if get_origin(hint) is tuple:
        return f"list of {_takes(get_args(hint)[0])}"
    return _KINDS.get(hint)


def _followed(line: str, name: str, beside: Mapping[str, Callable[..., Any]]) -> str:
    """Return a field's line, with that of another class in the place of "as for `Class`"."""
    reference = _REFERENCE.match(line)
    if reference is None:
        return line
    other = beside[reference[1]]
    return _followed(_lines_of(other)[name], name, beside).removesuffix(".") + reference[2]


@cache
def _lines_of(constructor: Callable[..., Any]) -> Mapping[str, str]:
    """Return the lines in the `Args` of a docstring by parameter; parameters that share a line each have it.

    A record says of its own fields alone what they are, and the record that it extends of the others.
    """
    docstrings = [kind.__doc__ for kind in reversed(inspect.getmro(constructor))] if inspect.isclass(constructor) else []
    return {
        name: " ".join((part.description or "").partition("\n\n")[0].split())
        for text in docstrings or [constructor.__doc__]
        for part in docstring_parser.parse(inspect.cleandoc(text or ""), docstring_parser.DocstringStyle.GOOGLE).params
        for name in part.arg_name.split(", ")
    }


def _first_line(thing: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
