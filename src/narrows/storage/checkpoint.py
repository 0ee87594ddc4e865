"""Checkpoints: any pytree of arrays as a folder that survives a kill, a full disk and a flipped bit.

    folder/step-000123/arrays.safetensors     the bits of every array leaf, under its name in the tree
    folder/step-000123/manifest.json          step, metadata, each leaf's name, shape and dtype, SHA-256 of the arrays

A checkpoint is written to `step-000123.tmp-xxxxxxxx`, synced to disk and renamed, so a folder called `step-000123` is whole
or was damaged later, which its hashes tell. Nothing is executed on load, and no name found inside a file is used as a path.
A folder has one writer at a time; any number of readers may look on.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import pydantic
import safetensors
import safetensors.numpy

from narrows.files import Record, parse_content, read_bytes, read_text, record_text, sha256_of, validate_content
from narrows.printing import printable, quote
from narrows.storage import pytree
from narrows.storage.pytree import tree_hash as tree_hash

ARRAYS = "arrays.safetensors"
MANIFEST = "manifest.json"
FORMAT = "narrows-checkpoint"
VERSION = 1

_ENTRY = re.compile(r"step-(?P<step>\d{6,18})(\.(?P<kind>tmp|old)-[0-9a-f]{8})?", re.ASCII)
_CURES = {
    errno.ENOSPC: "Free some disk space.",
    errno.EDQUOT: "Free some of your disk quota.",
    errno.EFBIG: "Raise the file size limit (ulimit -f).",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Make the folder writable or choose another one."),
    errno.EROFS: "Choose a folder on a writable disk.",
}


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's account of itself: training step, the caller's metadata, leaves, SHA-256 of the arrays file."""

    step: int
    metadata: dict[str, Any]
    leaves: pytree.Layout
    arrays_sha256: str


class Saved(NamedTuple):
    """Where a checkpoint was written, and a sentence for every older one that should have gone and could not."""

    path: Path
    not_removed: tuple[str, ...]


class Found(NamedTuple):
    """The newest checkpoint that verifies, None without one, and a sentence for every newer one that does not."""

    path: Path | None
    skipped: tuple[str, ...]


def save(folder: str | Path, state: Any, *, step: int, metadata: Mapping[str, Any], keep: int = 2) -> Saved:
    """Write the arrays of a pytree as `folder/step-XXXXXX` and keep the last `keep` good checkpoints up to this step.

    A kill at any point leaves the earlier checkpoints or the new one, never neither. Saving a step again replaces it;
    checkpoints of later steps are left alone.

    Args:
        folder: made when missing; leftovers of a killed writer are removed from it.
        state: pytree of JAX arrays (PRNG keys too) and NumPy arrays. Python scalars and strings are recorded and compared on
            restore; any other leaf, such as a function, is the template's affair.
        step: training step, >= 0.
        metadata: what JSON can carry and give back equal, such as versions and the hash of the job.
        keep: number of checkpoints, >= 1.

    Raises ValueError for what cannot be saved, and OSError, with a sentence, when the disk refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = save(folder, {"w": np.arange(3)}, step=7, metadata={"job": "a1"})
    ...     state, manifest = restore(saved.path, {"w": np.zeros(3, np.int64)})
    >>> saved.path.name, state["w"].tolist(), manifest.step, manifest.metadata
    ('step-000007', [0, 1, 2], 7, {'job': 'a1'})
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step must be at least 0 and keep at least 1, got step={step} and keep={keep}.")
    named, _ = pytree.flatten(state)
    payload = safetensors.numpy.save({name: pytree.bits(name, leaf) for name, leaf in named if pytree.is_array(leaf)})
    manifest = Manifest(step, _checked(metadata), pytree.layout(named), hashlib.sha256(payload).hexdigest())
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
        path = _commit(folder, step, payload, _encode(manifest))
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "Check the folder and its disk.")
        what = f"could not save the checkpoint of step {step} in {folder}: {error.strerror or error}"
        raise OSError(error.errno or errno.EIO, f"{what}. Earlier checkpoints there are untouched. {cure}") from error
    return Saved(path, _prune(folder, step, keep))


def latest(folder: str | Path) -> Found:
    """Return the newest checkpoint in a folder whose manifest and hashes verify; a missing folder holds none.

    What was skipped on the way is for the caller to show. Raises OSError if the folder cannot be listed.

    >>> latest("no/such/folder")
    Found(path=None, skipped=())
    """
    skipped: list[str] = []
    for entry in _entries(Path(folder)):
        fault = None if entry.kind == "tmp" else _fault(entry)
        if entry.kind != "tmp" and fault is None:
            return Found(entry.path, tuple(skipped))
        skipped += [f"skipped a checkpoint that does not verify: {fault}"] if fault else []
    return Found(None, tuple(skipped))


def restore(path: str | Path, like: Any) -> tuple[Any, Manifest]:
    """Return the saved state in the form of a template, and the manifest.

    Every array comes back bit for bit, as the template's kind (JAX or NumPy), with its weak type and sharding, so that a
    compiled step which took the template takes the result. Leaves that are no arrays are the template's own.

    Args:
        path: one checkpoint, as `save` and `latest` return it.
        like: pytree with the saved structure; arrays or `jax.ShapeDtypeStruct` (donated arrays will do).

    Raises ValueError when the checkpoint is damaged, and when it does not fit the template, naming every leaf that is missing,
    extra, of another shape or dtype, or a Python scalar of another value.
    """
    path = Path(path)
    manifest = _read(path)
    named, structure = pytree.flatten(like)
    lines = pytree.differences(manifest.leaves, pytree.layout(named))
    if lines:
        raise ValueError(
            f"{path} does not fit the state it is restored into:\n  "
            + "\n  ".join(lines)
            + "\nBuild the state from the job the checkpoint was saved with (same environment, policy, objective, optimiser "
            "and library versions), or start a new run in another folder."
        )
    payload = read_bytes(path / ARRAYS)
    _check_hash(path, hashlib.sha256(payload).hexdigest(), manifest)
    stored = _unpack(path, payload, {name: pytree.stored_form(leaf) for name, leaf in named if pytree.is_array(leaf)})
    leaves = [pytree.revive(name, stored[name], leaf) if pytree.is_array(leaf) else leaf for name, leaf in named]
    return jax.tree_util.tree_unflatten(structure, leaves), manifest


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest of one checkpoint once its hashes verify; ValueError says what is damaged."""
    path = Path(path)
    manifest = _read(path)
    _check_hash(path, sha256_of(path / ARRAYS), manifest)
    return manifest


class _Entry(NamedTuple):
    """A checkpoint folder: `kind` is None when whole, "tmp" while written or removed, "old" while its step is replaced."""

    step: int
    kind: str | None
    path: Path

    @property
    def home(self) -> Path:
        return self.path.with_name(self.path.name.partition(".")[0])


def _entries(folder: Path) -> list[_Entry]:
    """Return the checkpoint folders, newest first, a replaced one after its replacement; links are nobody's checkpoint."""
    try:
        with os.scandir(folder) as scan:
            matches = [(_ENTRY.fullmatch(item.name), item) for item in scan if item.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    entries = [_Entry(int(match["step"]), match["kind"], Path(item.path)) for match, item in matches if match]
    return sorted(entries, key=lambda entry: (entry.step, entry.kind is None, entry.path.name), reverse=True)


def _tidy(folder: Path) -> None:
    """Remove what a killed writer left half-written, and give a checkpoint its name back if it was being replaced."""
    for entry in _entries(folder):
        if entry.kind == "tmp":
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.kind == "old" and not entry.home.exists():
            entry.path.rename(entry.home)


def _commit(folder: Path, step: int, payload: bytes, manifest: bytes) -> Path:
    """Write a checkpoint under a temporary name, sync it and rename it; on OSError leave the folder as it was."""
    final, token = folder / f"step-{step:06d}", secrets.token_hex(4)
    temporary = folder / f"{final.name}.tmp-{token}"
    try:
        temporary.mkdir()
        _write(temporary / ARRAYS, payload)
        _write(temporary / MANIFEST, manifest)
        _sync_folder(temporary)
        if final.exists():  # a folder cannot be renamed over another, so the replaced one steps aside: `latest` sees it there
            final.rename(folder / f"{final.name}.old-{token}")
        temporary.rename(final)
        _sync_folder(folder)
    except OSError:
        with contextlib.suppress(OSError):
            _tidy(folder)
        raise
    return final


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can open folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(folder: Path, step: int, keep: int) -> tuple[str, ...]:
    """Remove what is older than the last `keep` good steps up to `step`, which was just saved; return what could not go.

    Only a checkpoint that verifies counts, so that damaged ones never push out the good.
    """
    good, problems = {step}, []
    for entry in _entries(folder):
        if entry.step > step or entry.kind == "tmp" or (entry.step == step and entry.kind is None):
            continue
        if entry.step not in good and len(good) < keep:
            if _fault(entry) is None:
                good.add(entry.step)
            continue
        try:
            doomed = entry.path.rename(entry.home.with_name(f"{entry.home.name}.tmp-{secrets.token_hex(4)}"))
            shutil.rmtree(doomed)
        except OSError as error:
            problems.append(f"could not remove the old checkpoint {entry.path}: {error.strerror or error}. Remove it by hand.")
    return tuple(problems)


def _fault(entry: _Entry) -> str | None:
    """Return what is wrong with a checkpoint, None if it verifies."""
    try:
        manifest = read_manifest(entry.path)
    except (ValueError, OSError) as error:
        return str(error)
    return None if manifest.step == entry.step else f"{entry.path} holds step {manifest.step}: it was renamed"


def _checked(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata as a plain dict that JSON carries and gives back equal."""
    plain = dict(metadata)
    try:
        is_equal = json.loads(json.dumps(plain, allow_nan=False)) == plain
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata must be plain JSON: {error}. Write numbers as int or finite float.") from error
    if not is_equal:
        raise ValueError(f"metadata must come back equal from JSON; use str keys and lists, not tuples, in {plain}.")
    return plain


class _Content(Record):
    """The manifest's JSON, beside its checksum."""

    format: Literal["narrows-checkpoint"]
    version: pydantic.StrictInt
    step: pydantic.StrictInt
    metadata: dict[str, Any]
    arrays_sha256: str
    arrays: tuple[tuple[str, tuple[Annotated[int, pydantic.Field(strict=True, ge=0)], ...], str], ...]
    statics: tuple[tuple[str, str, str | None], ...]


def _encode(manifest: Manifest) -> bytes:
    content = {
        "format": FORMAT,
        "version": VERSION,
        "step": manifest.step,
        "metadata": manifest.metadata,
        "arrays_sha256": manifest.arrays_sha256,
        "arrays": [[leaf.name, list(leaf.shape), leaf.dtype] for leaf in manifest.leaves.arrays],
        "statics": [list(leaf) for leaf in manifest.leaves.statics],
    }
    return record_text(content, indent=1).rstrip("\n").encode()


def _read(path: Path) -> Manifest:
    """Return the manifest of a checkpoint, its own checksum verified; ValueError names the checkpoint and the damage."""
    for name in (MANIFEST, ARRAYS):
        if not (path / name).is_file():
            raise ValueError(f"{path} is no whole checkpoint: {name} is missing. Use another checkpoint.")
    try:
        return _decode(read_text(path / MANIFEST))
    except ValueError as error:
        raise ValueError(f"{path} is damaged or foreign: {printable(error).strip()} Use another checkpoint.") from error


def _decode(text: str) -> Manifest:
    """Return the manifest in a text; ValueError says what is wrong with it."""
    content = parse_content(text, MANIFEST, "")
    if content.get("format") == FORMAT and content.get("version") != VERSION:
        version = quote(content.get("version"))
        raise ValueError(f"it has version {version} and this Narrows reads {VERSION}; install a newer Narrows.")
    found = validate_content(content, MANIFEST, _Content, "")
    arrays, statics = map(pytree.ArrayLeaf._make, found.arrays), map(pytree.StaticLeaf._make, found.statics)
    leaves = pytree.Layout(tuple(arrays), tuple(statics))
    names = [leaf.name for leaf in (*leaves.arrays, *leaves.statics)]
    if len(set(names)) != len(names):
        raise ValueError("a leaf occurs twice.")
    return Manifest(found.step, found.metadata, leaves, found.arrays_sha256)


def _check_hash(path: Path, sha256: str, manifest: Manifest) -> None:
    if sha256 != manifest.arrays_sha256:
        raise ValueError(f"{path / ARRAYS} is damaged: it does not match its SHA-256 in the manifest. Use another checkpoint.")


def _unpack(path: Path, payload: bytes, forms: dict[str, tuple[tuple[int, ...], np.dtype]]) -> dict[str, np.ndarray]:
    """Return the stored arrays; ValueError unless they have just these names, shapes and dtypes."""
    try:
        stored = safetensors.numpy.load(payload)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path / ARRAYS} is no safetensors file of plain arrays: {printable(error)}. Use another checkpoint."
        ) from error
    if {name: (array.shape, array.dtype) for name, array in stored.items()} != forms:
        raise ValueError(f"{path / ARRAYS} does not hold the arrays its manifest lists. Use another checkpoint.")
    return stored
