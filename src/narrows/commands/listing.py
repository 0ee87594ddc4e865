"""`narrows list`: everything a job can name."""

from dataclasses import dataclass

from tyro.conf import Positional

from narrows.config import fields_of, known_names


@dataclass(frozen=True)
class Listing:
    """Names by section with a line each, or the fields of one name."""

    entries: dict[str, dict[str, str]]


def list_names(name: Positional[str | None] = None) -> Listing:
    """Show what a job can name, with one line each; with a name, its fields and their defaults.

    Args:
        name: one of the names, to see its fields.
    """
    names = known_names()
    if name is None:
        return Listing(names)
    sections = [section for section, entries in names.items() if name in entries]
    if not sections:
        known = ", ".join(sorted(entry for entries in names.values() for entry in entries))
        raise ValueError(f"nothing is called {name!r}. Known: {known}.")
    return Listing({f'[{section}] name = "{name}"': fields_of(section, name) for section in sections})


def render(listing: Listing) -> str:
    """Return the listing as aligned lines."""
    blocks = []
    for section, entries in listing.entries.items():
        width = max(map(len, entries), default=0)
        title = section if section.startswith("[") else f"[{section}]"
        blocks.append("\n".join([title, *(f"  {name:<{width}}  {line}" for name, line in entries.items())]))
    return "\n\n".join(blocks)
