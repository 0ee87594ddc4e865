"""Scores that were paid for once: an SQLite file, keyed by the score and the object."""

import contextlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import final

from narrows.files import refuse_special_database
from narrows.printing import name_some, printable, quote

_VERSION = 2
"""Since 2 each row has a checksum; those that version 1 wrote go on without one."""
_LOOKUP = 500


def stds_of(scorer: str) -> str:
    """Return the name under which the standard deviations of a score are remembered, beside its values."""
    return f"{scorer}:std"


@final
class ScoreCache:
    """Finite scores of objects, each under the identity of the score that gave it.

    Several processes may share a file. Raises ValueError for a file that is something else.

    Args:
        path: the file, made when missing; None remembers for this process only.
        read_only: read a file that is there, and write nothing.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, read_only: bool = False) -> None:
        self._name = ":memory:" if path is None else os.fspath(path)
        if path is not None:
            refuse_special_database(path)
        place = f"{Path(self._name).absolute().as_uri()}?mode=ro" if read_only else self._name
        try:
            self._database = sqlite3.connect(place, timeout=60.0, uri=read_only)
        except sqlite3.Error as error:
            raise ValueError(f"{self._name} cannot be opened as a cache of scores: {error}. Choose another file.") from None
        try:
            self._checksum = self._prepare(read_only)
        except sqlite3.OperationalError as error:
            self.close()
            raise ValueError(f"{self._name} cannot be used as a cache of scores: {error}. Choose another file.") from None
        except (sqlite3.DatabaseError, ValueError) as error:
            self.close()
            raise ValueError(f"{self._name} is no cache of scores ({error}). Choose another file or delete it.") from None

    def get(self, scorer: str, objects: Iterable[str]) -> dict[str, float]:
        """Return the scores that are known; ValueError where one is not what was written."""
        names = list(objects)
        found: dict[str, float] = {}
        for start in range(0, len(names), _LOOKUP):
            part = names[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            query = f"SELECT object, value, {self._checksum} FROM scores WHERE scorer = ? AND object IN ({marks})"
            try:
                for name, value, known in self._database.execute(query, (scorer, *part)):
                    if not isinstance(value, float) or known not in (None, _checksum(scorer, name, value)):
                        raise ValueError(f"the score of {quote(name)} was changed")
                    found[name] = value
            except (sqlite3.DatabaseError, UnicodeDecodeError, ValueError) as error:
                raise ValueError(
                    f"{self._name} is damaged ({printable(error)}). Restore it from a copy, or delete it: scores are then "
                    "asked for again."
                ) from None
        return found

    def put(self, scorer: str, values: Mapping[str, float]) -> None:
        """Remember scores, all or none."""
        with self._database:
            rows = [(scorer, name, float(value), _checksum(scorer, name, float(value))) for name, value in values.items()]
            self._database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    def _prepare(self, read_only: bool) -> str:
        """Make the table where there is none, and return where its checksums are."""
        with self._database:
            tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if tables and (tables != {"scores"} or version not in range(1, _VERSION + 1)):
                raise ValueError(f"it holds the tables {name_some(sorted(tables))} in version {version}")
            if read_only:
                return "checksum" if version == _VERSION else "NULL"
            if tables and version == 1:
                self._database.execute("ALTER TABLE scores ADD COLUMN checksum INTEGER")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS scores (scorer TEXT, object TEXT, value REAL, checksum INTEGER, "
                "PRIMARY KEY (scorer, object)) WITHOUT ROWID"
            )
            self._database.execute(f"PRAGMA user_version = {_VERSION}")
        return "checksum"


def _checksum(scorer: str, name: str, value: float) -> int:
    return zlib.crc32(struct.pack("<d", value), zlib.crc32(f"{scorer}\0{name}".encode()))
