"""`narrows list`: everything that a job can say, explained."""

import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from tyro.conf import Positional

from narrows.config import Entry, explain, explain_job

_WIDTHS = 60, 120


@dataclass(frozen=True)
class Listing:
    """What was asked about: sections, names or fields of a job, or, with nothing asked, the whole of it."""

    entries: tuple[Entry, ...]
    is_overview: bool


def list_names(about: Positional[str | None] = None) -> Listing:
    """Explain what a job can say: its sections, the names that they may have, and every field with its unit and default.

    Args:
        about: a section (data), a name (reward.Proxy, or Proxy alone) or a field (reward.beta); by default the sections.

    Raises ValueError for what is not there, naming the nearest.
    """
    return Listing(explain_job(), True) if about is None else Listing(explain(about), False)


def render(listing: Listing) -> str:
    """Return the listing as lines that fit the terminal."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns, _WIDTHS[0]), _WIDTHS[1])
    if listing.is_overview:
        return _overview(listing.entries, width)
    return "\n\n".join("\n".join(_explained(entry, width)) for entry in listing.entries)


def _overview(entries: Iterable[Entry], width: int) -> str:
    head = (
        "A job is a TOML file of these tables. `narrows list TABLE` explains one (narrows list data), `narrows list "
        "TABLE.NAME` what a name stands for (narrows list reward.Proxy). What has a default may be left out."
    )
    lines = textwrap.wrap(head, width)
    for entry in entries:
        is_field = entry.what == "field"
        lines += ["", *(_field(entry, width, 0) if is_field else _wrapped(f"[{entry.path}]", entry.line, width))]
        for what, found in {"names": entry.names, "fields": _beside_the_name(entry)}.items():
            lines += _indented(f"{what}: {_listed(found)}", width, 4) if found else []
    return "\n".join(lines)


def _explained(entry: Entry, width: int) -> list[str]:
    section, _, rest = entry.path.partition(".")
    if entry.what == "field":
        place = entry.path.removesuffix(entry.name).rstrip(".")
        return [_title(place), *_field(entry, width, 2)] if rest else _field(entry, width, 0)
    lines = [_title(entry.path), *_indented(entry.line, width, 2)]
    for field in entry.fields:
        lines += ["", *_field(field, width, 2)]
    if entry.what == "name":
        shared = [field for top in explain_job() if top.path == section for field in _beside_the_name(top)]
        lines += ["", f"  also: {_listed(shared)} (narrows list {section})"] if shared else []
    if entry.names:
        lines += ["", *textwrap.wrap(f"The names (narrows list {entry.names[0].path} has the fields of the first):", width)]
        longest = max(len(named.name) for named in entry.names)
        lines += [line for named in entry.names for line in _wrapped(f"  {named.name:<{longest}}", named.line, width)]
    return lines


def _beside_the_name(section: Entry) -> list[Entry]:
    return [field for field in section.fields if field.name != "name"]


def _listed(entries: Iterable[Entry]) -> str:
    return ", ".join(entry.name for entry in entries)


def _title(path: str) -> str:
    section, _, name = path.partition(".")
    return f'[{section}] name = "{name}"' if name[:1].isupper() else f"[{path}]"


def _field(field: Entry, width: int, indent: int) -> list[str]:
    head = textwrap.wrap(f"{field.name}: {field.use}", width - indent, subsequent_indent=" " * 6)
    lines = [*(" " * indent + line for line in head), *_indented(field.line, width, indent + 4)]
    return [*lines, *(line for part in field.entries for line in _field(part, width, indent + 4))]


def _indented(text: str, width: int, indent: int) -> list[str]:
    return _wrapped(" " * (indent - 2), text, width)


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """Return lines that begin after a head and two blanks, or below."""
    below = " " * (len(head) + 2)
    return textwrap.wrap(text, width, initial_indent=f"{head}  ", subsequent_indent=below, break_on_hyphens=False)
