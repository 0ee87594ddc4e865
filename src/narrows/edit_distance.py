"""Levenshtein distance of one text to many fixed patterns, on the device.

The bit-parallel algorithm of Myers 1999 (J. ACM 46(3)), in the form of Hyyro 2003 and with patterns of any length: column `j`
of the dynamic programme is two bit vectors, one bit a pattern row, that say where the distance rises (+1) or falls (-1) by
one from a row to the next. A column then costs a few integer operations per 32 rows instead of 32 minima.
"""

from collections.abc import Sequence as Objects
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

WORD_BITS = 32

Words = UInt32[Array, "word pattern"]


class Patterns(eqx.Module):
    """A set of patterns, prepared for `distances`.

    `matches[c, w, p]` has bit `r` set where row `32 w + r` of pattern `p` is token `c`; the last `c` stands for every token
    that no pattern holds. `rows[w, p]` has a bit set for each row that pattern `p` has.

    Args:
        patterns: one sequence of token ids (integers >= 0) a pattern; lengths may differ and may be 0.

    Raises ValueError without a pattern and for a negative id.

    >>> Patterns([[0, 1, 0], [1, 1]]).rows.tolist()
    [[7, 3]]
    """

    matches: UInt32[Array, "token word pattern"]
    rows: Words

    def __init__(self, patterns: Objects[Objects[int]]) -> None:
        if not patterns:
            raise ValueError("expected at least one pattern, got none.")
        rows = [np.asarray(pattern, np.int64).reshape(-1) for pattern in patterns]
        for index, row in enumerate(rows):
            if row.size and row.min() < 0:
                raise ValueError(f"pattern {index} holds token {row.min()}; expected integers >= 0.")
        num_tokens = 1 + max((int(row.max()) for row in rows if row.size), default=-1)
        num_words = max(1, -(-max(row.size for row in rows) // WORD_BITS))
        bits = np.zeros((num_tokens + 1, num_words * WORD_BITS, len(rows)), bool)
        for index, row in enumerate(rows):
            bits[row, np.arange(row.size), index] = True
        self.matches = jnp.asarray(_pack(bits))
        self.rows = jnp.asarray(_pack(np.any(bits, axis=0, keepdims=True))[0])


def _pack(bits: Bool[np.ndarray, "*batch row pattern"]) -> UInt32[np.ndarray, "*batch word pattern"]:
    """Return each 32 rows as one integer, the first row in the lowest bit."""
    words = bits.reshape(*bits.shape[:-2], -1, WORD_BITS, bits.shape[-1]).astype(np.uint32)
    return np.einsum("...rp,r->...p", words, np.uint32(1) << np.arange(WORD_BITS, dtype=np.uint32))


def distances(
    patterns: Patterns, tokens: Int[Array, " length"], length: Int[Array, ""] | int | None = None
) -> Int[Array, " pattern"]:
    """Return the Levenshtein distance (unit costs) of the first `length` tokens to each pattern.

    Args:
        patterns: the `P` patterns.
        tokens: one text, shape `[L]`; what follows `length` is padding and never read. Use `jax.vmap` for a batch.
        length: how many tokens count, all by default. A Python integer compiles to slightly faster code.

    Time is `O(L ceil(M / 32) P)` for patterns of length `M`.

    >>> distances(Patterns([[0, 1, 0], [1, 1]]), jnp.array([1, 0, 1, 9]), 3).tolist()
    [2, 1]
    """
    unknown = patterns.matches.shape[0] - 1
    end = tokens.shape[0] if length is None else length
    if not tokens.shape[0]:
        tokens = jnp.full((1,), unknown)  # Never read, but a loop over no text must still trace.

    def column(index: Array, deltas: tuple[Words, Words]) -> tuple[Words, Words]:
        token = tokens[index]
        matches = patterns.matches[jnp.where((token >= 0) & (token < unknown), token, unknown)]
        return _next_column(matches, *deltas)

    start = (jnp.full_like(patterns.rows, 0xFFFFFFFF), jnp.zeros_like(patterns.rows))
    rises, falls = jax.lax.fori_loop(0, end, column, start)
    # The last column starts at `length` in its top row, and its deltas lead down to the corner.
    climbs = _count(rises & patterns.rows) - _count(falls & patterns.rows)
    return jnp.sum(climbs, axis=0) + jnp.asarray(end, jnp.int32)


def _count(words: Words) -> Int[Array, "word pattern"]:
    return jax.lax.population_count(words).astype(jnp.int32)


def _next_column(matches: Words, rises: Words, falls: Words) -> tuple[Words, Words]:
    """Return the rises and falls of the column after one more token (Hyyro 2003, with carries from a word to the next)."""

    def word(carries: tuple[Array, Array, Array], inputs: tuple[Array, Array, Array]) -> tuple[Any, tuple[Array, Array]]:
        carry, rise_in, fall_in = carries
        match, rise, fall = inputs
        both = match & rise
        total = both + rise + carry
        diagonal = (total ^ rise) | match | fall
        rises_across = fall | ~(diagonal | rise)
        falls_across = rise & diagonal
        shifted_rises = (rises_across << 1) | rise_in
        shifted_falls = (falls_across << 1) | fall_in
        overflow = (both | (rise & ~total)) >> (WORD_BITS - 1)
        carries = (overflow, rises_across >> (WORD_BITS - 1), falls_across >> (WORD_BITS - 1))
        return carries, (shifted_falls | ~(diagonal | shifted_rises), shifted_rises & diagonal)

    zero = jnp.zeros_like(rises[0])
    # Above the top row the programme rises by one from a column to the next, hence the bit that enters `rises_across`.
    return jax.lax.scan(word, (zero, jnp.ones_like(zero), zero), (matches, rises, falls), unroll=True)[1]
