"""A proxy: an ensemble of small networks over sequences, callable inside a JAX program and from the host, and its files."""

from collections.abc import Sequence as Objects
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.alphabet import alphabet_of
from narrows.data import Space
from narrows.printing import quote
from narrows.proxies import network
from narrows.proxies.files import MANIFEST as MANIFEST
from narrows.proxies.files import Kind, read_manifest, read_tree, save_tree
from narrows.proxies.network import Network
from narrows.proxies.quality import Quality

KIND = Kind(
    "narrows-proxy",
    1,
    frozenset({"space", "architecture", "statistics", "quality"}),
    "`narrows fit`",
    frozenset({"table_sha256"}),
)
BATCH = 1024
"""Objects that `predict` evaluates at a time; the last batch is filled up, so that one shape is compiled."""

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
    # A Python number, for it is added in double precision where that matters.
    offset: float = eqx.field(static=True, converter=float)
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

    def centred(self) -> Self:
        """Return the ensemble whose means are less by the offset."""
        return replace(self, offset=0.0)

    def __call__(self, tokens: Int[Array, "batch length"]) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Return mean and standard deviation of a batch, on the scale of the scores.

        Args:
            tokens: positions in the alphabet, padding is `len(alphabet)`; `length` may be any that holds the objects.
        """
        outputs = self._outputs(tokens)
        mean = self.offset + self.scale * jnp.mean(outputs, axis=0)
        return mean, self.std_scale * self.scale * jnp.std(outputs, axis=0)

    def least(self, tokens: Int[Array, "batch length"]) -> Float[Array, " batch"]:
        """Return what the most sceptical member says, `mean - std_scale (mean - min_k)`, tokens as in a call.

        Its distance from the mean is scaled as the standard deviation is: members that agree too much count for more.
        """
        outputs = self._outputs(tokens)
        mean = jnp.mean(outputs, axis=0)
        return self.offset + self.scale * (mean - self.std_scale * (mean - jnp.min(outputs, axis=0)))

    def _outputs(self, tokens: Int[Array, "batch length"]) -> Float[Array, "member batch"]:
        return eqx.filter_vmap(lambda member: jax.vmap(member)(tokens))(self.members)

    def predict(self, objects: Objects[str]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return mean and standard deviation of any number of objects, float64.

        Raises ValueError naming an object with a letter that is not in the alphabet or a length out of the space's range.
        """
        tokens = encode(objects, self.space)
        centred, mean, std = self.centred(), np.empty(len(tokens)), np.empty(len(tokens))
        for start in range(0, len(tokens), BATCH):
            part = tokens[start : start + BATCH]
            filled = np.pad(part, ((0, BATCH - len(part)), (0, 0)), constant_values=len(self.alphabet))
            one_mean, one_std = _evaluate(centred, jnp.asarray(filled))
            mean[start : start + BATCH] = self.offset + np.asarray(one_mean, np.float64)[: len(part)]
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
        raise ValueError(f"expected a list of sequences, got one text {quote(objects)}. Put it in a list.")
    # What is no text has no length in a space.
    tokens = alphabet_of(space.alphabet).read([text if isinstance(text, str) else "" for text in objects])
    is_text = np.fromiter((isinstance(text, str) for text in objects), bool, len(objects))
    is_wrong = ~is_text | (tokens.lengths < space.min_length) | (tokens.lengths > space.max_length)
    row, unknown = int(np.argmax(is_wrong)) if is_wrong.any() else len(objects), tokens.first_unknown()
    if unknown is not None and unknown[0] < row:
        row, place = unknown
        raise ValueError(
            f"object {row} ({quote(objects[row])}): letter {objects[row][place]!r} at position {place + 1} is not in the "
            f"alphabet {quote(space.alphabet)}."
        )
    if row < len(objects):
        raise ValueError(
            f"object {row} ({quote(objects[row])}): expected a text of {space.lengths} letters. Remove it or fit another proxy."
        )
    return tokens.padded(space.max_length, len(space.alphabet))


def save(ensemble: Ensemble, quality: Quality, folder: str | Path, table_sha256: str | None = None) -> Path:
    """Write a proxy to a folder, made when missing, and return it; a proxy already there is replaced in one step.

    `table_sha256` is the hash of the table it was fitted to, None where that is not known. Raises OSError when the disk
    refuses; what was in the folder stays whole.
    """
    fields = {
        "space": _space_fields(ensemble.space),
        "architecture": {"members": ensemble.num_members, **_architecture()},
        "statistics": _statistics(ensemble),
        "quality": quality.to_dict(),
        **({} if table_sha256 is None else {"table_sha256": table_sha256}),
    }
    stored = _Stored(ensemble.members, jnp.asarray(ensemble.offset, jnp.float32), ensemble.scale, ensemble.std_scale)
    return save_tree(folder, KIND, stored, fields)


def load(folder: str | Path) -> tuple[Ensemble, dict[str, Any]]:
    """Return a saved proxy and its manifest; nothing in the folder is executed.

    Raises ValueError naming the file, and the leaf, for whatever is missing, extra, reshaped, of another type or damaged.
    """
    manifest = read_manifest(folder, KIND)
    path = Path(folder) / MANIFEST
    space, members = _described(path, manifest)
    stored = read_tree(folder, manifest, jax.eval_shape(lambda: _blank(space, members)))
    if _in_single(manifest["statistics"]) != _statistics(stored):
        raise ValueError(f"{path}: the statistics differ from those of the weights. Fit the proxy again.")
    offset = manifest["statistics"]["offset"]
    return Ensemble(stored.members, offset, stored.scale, stored.std_scale, space), manifest


def read_quality(folder: str | Path) -> Quality:
    """Return the quality figures of a saved proxy; ValueError says what is wrong with its manifest."""
    path = Path(folder) / MANIFEST
    try:
        return Quality.from_dict(read_manifest(folder, KIND)["quality"])
    except ValueError as error:
        raise ValueError(f"{error}" if str(path) in str(error) else f"{path}: {error}. Fit the proxy again.") from None


def read_table_sha256(folder: str | Path) -> str | None:
    """Return the hash of the table that a saved proxy was fitted to, None where its manifest does not say."""
    return read_manifest(folder, KIND).get("table_sha256")


class _Stored(NamedTuple):
    """The arrays of a saved ensemble; the manifest's statistics have the offset in double precision."""

    members: Network
    offset: Float[Array, ""]
    scale: Float[Array, ""]
    std_scale: Float[Array, ""]


def _blank(space: Space, members: int) -> _Stored:
    """Return the right arrays with nothing learned."""
    one = jnp.ones((), jnp.float32)
    return _Stored(make_members(space, members, jax.random.key(0)), one, one, one)


def _architecture() -> dict[str, int]:
    """Return the sizes that the networks of this version have; a proxy with others cannot be read."""
    names = ("CHANNELS", "FIRST_WINDOW", "WINDOW", "NUM_RESIDUAL", "POSITION_UNITS", "HIDDEN")
    return {name.lower(): getattr(network, name) for name in names}


def _statistics(ensemble: Ensemble | _Stored) -> dict[str, float]:
    return {name: float(getattr(ensemble, name)) for name in _STATISTICS}


def _in_single(statistics: Any) -> dict[str, float] | None:
    """Return the statistics of a manifest as the arrays hold them, None for anything that is none."""
    if not isinstance(statistics, dict) or not all(isinstance(value, float) for value in statistics.values()):
        return None
    with np.errstate(over="ignore"):
        return {name: float(np.float32(value)) for name, value in statistics.items()}


def _space_fields(space: Space) -> dict[str, Any]:
    return {name: getattr(space, name) for name in ("name", "alphabet", "min_length", "max_length")}


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
            raise ValueError(f"{path}: {quote(other)} is no space. Fit the proxy again.")
    match manifest["architecture"]:
        case {"members": int(members), **sizes} if sizes == _architecture() and members >= 2:
            return space, members
        case other:
            raise ValueError(
                f"{path}: this Narrows has networks of {_architecture()}, not {quote(other, 200)}. Fit the proxy again."
            )
