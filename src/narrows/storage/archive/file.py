"""The SQLite file of an archive: its tables, how to open it to write or to read, and what its errors mean.

Each row carries a checksum, and `totals` the number of rows and the sum of their checksums, which triggers keep: so a reader
notices a changed row, and one that is missing. Archives of format 1 have neither; the first writer that opens one adds them.
"""

import os
import shutil
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from narrows.files import refuse_special_database
from narrows.printing import name_some, printable, quote

FORMAT_VERSION = 2

_APPLICATION_ID = 0x4E415252  # "NARR", in the header of the file, says whose SQLite file it is.
_META = "CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID"


def _counting(table: str) -> dict[str, str]:
    """Return the triggers that keep a table's totals."""
    changes = {
        "INSERT": "number = number + 1, checksum = checksum + new.checksum",
        "DELETE": "number = number - 1, checksum = checksum - old.checksum",
        "UPDATE": "checksum = checksum - old.checksum + new.checksum",
    }
    return {
        f"{table}_{event.lower()}": f"CREATE TRIGGER {table}_{event.lower()} AFTER {event} ON {table}"
        f" BEGIN UPDATE totals SET {change} WHERE name = '{table}'; END"
        for event, change in changes.items()
    }


_SCHEMA = {
    "meta": _META,
    "objects": "CREATE TABLE objects(object TEXT PRIMARY KEY NOT NULL, log_reward REAL NOT NULL, step INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL) WITHOUT ROWID",
    "conflicts": "CREATE TABLE conflicts(step INTEGER PRIMARY KEY NOT NULL, number INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL)",
    "totals": "CREATE TABLE totals(name TEXT PRIMARY KEY NOT NULL, number INTEGER NOT NULL, checksum INTEGER NOT NULL)"
    " WITHOUT ROWID",
    **_counting("objects"),
    **_counting("conflicts"),
}
_SCHEMA_1 = {
    "meta": _META,
    "objects": "CREATE TABLE objects(object TEXT PRIMARY KEY NOT NULL, log_reward REAL NOT NULL, step INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "best_first": "CREATE INDEX best_first ON objects(log_reward DESC, step, object)",
    "conflicts": "CREATE TABLE conflicts(step INTEGER PRIMARY KEY NOT NULL, number INTEGER NOT NULL)",
}
_SCHEMAS = {"1": _SCHEMA_1, str(FORMAT_VERSION): _SCHEMA}
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


def row_checksum(name: str, number: float, step: int) -> int:
    """Return the checksum of a row, 32 bits; TypeError, struct.error or AttributeError for what no row holds."""
    return zlib.crc32(struct.pack("<dq", number, step), zlib.crc32(name.encode()))


def _connect(path: Path, query: str, resources: ExitStack) -> sqlite3.Connection:
    refuse_special_database(path)
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
        connection.create_function("row_checksum", 3, row_checksum, deterministic=True)
        if create and _is_blank(connection):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            _make_tables(connection, _SCHEMA)
            meta = {"format_version": str(FORMAT_VERSION), "run_id": run_id}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("COMMIT")
        if _check_format(connection, path) == 1:
            _add_checksums(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("CREATE TEMP TABLE batch(object TEXT, log_reward REAL, step INTEGER)")
    resources.callback(_leave_one_file, connection)
    return connection


def _make_tables(connection: sqlite3.Connection, names: Collection[str]) -> None:
    for name, statement in _SCHEMA.items():
        if name in names:
            connection.execute(statement)
    connection.execute("INSERT INTO totals VALUES ('objects', 0, 0), ('conflicts', 0, 0)")


def _add_checksums(connection: sqlite3.Connection) -> None:
    """Bring an archive of format 1 to this one, all at once or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in ("objects", "conflicts"):
            connection.execute(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM {table}")
            connection.execute(f"DROP TABLE {table}")
        _make_tables(connection, _SCHEMA.keys() - {"meta"})
        connection.execute(
            "INSERT INTO objects SELECT object, log_reward, step, row_checksum(object, log_reward, step) FROM temp.old_objects"
        )
        connection.execute("INSERT INTO conflicts SELECT step, number, row_checksum('', number, step) FROM temp.old_conflicts")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format_version'", (str(FORMAT_VERSION),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _leave_one_file(connection: sqlite3.Connection) -> None:
    """Leave WAL mode, so that the closed archive reads anywhere; not while others still read it."""
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error:
        pass


def connect_to_read(path: Path, resources: ExitStack) -> tuple[sqlite3.Connection, int]:
    """Return a connection that cannot write, and the format of the archive.

    SQLite reads a file in WAL mode only with the help of a second and a third file beside it. In a folder where it
    may not make those, the archive is read as it is (`immutable`); if a kill has left objects in the WAL, a private
    copy is made and mended, for else those would be missing.
    """
    with explained(path):
        connection = _connect(path, "mode=ro", resources)
        try:
            return connection, _check_format(connection, path)
        except sqlite3.OperationalError:
            if os.access(path.parent, os.W_OK) or not os.access(path, os.R_OK):
                raise
            connection = _connect_where_nothing_can_be_written(path, resources)
            return connection, _check_format(connection, path)


def _connect_where_nothing_can_be_written(path: Path, resources: ExitStack) -> sqlite3.Connection:
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() or wal.stat().st_size == 0:
        return _connect(path, "mode=ro&immutable=1", resources)
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="narrows-archive-")))
    for file in (path, wal):
        shutil.copyfile(file, folder / file.name)
    return _connect(folder / path.name, "mode=rw", resources)


def _is_blank(connection: sqlite3.Connection) -> bool:
    """Return whether a file holds nothing yet, as a run killed in its first moment leaves it."""
    num_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return num_tables == 0 and connection.execute("PRAGMA application_id").fetchone()[0] == 0


def _check_format(connection: sqlite3.Connection, path: Path) -> int:
    """Return the format of an archive; refuse a file that holds anything but the tables of one that this version reads."""
    if _is_blank(connection):
        raise ValueError(f"the archive {path} is empty: its run stopped before it stored anything. Start it again.")
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise ValueError(f"{path} is an SQLite file, but not an archive of Narrows. Name the archive of a run.")
    schema = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    found = None
    if "meta" in schema:
        (found,) = connection.execute("SELECT value FROM meta WHERE key = 'format_version'").fetchone() or (None,)
    if found is not None and found not in _SCHEMAS:
        raise ValueError(
            f"the archive {path} has format {quote(found)}, this version of Narrows reads format {FORMAT_VERSION}. "
            "Read it with the version that wrote it, or upgrade Narrows."
        )
    if found is None or schema != _SCHEMAS[found]:
        tables = name_some(sorted(map(str, schema)))
        raise ValueError(f"{path} is not an intact archive: expected {name_some(sorted(_SCHEMA))}, got {tables}.")
    return int(found)


def damaged(path: Path, reason: object) -> ValueError:
    """Return the error of an archive that is not what was written."""
    return ValueError(
        f"{path} is damaged or not an archive ({printable(reason)}). Restore it from a copy, or start the run anew."
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into what happened and what to do."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # ours
    except UnicodeDecodeError as error:  # a damaged name in SQLite's own message
        raise damaged(path, "text in it is no UTF-8") from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _CURES:
            raise OSError(f"cannot use the archive {path}: {printable(error)}. {_CURES[code]}") from error
        raise damaged(path, error) from error
