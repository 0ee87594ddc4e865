"""What a case is, which there are, and the parts that one may have."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.harness.places import ROOT, workplace
from benchmarks.harness.rows import Context, Row
from benchmarks.harness.tables import plain_table

FOLDER = ROOT / "benchmarks"
Part = Callable[[Context, Path], Iterable[Row]]
"""Yields the rows of one part of a case, which may keep results in a folder."""
Draw = Callable[[Sequence[Row], Path], bool]
"""Draws a picture of the rows and returns whether there is anything to draw."""
Effort = TypeVar("Effort")


@dataclass(frozen=True)
class Case:
    """A benchmark."""

    title: str  # heading of its section in the pages
    text: str  # what is measured, how, and how to read it, in Markdown
    # yields the rows of a run as they are measured; raises ValueError with what to do where something is missing
    measure: Callable[[Context], Iterable[Row]]
    tables: Callable[[Sequence[Row]], str] = plain_table  # Markdown of the committed rows; one line a row by default
    page: str = "results"  # the page under docs/ that shows it
    pictures: Mapping[str, Draw] | None = None  # by the name of their file under docs/
    takes: tuple[str, ...] = ()  # options of the command line that not every case has


def names() -> list[str]:
    """Return the names of all cases, without importing any."""
    modules = (module.name for module in pkgutil.iter_modules([str(FOLDER)]) if not module.ispkg)
    return sorted(name for name in modules if not name.startswith("_"))


def load(name: str) -> Case:
    """Import one case; ValueError lists the known ones."""
    if name not in names():
        raise ValueError(f"there is no benchmark {name!r}. There are: {', '.join(names())}; docs writes the pages.")
    case = importlib.import_module(f"benchmarks.{name}").CASE
    assert isinstance(case, Case), f"benchmarks.{name}.CASE is a Case"
    return case


def chosen(asked: Sequence[str], known: Iterable[str], what: str = "case") -> tuple[str, ...]:
    """Return which of the known names were asked for, all where none was; ValueError for one that is not known."""
    known = tuple(known)
    strange = [name for name in asked if name not in known]
    if strange:
        raise ValueError(f"there is no {what} {strange[0]!r}. There are: {', '.join(known)}.")
    return tuple(name for name in known if name in (asked or known))


def part(rows: Callable[[Context, Effort], Iterable[Row]], full: Effort, quick: Effort) -> Part:
    """Return the part that measures with one effort, or a smaller one with `--quick`."""
    return lambda context, folder: rows(context, quick if context.quick else full)


def kept_part(rows: Callable[[Context, Effort, Path], Iterable[Row]], full: Effort, quick: Effort) -> Part:
    """Return a part that keeps what it has trained or simulated in a folder, and finds it there again."""
    return lambda context, folder: rows(context, quick if context.quick else full, folder)


def measure_parts(context: Context, parts: Mapping[str, Part], only_when_asked: frozenset[str] = frozenset()) -> Iterator[Row]:
    """Yield the rows of the parts that were asked for, in their own order; ValueError lists them for an unknown one."""
    here = chosen(context.cases, parts)
    with workplace(context) as folder:
        for name in here:
            if context.cases or name not in only_when_asked:
                yield from parts[name](context, folder)


def prose(name: str) -> dict[str, str]:
    """Return what the pages say of a case beside its tables, from `benchmarks/prose/NAME.md`: by headings `<!-- ... -->`."""
    text = (FOLDER / "prose" / f"{name}.md").read_text(encoding="utf-8")
    _, *parts = text.split("<!-- ")
    heads = (part.partition(" -->\n") for part in parts)
    return {head: body.strip("\n") for head, _, body in heads}
