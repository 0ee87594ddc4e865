"""The hypergrid of Bengio et al. 2021 (arXiv:2106.04399): a walk away from the origin of a grid, ended at will."""

from collections.abc import Sequence as Objects
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.distance import STEPS, AbstractDistance
from narrows.envs.counts import AbstractCounts


class HypergridState(NamedTuple):
    coordinates: Int[Array, "*batch dimension"]
    is_done: Bool[Array, "*batch"]


class Hypergrid(AbstractCounts[HypergridState]):
    """A grid of `side` points along each of `ndim` axes. Action `i < ndim` steps along axis `i`, action `ndim` ends.

    Args:
        ndim: number of axes, >= 1.
        side: points along an axis, >= 2.
    """

    ndim: int = eqx.field(default=2, static=True)
    side: int = eqx.field(default=8, static=True)

    def __check_init__(self) -> None:
        if self.ndim < 1:
            raise ValueError(f"ndim must be at least 1, got {self.ndim}.")
        if self.side < 2:
            raise ValueError(f"side must be at least 2, got {self.side}. Use ndim to shrink the grid.")

    @property
    def max_steps(self) -> int:
        return self.ndim * (self.side - 1) + 1

    @property
    def num_features(self) -> int:
        return self.ndim

    @property
    def num_values(self) -> int:
        return self.side

    def reset(self) -> HypergridState:
        return HypergridState(jnp.zeros((self.ndim,), jnp.int32), jnp.zeros((), bool))

    def action_mask(self, state: HypergridState) -> Bool[Array, " action"]:
        return jnp.append(state.coordinates < self.side - 1, True) & ~state.is_done

    @property
    def distance(self) -> AbstractDistance:
        return STEPS

    def to_text(self, states: HypergridState) -> list[str]:
        return [" ".join(map(str, row)) for row in np.asarray(states.coordinates).tolist()]

    def from_text(self, texts: Objects[str]) -> HypergridState:
        rows = [self._coordinates(text) for text in texts]
        coordinates = jnp.asarray(np.asarray(rows, np.int32).reshape(len(texts), self.ndim))
        return HypergridState(coordinates, jnp.ones(len(texts), bool))

    def _coordinates(self, text: str) -> list[int]:
        parts = text.split(" ")
        known = {str(value): value for value in range(self.side)}  # one spelling each: the text is the object's name
        if len(parts) != self.ndim or not all(part in known for part in parts):
            raise ValueError(f"object {text!r}: expected {self.ndim} integers in 0 to {self.side - 1} with spaces between.")
        return [known[part] for part in parts]
