"""Calling a compiled function on any number of rows while compiling it for a few sizes only."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

BLOCK_SIZES = (4096, 512, 64)


def in_blocks(function: Callable[[Any], Any], rows: Any, size: int | None = None) -> Any:
    """Return `function(rows)` as NumPy arrays, called on blocks of few sizes, the last one filled up.

    Args:
        function: acts on each row by itself: a leading `row` axis on every leaf, in and out.
        rows: a pytree of NumPy arrays with the same number of rows, at least one.
        size: of a block, at most the next power of two from the number of rows; by default the sizes in `BLOCK_SIZES`.

    >>> in_blocks(lambda part: part + 1, np.arange(5), 2)
    array([1, 2, 3, 4, 5])
    """
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    assert num_rows > 0, "an empty batch has no block"
    sizes = BLOCK_SIZES if size is None else (min(size, 1 << (num_rows - 1).bit_length()),)
    parts, start = [], 0
    while start < num_rows:
        size = next((size for size in sizes if size <= num_rows - start), sizes[-1])
        stop = min(start + size, num_rows)
        block = pad(jax.tree.map(lambda leaf, start=start, stop=stop: leaf[start:stop], rows), size)
        parts.append(jax.tree.map(lambda leaf, num=stop - start: np.asarray(leaf)[:num], function(block)))
        start = stop
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def pad(rows: Any, size: int) -> Any:
    """Return the rows with the last one repeated up to `size`: a copy of a real row is always a legal input."""
    return jax.tree.map(lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], size - leaf.shape[0], axis=0)]), rows)
