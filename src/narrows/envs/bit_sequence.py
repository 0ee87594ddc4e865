"""Bit strings of fixed length, written one word at a time (tgm 5.3; Malkin et al. 2022, arXiv:2201.13259)."""

from collections.abc import Sequence as Objects

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from narrows.alphabet import read_bits, write_bits
from narrows.distance import FLIPS, AbstractDistance
from narrows.envs.sequence import AbstractSequence, SequenceState


class BitSequence(AbstractSequence):
    """Strings of `num_bits` bits in words of `word_bits`; the end token is forced after the last word.

    Args:
        num_bits: length of an object, a multiple of `word_bits`. The published task has 120.
        word_bits: bits an action writes, most significant first, 1 to 16. The published task has 8.
    """

    num_bits: int = eqx.field(default=120, static=True)
    word_bits: int = eqx.field(default=8, static=True)

    def __check_init__(self) -> None:
        if not 1 <= self.word_bits <= 16:
            raise ValueError(f"word_bits must lie in 1 to 16, got {self.word_bits}. There are 2^word_bits actions.")
        if self.num_bits < 1 or self.num_bits % self.word_bits:
            raise ValueError(f"num_bits must be a multiple of word_bits ({self.word_bits}), got {self.num_bits}.")

    @property
    def num_tokens(self) -> int:
        return 2**self.word_bits

    @property
    def min_length(self) -> int:
        return self.num_bits // self.word_bits

    @property
    def max_length(self) -> int:
        return self.num_bits // self.word_bits

    @property
    def distance(self) -> AbstractDistance:
        return FLIPS

    def to_text(self, states: SequenceState) -> list[str]:
        tokens = np.asarray(states.tokens)
        return write_bits((tokens[:, :, None] >> self._shifts & 1).reshape(len(tokens), self.num_bits))

    def from_text(self, texts: Objects[str]) -> SequenceState:
        bits, is_wrong = read_bits(texts, self.num_bits)
        if is_wrong.any():
            text = texts[int(np.argmax(is_wrong))]
            raise ValueError(f"object {text!r}: expected {self.num_bits} characters, each 0 or 1, got {len(text)}.")
        tokens = np.sum(bits.reshape(len(texts), self.max_length, self.word_bits) << self._shifts, axis=2, dtype=np.int32)
        return SequenceState(jnp.asarray(tokens), jnp.full(len(texts), self.max_length, jnp.int32), jnp.ones(len(texts), bool))

    @property
    def _shifts(self) -> Int[np.ndarray, " bit"]:
        return np.arange(self.word_bits, dtype=np.int32)[::-1]
