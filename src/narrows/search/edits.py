"""Single edits of many rows at once: substitutions, and insertions and deletions where the length is free."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from narrows.search.space import Rows, Space


class Edited(NamedTuple):
    """Edited rows, those of one object one after another, and the object that each was made from."""

    rows: Rows
    origin: Int[np.ndarray, " edited"]


def num_edits(space: Space) -> int:
    """Return the number of single edits of an object of the greatest length, had it room for another letter.

    >>> num_edits(Space("AC", 3, 3)), num_edits(Space("AC", 2, 3))
    (3, 14)
    """
    length, letters = space.max_length, space.num_letters
    insertions_and_deletions = (length + 1) * letters + length if space.min_length < length else 0
    return max(1, length * (letters - 1) + insertions_and_deletions)


def single_edits(rows: Rows, space: Space) -> Edited:
    """Return everything that one edit makes of each row, within the space; an object may occur several times.

    For each row, in this order: substitutions, deletions, insertions, each by place and then by letter.

    >>> space = Space("AC", 1, 2)
    >>> space.write(single_edits(space.read(["A"]), space).rows)
    ['C', 'AA', 'CA', 'AA', 'AC']
    """
    kinds = [substitutions(rows, space)]
    if space.min_length < space.max_length:
        kinds += [_deletions(rows, space), _insertions(rows, space)]
    edited, origin = (np.concatenate(parts) for parts in zip(*kinds, strict=True))
    order = np.argsort(origin, kind="stable")
    return Edited(edited[order], origin[order])


def substitutions(rows: Rows, space: Space) -> Edited:
    """Return each row with each of its letters replaced by each other one, by row, place and letter."""
    num, width, letters = len(rows), space.max_length, space.num_letters
    edited = np.broadcast_to(rows[:, None, None], (num, width, letters, width)).copy()
    places = np.arange(width)
    edited[:, places, :, places] = np.arange(letters)
    is_new = (rows < letters)[:, :, None] & (rows[:, :, None] != np.arange(letters))
    return Edited(edited[is_new], np.nonzero(is_new)[0])


def _deletions(rows: Rows, space: Space) -> Edited:
    num, width = rows.shape
    places = np.arange(width)
    longer = np.concatenate([rows, np.full((num, 1), space.num_letters, rows.dtype)], axis=1)
    edited = longer[:, places + (places >= places[:, None])]  # [row, place that goes, letter]
    may = (rows < space.num_letters) & (space.lengths(rows) > space.min_length)[:, None]
    return Edited(edited[may], np.nonzero(may)[0])


def _insertions(rows: Rows, space: Space) -> Edited:
    width, letters = space.max_length, space.num_letters
    places = np.arange(width)
    shifted = rows[:, np.maximum(places - (places > places[:, None]), 0)]  # [row, place that comes, letter]
    edited = np.repeat(shifted[:, :, None], letters, axis=2)
    edited[:, places, :, places] = np.arange(letters)
    lengths = space.lengths(rows)[:, None]
    may = (places <= lengths) & (lengths < space.max_length)
    which = np.repeat(may[:, :, None], letters, axis=2)
    return Edited(edited[which], np.nonzero(which)[0])
