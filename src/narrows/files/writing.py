"""Files out: whole or not at all, one or several together, and nothing left behind for long.

A file is first a draft `.NAME.<hex>.tmp` in the same folder, which its writer holds locked until it takes the name. A draft
that nobody holds was left by a kill; whoever writes the same name next removes it.
"""

import contextlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from narrows.files.locks import is_abandoned, try_lock
from narrows.files.plain import open_plain


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write `content`, text as UTF-8, so that a reader finds the old file or the whole new one, whenever the writing stops.

    The bytes go to a draft in the same folder, reach the disk, and take the name in one step. Raises OSError, which
    names the file, where the folder does not take them; the old file then stays as it was.
    """
    write_together({Path(path): content})


def write_together(files: Mapping[Path, str | bytes]) -> None:
    """Write several files as `write_atomically` does, all or none: every draft is on the disk before the first gets its name.

    Raises OSError as there.
    """
    with contextlib.ExitStack() as stack:
        drafts: list[tuple[Path, Path]] = []
        for target, content in files.items():
            with _naming(target):
                if target.is_dir():
                    raise IsADirectoryError(21, os.strerror(21), str(target))
                drafts.append((stack.enter_context(_draft(target, content)), target))
        for draft, target in drafts:
            with _naming(target):
                os.replace(draft, target)
    for folder in {target.parent for target in files}:
        _sync_folder(folder)
        _tidy(folder, [target.name for target in files if target.parent == folder])


def append(path: str | os.PathLike[str], text: str) -> None:
    """Add text to the end of a plain file, made when missing, and bring it to the disk."""
    with _naming(Path(path)), open_plain(path, "ab") as stream:
        stream.write(text.encode("utf-8"))
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a draft of a folder, which takes its name at the end of the block, or is removed where that raises.

    Raises FileExistsError at the end if the name was taken by something that is not empty.
    """
    draft = path.with_name(_draft_name(path.name))
    draft.mkdir(parents=True)
    held = _hold_folder(draft)
    try:
        yield draft
        _sync_folder(draft)
        try:
            os.rename(draft, path)
        except OSError:
            if path.is_dir() and any(path.iterdir()):  # another one took it in the meantime
                raise FileExistsError(17, os.strerror(17), str(path)) from None
            raise
        _sync_folder(path.parent)
        _tidy(path.parent, [path.name])
    finally:
        if held is not None:
            os.close(held)
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def _draft(target: Path, content: str | bytes) -> Iterator[Path]:
    """Yield a draft that holds the content, on the disk, locked, and removed in the end if it is still there."""
    draft = target.with_name(_draft_name(target.name))
    try:
        # Not tempfile: its files are private to the user, and a result should have the permissions of any other file.
        with open(draft, "xb") as stream:
            try_lock(stream)
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
            if os.name == "nt":
                stream.close()  # an open file cannot be renamed there
            yield draft
    finally:
        with contextlib.suppress(OSError):
            if draft.exists():
                draft.unlink()


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Name the file in an error: a full disk names none, and a draft's name says nothing to whoever asked for the file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error


def _draft_name(name: str) -> str:
    return f".{name}.{uuid.uuid4().hex}.tmp"


def _tidy(folder: Path, names: list[str]) -> None:
    """Remove drafts of these names that a killed writer left."""
    pattern = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.[0-9a-f]{{32}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if pattern.fullmatch(entry.name)]:
            with contextlib.suppress(OSError, ValueError):
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    _remove_abandoned_folder(Path(entry.path))
                elif is_abandoned(Path(entry.path)):
                    os.unlink(entry.path)


def _hold_folder(folder: Path) -> int | None:
    """Lock a folder until its descriptor is closed; None where the system locks no folders."""
    if os.name == "nt":
        return None
    held = os.open(folder, os.O_RDONLY)
    try_lock(held)
    return held


def _remove_abandoned_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # cannot be told from one that is being made
    held = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if try_lock(held):
            shutil.rmtree(folder)
    finally:
        os.close(held)


def _sync_folder(folder: Path) -> None:
    # A rename is on the disk once its folder is. Some systems cannot open a folder; the rename stands there too.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
