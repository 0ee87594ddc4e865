"""Conventions of the published proxies (tgm section 5.4): the scale of their scores and the order of their letters."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.rewards.base import AbstractReward

DESIGN_BENCH_PROTEIN = "ARNDCQEGHILKMFPSTWYV"
"""The order in which design-bench numbers amino acids, by their names; alphabets here go by their letters."""


class Standardised(AbstractReward):
    """Another reward in units of a validation set's outputs: `Phi(x) = (output(x) - mean) / std`.

    Mean and standard deviation are of the proxy's raw outputs on the validation objects, not of their labels; the published
    rewards are `exp(Phi)`.
    """

    reward: AbstractReward
    mean: Float[Array, ""]
    std: Float[Array, ""]

    def __init__(self, reward: AbstractReward, validation: Any) -> None:
        """Take the scale from `reward`'s outputs on a batch of terminal states; ValueError if they do not differ."""
        outputs = np.asarray(reward(validation), np.float64)
        if not np.isfinite(outputs).all() or outputs.std() <= 0.0:
            raise ValueError(
                "the outputs on the validation objects must be finite and differ. Choose other validation objects."
            )
        self.reward = reward
        self.mean = jnp.asarray(outputs.mean(), jnp.float32)
        self.std = jnp.asarray(outputs.std(), jnp.float32)

    def __call__(self, states: Any) -> Float[Array, " batch"]:
        return (self.reward(states) - self.mean) / self.std


def from_design_bench(ids: Int[np.ndarray, "n length"]) -> list[str]:
    """Return the sequences that rows of design-bench's amino acid numbers stand for; ValueError names a number out of range.

    Read in alphabetical order, the numbers would still be consistent, but every letter shown would be a wrong one.

    >>> from_design_bench(np.array([[0, 1, 19]]))
    ['ARV']
    """
    ids = np.asarray(ids)
    if ids.size and not 0 <= ids.min() <= ids.max() < len(DESIGN_BENCH_PROTEIN):
        raise ValueError(f"expected numbers from 0 to {len(DESIGN_BENCH_PROTEIN) - 1}, got {ids.min()} to {ids.max()}.")
    return ["".join(DESIGN_BENCH_PROTEIN[number] for number in row) for row in ids.tolist()]


def to_design_bench(sequences: Sequence[str]) -> Int[np.ndarray, "n length"]:
    """Return design-bench's numbers of sequences of one length; ValueError names a letter that it does not have."""
    for text in sequences:
        unknown = sorted(set(text) - set(DESIGN_BENCH_PROTEIN))
        if unknown:
            raise ValueError(f"{text!r} has letters that are no amino acids: {', '.join(unknown)}.")
    return np.array([[DESIGN_BENCH_PROTEIN.index(letter) for letter in text] for text in sequences], np.int64)
