"""What evolution does to rows: letters change, come and go, and two rows cross."""

import numpy as np
from jaxtyping import Bool, Float

from narrows.search.space import Rows, Space

_INDEL = 0.1
"""Probability that a mutated row also gains a letter, and that it loses one, where the length is free."""


def mutated(rng: np.random.Generator, rows: Rows, space: Space) -> Rows:
    """Return rows with each letter replaced by another one with probability 1 / length, at least one change in each row.

    Where the length is free a row also loses a letter with probability 0.1, and gains one with probability 0.1.
    """
    rows, letters = rows.copy(), space.num_letters
    if letters > 1:
        lengths = space.lengths(rows)
        is_letter = rows < letters
        change = is_letter & (rng.random(rows.shape) < 1 / np.maximum(lengths, 1)[:, None])
        one = np.floor(rng.random(len(rows)) * lengths).astype(int)
        without = ~change.any(axis=1) & (lengths > 0)
        change[without, one[without]] = True
        rows[change] = (rows[change] + rng.integers(1, letters, int(change.sum()))) % letters
    if space.min_length < space.max_length:
        rows = _shortened(rng, rows, space)
        rows = _lengthened(rng, rows, space)
    return rows


def crossed_at_a_point(rng: np.random.Generator, first: Rows, second: Rows, space: Space, rate: float) -> Rows:
    """Return, with probability `rate`, the beginning of one row and the rest of the other, else the second row."""
    shorter = np.minimum(space.lengths(first), space.lengths(second))
    cut = np.where(rng.random(len(first)) < rate, rng.integers(0, shorter + 1), 0)
    return np.where(np.arange(first.shape[1]) < cut[:, None], first, second)


def crossed_over(rng: np.random.Generator, first: Rows, second: Rows, space: Space, rate: float) -> tuple[Rows, Rows]:
    """Return two rows that swap strands with probability `rate` from a place to the next, as far as the shorter one goes."""
    shorter = np.minimum(space.lengths(first), space.lengths(second))
    swapped: Bool[np.ndarray, "row letter"] = np.cumsum(rng.random(first.shape) < rate, axis=1) % 2 == 1
    swapped &= np.arange(first.shape[1]) < shorter[:, None]
    return np.where(swapped, second, first), np.where(swapped, first, second)


def _shortened(rng: np.random.Generator, rows: Rows, space: Space) -> Rows:
    lengths, chance = space.lengths(rows), rng.random(len(rows))
    places = np.arange(rows.shape[1])
    goes = _some_place(rng, lengths)
    longer = np.concatenate([rows, np.full((len(rows), 1), space.num_letters, rows.dtype)], axis=1)
    shorter = np.take_along_axis(longer, places + (places >= goes[:, None]), axis=1)
    return np.where(((chance < _INDEL) & (lengths > space.min_length))[:, None], shorter, rows)


def _lengthened(rng: np.random.Generator, rows: Rows, space: Space) -> Rows:
    lengths, chance = space.lengths(rows), rng.random(len(rows))
    places = np.arange(rows.shape[1])
    comes = _some_place(rng, lengths + 1)
    longer = np.take_along_axis(rows, np.maximum(places - (places > comes[:, None]), 0), axis=1)
    letter = rng.integers(0, space.num_letters, len(rows), rows.dtype)
    longer = np.where(places == comes[:, None], letter[:, None], longer)
    return np.where(((chance < _INDEL) & (lengths < space.max_length))[:, None], longer, rows)


def _some_place(rng: np.random.Generator, numbers: np.ndarray) -> np.ndarray:
    draws: Float[np.ndarray, " row"] = rng.random(len(numbers))
    return np.floor(draws * numbers).astype(int)
