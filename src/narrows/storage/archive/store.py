"""Every distinct terminal object that training has seen, with its log-reward and the step that saw it first."""

import hashlib
import heapq
import itertools
import os
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Self, final

import numpy as np

from narrows.files import WriterLock
from narrows.printing import quote
from narrows.storage.archive.file import FORMAT_VERSION, connect_to_read, connect_to_write, damaged, explained, row_checksum

CONFLICT_TOLERANCE = 1e-5
"""Two log-rewards `a`, `b` of one object conflict where `|a - b| > CONFLICT_TOLERANCE max(1, |a|)`: more than rounding.

Where they lie near a reference, `|a|` is the distance from it.
"""

_ROWS_AT_ONCE = 4096
_META = {"format_version", "run_id"}


class Entry(NamedTuple):
    """An object, its log-reward and the first training step that saw it."""

    object: str
    log_reward: float
    step: int


class Entries(NamedTuple):
    """All objects of an archive, the best first: `log_rewards` float64 `[n]`, `steps` int64 `[n]`."""

    objects: tuple[str, ...]
    log_rewards: np.ndarray
    steps: np.ndarray


@final
class Archive:
    """Every distinct object, in one SQLite file; made by `Archive.open`, used in a `with` statement.

    Other processes may read while one writes, and after that one was killed. What `add` has stored when it returns
    survives a kill and a power cut. Order among equal log-rewards: the earlier step, then the alphabet. Whatever gives
    objects reads all of them and compares their checksums: ValueError where one was changed or is missing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Archive.open(f"{folder}/a.sqlite", create=True) as archive:
    ...     archive.add(["ACGU", "GGGG", "ACGU"], np.array([0.5, 2.0, 0.5]), steps=1)
    ...     archive.top(1)
    2
    [Entry(object='GGGG', log_reward=2.0, step=1)]
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, resources: ExitStack, is_read_only: bool, format_version: int
    ) -> None:
        self.path = path
        self.is_read_only = is_read_only
        self._has_checksums = format_version >= FORMAT_VERSION
        self._connection = connection
        self._resources = resources
        self._newest_step = -1 if is_read_only else self._number("SELECT coalesce(max(step), -1) FROM objects")

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = False,
        read_only: bool = False,
        run_id: str | None = None,
    ) -> "Archive":
        """Open an archive to write, or with `read_only` to read while others may write.

        Args:
            path: the SQLite file.
            create: make it where it is missing; an existing one is opened and kept.
            read_only: change nothing, take no lock. Works in folders that one may not write, and on killed runs.
            run_id: the name of the run. A new archive stores it; an existing one must have the same.

        Raises FileNotFoundError, ValueError for a file that is damaged or not an archive, and OSError where the file
        cannot be written or another process writes it.
        """
        path = Path(path)
        if create and read_only:
            raise ValueError("create and read_only exclude each other: pass one of them.")
        if path.is_dir():
            raise ValueError(f"{path} is a folder. Expected an archive: name the SQLite file inside it.")
        if not path.exists() and not create:
            raise FileNotFoundError(f"there is no archive at {path}. A run makes one: check the name of its folder.")
        with ExitStack() as attempt:
            resources = attempt.enter_context(ExitStack())
            if read_only:
                connection, version = connect_to_read(path, resources)
            else:
                lock = WriterLock.acquire(path.with_name(path.name + ".lock"), f"the archive {path}")
                resources.callback(lock.release)
                connection, version = connect_to_write(path, resources, create=create, run_id=run_id or ""), FORMAT_VERSION
            archive = cls(path, connection, resources, read_only, version)
            if run_id is not None and archive.run_id != run_id:
                raise ValueError(
                    f"the archive {path} belongs to run {quote(archive.run_id)}, not {quote(run_id)}. Use a folder of its own."
                )
            attempt.pop_all()
        return archive

    def close(self) -> None:
        """Close the file; a second call does nothing. A closed archive is one plain file, easy to copy."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def run_id(self) -> str:
        """Return the name of the run that made the archive, empty where it gave none."""
        return self.meta()["run_id"]

    def meta(self) -> Mapping[str, str]:
        """Return what is known about the archive itself: `format_version`, `run_id`."""
        with explained(self.path):
            found = dict(self._connection.execute("SELECT key, value FROM meta"))
        if set(found) != _META:
            raise damaged(self.path, f"it says {sorted(map(str, found))} of itself")
        return found

    def add(self, objects: Sequence[str], log_rewards: np.ndarray, steps: np.ndarray | int, *, reference: float = 0.0) -> int:
        """Store the objects not seen before, in one transaction; return how many those are.

        An object that is already there keeps its log-reward and the smaller step; if its log-reward differs by more
        than rounding (`CONFLICT_TOLERANCE`) that is counted, see `conflicts`.

        Args:
            objects: `n` objects, repeated ones allowed.
            log_rewards: finite numbers, shape `[n]`.
            steps: the training step (>= 0) that made each object, shape `[n]`, or one for all.
            reference: what the log-rewards lie near, for the rounding that is allowed.

        Raises ValueError for wrong shapes, a log-reward that is not finite and a read-only archive; OSError where the
        disk is full. Nothing of the batch is stored then.
        """
        rows = _checked_rows(objects, log_rewards, steps)
        if not rows:
            return 0
        with self._transaction() as connection:
            connection.execute("DELETE FROM temp.batch")
            connection.executemany("INSERT INTO temp.batch VALUES (?, ?, ?)", rows)
            num_new = connection.execute(
                "INSERT OR IGNORE INTO objects SELECT object, log_reward, step, row_checksum(object, log_reward, step)"
                " FROM temp.batch ORDER BY step, rowid"
            ).rowcount
            connection.execute(
                "INSERT INTO conflicts SELECT batch.step, count(*), row_checksum('', count(*), batch.step)"
                " FROM temp.batch JOIN objects USING (object)"
                " WHERE abs(batch.log_reward - objects.log_reward) > ? * max(1.0, abs(objects.log_reward - ?))"
                " GROUP BY batch.step ON CONFLICT (step) DO UPDATE SET number = number + excluded.number,"
                " checksum = row_checksum('', number + excluded.number, step)",
                (CONFLICT_TOLERANCE, reference),
            )
            if min(row[2] for row in rows) < self._newest_step:
                connection.executemany(
                    "UPDATE objects SET step = ?1, checksum = row_checksum(object, log_reward, ?1)"
                    " WHERE object = ?2 AND step > ?1",
                    ((step, name) for name, _, step in rows),
                )
        self._newest_step = max(self._newest_step, max(row[2] for row in rows))
        return num_new

    def rollback_after(self, step: int) -> int:
        """Forget what was first seen after `step`, and the conflicts counted since; return how many objects go.

        A run that was killed has stored more than its last checkpoint knows. Rolled back to that checkpoint's step
        and continued, it ends with the same objects, steps and log-rewards as a run that was never killed.
        """
        with self._transaction() as connection:
            num_gone = connection.execute("DELETE FROM objects WHERE step > ?", (int(step),)).rowcount
            connection.execute("DELETE FROM conflicts WHERE step > ?", (int(step),))
        self._newest_step = min(self._newest_step, int(step))
        return num_gone

    def count(self) -> int:
        """Return the number of distinct objects."""
        if self._has_checksums:
            return self._number("SELECT number FROM totals WHERE name = 'objects'")
        return self._number("SELECT count(*) FROM objects")

    def conflicts(self) -> int:
        """Return how often an object came again with another log-reward; the first one was kept."""
        return sum(int(row[1]) for row in self._rows("conflicts", "'', number, step"))

    def last_step(self) -> int | None:
        """Return the last step that saw a new object, None in an empty archive."""
        step = self._number("SELECT coalesce(max(step), -1) FROM objects")
        return None if step < 0 else step

    def top(self, k: int) -> list[Entry]:
        """Return the `k` objects of highest log-reward, best first; all of them if there are fewer."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        rows = self._objects()
        first = list(itertools.islice(rows, k))
        if len(first) < k:  # in that case a heap takes three times as long
            return sorted(first, key=_rank)
        return heapq.nsmallest(k, itertools.chain(first, rows), key=_rank)

    def entries(self) -> Entries:
        """Return every object, best first, as columns."""
        rows = sorted(self._objects(), key=_rank)
        objects, log_rewards, steps = zip(*rows, strict=True) if rows else ((), (), ())
        return Entries(objects, np.array(log_rewards, np.float64), np.array(steps, np.int64))

    def content_hash(self) -> str:
        """Return the SHA-256 of all objects, log-rewards and steps, whatever order they came in."""
        digest = hashlib.sha256()
        for name, log_reward, step in sorted(self._objects()):
            text = name.encode()
            digest.update(struct.pack("<q", len(text)) + text + struct.pack("<dq", log_reward, step))
        return digest.hexdigest()

    def _objects(self) -> Iterator[Entry]:
        return self._rows("objects", "object, log_reward, step")

    def _rows(self, table: str, columns: str) -> Iterator[Entry]:
        """Yield every row of a table as it is at one moment, each with the checksum that it was written with."""
        number = total = 0
        with explained(self.path), self._moment() as connection:
            checked = "checksum" if self._has_checksums else "NULL"
            # Not from an index, which would be read without the checksum.
            cursor = connection.execute(f"SELECT {columns}, {checked} FROM {table} NOT INDEXED")
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                for name, value, step, known in rows:
                    found = _found_checksum(name, value, step)
                    if found is None or (self._has_checksums and found != known):
                        raise damaged(self.path, f"the row of {quote(name)} in {table} is not what was written")
                    number, total = number + 1, total + found
                    yield Entry(name, value, step)
            if self._has_checksums:
                expected = connection.execute("SELECT number, checksum FROM totals WHERE name = ?", (table,)).fetchone()
                if (number, total) != expected:
                    raise damaged(self.path, f"{table} has {number:,} rows that are not the ones that were written")

    @contextmanager
    def _moment(self) -> Iterator[sqlite3.Connection]:
        """Read as of one moment until the block ends, whatever other processes write meanwhile."""
        if self._connection.in_transaction:
            yield self._connection
            return
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _number(self, query: str) -> int:
        with explained(self.path):
            (found,) = self._connection.execute(query).fetchone() or (None,)
        if not isinstance(found, int):
            raise damaged(self.path, f"a number was expected in it, not {quote(found)}")
        return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block does, or nothing of it."""
        if self.is_read_only:
            raise ValueError(f"the archive {self.path} was opened to read. Open it without read_only to write.")
        with explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _rank(entry: Entry) -> tuple[float, int, str]:
    return -entry.log_reward, entry.step, entry.object


def _found_checksum(name: object, value: object, step: object) -> int | None:
    """Return the checksum of what a row holds, None where it holds something that is never written."""
    try:
        return row_checksum(name, value, step)  # pyright: ignore[reportArgumentType]  # a damaged file holds anything
    except (TypeError, AttributeError, struct.error, OverflowError, UnicodeError):
        return None


def _checked_rows(objects: Sequence[str], log_rewards: np.ndarray, steps: np.ndarray | int) -> list[tuple[str, float, int]]:
    """Return `(object, log_reward, step)` triples of Python's own types or say which item is wrong."""
    if isinstance(objects, str):
        raise ValueError(f"objects must be a sequence of strings, got the single string {objects[:40]!r}.")
    log_rewards, steps = np.asarray(log_rewards, np.float64), np.asarray(steps)
    if log_rewards.shape != (len(objects),) or steps.shape not in ((), (len(objects),)):
        raise ValueError(
            f"expected one log-reward and one step for each of {len(objects)} objects, "
            f"got log_rewards of shape {log_rewards.shape} and steps of shape {steps.shape}."
        )
    if steps.dtype.kind not in "iu" or (steps.size and steps.min() < 0):
        raise ValueError(f"steps must be integers of at least 0, got {steps.dtype} {steps.reshape(-1)[:3].tolist()}.")
    if not np.isfinite(log_rewards).all():
        index = int(np.flatnonzero(~np.isfinite(log_rewards))[0])
        raise ValueError(
            f"log-rewards must be finite, got {log_rewards[index]} for object {index} ({quote(objects[index])}). "
            "Set such objects aside before they are archived."
        )
    for index, name in enumerate(objects):
        if not isinstance(name, str):
            raise ValueError(f"objects must be strings, got {type(name).__name__} for object {index}: {quote(name)}.")
    return list(zip(objects, log_rewards.tolist(), np.broadcast_to(steps, len(objects)).tolist(), strict=True))
