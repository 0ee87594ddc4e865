"""Boards of up to 64 cells as two 32-bit words: JAX has no 64-bit integers unless they are asked for everywhere."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt

_WORD = 0xFFFF_FFFF


class Bits(NamedTuple):
    """A set of cells: cell `i` is bit `i` of `low` for `i < 32`, else bit `i - 32` of `high`."""

    low: UInt[Array, "*batch"]
    high: UInt[Array, "*batch"]

    def __and__(self, other: "Bits") -> "Bits":
        return Bits(self.low & other.low, self.high & other.high)

    def __or__(self, other: "Bits") -> "Bits":
        return Bits(self.low | other.low, self.high | other.high)

    def __xor__(self, other: "Bits") -> "Bits":
        return Bits(self.low ^ other.low, self.high ^ other.high)

    def __invert__(self) -> "Bits":
        return Bits(~self.low, ~self.high)

    def plus(self, other: "Bits") -> "Bits":
        """Return the sum of the two sets read as numbers, without what does not fit."""
        low = self.low + other.low
        return Bits(low, self.high + other.high + (low < self.low).astype(jnp.uint32))

    def up(self, distance: int) -> "Bits":
        """Return every cell moved to a number larger by `distance`, 1 to 31."""
        carried = self.low >> np.uint32(32 - distance)
        return Bits(self.low << np.uint32(distance), (self.high << np.uint32(distance)) | carried)

    def down(self, distance: int) -> "Bits":
        """Return every cell moved to a number smaller by `distance`, 1 to 31."""
        carried = self.high << np.uint32(32 - distance)
        return Bits((self.low >> np.uint32(distance)) | carried, self.high >> np.uint32(distance))

    def is_any(self) -> Bool[Array, "*batch"]:
        """Return whether the set has a cell."""
        return (self.low | self.high) != 0

    def at(self, cells: Int[np.ndarray, "*cell"]) -> Int[Array, "*cell"]:
        """Return 1 for each of some cells that is in the set and 0 for the others; of one set, not of a batch."""
        words = jnp.where(cells < 32, self.low, self.high)
        return ((words >> jnp.asarray(cells % 32, jnp.uint32)) & np.uint32(1)).astype(jnp.int32)


def bits(number: int) -> Bits:
    """Return the set of the cells whose bits a Python number has."""
    return Bits(jnp.asarray(number & _WORD, jnp.uint32), jnp.asarray(number >> 32, jnp.uint32))


def numbers(boards: Bits) -> UInt[np.ndarray, "*batch"]:
    """Return sets as 64-bit numbers, on the host."""
    return np.asarray(boards.low).astype(np.uint64) | (np.asarray(boards.high).astype(np.uint64) << np.uint64(32))


def boards(numbers: UInt[np.ndarray, "*batch"]) -> Bits:
    """Return 64-bit numbers as sets."""
    low, high = numbers & np.uint64(_WORD), numbers >> np.uint64(32)
    return Bits(jnp.asarray(low.astype(np.uint32)), jnp.asarray(high.astype(np.uint32)))
