"""Rows through a compiled program, so many at a time, filled up so that few shapes are compiled."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

_SCORED_TOGETHER = 128
"""Objects that a score reads at once: the layers of an ensemble of networks then stay in a processor's cache."""


def in_chunks(function: Callable[[Any], Any], rows: Any, size: int) -> Any:
    """Return what a function of a batch makes of rows, on the host.

    The last chunk is filled up with its last row; fewer rows than `size` are filled up to the next power of two.

    Args:
        function: a batch in, arrays of as many rows out.
        rows: arrays of at least one row each.
        size: rows at a time.

    >>> in_chunks(lambda part: part + 1, np.arange(5), 2)
    array([1, 2, 3, 4, 5])
    """
    num = jax.tree.leaves(rows)[0].shape[0]
    size = min(size, 1 << (num - 1).bit_length())
    made = []
    for start in range(0, num, size):
        places = np.minimum(np.arange(start, start + size), num - 1)
        part = jax.tree.map(lambda leaf, places=places: leaf[places], rows)
        made.append(jax.tree.map(np.asarray, function(part)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *made)


def scores_of(score: Callable[[Any], Float[Array, " batch"]], objects: Any) -> Float[np.ndarray, " object"]:
    """Return the score of each of any number of finished objects, float64."""
    return in_chunks(lambda part: _scored(score, part), objects, _SCORED_TOGETHER).astype(np.float64)


@eqx.filter_jit
def _scored(score: Callable[[Any], Float[Array, " batch"]], objects: Any) -> Float[Array, " batch"]:
    return score(objects)
