"""Noise written down: the probability of everything that may come, for everything that may be asked for."""

import math
import re
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from narrows.data.findings import Finding, error, name_rows
from narrows.data.layout import NUMBER
from narrows.envs.base import AbstractEnvironment
from narrows.envs.perturbation import AbstractKernel
from narrows.envs.sequence import Sequence, SequenceState
from narrows.noise.rows import Cells, Columns, read_columns, refuse_any
from narrows.printing import name_some, quote

TOLERANCE = 1e-6
"""The distance from 1 at which probabilities may sum; they are then divided by their sum."""

_WHOLE = re.compile("[0-9]{1,9}")


class Matrix(AbstractKernel):
    """The probability of each action to take place, for each action that is asked for, the same in every state.

    Nothing is mended: what has a probability must be legal wherever its row's action is, as the letters of a sequence are.
    `check_chance` on the perturbed environment names the state and the action where it is not.

    Args:
        env: the rules that are perturbed.
        probs: `[action, action]`, a row for each action asked for, in the order of the environment's actions.

    Raises ValueError for another shape, a negative or non-finite probability, and a row that does not sum to one.
    """

    log_table: Float[Array, "asked action"]

    def __init__(self, env: AbstractEnvironment, probs: ArrayLike) -> None:
        table = np.asarray(probs, np.float64)
        if table.shape != (env.num_actions, env.num_actions):
            expected = (env.num_actions, env.num_actions)
            raise ValueError(f"probs must have shape {expected}, actions by actions, got {table.shape}.")
        bad = np.argwhere(~(np.isfinite(table) & (table >= 0.0)))
        if len(bad):
            asked, came = bad[0].tolist()
            value = table[asked, came]
            raise ValueError(f"probs[{asked}, {came}] is {value}. A probability must be finite and not negative.")
        sums = table.sum(axis=1)
        wrong = np.flatnonzero(np.abs(sums - 1.0) > TOLERANCE)
        if len(wrong):
            raise ValueError(
                f"row {wrong[0]} of probs sums to {sums[wrong[0]]:.9g}, expected 1. "
                "A row has the probabilities of everything that comes when its action is asked for."
            )
        self.log_table = log_normalised(table)

    def log_probs(self, state: Any, action: Int[Array, ""]) -> Float[Array, " action"]:
        return self.log_table[action]

    def all_log_probs(self, state: Any) -> Float[Array, "asked action"]:
        return self.log_table


class Table(AbstractKernel):
    """Probabilities of the letters that come, for each letter that is asked for, from a CSV file.

    Columns: `asked`, `came`, `probability`; pairs left out have probability 0. With a further column `position`, counted
    from 1, each position of the sequence has probabilities of its own. The end of a sequence always comes as asked.

    Args:
        env: the `Sequence` environment that is perturbed.
        path: the CSV file; commas, semicolons or tabs.

    Raises ValueError for another environment, and naming the row for a letter that the environment does not have, a pair
    given twice, a probability that is none, a letter without any row and letters whose probabilities do not sum to one.
    """

    log_table: Float[Array, "position asked action"]

    def __init__(self, env: AbstractEnvironment, path: str) -> None:
        if not isinstance(env, Sequence):
            raise ValueError(
                f"a Table perturbs the letters of a Sequence environment, got {type(env).__name__}. "
                "narrows.noise.Matrix takes an array for any environment."
            )
        columns = read_columns(path, ("asked", "came", "probability"), ("position",))
        num_tables = env.max_length if "position" in columns.names else 1
        table = np.zeros((num_tables, env.num_actions, env.num_actions))
        table[:, : env.num_tokens, : env.num_tokens] = _read_probs(env, columns, num_tables)
        table[:, env.num_tokens, env.num_tokens] = 1.0
        self.log_table = log_normalised(table)

    def log_probs(self, state: SequenceState, action: Int[Array, ""]) -> Float[Array, " action"]:
        return self.log_table[self._place(state), action]

    def all_log_probs(self, state: SequenceState) -> Float[Array, "asked action"]:
        return self.log_table[self._place(state)]

    def _place(self, state: SequenceState) -> Int[Array, ""]:
        return jnp.minimum(state.length, self.log_table.shape[0] - 1)


def log_normalised(table: Float[np.ndarray, "*position asked action"]) -> Float[Array, "*position asked action"]:
    """Return the logarithms of rows divided by their sums, `-inf` for zero."""
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(table / table.sum(axis=-1, keepdims=True)), jnp.float32)


class _Entry(NamedTuple):
    row: int
    position: int
    asked: int
    came: int
    probability: float


def _read_probs(env: Sequence, columns: Columns, num_tables: int) -> Float[np.ndarray, "position asked came"]:
    """Return the probabilities of a file's rows, `num_tokens` each way, after naming everything that is wrong with them."""
    problems: list[Finding] = []
    entries = [entry for row in columns.rows if (entry := _entry(env, columns.names, row, problems)) is not None]
    refuse_any(columns.path, problems)
    table = np.zeros((num_tables, env.num_tokens, env.num_tokens))
    first_rows: dict[tuple[int, int, int], int] = {}
    for entry in entries:
        pair = (entry.position, entry.asked, entry.came)
        if first_rows.setdefault(pair, entry.row) != entry.row:
            problems.append(error(entry.row, "came", "duplicate", f"this pair is on row {first_rows[pair]} too. Keep one."))
        table[pair] = entry.probability
    refuse_any(columns.path, problems)
    refuse_any(columns.path, [*_wrong_sums(env, entries, table), *_without_rows(env, entries, num_tables)])
    return table


def _entry(env: Sequence, names: tuple[str, ...], row: Cells, problems: list[Finding]) -> _Entry | None:
    """Return what a row says, or note every reason why it says nothing."""
    asked, came, cell, *rest = row.cells
    found: list[Finding] = []
    for name, letter in (("asked", asked), ("came", came)):
        if len(letter) != 1 or letter not in env.alphabet:
            message = f"{quote(letter)} is not a letter of the environment, which has {quote(env.alphabet)}"
            found.append(error(row.row, name, "bad_symbol", f"{message}. Correct it or take the row out."))
    if message := _explain_probability(cell):
        found.append(error(row.row, "probability", "probability", message))
    if rest and not (_WHOLE.fullmatch(rest[0]) and 1 <= int(rest[0]) <= env.max_length):
        message = f"expected a whole number from 1 to {env.max_length}, the environment's longest, got {quote(rest[0])}"
        found.append(error(row.row, "position", "position", message))
    problems.extend(found)
    if found:
        return None
    position = int(rest[0]) - 1 if rest else 0
    return _Entry(row.row, position, env.alphabet.index(asked), env.alphabet.index(came), float(cell))


def _explain_probability(cell: str) -> str | None:
    """Return why a cell is no probability, None where it is one."""
    shown = quote(cell)
    try:
        value = float(cell)
    except ValueError:
        return f"{shown} is not a number. Expected digits with a decimal point, such as 0.25 or 1e-3."
    if not math.isfinite(value):
        return f"{shown} is not finite. A probability lies in 0 to 1."
    if not NUMBER.fullmatch(cell):
        return f"{shown} is not a plain number. Expected digits with a decimal point, such as 0.25 or 1e-3."
    if value < 0.0:
        return f"{shown} is negative. A probability lies in 0 to 1."
    return None


def _wrong_sums(env: Sequence, entries: list[_Entry], table: Float[np.ndarray, "position asked came"]) -> list[Finding]:
    rows: dict[tuple[int, int], list[int]] = {}
    for entry in entries:
        rows.setdefault((entry.position, entry.asked), []).append(entry.row)
    found: list[Finding] = []
    for (position, asked), lines in rows.items():
        total = float(table[position, asked].sum())
        if abs(total - 1.0) > TOLERANCE:
            where = f" at position {position + 1}" if len(table) > 1 else ""
            message = f"the probabilities of asked {env.alphabet[asked]!r}{where} ({name_rows(lines)}) sum to {total:.9g}"
            cure = "Expected 1: correct them or add what else may come."
            found.append(error(lines[0], "probability", "sum", f"{message}. {cure}"))
    return found


def _without_rows(env: Sequence, entries: list[_Entry], num_tables: int) -> list[Finding]:
    """Return a finding that names the letters without any row: whether they come as asked is not for us to guess."""
    known = {(entry.position, entry.asked) for entry in entries}
    found: list[Finding] = []
    for position in range(num_tables):
        missing = [letter for asked, letter in enumerate(env.alphabet) if (position, asked) not in known]
        if missing:
            where = f" at position {position + 1}" if num_tables > 1 else ""
            letters = name_some(missing)
            example = f"{missing[0]},{missing[0]},1" + (f",{position + 1}" if num_tables > 1 else "")
            message = f"no row has asked {letters}{where}. Add what comes then, or {example} for a letter that comes as asked."
            found.append(error(0, None, "missing", message))
    return found
