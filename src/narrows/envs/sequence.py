"""Sequences built left to right with an explicit end token: every prefix has one parent, so the state graph is a tree."""

from collections.abc import Sequence as Objects
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.alphabet import Tokens, alphabet_of
from narrows.envs.base import NO_ACTION, AbstractReversibleEnvironment, Prefix

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class SequenceState(NamedTuple):
    """`tokens` holds `length` tokens and then padding (the value `num_tokens`)."""

    tokens: Int[Array, "*batch max_length"]
    length: Int[Array, "*batch"]
    is_done: Bool[Array, "*batch"]


class AbstractSequence(AbstractReversibleEnvironment[SequenceState]):
    """The rules of appending (tgm 5.1): actions `0 .. num_tokens - 1` append a token, action `num_tokens` ends.

    A token may be appended below `max_length`; ending is legal from `min_length` on and forced at `max_length`. The end does
    not count as length.
    """

    num_tokens: AbstractVar[int]
    min_length: AbstractVar[int]
    max_length: AbstractVar[int]

    @property
    def num_actions(self) -> int:
        return self.num_tokens + 1

    @property
    def num_backward_actions(self) -> int:
        return 1

    @property
    def max_steps(self) -> int:
        return self.max_length + 1

    @property
    def num_features(self) -> int:
        return self.max_length

    @property
    def num_values(self) -> int:
        return self.num_tokens + 1

    def reset(self) -> SequenceState:
        tokens = jnp.full((self.max_length,), self.num_tokens, jnp.int32)
        return SequenceState(tokens, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def step(self, state: SequenceState, action: Int[Array, ""]) -> SequenceState:
        is_end = action == self.num_tokens
        # Out-of-range writes are dropped, so ending a full sequence touches nothing.
        tokens = state.tokens.at[jnp.where(is_end, self.max_length, state.length)].set(action, mode="drop")
        return SequenceState(tokens, state.length + ~is_end, is_end)

    def action_mask(self, state: SequenceState) -> Bool[Array, " action"]:
        can_append = ~state.is_done & (state.length < self.max_length)
        can_end = ~state.is_done & (state.length >= self.min_length)
        return jnp.where(jnp.arange(self.num_actions) < self.num_tokens, can_append, can_end)

    def is_terminal(self, state: SequenceState) -> Bool[Array, ""]:
        return state.is_done

    def observe(self, state: SequenceState) -> Prefix:
        newest = state.tokens[jnp.maximum(state.length - 1, 0)]
        return Prefix(state.tokens, jnp.where(state.length == 0, self.num_tokens, newest), state.length)

    def states_along(self, actions: Int[Array, " time"]) -> SequenceState:
        # The tokens of an object are its actions up to the end, so each state is a prefix of one row.
        time = jnp.arange(actions.shape[0] + 1, dtype=jnp.int32)
        num_appended = jnp.sum((actions != NO_ACTION) & (actions != self.num_tokens), dtype=jnp.int32)
        length = jnp.minimum(time, num_appended)
        row = jnp.full((self.max_length,), self.num_tokens, jnp.int32).at[: actions.shape[0]].set(actions[: self.max_length])
        tokens = jnp.where(jnp.arange(self.max_length) < length[:, None], row, self.num_tokens)
        return SequenceState(tokens, length, (time > num_appended) & jnp.any(actions == self.num_tokens))

    def backward_step(self, state: SequenceState, backward_action: Int[Array, ""]) -> SequenceState:
        length = state.length - ~state.is_done
        tokens = jnp.where(jnp.arange(self.max_length) < length, state.tokens, self.num_tokens)
        return SequenceState(tokens, length, jnp.zeros_like(state.is_done))

    def backward_mask(self, state: SequenceState) -> Bool[Array, " backward_action"]:
        return jnp.expand_dims(state.is_done | (state.length > 0), 0)

    def backward_action(self, state: SequenceState, action: Int[Array, ""]) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def forward_action(self, state: SequenceState, backward_action: Int[Array, ""]) -> Int[Array, ""]:
        return jnp.where(state.is_done, self.num_tokens, state.tokens[jnp.maximum(state.length - 1, 0)])


class Sequence(AbstractSequence):
    """Sequences of letters, `min_length` to `max_length` of them.

    Args:
        alphabet: the letters, distinct, in the order of their actions; `"ACGU"` for RNA.
        min_length: letters of the shortest object, >= 0.
        max_length: letters of the longest object, >= 1.
    """

    alphabet: str = eqx.field(static=True)
    min_length: int = eqx.field(static=True)
    max_length: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if len(set(self.alphabet)) != len(self.alphabet) or not self.alphabet:
            raise ValueError(f"alphabet must be distinct letters, got {self.alphabet!r}. Write each letter once.")
        if not 0 <= self.min_length <= self.max_length or self.max_length < 1:
            raise ValueError(
                f"expected 0 <= min_length <= max_length and max_length >= 1, got {self.min_length} and {self.max_length}."
            )

    @property
    def num_tokens(self) -> int:
        return len(self.alphabet)

    def to_text(self, states: SequenceState) -> list[str]:
        return alphabet_of(self.alphabet).write(np.asarray(states.tokens), np.asarray(states.length))

    def from_text(self, texts: Objects[str]) -> SequenceState:
        tokens = alphabet_of(self.alphabet).read(texts)
        self._refuse_first(texts, tokens)
        rows = tokens.padded(self.max_length, self.num_tokens)
        return SequenceState(jnp.asarray(rows), jnp.asarray(tokens.lengths), jnp.ones(len(texts), bool))

    def _refuse_first(self, texts: Objects[str], tokens: Tokens) -> None:
        """Raise ValueError for the first text with a foreign letter or of a length that objects do not have."""
        unknown, lengths = tokens.first_unknown(), tokens.lengths
        is_wrong = (lengths < self.min_length) | (lengths > self.max_length)
        row = int(np.argmax(is_wrong)) if is_wrong.any() else len(texts)
        if unknown is not None and unknown[0] <= row:
            text, place = texts[unknown[0]], unknown[1]
            raise ValueError(
                f"object {text!r}: {text[place]!r} at position {place + 1} is not one of {self.alphabet!r}. "
                "Correct the object or the environment's alphabet."
            )
        if row < len(texts):
            raise ValueError(
                f"object {row} ({texts[row]!r}): expected {self.min_length} to {self.max_length} tokens, got {lengths[row]}. "
                "Remove it or change min_length and max_length of the environment."
            )
