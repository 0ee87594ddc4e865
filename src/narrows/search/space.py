"""What is searched: all texts of an alphabet within a range of lengths, as rows of numbers that NumPy edits together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from narrows.alphabet import UNKNOWN, alphabet_of

Rows = Int[np.ndarray, "object letter"]
"""A row an object: the places of its letters in the alphabet, filled up with the number of letters."""


@dataclass(frozen=True)
class Space:
    """All texts of `min_length` to `max_length` letters of an alphabet.

    Args:
        alphabet: distinct letters.
        min_length: of the shortest object, at least 0.
        max_length: of the longest object, at least 1.
    """

    alphabet: str
    min_length: int
    max_length: int

    def __post_init__(self) -> None:
        if not self.alphabet or len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError(f"expected distinct letters, got {self.alphabet!r}. Write each letter once.")
        if not 0 <= self.min_length <= self.max_length or self.max_length < 1:
            raise ValueError(
                f"expected 0 <= min_length <= max_length and max_length >= 1, got {self.min_length} and {self.max_length}."
            )

    @property
    def num_letters(self) -> int:
        return len(self.alphabet)

    @property
    def num_objects(self) -> int:
        """The number of texts, exactly."""
        return sum(self.num_letters**length for length in range(self.min_length, self.max_length + 1))

    def holds(self, texts: Sequence[str]) -> Bool[np.ndarray, " text"]:
        """Return which texts are of this space.

        >>> Space("AC", 1, 2).holds(["A", "ACA", "AG", ""]).tolist()
        [True, False, False, False]
        """
        tokens = alphabet_of(self.alphabet).read(texts)
        strange = np.bincount(np.repeat(np.arange(len(texts)), tokens.lengths), tokens.flat == UNKNOWN, len(texts)) > 0
        return ~strange & (tokens.lengths >= self.min_length) & (tokens.lengths <= self.max_length)

    def read(self, texts: Sequence[str]) -> Rows:
        """Return the rows of texts; ValueError names the first one that is not of this space."""
        held = self.holds(texts)
        if not held.all():
            row = int(np.argmin(held))
            raise ValueError(
                f"text {row} ({texts[row]!r}): expected {self.min_length} to {self.max_length} letters of {self.alphabet!r}."
            )
        return alphabet_of(self.alphabet).read(texts).padded(self.max_length, self.num_letters)

    def write(self, rows: Rows) -> list[str]:
        """Return the texts of rows."""
        return alphabet_of(self.alphabet).write(rows, self.lengths(rows)) if len(rows) else []

    def lengths(self, rows: Rows) -> Int[np.ndarray, " object"]:
        """Return the number of letters of each row."""
        return np.sum(rows < self.num_letters, axis=1)

    def listed(self) -> Rows:
        """Return every object, the shorter ones first and those of one length as numbers are ordered.

        >>> space = Space("AC", 1, 2)
        >>> space.write(space.listed())
        ['A', 'C', 'AA', 'AC', 'CA', 'CC']
        """
        parts = []
        for length in range(self.min_length, self.max_length + 1):
            places = np.arange(self.num_letters**length)[:, None] // self.num_letters ** np.arange(length)[::-1]
            rows = np.full((len(places), self.max_length), self.num_letters, np.int32)
            rows[:, :length] = places % self.num_letters
            parts.append(rows)
        return np.concatenate(parts)

    def drawn(self, rng: np.random.Generator, num: int) -> Rows:
        """Return rows at random: a length within the range, each as likely, and letters that are each as likely."""
        rows = rng.integers(0, self.num_letters, (num, self.max_length), np.int32)
        lengths = rng.integers(self.min_length, self.max_length + 1, num)
        return np.where(np.arange(self.max_length) < lengths[:, None], rows, np.int32(self.num_letters))


def distinct(rows: Rows) -> tuple[Rows, Int[np.ndarray, " object"]]:
    """Return the distinct ones of many rows, and the place among them of each.

    >>> distinct(np.array([[1, 2], [0, 0], [1, 2]]))
    (array([[0, 0],
           [1, 2]]), array([1, 0, 1]))
    """
    small = rows.astype(np.uint8) if rows.size and rows.max() < 256 else rows
    width = -(-small.shape[1] // 8) * 8
    padded = np.zeros((len(rows), width), small.dtype)
    padded[:, : small.shape[1]] = small
    # Rows of up to eight bytes are compared as numbers, which is fast.
    keys = padded.view(np.uint64 if padded.itemsize * width == 8 else f"V{padded.itemsize * width}")[:, 0]
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return rows[first], place
