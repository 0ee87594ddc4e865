"""Settings and origin: everything somebody else needs to make the run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from narrows.report.content import ReportData, SetAside
from narrows.report.sections.outcomes import listed
from narrows.report.words import plural

MOST_SET_ASIDE = 50


@dataclass(frozen=True)
class SettingsTable:
    """A table of the job: its name as in the file and its lines, each a key and a value."""

    name: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OriginView:
    """The section on settings, versions and commands."""

    tables: tuple[SettingsTable, ...]
    origin: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    set_aside: tuple[SetAside, ...]
    num_set_aside: int

    @property
    def set_aside_sentence(self) -> str:
        """The number of items that were set aside, in words."""
        return f"{plural(self.num_set_aside, 'item')} had a number that is not finite and did not train the sampler."


def origin_view(data: ReportData) -> OriginView:
    """Return the section's content; the settings are always there."""
    provenance = data.provenance
    noise = [] if data.noise is None else [listed(data.noise), data.noise.quality]
    origin = [("run folder", data.folder), ("noise", "; ".join(filter(None, noise)))]
    if provenance is not None:
        origin += [
            ("seed", "" if provenance.seed is None else str(provenance.seed)),
            ("made", provenance.created),
            ("machine", provenance.machine),
        ]
    return OriginView(
        tables=tuple(settings_tables(data.settings)),
        origin=tuple((name, value) for name, value in origin if value),
        versions=tuple(provenance.versions.items()) if provenance else (),
        commands=provenance.commands if provenance else (),
        set_aside=data.set_aside[:MOST_SET_ASIDE],
        num_set_aside=data.num_set_aside if data.num_set_aside is not None else len(data.set_aside),
    )


def settings_tables(settings: Mapping[str, object]) -> list[SettingsTable]:
    """Return a nested mapping as one table a level, as a TOML file would have it; loose keys come first.

    >>> [(table.name, table.lines) for table in settings_tables({"seed": 1, "space": {"name": "rna"}})]
    [('', (('seed', '1'),)), ('space', (('name', '"rna"'),))]
    """
    return _tables("", settings)


def _tables(name: str, settings: Mapping[str, object]) -> list[SettingsTable]:
    lines = tuple((str(key), _value(value)) for key, value in settings.items() if not isinstance(value, Mapping))
    tables = [SettingsTable(name, lines)] if lines else []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            tables += _tables(f"{name}.{key}" if name else str(key), value)
    return tables


def _value(value: object) -> str:
    """Write a value as the job file would; what JSON does not know is written as itself."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
