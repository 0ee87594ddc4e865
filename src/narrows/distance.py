"""Distances between the texts of objects, on the host, and the units they count in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from rapidfuzz.distance import Hamming, Levenshtein
from rapidfuzz.process import cdist, extractOne

from narrows.alphabet import reverse_complements
from narrows.printing import name_some

PAIRS_AT_ONCE = 1 << 22
"""Pairs whose distances are held together."""

# rapidfuzz compares strings of up to 64 letters many at a time; above, tightening the bound as one goes is faster.
_SHORT = 64


class Nearest(NamedTuple):
    """The position of the nearest reference of each item, and its distance."""

    position: Int[np.ndarray, " item"]
    distance: Int[np.ndarray, " item"]


class AbstractDistance(ABC):
    """A metric of objects by their texts: whole numbers of some unit.

    Attributes:
        unit: what is counted, a noun in the plural, as sentences and axes name it.
    """

    unit: str

    def amount(self, number: int) -> str:
        """Return a number with its unit.

        >>> EDITS.amount(1), EDITS.amount(2)
        ('1 edit', '2 edits')
        """
        return f"{number:,} {self.unit.removesuffix('s') if number == 1 else self.unit}"

    @abstractmethod
    def between(self, items: Sequence[str], others: Sequence[str], at_most: int | None = None) -> Int[np.ndarray, "item other"]:
        """Return the distance of each item to each other one; what exceeds `at_most` may be any number above it."""

    def matrix(self, items: Sequence[str]) -> Int[np.ndarray, "item item"]:
        """Return the distance of every two items, int64.

        >>> EDITS.matrix(["ACGU", "ACG", "UCGU"]).tolist()
        [[0, 1, 1], [1, 0, 2], [1, 2, 0]]
        """
        return self.between(items, items).astype(np.int64).reshape(len(items), len(items))

    def mean(self, items: Sequence[str]) -> float:
        """Return the mean distance over the `n (n - 1) / 2` pairs of items; ValueError below two items.

        >>> round(EDITS.mean(["ACGU", "ACG", "UCGU"]), 4)
        1.3333
        """
        if len(items) < 2:
            raise ValueError(f"a mean over pairs needs at least 2 items, got {len(items)}.")
        total = sum(int(self.between(items[part], items).sum(dtype=np.int64)) for part in _parts(len(items), len(items)))
        return total / (len(items) * (len(items) - 1))

    def nearest(self, items: Sequence[str], references: Sequence[str]) -> Nearest:
        """Return the nearest reference of each item, the first one of several; memory stays bounded.

        Raises ValueError when there is no reference.

        >>> EDITS.nearest(["ACGU", "GGG"], ["GGGG", "ACG", "ACGA"])
        Nearest(position=array([1, 0]), distance=array([1, 1]))
        """
        if not references:
            raise ValueError("expected at least one reference to measure distances to, got none.")
        position, distance = np.zeros(len(items), np.int64), np.zeros(len(items), np.int64)
        for part in _parts(len(items), len(references)):
            block = self.between(items[part], references)
            position[part], distance[part] = block.argmin(1), block.min(1)
        return Nearest(position, distance)

    def is_closer(self, item: str, others: Sequence[str], distance: int) -> Bool[np.ndarray, " other"]:
        """Return which of `others` are less than `distance` (>= 1) away from `item`."""
        return self.between([item], others, distance - 1)[0] < distance


@dataclass(frozen=True)
class EditDistance(AbstractDistance):
    """Levenshtein's distance of texts: the fewest insertions, deletions and substitutions of letters."""

    unit: str = "edits"

    def between(self, items: Sequence[str], others: Sequence[str], at_most: int | None = None) -> Int[np.ndarray, "item other"]:
        return cdist(items, others, scorer=Levenshtein.distance, score_cutoff=at_most)

    def nearest(self, items: Sequence[str], references: Sequence[str]) -> Nearest:
        if not references or max(map(len, references)) <= _SHORT:
            return super().nearest(items, references)
        found = [extractOne(item, references, scorer=Levenshtein.distance) for item in items]
        pairs = np.array([(index, distance) for _, distance, index in found], np.int64).reshape(-1, 2)
        return Nearest(pairs[:, 0], pairs[:, 1])


@dataclass(frozen=True)
class PlaceDistance(AbstractDistance):
    """Hamming's distance of texts of one length: the places at which they differ.

    >>> FLIPS.matrix(["0110", "0011"]).tolist()
    [[0, 2], [2, 0]]
    """

    unit: str

    def between(self, items: Sequence[str], others: Sequence[str], at_most: int | None = None) -> Int[np.ndarray, "item other"]:
        return cdist(items, others, scorer=Hamming.distance, score_cutoff=at_most)


@dataclass(frozen=True)
class StepDistance(AbstractDistance):
    """Manhattan distance of points whose texts are whole numbers with spaces between: the steps along the axes.

    >>> STEPS.matrix(["0 3", "2 2"]).tolist()
    [[0, 3], [3, 0]]
    """

    unit: str

    def between(self, items: Sequence[str], others: Sequence[str], at_most: int | None = None) -> Int[np.ndarray, "item other"]:
        total = np.zeros((len(items), len(others)), np.int64)
        if total.size:
            for ours, theirs in zip(_points(items).T, _points(others).T, strict=True):
                total += np.abs(ours[:, None] - theirs)
        return total


@dataclass(frozen=True)
class StrandDistance(AbstractDistance):
    """The distance of double-stranded DNA or RNA: of an object's two strands the nearer one counts.

    Args:
        strand: the distance of single strands.
        letters: those of DNA or RNA.

    >>> StrandDistance(EDITS, "ACGT").matrix(["AACG", "CGTT", "AACC"]).tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """

    strand: AbstractDistance
    letters: str

    @property
    def unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  # it follows from the strands'
        return self.strand.unit

    def between(self, items: Sequence[str], others: Sequence[str], at_most: int | None = None) -> Int[np.ndarray, "item other"]:
        turned = reverse_complements(items, self.letters)
        return np.minimum(self.strand.between(items, others, at_most), self.strand.between(turned, others, at_most))


EDITS = EditDistance()
FLIPS = PlaceDistance("flips")
ELEMENTS = PlaceDistance("elements")
STEPS = StepDistance("steps")


def _points(texts: Sequence[str]) -> Int[np.ndarray, "item axis"]:
    try:
        return np.array([text.split(" ") for text in texts], np.int64)
    except ValueError:
        raise ValueError(f"expected points as whole numbers with spaces between, got {name_some(texts, 3)}.") from None


def _parts(num_rows: int, num_columns: int) -> list[slice]:
    """Return the parts of so many rows whose matrices stay small."""
    rows = max(1, PAIRS_AT_ONCE // max(1, num_columns))
    return [slice(start, start + rows) for start in range(0, num_rows, rows)]
