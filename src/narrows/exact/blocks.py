"""Calling a compiled function on any number of rows while compiling it for a few sizes only."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

BLOCK_SIZES = (4096, 512, 64)


def in_blocks(function: Callable[[Any], Any], rows: Any) -> Any:
    """Return `function(rows)` as NumPy arrays, called on blocks of the fixed sizes in `BLOCK_SIZES`.

    Args:
        function: acts on each row by itself: a leading `row` axis on every leaf, in and out.
        rows: a pytree of NumPy arrays with the same number of rows, at least one.
    """
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    assert num_rows > 0, "an empty batch has no block"
    parts, start = [], 0
    while start < num_rows:
        size = _block_size(num_rows - start)
        stop = min(start + size, num_rows)
        block = pad(jax.tree.map(lambda leaf, start=start, stop=stop: leaf[start:stop], rows), size)
        parts.append(jax.tree.map(lambda leaf, num=stop - start: np.asarray(leaf)[:num], function(block)))
        start = stop
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _block_size(num_rows: int) -> int:
    """Return the largest block that `num_rows` fill, or the smallest one."""
    return next((size for size in BLOCK_SIZES if size <= num_rows), BLOCK_SIZES[-1])


def pad(rows: Any, size: int) -> Any:
    """Return the rows with the last one repeated up to `size`: a copy of a real row is always a legal input."""
    return jax.tree.map(lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], size - leaf.shape[0], axis=0)]), rows)
