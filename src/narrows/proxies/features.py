"""Numbers that describe a sequence, for models that learn from a table: letters at places, pairs of places, words."""

import abc
import dataclasses
import itertools
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

MOST = 6_000
"""Numbers that a sequence may be described by: a table of thousands of rows of more would not fit into a laptop's memory."""

_ORDER = "ARNDCQEGHILKMFPSTWYV"
_BLOSUM62 = """
4 -1 -2 -2 0 -1 -1 0 -2 -1 -1 -1 -1 -2 -1 1 0 -3 -2 0
5 0 -2 -3 1 0 -2 0 -3 -2 2 -1 -3 -2 -1 -1 -3 -2 -3
6 1 -3 0 0 0 1 -3 -3 0 -2 -3 -2 1 0 -4 -2 -3
6 -3 0 2 -1 -1 -3 -4 -1 -3 -3 -1 0 -1 -4 -3 -3
9 -3 -4 -3 -3 -1 -1 -3 -1 -2 -3 -1 -1 -2 -2 -1
5 2 -2 0 -3 -2 1 0 -3 -1 0 -1 -2 -1 -2
5 -2 0 -3 -3 1 -2 -3 -1 0 -1 -3 -2 -2
6 -2 -4 -4 -2 -3 -3 -2 0 -2 -2 -3 -3
8 -3 -3 -1 -2 -1 -2 -1 -2 -2 2 -3
4 2 -3 1 0 -3 -2 -1 -3 -1 3
4 -2 2 0 -3 -2 -1 -2 -1 1
5 -1 -3 -1 0 -1 -3 -2 -2
5 0 -2 -1 -1 -1 -1 1
6 -4 -2 -2 1 3 -1
7 -1 -1 -4 -3 -2
4 1 -3 -2 -2
5 -2 -2 0
11 2 -3
7 -1
4
"""
"""The upper half of BLOSUM62 (Henikoff and Henikoff, PNAS 89:10915, 1992), in the order of `_ORDER`."""


class AbstractFeatures(eqx.Module):
    """Describe sequences by numbers; every field is part of the program, so that a file can say it in a few words."""

    name: ClassVar[str]

    @abc.abstractmethod
    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch feature"]:
        """Return the numbers of a batch of sequences, padded with `num_letters`."""

    @property
    @abc.abstractmethod
    def groups(self) -> Int[np.ndarray, " feature"]:
        """The group of each number, from 0; a model may weigh each group by itself."""

    @property
    def num(self) -> int:
        return len(self.groups)


@final
class Letters(AbstractFeatures):
    """Describe the letter at each place by a vector: one number a letter, or what makes letters alike.

    Args:
        num_letters: letters of the alphabet.
        places: positions that are looked at, from 0; each is a group.
        alike: the alphabet, where letters that BLOSUM62 calls alike have vectors that are near; None for one number a letter.
    """

    name: ClassVar[str] = "letters"
    num_letters: int = eqx.field(static=True)
    places: tuple[int, ...] = eqx.field(static=True)
    alike: str | None = eqx.field(static=True, default=None)

    def _vectors(self) -> Float[np.ndarray, "letter number"]:
        return np.eye(self.num_letters, dtype=np.float32) if self.alike is None else similar_letters(self.alike)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch feature"]:
        vectors = self._vectors()
        padded = jnp.asarray(np.vstack([vectors, np.zeros((1, vectors.shape[1]), np.float32)]))
        return padded[tokens[:, np.array(self.places, np.int32)]].reshape(len(tokens), -1)

    @property
    def groups(self) -> Int[np.ndarray, " feature"]:
        return np.repeat(np.arange(len(self.places)), self._vectors().shape[1])


@final
class Pairs(AbstractFeatures):
    """Describe a sequence by the letter at each place (group 0) and by the letters at every two places (group 1)."""

    name: ClassVar[str] = "pairs"
    num_letters: int = eqx.field(static=True)
    places: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch feature"]:
        single = Letters(self.num_letters, self.places)(tokens)
        left, right = map(np.array, zip(*itertools.combinations(range(len(self.places)), 2), strict=True))
        each = single.reshape(len(tokens), len(self.places), -1)
        pairs = each[:, left, :, None] * each[:, right, None, :]
        return jnp.concatenate([single, pairs.reshape(len(tokens), -1)], axis=1)

    @property
    def groups(self) -> Int[np.ndarray, " feature"]:
        num, size = len(self.places), self.num_letters
        return np.repeat([0, 1], [num * size, num * (num - 1) // 2 * size**2])


@final
class Words(AbstractFeatures):
    """Count the words of each length in a sequence, divided by the root of how many there are; and its length, in group 0.

    Args:
        num_letters: letters of the alphabet.
        longest: letters of the longest words; those of one letter are the composition. Each length is a group.
        typical: length of a usual sequence, which decides what one more letter counts for.
    """

    name: ClassVar[str] = "words"
    num_letters: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)
    typical: float = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch feature"]:
        size, is_letter = self.num_letters, tokens < self.num_letters
        length = jnp.sum(is_letter, axis=1, dtype=jnp.float32)
        parts = [length[:, None] / self.typical]
        codes, is_word = jnp.zeros_like(tokens), jnp.ones_like(is_letter)
        for letters in range(1, self.longest + 1):
            reach = tokens.shape[1] - letters + 1
            if reach < 1:
                parts.append(jnp.zeros((len(tokens), size**letters), jnp.float32))
                continue
            last = slice(letters - 1, letters - 1 + reach)
            codes = codes[:, :reach] * size + jnp.where(is_letter[:, last], tokens[:, last], 0)
            is_word = is_word[:, :reach] & is_letter[:, last]
            places = jnp.where(is_word, codes, size**letters)
            rows = jnp.arange(len(tokens))[:, None]
            counts = jnp.zeros((len(tokens), size**letters + 1), jnp.float32).at[rows, places].add(1.0)[:, :-1]
            parts.append(counts / jnp.sqrt(jnp.maximum(jnp.sum(is_word, axis=1, dtype=jnp.float32), 1.0))[:, None])
        return jnp.concatenate(parts, axis=1)

    @property
    def groups(self) -> Int[np.ndarray, " feature"]:
        sizes = [1, *(self.num_letters**letters for letters in range(1, self.longest + 1))]
        return np.repeat([0, *range(self.longest)], sizes)


KINDS: dict[str, type[AbstractFeatures]] = {kind.name: kind for kind in (Letters, Pairs, Words)}


def described(features: AbstractFeatures) -> dict[str, Any]:
    """Return features as values for JSON."""
    fields = {field.name: getattr(features, field.name) for field in dataclasses.fields(features)}
    return {"kind": features.name, **{name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}}


def read_features(plain: Any, num_letters: int, max_length: int) -> AbstractFeatures:
    """Return the features that `described` wrote; ValueError for anything else, and for what the space does not have."""
    match plain:
        case {"kind": "letters", "num_letters": int(num), "places": [*places], "alike": str() | None as alike, **rest}:
            found = Letters(num, tuple(places), alike)
            if alike is not None and (len(alike) != num or not set(alike) <= set(_ORDER)):
                raise ValueError("these letters are no amino acids, and have no features of such")
        case {"kind": "pairs", "num_letters": int(num), "places": [*places], **rest}:
            found = Pairs(num, tuple(places))
        case {"kind": "words", "num_letters": int(num), "longest": int(longest), "typical": float(typical), **rest}:
            found, places = Words(num, longest, typical), []
            if not (1 <= longest <= 8 and num**longest <= MOST and 0.0 < typical < float("inf")):
                raise ValueError("words of so many letters are no features")
        case _:
            raise ValueError("these are no features")
    is_known = all(isinstance(place, int) and 0 <= place < max_length for place in places)
    if rest or num != num_letters or not is_known or len(places) > max_length or found.num > MOST:
        raise ValueError("these are no features of this space")
    return found


@jax.jit
def _numbers(features: AbstractFeatures, tokens: Int[Array, "batch length"]) -> Float[Array, "batch feature"]:
    return features(tokens)


def describe_all(features: AbstractFeatures, tokens: Int[np.ndarray, "row length"]) -> Float[np.ndarray, "row feature"]:
    """Return the numbers of all rows of a table."""
    return np.asarray(_numbers(features, jnp.asarray(tokens)), np.float64)


def similar_letters(alphabet: str) -> Float[np.ndarray, "letter number"]:
    """Return a vector for each amino acid: squared distances between them grow as BLOSUM62 says that they are less alike.

    The matrix, scaled to a unit diagonal, is taken as inner products of vectors of length one, what is negative in it left out.
    """
    upper = [list(map(float, line.split())) for line in _BLOSUM62.split("\n") if line]
    scores = np.zeros((20, 20))
    for row, entries in enumerate(upper):
        scores[row, row:] = scores[row:, row] = entries
    picked = [_ORDER.index(letter) for letter in alphabet]
    scores = scores[np.ix_(picked, picked)]
    diagonal = np.sqrt(np.diag(scores))
    values, vectors = np.linalg.eigh(scores / np.outer(diagonal, diagonal))
    vectors = vectors * np.sign(vectors.sum(axis=0) + 1e-12)  # a sign of their own, whatever the library
    found = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, values > 1e-9]
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def is_protein(alphabet: str) -> bool:
    """Return whether BLOSUM62 knows every letter and there are enough of them to be amino acids."""
    return len(alphabet) >= 10 and set(alphabet) <= set(_ORDER)
