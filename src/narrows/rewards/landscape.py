"""A measured score for every object of a space: the truth is known, so samplers and shortlists can be judged exactly."""

from collections.abc import Sequence as Objects
from typing import Final, Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.alphabet import reverse_complements
from narrows.data import TableSettings, read_table, space
from narrows.data.spaces import CUSTOM_PREFIX
from narrows.envs.base import AbstractEnvironment
from narrows.envs.sequence import Sequence, SequenceState
from narrows.rewards.base import AbstractReward

_MAX_OBJECTS = 2**26

Scale = Literal["unit", "log", "none"]

LEAST_SCORE: Final = 1e-8
"""The least scaled score of `scale = "log"`: the smallest one is 0, and has no logarithm."""


class Landscape(AbstractReward):
    """The measured score of a table that holds every object of a sequence environment.

    Args:
        env: the `Sequence` environment whose objects the table holds.
        path: the table; comma, semicolon or tab separated.
        sequence_column: name of its column of sequences, or its position such as `#1`.
        score_column: name of its column of scores.
        both_strands: a row of double-stranded DNA scores its reverse complement too.
        scale: `unit` maps the smallest score to 0 and the largest to 1, `none` leaves them. `log` is the natural logarithm of
            the `unit` one, which counts as 1e-8 where it is smaller: a distribution in proportion to the
            reward is then one in proportion to that score to the power of beta.

    Raises ValueError for another environment or scale, for a table with bad rows, and for one that lacks an object.
    """

    scores: Float[Array, " object"]
    """Less the offset."""
    offset: float
    num_tokens: int = eqx.field(static=True)
    min_length: int = eqx.field(static=True)
    max_length: int = eqx.field(static=True)

    def __init__(
        self,
        env: AbstractEnvironment,
        path: str,
        sequence_column: str | None = None,
        score_column: str | None = None,
        both_strands: bool = False,
        scale: Scale = "unit",
    ) -> None:
        if not isinstance(env, Sequence):
            raise ValueError(f"a Landscape scores the objects of a Sequence environment, got {type(env).__name__}.")
        if scale not in get_args(Scale):
            raise ValueError(f"scale must be one of {', '.join(get_args(Scale))}, got {scale!r}.")
        self.num_tokens, self.min_length, self.max_length = env.num_tokens, env.min_length, env.max_length
        if self._num_objects() > _MAX_OBJECTS:
            raise ValueError(f"the environment has more than {_MAX_OBJECTS} objects. A Landscape is for spaces one can list.")
        objects = space(CUSTOM_PREFIX + env.alphabet, min_length=env.min_length, max_length=env.max_length)
        table = read_table(path, objects, TableSettings(sequence_column=sequence_column, score_column=score_column))
        scores = self._tabulate(env, table.sequences, table.scores, both_strands)
        if scale != "none":
            scores = (scores - scores.min()) / max(scores.max() - scores.min(), np.finfo(np.float64).tiny)
        if scale == "log":
            scores = np.log(np.maximum(scores, LEAST_SCORE))
        # A scaled score has no offset of its own.
        self.offset = float(np.quantile(scores, 0.5, method="lower")) if scale == "none" else 0.0
        self.scores = jnp.asarray(scores - self.offset, jnp.float32)

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return self.scores[self._index(states)] + self.offset

    @property
    def reference(self) -> float:
        return self.offset

    def centred(self) -> "Landscape":
        return eqx.tree_at(lambda reward: reward.offset, self, 0.0)

    def _tabulate(self, env: Sequence, sequences: tuple[str, ...], values: np.ndarray, both_strands: bool) -> np.ndarray:
        scores = np.full(self._num_objects(), np.nan)
        if both_strands:
            scores[self._positions(env, reverse_complements(sequences, env.alphabet))] = values
        scores[self._positions(env, sequences)] = values
        if np.isnan(scores).any():
            missing = int(np.isnan(scores).sum())
            raise ValueError(
                f"the table lacks {missing} of the {len(scores)} objects of the environment. Complete it, set "
                "both_strands = true if a row stands for both strands, or fit a proxy to it with `narrows fit`."
            )
        return scores

    def _positions(self, env: Sequence, sequences: Objects[str]) -> np.ndarray:
        states = env.from_text(sequences)
        return np.asarray(self._index(states))

    def _index(self, states: SequenceState) -> Int[Array, " batch"]:
        """Return each object's place: shorter objects first, and within a length as a number in base `num_tokens`."""
        place = jnp.zeros(states.length.shape, jnp.int32)
        for position in range(self.max_length):
            extended = place * self.num_tokens + states.tokens[..., position]
            place = jnp.where(position < states.length, extended, place)
        sizes = [self.num_tokens**length for length in range(self.min_length, self.max_length)]
        starts = jnp.asarray(np.cumsum([0, *sizes]), jnp.int32)
        return starts[states.length - self.min_length] + place

    def _num_objects(self) -> int:
        return sum(self.num_tokens**size for size in range(self.min_length, self.max_length + 1))
