"""A proxy: an ensemble of small networks over sequences, callable inside a JAX program and from the host, and its files.

    folder/manifest.json            format, space, architecture, statistics, quality, SHA-256 of the weights
    folder/weights-<16 hex>.safetensors   every array, under its name in the ensemble; named after its own hash

The manifest takes its name in one step after the weights are on the disk, so a kill leaves the old proxy or the new one.
"""

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Sequence as Objects
from pathlib import Path
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.data import Space
from narrows.data.files import write_atomically
from narrows.leaves import flatten
from narrows.rewards import network
from narrows.rewards.network import Network
from narrows.rewards.quality import Quality

MANIFEST = "manifest.json"
FORMAT = "narrows-proxy"
VERSION = 1
BATCH = 1024
"""Objects that `predict` evaluates at a time; the last batch is filled up, so that one shape is compiled."""

_WEIGHTS = re.compile(r"weights-[0-9a-f]{16}\.safetensors", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_MANIFEST_BYTES = 1 << 28
_STATISTICS = ("offset", "scale", "std_scale")


@final
class Ensemble(eqx.Module):
    """Predict the score of a sequence and how unsure that is.

        mean = offset + scale * mean_k f_k(x)          std = std_scale * scale * std_k f_k(x)

    Args:
        members: `K` networks, their leaves stacked along a leading axis.
        offset, scale: mean and standard deviation of the scores that the members learned from.
        std_scale: what the spread of the members is multiplied by to be honest on held-out data.
        space: the sequences it reads.
    """

    members: Network
    offset: Float[Array, ""]
    scale: Float[Array, ""]
    std_scale: Float[Array, ""]
    space: Space = eqx.field(static=True)

    @property
    def alphabet(self) -> str:
        return self.space.alphabet

    @property
    def max_length(self) -> int:
        return self.space.max_length

    @property
    def num_members(self) -> int:
        return self.members.positions.shape[0]

    def __call__(self, tokens: Int[Array, "batch length"]) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Return mean and standard deviation of a batch, on the scale of the scores.

        Args:
            tokens: positions in the alphabet, padding is `len(alphabet)`; `length` may be any that holds the objects.
        """
        outputs = eqx.filter_vmap(lambda member: jax.vmap(member)(tokens))(self.members)
        mean = self.offset + self.scale * jnp.mean(outputs, axis=0)
        return mean, self.std_scale * self.scale * jnp.std(outputs, axis=0)

    def predict(self, objects: Objects[str]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return mean and standard deviation of any number of objects, float64.

        Raises ValueError naming an object with a letter that is not in the alphabet or a length out of the space's range.
        """
        tokens = encode(objects, self.space)
        mean, std = np.empty(len(tokens)), np.empty(len(tokens))
        for start in range(0, len(tokens), BATCH):
            part = tokens[start : start + BATCH]
            filled = np.pad(part, ((0, BATCH - len(part)), (0, 0)), constant_values=len(self.alphabet))
            one_mean, one_std = _evaluate(self, jnp.asarray(filled))
            mean[start : start + BATCH] = np.asarray(one_mean)[: len(part)]
            std[start : start + BATCH] = np.asarray(one_std)[: len(part)]
        return mean, std


@eqx.filter_jit
def _evaluate(ensemble: Ensemble, tokens: Int[Array, "batch length"]) -> tuple[Array, Array]:
    return ensemble(tokens)


@eqx.filter_jit  # op by op it would compile fifty small programs
def make_members(space: Space, num: int, key: PRNGKeyArray) -> Network:
    """Return `num` freshly initialised networks, stacked."""
    return eqx.filter_vmap(lambda one: Network(len(space.alphabet), space.max_length, key=one))(jax.random.split(key, num))


def encode(objects: Objects[str], space: Space) -> Int[np.ndarray, "n length"]:
    """Return the tokens of sequences, padded to the longest length of the space with `len(alphabet)`.

    Raises ValueError naming the first object with a bad letter or length.

    >>> encode(["GA", "ACU"], Space("rna", "ACGU", 1, 4)).tolist()
    [[2, 0, 4, 4], [0, 1, 3, 4]]
    """
    if isinstance(objects, str):
        raise ValueError(f"expected a list of sequences, got one text {objects!r}. Put it in a list.")
    letters = {letter: token for token, letter in enumerate(space.alphabet)}
    tokens = np.full((len(objects), space.max_length), len(letters), np.int32)
    for row, text in enumerate(objects):
        if not isinstance(text, str) or not space.min_length <= len(text) <= space.max_length:
            raise ValueError(
                f"object {row} ({text!r}): expected a text of {space.lengths} letters. Remove it or fit another proxy."
            )
        try:
            tokens[row, : len(text)] = [letters[letter] for letter in text]
        except KeyError as error:
            place = text.index(error.args[0]) + 1
            raise ValueError(
                f"object {row} ({text!r}): letter {error.args[0]!r} at position {place} is not in the alphabet "
                f"{space.alphabet!r}."
            ) from None
    return tokens


def save(ensemble: Ensemble, quality: Quality, folder: str | Path) -> Path:
    """Write a proxy to a folder, made when missing, and return it; a proxy already there is replaced in one step.

    Raises OSError when the disk refuses; what was in the folder stays whole.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    payload = safetensors.numpy.save({name: np.asarray(leaf, order="C") for name, leaf in flatten(ensemble)[0]})
    sha256 = hashlib.sha256(payload).hexdigest()
    _write_weights(folder / _weights_name(sha256), payload)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "space": _space_fields(ensemble.space),
        "architecture": {"members": ensemble.num_members, **_architecture()},
        "statistics": _statistics(ensemble),
        "quality": quality.to_dict(),
        "weights_sha256": sha256,
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    for entry in folder.iterdir():
        if _WEIGHTS.fullmatch(entry.name) and entry.name != _weights_name(sha256):
            with contextlib.suppress(OSError):
                entry.unlink()  # a leftover is harmless: no manifest names it
    return folder


def load(folder: str | Path) -> tuple[Ensemble, dict[str, Any]]:
    """Return a saved proxy and its manifest; nothing in the folder is executed.

    Raises ValueError naming the file, and the leaf, for whatever is missing, extra, reshaped, of another type or damaged.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    space, members = _described(folder / MANIFEST, manifest)
    path = folder / _weights_name(manifest["weights_sha256"])
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {MANIFEST} names it. Fit the proxy again.")
    payload = path.read_bytes()
    if hashlib.sha256(payload).hexdigest() != manifest["weights_sha256"]:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}. Fit the proxy again.")
    like = jax.eval_shape(lambda: _blank(space, members))
    named, structure = flatten(like)
    stored = _unpack(path, payload, dict(named))
    ensemble = jax.tree_util.tree_unflatten(structure, [jnp.asarray(stored[name]) for name, _ in named])
    if manifest["statistics"] != _statistics(ensemble):
        raise ValueError(f"{folder / MANIFEST}: the statistics differ from those in {path.name}. Fit the proxy again.")
    return ensemble, manifest


def read_quality(folder: str | Path) -> Quality:
    """Return the quality figures of a saved proxy; ValueError says what is wrong with its manifest."""
    path = Path(folder) / MANIFEST
    try:
        return Quality.from_dict(_read_manifest(Path(folder))["quality"])
    except ValueError as error:
        raise ValueError(f"{error}" if str(path) in str(error) else f"{path}: {error}. Fit the proxy again.") from None


def _blank(space: Space, members: int) -> Ensemble:
    """Return an ensemble with the right leaves and nothing learned."""
    one = jnp.ones((), jnp.float32)
    return Ensemble(make_members(space, members, jax.random.key(0)), jnp.zeros((), jnp.float32), one, one, space)


def _architecture() -> dict[str, int]:
    """Return the sizes that the networks of this version have; a proxy with others cannot be read."""
    names = ("CHANNELS", "FIRST_WINDOW", "WINDOW", "NUM_RESIDUAL", "POSITION_UNITS", "HIDDEN")
    return {name.lower(): getattr(network, name) for name in names}


def _statistics(ensemble: Ensemble) -> dict[str, float]:
    return {name: float(getattr(ensemble, name)) for name in _STATISTICS}


def _space_fields(space: Space) -> dict[str, Any]:
    return {name: getattr(space, name) for name in ("name", "alphabet", "min_length", "max_length")}


def _weights_name(sha256: str) -> str:
    return f"weights-{sha256[:16]}.safetensors"


def _write_weights(path: Path, payload: bytes) -> None:
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():  # also false for a pipe, which would never end
        raise ValueError(f"{folder} is no proxy: {path} is missing. Make one with `narrows fit`.")
    with path.open("rb") as file:
        raw = file.read(_MAX_MANIFEST_BYTES + 1)
    try:
        manifest = json.loads(raw) if len(raw) <= _MAX_MANIFEST_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: not JSON ({error}). Fit the proxy again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is no manifest of a proxy. Name the folder that `narrows fit` wrote.")
    if manifest.get("version") != VERSION:
        found = manifest.get("version")
        raise ValueError(
            f"{path} has version {found!r} and this Narrows reads {VERSION}. Fit the proxy again or update Narrows."
        )
    wanted = {"format", "version", "space", "architecture", "statistics", "quality", "weights_sha256"}
    if set(manifest) != wanted:
        raise ValueError(f"{path}: fields {sorted(wanted ^ set(manifest))} are missing or unknown. Fit the proxy again.")
    if not isinstance(manifest["weights_sha256"], str) or not _SHA256.fullmatch(manifest["weights_sha256"]):
        raise ValueError(f"{path}: weights_sha256 is no SHA-256. Fit the proxy again.")
    return manifest


def _described(path: Path, manifest: dict[str, Any]) -> tuple[Space, int]:
    """Return the space and the number of members that a manifest describes."""
    match manifest["space"]:
        case {"name": str(name), "alphabet": str(alphabet), "min_length": int(low), "max_length": int(high), **rest} if (
            not rest
        ):
            try:
                space = Space(name, alphabet, low, high)
            except ValueError as error:
                raise ValueError(f"{path}: {error}.") from None
        case other:
            raise ValueError(f"{path}: {other!r} is no space. Fit the proxy again.")
    match manifest["architecture"]:
        case {"members": int(members), **sizes} if sizes == _architecture() and members >= 2:
            return space, members
        case other:
            raise ValueError(f"{path}: this Narrows has networks of {_architecture()}, not {other!r}. Fit the proxy again.")


def _unpack(path: Path, payload: bytes, wanted: dict[str, Any]) -> dict[str, np.ndarray]:
    try:
        stored = safetensors.numpy.load(payload)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Fit the proxy again.") from None
    lines = [f"leaf {name} is missing" for name in wanted if name not in stored]
    lines += [f"leaf {name} is not one of this proxy's" for name in stored if name not in wanted]
    for name, leaf in wanted.items():
        if name in stored and (stored[name].shape, stored[name].dtype) != (leaf.shape, leaf.dtype):
            found = f"{stored[name].dtype}{list(stored[name].shape)}"
            lines.append(f"leaf {name} is {found}, expected {leaf.dtype}{list(leaf.shape)}")
    if lines:
        raise ValueError(f"{path} does not fit its manifest: {'; '.join(lines)}. Fit the proxy again.")
    return stored
