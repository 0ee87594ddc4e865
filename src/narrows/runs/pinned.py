"""Pins of what a run depends on: the hash of every input and of the sections of its job that decide its numbers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from narrows.config import SECTIONS, Job
from narrows.files import sha256_of

INPUTS = "inputs"
_FREE_SECTIONS = ("train", "shortlist", "data", "near")
_FREE_SETTINGS = {"num_steps", "patience", "every", "checkpoint_every", "max_set_aside"}
_ADDED_SETTINGS = {
    "objective": {"huber": None},
    "policy": {"learns_positions": True, "head_hidden": None},
    "exploration": {"name": "FromScratch"},
    "replay": {"keep": "newest"},
}
"""Settings that older runs do not have, with the value that stands for what those runs do: they then decide nothing."""


def input_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file under `inputs/`, by its path from the run folder."""
    files = sorted(path for path in (folder / INPUTS).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def changed_inputs(folder: Path, pinned: Mapping[str, str]) -> list[str]:
    """Return the inputs that are missing or are not what they were."""
    names = [name for name in pinned if not is_inside(name)]
    return names or [name for name, known in pinned.items() if not _is(folder / name, known)]


def is_inside(path: str) -> bool:
    """Return whether a path that stands in a run folder is relative and stays there, on any system.

    >>> [is_inside(path) for path in ("inputs/table.csv", "../table.csv", "/table.csv", "C:table.csv", "a/../../b")]
    [True, False, False, False, False]
    """
    kinds = (PurePosixPath(path), PureWindowsPath(path))
    return not any(kind.is_absolute() or kind.drive or kind.root or ".." in kind.parts for kind in kinds)


def what_decides(job: Job) -> dict[str, str]:
    """Return, by section, what a run's numbers depend on; its length, looks and selection may change before it is resumed."""
    tables = {section: getattr(job, section) for section in SECTIONS if section not in _FREE_SECTIONS}
    tables["train"] = {name: value for name, value in vars(job.train).items() if name not in _FREE_SETTINGS}
    # As text, which JSON holds whatever the value, infinity included.
    texts = {section: repr(table and sorted(_settled(section, table))) for section, table in tables.items()}
    if job.noise is not None and "path" in job.noise:
        # The law of the noise is in its file, from which each command reads it anew.
        texts["noise"] += f", {sha256_of(job.folder / job.noise['path'])}"
    if job.near is not None and job.data is not None:
        texts["near"] = f"{job.near}, {sha256_of(job.folder / job.data.path)}"
    return {"seed": str(job.seed), **texts}


def _settled(section: str, table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    added = _ADDED_SETTINGS.get(section, {}).items()
    return [item for item in table.items() if item not in added]


def changed_sections(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the sections that decide something and are not what they were; a run from before a section existed had none."""
    return [section for section in now if before.get(section, repr(None)) != now[section]]


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text as it is written to a file."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _is(path: Path, known: str) -> bool:
    try:
        return sha256_of(path) == known
    except OSError:
        return False
