"""Keeping a search near what was measured: far from its data a proxy guesses."""

from collections.abc import Sequence as Objects
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.alphabet import UNKNOWN, alphabet_of
from narrows.distance import EDITS, AbstractDistance
from narrows.edit_distance import Patterns, distances
from narrows.envs.base import AbstractEnvironment
from narrows.envs.sequence import Sequence, SequenceState
from narrows.rewards.base import AbstractReward


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The measurements, and the price of being far from them.

    Args:
        sequences: measured ones.
        scores: of them.
        penalty: taken off a score for each edit to the nearest measured sequence, on the scale of the scores, >= 0.
        limit: edits beyond which nothing is wanted: there a score is at most the lowest measured one, less a standard deviation
            of the measured scores for each edit beyond, so that a search finds its way back; None for no limit.
        distance: the environment's; what is written here of edits holds for its unit.
    """

    sequences: tuple[str, ...]
    scores: Float[np.ndarray, " measured"]
    penalty: float = 0.0
    limit: int | None = None
    distance: AbstractDistance = EDITS

    def __post_init__(self) -> None:
        if not 0.0 <= self.penalty < float("inf"):
            raise ValueError(f"penalty must be at least 0 and finite, got {self.penalty}. It is taken off for each edit.")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must be at least 0 {self.distance.unit}, got {self.limit}.")
        if not self.sequences:
            raise ValueError("there is nothing measured to be near to. Name a table with rows.")

    @property
    def lowest(self) -> float:
        """The lowest measured score."""
        return float(np.min(self.scores))

    @property
    def spread(self) -> float:
        """The price of an edit beyond the limit: a standard deviation of the measured scores, 1 where they do not differ."""
        return float(np.std(self.scores)) or 1.0

    def edits(self, texts: Objects[str]) -> Int[np.ndarray, " text"]:
        """Return the distance of each text from the nearest measured one."""
        return self.distance.nearest(texts, self.sequences).distance

    def lowered(self, scores: Any, edits: Any, reference: float = 0.0) -> Any:
        """Return scores as they count, of objects so many edits from the nearest measured one; NumPy's and JAX's alike.

        Args:
            scores: less the reference.
            edits: to the nearest measured object.
            reference: what was taken off the scores.
        """
        lower = scores - self.penalty * edits
        if self.limit is None:
            return lower
        where, least = (jnp.where, jnp.minimum) if isinstance(edits, jax.Array) else (np.where, np.minimum)
        return where(edits > self.limit, least(lower, self.lowest - reference) - self.spread * (edits - self.limit), lower)


class Near(AbstractReward):
    """Another reward of sequences, lowered away from what was measured.

    Args:
        reward: of the objects of a `Sequence` environment.
        env: that environment.
        neighbourhood: what was measured, and what being far from it costs.
    """

    reward: AbstractReward
    patterns: Patterns
    taken_off: float
    neighbourhood: Neighbourhood = eqx.field(static=True)

    def __init__(self, reward: AbstractReward, env: AbstractEnvironment, neighbourhood: Neighbourhood) -> None:
        if not isinstance(env, Sequence):
            raise ValueError(f"edits are counted between sequences, and [env] is {type(env).__name__}. Leave [near] out.")
        tokens = alphabet_of(env.alphabet).read(neighbourhood.sequences)
        # A letter that the environment lacks is an edit in any case.
        flat = np.where(tokens.flat == UNKNOWN, env.num_tokens, tokens.flat)
        texts = [text.tolist() for text in np.split(flat, np.cumsum(tokens.lengths)[:-1])]
        self.reward, self.patterns, self.neighbourhood = reward, Patterns(texts), neighbourhood
        self.taken_off = 0.0

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        edits = jax.vmap(lambda tokens, length: jnp.min(distances(self.patterns, tokens, length)))(states.tokens, states.length)
        return self.neighbourhood.lowered(self.reward(states), edits, self.taken_off)

    @property
    def reference(self) -> float:
        return self.reward.reference

    def deviation(self, states: SequenceState) -> Float[Array, " batch"]:
        return self.reward.deviation(states)

    def centred(self) -> "Near":
        parts = (self.reward.centred(), self.reference)
        return eqx.tree_at(lambda near: (near.reward, near.taken_off), self, parts)
