"""Files out: whole or not at all."""

import contextlib
import os
import uuid
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: str) -> None:
    """Write `content` as UTF-8 so that a reader finds the old file or the whole new one, whenever the writing stops.

    The bytes go to a new file in the same folder, reach the disk, and take the name in one step. Raises OSError, which
    names the file, where the folder does not take them; the old file then stays as it was.
    """
    target = Path(path)
    # Not tempfile: its files are private to the user, and a result should have the permissions of any other file.
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(draft, "x", encoding="utf-8", newline="") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        # A full disk names no file, and the name of a draft says nothing to whoever asked for the file.
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    # A rename is on the disk once its folder is. Some systems cannot open a folder; the rename stands there too.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
