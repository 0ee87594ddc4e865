"""Scores of any number of objects, by one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from narrows.envs import AbstractEnvironment
from narrows.exact.blocks import in_blocks

_SCORED_TOGETHER = 128
"""Objects that a score reads at once: the layers of an ensemble of networks then stay in a processor's cache."""


def scores_of(score: Callable[[Any], Float[Array, " batch"]], objects: Any) -> Float[np.ndarray, " object"]:
    """Return the score of each of any number of finished objects, float64."""
    return in_blocks(lambda part: _scored(score, part), objects, _SCORED_TOGETHER).astype(np.float64)


def scores_of_texts(
    score: Callable[[Any], Float[Array, " batch"]], env: AbstractEnvironment, texts: Sequence[str]
) -> Float[np.ndarray, " text"]:
    """Return the score of each of any number of texts, float64; whatever their number, the same few programs are compiled."""
    parts = [np.zeros(0)]
    for start in range(0, len(texts), _SCORED_TOGETHER):
        block = list(texts[start : start + _SCORED_TOGETHER])
        # JAX compiles for each shape, also what moves an array to the device: so texts are filled up, not their states.
        filled = block + block[-1:] * (_SCORED_TOGETHER - len(block))
        parts.append(np.asarray(_scored(score, env.from_text(filled)), np.float64)[: len(block)])
    return np.concatenate(parts)


@eqx.filter_jit
def _scored(score: Callable[[Any], Float[Array, " batch"]], objects: Any) -> Float[Array, " batch"]:
    return score(objects)
