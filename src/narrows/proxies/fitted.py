"""A fitted proxy: a model of a table or an average of several, callable in a JAX program and from the host, and its files."""

from collections.abc import Sequence as Objects
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.alphabet import alphabet_of
from narrows.data import Space
from narrows.printing import quote
from narrows.proxies.files import MANIFEST as MANIFEST
from narrows.proxies.files import Kind, read_manifest, read_tree, save_tree
from narrows.proxies.models.base import AbstractModel
from narrows.proxies.models.constant import Constant
from narrows.proxies.models.gaussian_process import GaussianProcess
from narrows.proxies.models.networks import Networks
from narrows.proxies.models.trees import Trees
from narrows.proxies.quality import Quality

KIND = Kind(
    "narrows-proxy", 2, frozenset({"space", "models", "statistics", "quality"}), "`narrows fit`", frozenset({"table_sha256"})
)
FIRST_KIND = Kind("narrows-proxy", 1, frozenset({"space", "architecture", "statistics", "quality"}), KIND.maker, KIND.optional)
"""Of proxies made before models were compared: networks alone."""

BATCH = 1024
"""Objects that `predict` evaluates at a time; the last batch is filled up, so that one shape is compiled."""

_MODELS: dict[str, type[AbstractModel]] = {model.__name__: model for model in (Constant, GaussianProcess, Trees, Networks)}
_STATISTICS = ("offset", "scale", "std_scale")


@final
class FittedProxy(eqx.Module):
    """Predict the score of a sequence and how unsure that is.

        mean = offset + scale * sum_k share_k m_k(x)
        std  = std_scale * scale * sqrt(sum_k share_k (s_k(x)^2 + m_k(x)^2) - (sum_k share_k m_k(x))^2)

    Args:
        models: of the standardised score.
        shares: of the models in the average; they sum to one.
        offset, scale: mean and standard deviation of the scores that were learned from.
        std_scale: what the standard deviation is multiplied by to be honest on held-out data.
        space: the sequences it reads.
    """

    models: tuple[AbstractModel, ...]
    shares: Float[Array, " model"]
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

    def centred(self) -> Self:
        """Return the proxy whose means are less by the offset."""
        return replace(self, offset=0.0)

    def __call__(self, tokens: Int[Array, "batch length"]) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Return mean and standard deviation of a batch, on the scale of the scores.

        Args:
            tokens: positions in the alphabet, padding is `len(alphabet)`; `length` may be any that holds the objects.
        """
        means, stds = map(jnp.stack, zip(*(model(tokens) for model in self.models), strict=True))
        mean = self.shares @ means
        spread = self.shares @ jnp.square(means - mean)
        std = jnp.sqrt(self.shares @ jnp.square(stds) + spread)
        return self.offset + self.scale * mean, self.std_scale * self.scale * std

    def least(self, tokens: Int[Array, "batch length"]) -> Float[Array, " batch"]:
        """Return what the most sceptical member of any model says, `mean - std_scale (mean - min_k)`, tokens as in a call.

        Its distance from the mean is scaled as the standard deviation is: members that agree too much count for more.
        """
        mean = self.shares @ jnp.stack([model(tokens)[0] for model in self.models])
        least = jnp.min(jnp.concatenate([model.members(tokens) for model in self.models]), axis=0)
        return self.offset + self.scale * (mean - self.std_scale * (mean - least))

    @property
    def num_members(self) -> int:
        """How many opinions `least` hears."""
        tokens = jax.ShapeDtypeStruct((1, self.max_length), jnp.int32)
        return sum(jax.eval_shape(model.members, tokens).shape[0] for model in self.models)

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
def _evaluate(proxy: FittedProxy, tokens: Int[Array, "batch length"]) -> tuple[Array, Array]:
    return proxy(tokens)


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


def save(proxy: FittedProxy, quality: Quality, folder: str | Path, table_sha256: str | None = None) -> Path:
    """Write a proxy to a folder, made when missing, and return it; a proxy already there is replaced in one step.

    `table_sha256` is the hash of the table it was fitted to, None where that is not known. Raises OSError when the disk
    refuses; what was in the folder stays whole.
    """
    fields = {
        "space": {name: getattr(proxy.space, name) for name in ("name", "alphabet", "min_length", "max_length")},
        "models": [{"model": type(model).__name__, **model.described()} for model in proxy.models],
        "statistics": _statistics(proxy),
        "quality": quality.to_dict(),
        **({} if table_sha256 is None else {"table_sha256": table_sha256}),
    }
    return save_tree(folder, KIND, _stored(proxy), fields)


def load(folder: str | Path) -> tuple[FittedProxy, dict[str, Any]]:
    """Return a saved proxy and its manifest; nothing in the folder is executed.

    Raises ValueError naming the file, and the leaf, for whatever is missing, extra, reshaped, of another type or damaged.
    """
    manifest = read_manifest(folder, KIND, FIRST_KIND)
    path = Path(folder) / MANIFEST
    space = _read_space(path, manifest["space"])
    if manifest["version"] == FIRST_KIND.version:
        networks = _blank(path, [{"model": Networks.__name__, **_as_dict(manifest["architecture"])}], space)[0]
        first = read_tree(folder, manifest, _FirstStored(networks.networks, *[_one()] * 3))
        stored = _Stored((Networks(first.members),), jnp.ones(1), first.offset, first.scale, first.std_scale)
    else:
        models = _blank(path, manifest["models"], space)
        shares = jax.ShapeDtypeStruct((len(models),), jnp.float32)
        stored = read_tree(folder, manifest, _Stored(models, shares, *[_one()] * 3))
    found = {name: float(getattr(stored, name)) for name in _STATISTICS}
    if _in_single(manifest["statistics"]) != found:
        raise ValueError(f"{path}: the statistics differ from those of the weights. Fit the proxy again.")
    offset = manifest["statistics"]["offset"]
    return FittedProxy(stored.models, stored.shares, offset, stored.scale, stored.std_scale, space), manifest


def read_quality(folder: str | Path) -> Quality:
    """Return the quality figures of a saved proxy; ValueError says what is wrong with its manifest."""
    path = Path(folder) / MANIFEST
    try:
        return Quality.from_dict(read_manifest(folder, KIND, FIRST_KIND)["quality"])
    except ValueError as error:
        raise ValueError(f"{error}" if str(path) in str(error) else f"{path}: {error}. Fit the proxy again.") from None


def read_table_sha256(folder: str | Path) -> str | None:
    """Return the hash of the table that a saved proxy was fitted to, None where its manifest does not say."""
    return read_manifest(folder, KIND, FIRST_KIND).get("table_sha256")


class _Stored(NamedTuple):
    """The arrays of a saved proxy; the manifest's statistics have the offset in double precision."""

    models: tuple[Any, ...]
    shares: Any
    offset: Any
    scale: Any
    std_scale: Any


class _FirstStored(NamedTuple):
    """The arrays of a proxy of the first version."""

    members: Any
    offset: Any
    scale: Any
    std_scale: Any


def _one() -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((), jnp.float32)


def _stored(proxy: FittedProxy) -> _Stored:
    return _Stored(proxy.models, proxy.shares, jnp.asarray(proxy.offset, jnp.float32), proxy.scale, proxy.std_scale)


def _statistics(proxy: FittedProxy) -> dict[str, float]:
    return {name: float(getattr(proxy, name)) for name in _STATISTICS}


def _in_single(statistics: Any) -> dict[str, float] | None:
    """Return the statistics of a manifest as the arrays hold them, None for anything that is none."""
    if not isinstance(statistics, dict) or not all(isinstance(value, float) for value in statistics.values()):
        return None
    with np.errstate(over="ignore"):
        return {name: float(np.float32(value)) for name, value in statistics.items()}


def _as_dict(plain: Any) -> dict[str, Any]:
    return plain if isinstance(plain, dict) else {"": plain}


def _read_space(path: Path, plain: Any) -> Space:
    match plain:
        case {"name": str(name), "alphabet": str(alphabet), "min_length": int(low), "max_length": int(high), **rest} if (
            not rest
        ):
            try:
                return Space(name, alphabet, low, high)
            except ValueError as error:
                raise ValueError(f"{path}: {error}.") from None
        case other:
            raise ValueError(f"{path}: {quote(other)} is no space. Fit the proxy again.")


def _blank(path: Path, plain: Any, space: Space) -> tuple[Any, ...]:
    """Return the shapes of the models that a manifest describes."""

    def one(entry: dict[str, Any]) -> AbstractModel:
        fields = {name: value for name, value in entry.items() if name != "model"}
        kind = _MODELS[entry["model"]]
        return eqx.filter_eval_shape(lambda: kind.blank(fields, space))

    match plain:
        case [_, *_] if all(isinstance(entry, dict) and entry.get("model") in _MODELS for entry in plain) and len(plain) <= 16:
            try:
                return tuple(map(one, plain))
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"{path}: {error}. Fit the proxy again.") from None
        case other:
            raise ValueError(f"{path}: this Narrows has models {', '.join(_MODELS)}, not {quote(other, 200)}. Fit again.")
