"""Folders that tuning writes and reads: plain files only, each replaced as a whole."""

import os
import stat
from collections.abc import Callable
from pathlib import Path


def refuse_special(folder: str | os.PathLike[str]) -> None:
    """Raise ValueError naming what in a folder, at any depth, is neither a plain file nor a folder.

    For folders that come from somebody else, where a link would lead out of them and a pipe would be waited for.
    """
    for place, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(place, name)
            mode = os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "no plain file"
                raise ValueError(f"{path} is {kind} where only a plain file may be. Remove it, or put the file itself there.")


def draft_of(path: Path) -> Path:
    """Return what a file is called until it is whole."""
    return path.with_name(f".{path.name}.tmp")


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a draft beside a file and rename it, so that a reader sees the old file or the new one.

    The draft has one name, so that the next writer takes away what a killed one left.
    """
    draft = draft_of(path)
    draft.unlink(missing_ok=True)
    try:
        write(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Replace a file by a text as UTF-8."""
    replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))
