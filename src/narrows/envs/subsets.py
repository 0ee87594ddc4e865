"""Subsets of a few items, added in any order: the smallest graph in which an object has many trajectories."""

from collections.abc import Sequence as Objects
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.alphabet import read_bits, write_bits
from narrows.distance import ELEMENTS, AbstractDistance
from narrows.envs.counts import AbstractCounts


class SubsetState(NamedTuple):
    items: Int[Array, "*batch item"]
    is_done: Bool[Array, "*batch"]


class Subsets(AbstractCounts[SubsetState]):
    """Subsets of `num_items` with `min_size` to `max_size` members. Action `i < num_items` adds item `i`, the last one ends.

    An object's text has one character an item, `1` for a member: `"0110"`.

    Args:
        num_items: how many items there are, >= 1.
        min_size: fewest members of an object, >= 0.
        max_size: most members of an object, at most `num_items`; by default all.
    """

    num_items: int = eqx.field(static=True)
    min_size: int = eqx.field(default=0, static=True)
    max_size: int | None = eqx.field(default=None, static=True)

    def __check_init__(self) -> None:
        if self.num_items < 1 or not 0 <= self.min_size <= self._max_size <= self.num_items:
            raise ValueError(
                "expected 0 <= min_size <= max_size <= num_items and num_items >= 1, got "
                f"{self.min_size}, {self.max_size} and {self.num_items}."
            )

    @property
    def _max_size(self) -> int:
        return self.num_items if self.max_size is None else self.max_size

    @property
    def max_steps(self) -> int:
        return self._max_size + 1

    @property
    def num_features(self) -> int:
        return self.num_items

    @property
    def num_values(self) -> int:
        return 2

    def reset(self) -> SubsetState:
        return SubsetState(jnp.zeros((self.num_items,), jnp.int32), jnp.zeros((), bool))

    def action_mask(self, state: SubsetState) -> Bool[Array, " action"]:
        size = jnp.sum(state.items)
        can_add = (state.items == 0) & (size < self._max_size)
        return jnp.append(can_add, size >= self.min_size) & ~state.is_done

    @property
    def distance(self) -> AbstractDistance:
        return ELEMENTS

    def to_text(self, states: SubsetState) -> list[str]:
        return write_bits(np.asarray(states.items))

    def from_text(self, texts: Objects[str]) -> SubsetState:
        items, is_wrong = read_bits(texts, self.num_items)
        sizes = items.sum(axis=1)
        is_wrong |= (sizes < self.min_size) | (sizes > self._max_size)
        if is_wrong.any():
            raise ValueError(
                f"object {texts[int(np.argmax(is_wrong))]!r}: expected {self.num_items} characters, each 0 or 1, with "
                f"{self.min_size} to {self._max_size} ones."
            )
        return SubsetState(jnp.asarray(items), jnp.ones(len(texts), bool))
