"""Noise that is not known but was seen: a kernel learned from what came of what was asked for."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.alphabet import alphabet_of
from narrows.data.findings import Finding, count, error
from narrows.envs.base import AbstractEnvironment
from narrows.envs.perturbation import AbstractKernel
from narrows.envs.sequence import Sequence, SequenceState
from narrows.noise.dataset import Transitions
from narrows.noise.fit import KernelQuality, Learned, fit_kernel
from narrows.noise.rows import Cells, read_columns, refuse, refuse_any
from narrows.printing import name_some, quote
from narrows.sizes import Count, Seed


class Observed(AbstractKernel):
    """A kernel learned from a CSV file of sequences as they were ordered and as they were obtained, of the same length.

    Columns: `asked` and `came`. Each position is a transition: what had come before it is the state. `table` learns how often
    each letter comes of each, `network` also how that depends on the position and on what came before. The end of a sequence
    always comes as asked.

    Args:
        env: the `Sequence` environment that is perturbed.
        path: the CSV file; commas, semicolons or tabs.
        model: `table` learns how often each letter comes of each, `network` also how that depends on what came before.
        smoothing: counts that each pair of letters has before any was seen, > 0.
        held_out: share of the transitions that the quality is judged on, in (0, 1).
        hidden: width of the network.
        max_epochs: passes of the network over the data, at most.
        seed: of the split and the training.

    Raises ValueError for another environment, naming each row with a letter that the environment does not have or with
    unequal lengths, for letters that were never asked for, and for too few transitions.
    """

    fitted: AbstractKernel
    quality: KernelQuality = eqx.field(static=True)

    def __init__(
        self,
        env: AbstractEnvironment,
        path: str,
        model: Learned = "table",
        smoothing: float = 0.5,
        held_out: float = 0.2,
        hidden: int = 64,
        max_epochs: Count = 100,
        seed: Seed = 0,
    ) -> None:
        if not isinstance(env, Sequence):
            raise ValueError(
                f"Observed reads sequences of a Sequence environment, got {type(env).__name__}. "
                "narrows.noise.fit_kernel learns from transitions of any environment."
            )
        seen = read_transitions(env, path)
        try:
            self.fitted, self.quality = fit_kernel(
                env,
                seen.states,
                seen.asked,
                seen.came,
                model=model,
                smoothing=smoothing,
                held_out=held_out,
                hidden=hidden,
                max_epochs=max_epochs,
                seed=seed,
            )
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from None

    def log_probs(self, state: Any, action: Int[Array, ""]) -> Float[Array, " action"]:
        return self.fitted.log_probs(state, action)

    def all_log_probs(self, state: Any) -> Float[Array, "asked action"]:
        return self.fitted.all_log_probs(state)


def read_transitions(env: Sequence, path: str) -> Transitions:
    """Return the transitions of a CSV file with the columns `asked` and `came`, row after row.

    Raises DataError naming every row that cannot be used, and the letters that were never asked for.
    """
    columns = read_columns(path, ("asked", "came"))
    refuse_any(columns.path, [problem for row in columns.rows for problem in _explain(env, row)])
    asked, came = ("".join(row.cells[side] for row in columns.rows) for side in (0, 1))
    unasked = [letter for letter in env.alphabet if letter not in asked]
    if unasked:
        message = f"no sequence asks for {name_some(unasked)}, so what comes of it is not known"
        cure = "Add sequences that do, take the letter out of the environment's alphabet, or write them in a Table."
        refuse(columns.path, [error(0, None, "unasked", f"{message}. {cure}")])
    alphabet = alphabet_of(env.alphabet)
    states = [_states(env, alphabet.read([row.cells[1]]).flat) for row in columns.rows]
    return Transitions(
        SequenceState(*(jnp.asarray(np.concatenate(leaves)) for leaves in zip(*states, strict=True))),
        jnp.asarray(alphabet.read([asked]).flat),
        jnp.asarray(alphabet.read([came]).flat),
    )


def _states(env: Sequence, came: Int[np.ndarray, " letter"]) -> SequenceState:
    """Return the states in which the letters of a sequence were asked for: what had come before each."""
    lengths = np.arange(len(came), dtype=np.int32)
    row = np.full(env.max_length, env.num_tokens, np.int32)
    row[: len(came)] = came
    tokens = np.where(np.arange(env.max_length) < lengths[:, None], row, np.int32(env.num_tokens))
    return SequenceState(tokens, lengths, np.zeros(len(came), bool))  # pyright: ignore[reportArgumentType]


def _explain(env: Sequence, row: Cells) -> list[Finding]:
    """Return every reason why a row cannot be used."""
    asked, came = row.cells
    found: list[Finding] = []
    for name, sequence in (("asked", asked), ("came", came)):
        bad = [(place, letter) for place, letter in enumerate(sequence, start=1) if letter not in env.alphabet]
        if bad:
            place, letter = bad[0]
            message = (
                f"sequence {quote(sequence)} has {letter!r} at position {place}, which is not one of {quote(env.alphabet)}"
            )
            found.append(error(row.row, name, "bad_symbol", f"{message}. Correct it or take the row out."))
        if not max(env.min_length, 1) <= len(sequence) <= env.max_length:
            lengths = f"the environment has {env.min_length} to {env.max_length}"
            message = f"sequence {quote(sequence)} has {count(len(sequence), 'letter')}; {lengths}"
            found.append(error(row.row, name, "length", f"{message}. Take the row out or change the environment."))
    if len(asked) != len(came):
        lengths = f"{count(len(asked), 'letter')} asked for and {len(came)} came"
        cure = "Each position is one transition: take out rows in which letters were lost or added."
        found.append(error(row.row, "came", "length", f"{lengths}. {cure}"))
    return found
