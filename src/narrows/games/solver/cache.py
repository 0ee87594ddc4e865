"""Solved openings: a book of the first moves in the package, and bounds of slow ones in a file that all processes share."""

import contextlib
import os
import sqlite3
import sys
import warnings
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final, final

import numpy as np

from narrows.games.solver.board import Board
from narrows.printing import printable

FILE: Final = "connect_four.sqlite"

_APPLICATION: Final = 0x6E617277
"""Marks the file as this one: "narw"."""

_VERSION: Final = 1

_WAIT: Final = 5.0
"""Seconds to wait for another process that writes."""

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS bounds (width INTEGER, height INTEGER, key INTEGER, low INTEGER, high INTEGER, "
    "PRIMARY KEY (width, height, key)) WITHOUT ROWID"
)
_ASK: Final = "SELECT low, high FROM bounds WHERE width = ? AND height = ? AND key = ?"
_TELL: Final = (
    "INSERT INTO bounds VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
    "SET low = max(low, excluded.low), high = min(high, excluded.high)"
)


def load_book() -> tuple[tuple[int, int], dict[int, int]]:
    """Return the width and height of the board of the book in the package, and its scores by canonical key."""
    with as_file(files("narrows.games") / "data" / "openings.npz") as path, np.load(path, allow_pickle=False) as archive:
        width, height = archive["board"].tolist()
        keys, scores = archive["keys"], archive["scores"]
    assert keys.dtype == np.uint64 and scores.dtype == np.int8 and keys.shape == scores.shape
    return (width, height), dict(zip(keys.tolist(), scores.tolist(), strict=True))


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return where results that took long are kept: `$NARROWS_CACHE`, else the platform's folder for such files.

    Args:
        environ: environment variables; those of the process if absent.
    """
    variables = os.environ if environ is None else environ
    if variables.get("NARROWS_CACHE"):
        return Path(variables["NARROWS_CACHE"]).expanduser()
    home = Path(variables.get("HOME") or variables.get("USERPROFILE") or "~").expanduser()
    if sys.platform == "win32":
        return Path(variables.get("LOCALAPPDATA") or home / "AppData" / "Local") / "narrows" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "narrows"
    return Path(variables.get("XDG_CACHE_HOME") or home / ".cache") / "narrows"


@final
class OpeningCache:
    """Bounds of the scores of openings: a lower and an upper bound, equal for a score that is known exactly.

    A weak result is a bound too: a position that is won has a score of at least 1. Whatever goes wrong with the file, the
    solver works without it: a file that is damaged or something else is set aside with a warning and a new one begun, one
    that cannot be written is not used.

    Args:
        folder: where the file is, made when missing.
        board: whose positions these are.
    """

    def __init__(self, folder: Path, board: Board) -> None:
        self.path = folder / FILE
        self._size = (board.width, board.height)
        self._database: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = _opened(self.path)
        except (sqlite3.Error, _ForeignFile, OSError) as error:
            self._mend(error)

    def get(self, key: int) -> tuple[int, int] | None:
        """Return the bounds of the score of a position with this canonical key, None for one that is not there."""
        if self._database is None:
            return None
        try:
            found = self._database.execute(_ASK, (*self._size, _signed(key))).fetchone()
        except sqlite3.Error as error:
            self._mend(error)
            return None
        if found is None or not all(isinstance(bound, int) for bound in found) or found[0] > found[1]:
            return None
        return found

    def put(self, key: int, low: int, high: int) -> None:
        """Remember bounds, beside those that are known."""
        if self._database is None:
            return
        try:
            with self._database:
                self._database.execute(_TELL, (*self._size, _signed(key), low, high))
        except sqlite3.Error as error:
            self._mend(error)

    def close(self) -> None:
        """Close the file; what comes after is not remembered."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
        self._database = None

    def _give_up(self, error: Exception) -> None:
        self.close()
        warnings.warn(f"solved openings are not kept in {printable(self.path, None)}: {printable(error)}.", stacklevel=4)

    def _mend(self, error: Exception) -> None:
        """Go on after a failure: with a new file where the old one is damaged, without one where it only cannot be used now."""
        if isinstance(error, sqlite3.OperationalError | OSError):
            return self._give_up(error)
        self.close()
        aside = self.path.with_suffix(".damaged")
        what = f"{printable(self.path, None)} is no cache of openings ({printable(error)})"
        warnings.warn(f"{what}. It is now called {printable(aside.name)}, and a new one is begun.", stacklevel=4)
        try:
            self.path.replace(aside)
            self.path.with_name(f"{FILE}-journal").unlink(missing_ok=True)  # it belongs to the old file
            self._database = _opened(self.path)
        except (OSError, sqlite3.Error, _ForeignFile) as again:
            self._give_up(again)


class _ForeignFile(Exception):
    """A database, but not this one."""


def _opened(path: Path) -> sqlite3.Connection:
    """Return the database in a file, made when missing."""
    # A solver is used by one thread at a time, but not always by the one that made it.
    database = sqlite3.connect(path, timeout=_WAIT, check_same_thread=False)
    try:
        with database:
            # Immediate: two processes that begin at once must not both find the file empty.
            database.execute("BEGIN IMMEDIATE")
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (application, version) == (0, 0) and tables == 0:
                database.execute(_TABLE)
                database.execute(f"PRAGMA application_id = {_APPLICATION}")
                database.execute(f"PRAGMA user_version = {_VERSION}")
            elif (application, version) != (_APPLICATION, _VERSION):
                raise _ForeignFile(f"it is a database of another kind, {application:#x} in version {version}")
    except BaseException:
        database.close()
        raise
    return database


def _signed(key: int) -> int:
    """Return a 64-bit number as SQLite keeps it."""
    return key - (1 << 64) if key >= 1 << 63 else key
