"""Letters as numbers: tables that turn many texts into tokens and back at once."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

UNKNOWN = -1
"""The token of a letter that an alphabet lacks."""


class Tokens(NamedTuple):
    """The tokens of several texts one after another, and how many each text has."""

    flat: Int[np.ndarray, " letter"]
    lengths: Int[np.ndarray, " text"]

    def padded(self, width: int, fill: int) -> Int[np.ndarray, "text width"]:
        """Return a row a text, filled up with `fill`; no text may have more than `width` tokens."""
        if np.all(self.lengths == width):
            return self.flat.reshape(len(self.lengths), width)
        rows = np.full((len(self.lengths), width), fill, np.int32)
        rows[np.arange(width) < self.lengths[:, None]] = self.flat
        return rows

    def first_unknown(self) -> tuple[int, int] | None:
        """Return the text and the place in it, from 0, of the first letter that the alphabet lacks; None without one."""
        unknown = self.flat == UNKNOWN
        if not unknown.any():
            return None
        place, ends = int(np.argmax(unknown)), np.cumsum(self.lengths)
        row = int(np.searchsorted(ends, place, side="right"))
        return row, place - int(ends[row] - self.lengths[row])


class Alphabet:
    """Distinct letters, each the token of its place.

    Args:
        letters: the letters in the order of their tokens.

    >>> Alphabet("ACGU").read(["GA", "U"])
    Tokens(flat=array([2, 0, 3], dtype=int32), lengths=array([2, 1], dtype=int32))
    """

    def __init__(self, letters: str) -> None:
        codes = _code_points(letters)
        self._tokens = np.full(int(codes.max(initial=0)) + 2, UNKNOWN, np.int32)
        self._tokens[codes] = np.arange(len(letters))
        self._codes = np.append(codes, np.uint32(0))  # the last one is that of padding
        self._has_zero = "\0" in letters

    def read(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of texts, `UNKNOWN` for a letter that is none of the alphabet."""
        codes = _code_points("".join(texts))
        return Tokens(
            self._tokens[np.minimum(codes, len(self._tokens) - 1)], np.fromiter(map(len, texts), np.int32, len(texts))
        )

    def write(self, tokens: Int[np.ndarray, "text width"], lengths: Int[np.ndarray, " text"]) -> list[str]:
        """Return the texts of padded rows of tokens.

        >>> Alphabet("ACGU").write(np.array([[2, 0], [3, 4]]), np.array([2, 1]))
        ['GA', 'U']
        """
        codes = np.where(np.arange(tokens.shape[1]) < lengths[:, None], self._codes[tokens], np.uint32(0))
        texts = codes.view(f"<U{tokens.shape[1]}")[:, 0].tolist()
        # NumPy's texts end before trailing zeros.
        return [text.ljust(length, "\0") for text, length in zip(texts, lengths, strict=True)] if self._has_zero else texts


def read_bits(texts: Sequence[str], width: int) -> tuple[Int[np.ndarray, "text width"], Bool[np.ndarray, " text"]]:
    """Return a row of bits a text, and which texts have not `width` characters, each 0 or 1; their bits are 0."""
    tokens = alphabet_of("01").read(texts)
    is_wrong = tokens.lengths != width
    is_wrong |= np.bincount(np.repeat(np.arange(len(texts)), tokens.lengths), tokens.flat == UNKNOWN, len(texts)) > 0
    bits = np.zeros((len(texts), width), np.int32)
    bits[~is_wrong] = tokens.flat[np.repeat(~is_wrong, tokens.lengths)].reshape(-1, width)
    return bits, is_wrong


def write_bits(bits: Int[np.ndarray, "text width"]) -> list[str]:
    """Return a text of 0 and 1 a row."""
    return alphabet_of("01").write(bits, np.full(len(bits), bits.shape[1]))


def reverse_complements(texts: Sequence[str], letters: str) -> list[str]:
    """Return the other strand of each text, read from its own beginning; ValueError for letters that have no complement.

    >>> reverse_complements(["AACG"], "ACGT"), reverse_complements(["AACG"], "ACGU")
    (['CGTT'], ['CGUU'])
    """
    if {*letters} not in ({*"ACGT"}, {*"ACGU"}):
        raise ValueError(f"both strands need the letters of DNA or RNA, got {letters!r}.")
    complements = str.maketrans("ACG", "UGC") | {ord("U"): "A"} if "U" in letters else str.maketrans("ACGT", "TGCA")
    return [text.translate(complements)[::-1] for text in texts]


@lru_cache(maxsize=64)
def alphabet_of(letters: str) -> Alphabet:
    """Return the tables of an alphabet, made once."""
    return Alphabet(letters)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
