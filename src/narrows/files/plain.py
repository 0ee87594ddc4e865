"""Plain files: a link, a pipe or a device in a folder that somebody sent is refused, never followed, opened or waited for."""

import hashlib
import os
import stat
from pathlib import Path
from typing import IO, Any

MOST_BYTES = 1 << 28
"""Bytes of a text file that is read whole, at most."""

_BLOCK_BYTES = 1 << 20
_DATABASE_SUFFIXES = ("", "-wal", "-shm", "-journal")
_UNFOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class ChangedFile(UserWarning):
    """A file was changed since it was written, in a way that can be gone on with; the message names it."""


def refuse_special(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for what is no plain file; nothing at all is fine."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(mode):
        raise ValueError(_refusal(path, mode))


def refuse_special_database(path: str | os.PathLike[str]) -> None:
    """Raise ValueError if an SQLite file, or one of those that SQLite keeps beside it, is no plain file."""
    for suffix in _DATABASE_SUFFIXES:
        refuse_special(f"{os.fspath(path)}{suffix}")


def refuse_special_within(folder: str | os.PathLike[str]) -> None:
    """Raise ValueError naming what in a folder, at any depth, is neither a plain file nor a folder.

    The folder itself may be reached through links: whoever names it has chosen it.
    """
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except FileNotFoundError:  # a draft that has just got its name
            continue
        if stat.S_ISDIR(mode):
            refuse_special_within(entry.path)
        elif not stat.S_ISREG(mode):
            raise ValueError(_refusal(entry.path, mode))


def open_plain(path: str | os.PathLike[str], mode: str = "rb", **options: Any) -> IO[Any]:
    """Return an open file, as `open` does, without following a link or waiting for a pipe.

    Raises ValueError for what is no plain file and OSError as `open` does.
    """
    refuse_special(path)
    file = open(path, mode, opener=_opened, **options)
    found = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(found):  # put there a moment ago
        file.close()
        raise ValueError(_refusal(path, found))
    return file


def read_bytes(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Return what a plain file holds; ValueError where that is more than `most` bytes."""
    with open_plain(path) as file:
        content = file.read() if most is None else file.read(most + 1)
    if most is not None and len(content) > most:
        raise ValueError(f"{path} is larger than {most:,} bytes, so it is not the file that was written there.")
    return content


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the UTF-8 text of a plain file, line ends as they are; ValueError naming the byte that is none."""
    try:
        return read_bytes(path, MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is no UTF-8. Restore the file from a copy.") from None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a plain file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | _UNFOLLOWED, 0o666)


def _refusal(path: str | os.PathLike[str], mode: int) -> str:
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return f"{Path(path)} is {kind} where only a plain file may be. Remove it, or put the file itself in its place."
