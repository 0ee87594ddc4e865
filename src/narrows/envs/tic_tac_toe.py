"""Tic-tac-toe: three in a row on three by three cells (eflow 4.3)."""

from collections.abc import Sequence as Objects
from typing import ClassVar, Final, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.game import AbstractGame, Cells, read_boards, refuse_unfinished, write_boards

LINES: Final = np.asarray(
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]],
)
"""The eight lines, by cell."""


class TicTacToeState(NamedTuple):
    """`mover` marks the cells of the player to move, `other` those of the one who has just moved."""

    mover: Bool[Array, "*batch cell"]
    other: Bool[Array, "*batch cell"]


def _symmetries() -> Int[np.ndarray, "symmetry cell"]:
    """Return the eight turns and mirrors of the square: the cell that takes the place of each cell."""
    square = np.arange(9).reshape(3, 3)
    sources = [np.rot90(side, turns).ravel() for side in (square, square.T) for turns in range(4)]
    # Where cell `source[i]` moves to place `i`, the cell `i` moves to where it stands in `source`.
    return np.stack([np.argsort(source) for source in sources])


_CELL_SYMMETRIES: Final = _symmetries()


class TicTacToe(AbstractGame[TicTacToeState]):
    """Tic-tac-toe. Action `3 row + column` puts a stone on an empty cell; three in a line win, a full board is a draw.

    A position's text has its rows from the top, `x` for the first player's stones: `"x.o/.x./o.x"`. An observed cell is 0 where
    it is empty, 1 where the player to move has a stone and 2 where the other has.

    >>> env = TicTacToe()
    >>> state = env.reset()
    >>> for action in (4, 0, 2, 6, 3, 5, 1, 7, 8):
    ...     state = env.step(state, jnp.asarray(action, jnp.int32))
    >>> bool(env.is_terminal(state)), int(env.outcome(state))
    (True, 0)
    """

    num_actions: ClassVar[int] = 9
    max_steps: ClassVar[int] = 9
    num_features: ClassVar[int] = 9
    num_values: ClassVar[int] = 3
    board: ClassVar[tuple[int, int]] = (3, 3)
    action_names: ClassVar[tuple[str, ...]] = tuple("123456789")
    action_symmetries: ClassVar[Int[np.ndarray, "symmetry action"]] = _CELL_SYMMETRIES
    feature_symmetries: ClassVar[Int[np.ndarray, "symmetry feature"]] = np.argsort(_CELL_SYMMETRIES, axis=1)

    def reset(self) -> TicTacToeState:
        return TicTacToeState(jnp.zeros(9, bool), jnp.zeros(9, bool))

    def step(self, state: TicTacToeState, action: Int[Array, ""]) -> TicTacToeState:
        return TicTacToeState(state.other, state.mover | (jnp.arange(9) == action))

    def action_mask(self, state: TicTacToeState) -> Bool[Array, " action"]:
        return ~(state.mover | state.other) & ~_has_line(state.other)

    def is_terminal(self, state: TicTacToeState) -> Bool[Array, ""]:
        return jnp.all(state.mover | state.other) | _has_line(state.other)

    def turn(self, state: TicTacToeState) -> Int[Array, ""]:
        return jnp.sum(state.mover | state.other, dtype=jnp.int32) % 2

    def outcome(self, state: TicTacToeState) -> Int[Array, ""]:
        by_mover = jnp.where(_has_line(state.other), -1, 0)
        return jnp.where(self.turn(state) == 0, by_mover, -by_mover).astype(jnp.int32)

    def observe(self, state: TicTacToeState) -> Int[Array, " feature"]:
        return state.mover.astype(jnp.int32) + 2 * state.other.astype(jnp.int32)

    def to_text(self, states: TicTacToeState) -> list[str]:
        return write_boards(np.asarray(states.mover), np.asarray(states.other), 3)

    def from_text(self, texts: Objects[str]) -> TicTacToeState:
        """Return the batch of finished positions that texts name; ValueError for one that is not finished or cannot arise."""
        states = self.positions(texts)
        refuse_unfinished(texts, np.asarray(_has_line(states.other) | jnp.all(states.mover | states.other, axis=-1)))
        return states

    def positions(self, texts: Objects[str]) -> TicTacToeState:
        """Return the batch of positions, finished or not, that texts name; ValueError for one that cannot arise."""

        def why_not(mover: Cells, other: Cells, letter: str) -> str | None:
            has_line = np.any(np.all(mover[LINES], axis=-1))
            return f"{letter!r} has three in a line already and would move again." if has_line else None

        return TicTacToeState(*map(jnp.asarray, read_boards(texts, 3, 3, why_not)))


def _has_line(stones: Bool[Array, "*batch cell"]) -> Bool[Array, "*batch"]:
    return jnp.any(jnp.all(stones[..., LINES], axis=-1), axis=-1)
