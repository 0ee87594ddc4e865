"""Scores of any number of objects, by one compiled program."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from narrows.exact.blocks import in_blocks

_SCORED_TOGETHER = 128
"""Objects that a score reads at once: the layers of an ensemble of networks then stay in a processor's cache."""


def scores_of(score: Callable[[Any], Float[Array, " batch"]], objects: Any) -> Float[np.ndarray, " object"]:
    """Return the score of each of any number of finished objects, float64."""
    return in_blocks(lambda part: _scored(score, part), objects, _SCORED_TOGETHER).astype(np.float64)


@eqx.filter_jit
def _scored(score: Callable[[Any], Float[Array, " batch"]], objects: Any) -> Float[Array, " batch"]:
    return score(objects)
