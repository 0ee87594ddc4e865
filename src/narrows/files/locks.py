"""One writer at a time: an advisory lock that ends with its process, whatever ends the process."""

import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self, final

from narrows.files.plain import open_plain
from narrows.printing import printable

# A Windows lock forbids reading, too: the locked byte lies far behind the text that says who holds it.
_LOCKED_BYTE = 1 << 30
_LONGEST_NOTE = 1000


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[Any] | int) -> None:
        """Lock the open file or raise BlockingIOError at once."""
        assert not isinstance(file, int), "this system locks no folders"
        place = file.tell()
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
        finally:
            file.seek(place)
else:
    import fcntl

    def _lock(file: IO[Any] | int) -> None:
        """Lock the open file, or the folder of a descriptor, or raise BlockingIOError at once."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(file: IO[Any] | int) -> bool:
    """Lock an open file, or the folder of a descriptor, until it is closed; return whether that could be done."""
    try:
        _lock(file)
    except OSError:  # held by another, or a file system without locks
        return False
    return True


def is_abandoned(path: Path) -> bool:
    """Return whether a plain file can be locked, so that whoever held it while writing it has ended."""
    with open_plain(path, "r+b") as file:
        return try_lock(file)


@final
class WriterLock:
    """A lock file that one process at a time can hold; the system lets go of it when the process ends, even by a kill.

    The file says who holds it, so that a second writer can be told. It stays behind, which means nothing.

    Raises OSError from `acquire` when another holds the lock, when the folder cannot be written, and where the file
    system has no locks; ValueError where something stands in its place that is no plain file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, WriterLock.acquire(Path(folder) / "run.lock", "the run"):
    ...     WriterLock.acquire(Path(folder) / "run.lock", "the run")
    Traceback (most recent call last):
    OSError: the run is being written by process ...
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def acquire(cls, path: str | os.PathLike[str], what: str) -> "WriterLock":
        """Return the lock on file `path`; `what` names in errors the thing that it guards."""
        path = Path(path)
        try:
            file = open_plain(path, "a+", encoding="utf-8", errors="replace")
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(f"cannot write to {what}: {path}: {reason}. Choose a folder that you may write to.") from error
        try:
            _lock(file)
        except BlockingIOError as error:
            holder = _holder(file)
            file.close()
            raise OSError(
                f"{what} is being written by {holder}. Wait for it to end, stop it, or give the second run a folder of its own."
            ) from error
        except OSError as error:
            file.close()
            raise OSError(
                f"cannot lock {path}: {error.strerror or error}. "
                "The file system seems to have no locks: put the folder on a local disk."
            ) from error
        _sign(file)
        return cls(file)

    def release(self) -> None:
        """Let go of the lock; a second call does nothing."""
        if not self._file.closed:
            self._file.truncate(0)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def _sign(file: IO[str]) -> None:
    """Write who holds the lock."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    file.truncate(0)
    file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}))
    file.flush()


def _holder(file: IO[str]) -> str:
    """Return who holds the lock, as far as its file tells."""
    file.seek(0)
    try:
        note = json.loads(file.read(_LONGEST_NOTE))
        return f"process {int(note['process'])} on {printable(note['host'])} since {printable(note['since'])}"
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"
