"""Folders of fitted proxies: a manifest, and the weights that it names by their hash. Opening one executes nothing.

    folder/manifest.json                  what the proxy is, SHA-256 of the weights
    folder/weights-<16 hex>.safetensors   every array, under its name in the tree; named after its own hash

The manifest takes its name in one step after the weights are on the disk, so a kill leaves the old proxy or the new one.
"""

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from narrows.files import parse_content, read_bytes, read_text, record_text, refuse_special_within, write_atomically
from narrows.printing import name_some, printable, quote
from narrows.storage.pytree import flatten

MANIFEST = "manifest.json"

_WEIGHTS = re.compile(r"weights-[0-9a-f]{16}\.safetensors", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)

Tree = TypeVar("Tree")


@final
@dataclass(frozen=True)
class Kind:
    """The contents of the manifests of one kind of proxy.

    Args:
        format: the name of the kind.
        version: of its manifest; others are refused.
        fields: what a manifest holds beside format, version and the hash.
        maker: how to make such a folder, for messages: "`narrows fit`".
        optional: what may be there besides.
    """

    format: str
    version: int
    fields: frozenset[str]
    maker: str
    optional: frozenset[str] = frozenset()


def save_tree(folder: str | Path, kind: Kind, tree: Any, fields: Mapping[str, Any]) -> Path:
    """Write a tree of arrays and its manifest, and return the folder, made when missing; an older proxy is replaced at once.

    Raises OSError when the disk refuses; what was in the folder stays whole.
    """
    assert set(fields) - kind.optional == kind.fields, "the manifest must have the fields of its kind"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    payload = safetensors.numpy.save({name: np.asarray(leaf, order="C") for name, leaf in flatten(tree)[0]})
    sha256 = hashlib.sha256(payload).hexdigest()
    write_atomically(folder / _weights_name(sha256), payload)
    manifest = {"format": kind.format, "version": kind.version, **fields, "weights_sha256": sha256}
    write_atomically(folder / MANIFEST, record_text(manifest, indent=1))
    for entry in folder.iterdir():
        if _WEIGHTS.fullmatch(entry.name) and entry.name != _weights_name(sha256):
            with contextlib.suppress(OSError):
                entry.unlink()  # a leftover is harmless: no manifest names it
    return folder


def read_manifest(folder: str | Path, kind: Kind, *older: Kind) -> dict[str, Any]:
    """Return the manifest of a folder, its outer form checked; ValueError names the file and says what is wrong with it.

    `older` are earlier versions of the kind that are read too.
    """
    path = Path(folder) / MANIFEST
    refuse_special_within(folder)
    if not path.is_file():
        raise ValueError(f"{folder} is no proxy: {path} is missing. Make one with {kind.maker}.")
    manifest = parse_content(read_text(path), str(path), "Fit the proxy again.")
    if manifest.get("format") != kind.format:
        raise ValueError(f"{path} is no manifest of a proxy of this kind. Name a folder made with {kind.maker}.")
    found = manifest.get("version")
    kind = next((one for one in older if one.version == found), kind)
    if found != kind.version:
        raise ValueError(
            f"{path} has version {quote(found)} and this Narrows reads {kind.version}. Fit the proxy again or update Narrows."
        )
    wanted = {"format", "version", "weights_sha256", *kind.fields}
    if strange := sorted(wanted ^ (set(manifest) - kind.optional)):
        raise ValueError(f"{path}: fields [{name_some(strange)}] are missing or unknown. Fit the proxy again.")
    if not isinstance(manifest["weights_sha256"], str) or not _SHA256.fullmatch(manifest["weights_sha256"]):
        raise ValueError(f"{path}: weights_sha256 is no SHA-256. Fit the proxy again.")
    return manifest


def read_tree(folder: str | Path, manifest: Mapping[str, Any], like: Tree) -> Tree:
    """Return the tree that a checked manifest names, in the form of a template whose leaves have shapes and dtypes.

    Raises ValueError naming the file, and the leaf, for whatever is missing, extra, reshaped, of another type or damaged.
    """
    path = Path(folder) / _weights_name(manifest["weights_sha256"])
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {MANIFEST} names it. Fit the proxy again.")
    payload = read_bytes(path)
    if hashlib.sha256(payload).hexdigest() != manifest["weights_sha256"]:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}. Fit the proxy again.")
    named, structure = flatten(like)
    stored = _unpack(path, payload, dict(named))
    return jax.tree_util.tree_unflatten(structure, [jnp.asarray(stored[name]) for name, _ in named])


def _weights_name(sha256: str) -> str:
    return f"weights-{sha256[:16]}.safetensors"


def _unpack(path: Path, payload: bytes, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    try:
        stored = safetensors.numpy.load(payload)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {printable(error)}. Fit the proxy again.") from None
    lines = [f"leaf {name} is missing" for name in wanted if name not in stored]
    lines += [f"leaf {name} is not one of this proxy's" for name in stored if name not in wanted]
    for name, leaf in wanted.items():
        if name in stored and (stored[name].shape, stored[name].dtype) != (leaf.shape, leaf.dtype):
            found = f"{stored[name].dtype}{list(stored[name].shape)}"
            lines.append(f"leaf {name} is {found}, expected {leaf.dtype}{list(leaf.shape)}")
    if lines:
        raise ValueError(f"{path} does not fit its manifest: {'; '.join(map(printable, lines[:20]))}. Fit the proxy again.")
    return stored
