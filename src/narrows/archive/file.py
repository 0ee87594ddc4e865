"""The SQLite file of an archive: its tables, how to open it to write or to read, and what its errors mean."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

FORMAT_VERSION = 1

_APPLICATION_ID = 0x4E415252  # "NARR", in the header of the file, says whose SQLite file it is.
_SCHEMA = {
    "meta": "CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID",
    "objects": "CREATE TABLE objects(object TEXT PRIMARY KEY NOT NULL, log_reward REAL NOT NULL, step INTEGER NOT NULL)"
    " WITHOUT ROWID",
    # Costs half of the speed of writing; in return the best ones are there at once, however many there are.
    "best_first": "CREATE INDEX best_first ON objects(log_reward DESC, step, object)",
    "conflicts": "CREATE TABLE conflicts(step INTEGER PRIMARY KEY NOT NULL, number INTEGER NOT NULL)",
}
_PATIENCE_SECONDS = 30.0
_CURES = {
    sqlite3.SQLITE_FULL: "Free some disk space and resume the run: all that was stored before is kept.",
    sqlite3.SQLITE_IOERR: "Check the disk and its quota, then resume the run: all that was stored before is kept.",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable, or open it with read_only.",
    sqlite3.SQLITE_CANTOPEN: "Check that the file and its folder exist and that you may read and write them.",
    sqlite3.SQLITE_PERM: "Check that you may read and write the file and its folder.",
    sqlite3.SQLITE_BUSY: "Another program holds it: close that program and try again.",
    sqlite3.SQLITE_LOCKED: "Another program holds it: close that program and try again.",
    sqlite3.SQLITE_PROTOCOL: "The file system seems to have no locks: put the folder on a local disk.",
}


def _connect(path: Path, query: str, resources: ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{query}", uri=True, timeout=_PATIENCE_SECONDS, isolation_level=None
    )
    resources.callback(connection.close)
    # The file may be anybody's: let nothing in its schema call functions.
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def connect_to_write(path: Path, resources: ExitStack, *, create: bool, run_id: str) -> sqlite3.Connection:
    """Return a connection to an archive in WAL mode, made if the file is empty and `create` says so."""
    with explained(path):
        connection = _connect(path, "mode=rwc" if create else "mode=rw", resources)
        if create and _is_blank(connection):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            for statement in _SCHEMA.values():
                connection.execute(statement)
            meta = {"format_version": str(FORMAT_VERSION), "run_id": run_id}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("COMMIT")
        _check_format(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("CREATE TEMP TABLE batch(object TEXT, log_reward REAL, step INTEGER)")
    resources.callback(_leave_one_file, connection)
    return connection


def _leave_one_file(connection: sqlite3.Connection) -> None:
    """Leave WAL mode, so that the closed archive reads anywhere; not while others still read it."""
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error:
        pass


def connect_to_read(path: Path, resources: ExitStack) -> sqlite3.Connection:
    """Return a connection that cannot write.

    SQLite reads a file in WAL mode only with the help of a second and a third file beside it. In a folder where it
    may not make those, the archive is read as it is (`immutable`); if a kill has left objects in the WAL, a private
    copy is made and mended, for else those would be missing.
    """
    with explained(path):
        connection = _connect(path, "mode=ro", resources)
        try:
            _check_format(connection, path)
        except sqlite3.OperationalError:
            if os.access(path.parent, os.W_OK) or not os.access(path, os.R_OK):
                raise
            connection = _connect_where_nothing_can_be_written(path, resources)
            _check_format(connection, path)
    return connection


def _connect_where_nothing_can_be_written(path: Path, resources: ExitStack) -> sqlite3.Connection:
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() or wal.stat().st_size == 0:
        return _connect(path, "mode=ro&immutable=1", resources)
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="narrows-archive-")))
    for file in (path, wal):
        shutil.copyfile(file, folder / file.name)
    return _connect(folder / path.name, "mode=rw", resources)


def _is_blank(connection: sqlite3.Connection) -> bool:
    """Tell a file that holds nothing yet, as a run killed in its first moment leaves it."""
    num_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return num_tables == 0 and connection.execute("PRAGMA application_id").fetchone()[0] == 0


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that holds anything but the tables of an archive of this version."""
    if _is_blank(connection):
        raise ValueError(f"the archive {path} is empty: its run stopped before it stored anything. Start it again.")
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise ValueError(f"{path} is an SQLite file, but not an archive of Narrows. Name the archive of a run.")
    if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]:
        found = connection.execute("SELECT value FROM meta WHERE key = 'format_version'").fetchone()
        if found is not None and found[0] != str(FORMAT_VERSION):
            raise ValueError(
                f"the archive {path} has format {found[0]}, this version of Narrows reads format {FORMAT_VERSION}. "
                "Read it with the version that wrote it, or upgrade Narrows."
            )
    schema = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
    if schema != _SCHEMA:
        raise ValueError(f"{path} is not an intact archive: expected {sorted(_SCHEMA)}, got {sorted(schema)}.")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into what happened and what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise ValueError(
                f"{path} is damaged or not an archive ({error}). Restore it from a copy, or start the run anew."
            ) from error
        if code in _CURES:
            raise OSError(f"cannot use the archive {path}: {error}. {_CURES[code]}") from error
        raise
