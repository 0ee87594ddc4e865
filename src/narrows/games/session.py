"""One game in progress, whoever plays it and wherever it is drawn: moves, whose turn, the end, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Int

from narrows.envs.connect_four import ConnectFour
from narrows.envs.contract import rows_of
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe
from narrows.games.notation import why_not
from narrows.games.players import NetworkPlayer, Player
from narrows.games.rules import batch_of, look, moved

SIDES = ("first", "second")
"""The players by number, as people call them."""


class StateJudge(Protocol):
    """Knows what every move of a position is worth in perfect play."""

    def __call__(self, state: Any, look_up: Callable[[], None], /) -> Sequence[int] | Int[np.ndarray, " action"]:
        """Return the strong score of each action in a state, for the player to move (eflow 8.1).

        `k > 0` says that the mover wins with the `k`-th of their stones counted from the last one that a full board would have,
        `-k` that the other does, 0 that the game is drawn. What is returned for illegal actions is not read.

        Args:
            state: a position that is not over.
            look_up: to be called every fraction of a second; raises when nobody waits for the answer any more.
        """
        ...


class Table(NamedTuple):
    """A table to sit down to: a game, somebody who plays against them, and whom they may ask.

    Attributes:
        env: the game.
        opponent: who plays the other side.
        adviser: the network that hints come from; None if there is none.
        judge: who knows what each move is worth; None if nobody does.
    """

    env: AbstractGame
    opponent: Player
    adviser: NetworkPlayer | None = None
    judge: StateJudge | None = None


@dataclass(frozen=True, eq=False)
class Session:
    """A game in progress. Moves give another one and leave this one as it is.

    Attributes:
        env: the game.
        state: the position.
        legal: actions that can be played; none once the game is over.
        turn: 0 if the first player is to move, 1 if the second is, None once the game is over.
        winner: 0 or 1; None in a draw and while the game goes on.
        action: the move that led here; None at the start.
        previous: the game before that move.

    >>> from narrows.games.names import game_named
    >>> session = begin(game_named("tic_tac_toe"), "5132")
    >>> session.moves, session.turn, [session.env.action_names[action] for action in session.legal]
    (('5', '1', '3', '2'), 0, ['4', '6', '7', '8', '9'])
    """

    env: AbstractGame
    state: Any
    legal: tuple[int, ...]
    turn: int | None
    winner: int | None
    action: int | None = None
    previous: Session | None = None

    @property
    def is_over(self) -> bool:
        """Whether the game has ended."""
        return self.turn is None

    @property
    def actions(self) -> tuple[int, ...]:
        """The moves so far, as actions."""
        found, session = [], self
        while session.previous is not None:
            found.append(session.action)
            session = session.previous
        return tuple(reversed(found))

    @property
    def moves(self) -> tuple[str, ...]:
        """The moves so far, as people write them."""
        return tuple(self.env.action_names[action] for action in self.actions)

    def play(self, action: int) -> Session:
        """Return the game after a move; ValueError says why it cannot be played."""
        if self.is_over:
            raise ValueError(f"the game is over: {self.result()}. Take a move back or begin a new game.")
        if not 0 <= action < self.env.num_actions:
            raise ValueError(f"there is no action {action}; expected 0 to {self.env.num_actions - 1}.")
        if action not in self.legal:
            name = self.env.action_names[action]
            raise ValueError(f"{name} cannot be played now{why_not(self.env, action)}. Legal: {self._names(self.legal)}.")
        return _session(self.env, moved(self.env, batch_of(self.state), np.asarray([action])), action, self)

    def play_named(self, name: str) -> Session:
        """Return the game after a move that people write so, in capitals or not; ValueError says why it cannot be played."""
        by_name = {known.casefold(): action for action, known in enumerate(self.env.action_names)}
        action = by_name.get(name.strip().casefold())
        if action is None:
            written = name if len(name) < 20 else name[:17] + "..."
            raise ValueError(f"{written!r} is not a move. Expected one of {self._names(range(self.env.num_actions))}.")
        return self.play(action)

    def take_back(self, side: int) -> Session:
        """Return the game as it was when player `side` was last to move, before this position; ValueError if it never was."""
        earlier = self.previous
        while earlier is not None and earlier.turn != side:
            earlier = earlier.previous
        if earlier is None:
            raise ValueError("there is no move of yours to take back.")
        return earlier

    def result(self) -> str:
        """Return in words how the game ended, or that it goes on."""
        if not self.is_over:
            return "it goes on"
        return "a draw" if self.winner is None else f"the {SIDES[self.winner]} player has won"

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The board as rows of characters from the top: `x` for the first player's stones, `o`, and `.` for none."""
        return tuple(self.env.to_text(batch_of(self.state))[0].split("/"))

    def last_cell(self) -> tuple[int, int] | None:
        """Return row and column of the newest stone; None at the start, and in games whose moves change more than one cell."""
        if self.previous is None or line_length(self.env) is None:
            return None
        before, after = self.previous.rows, self.rows
        cells = np.ndindex(len(after), len(after[0]))
        return next(((row, column) for row, column in cells if before[row][column] != after[row][column]), None)

    def winning_cells(self) -> tuple[tuple[int, int], ...]:
        """Return the cells of every finished line of the winner, by row and column; none where that cannot be known."""
        length = line_length(self.env)
        if self.winner is None or length is None:
            return ()
        rows, mark = self.rows, "xo"[self.winner]
        own = {(row, column) for row, cells in enumerate(rows) for column, cell in enumerate(cells) if cell == mark}
        lines = (
            [(row + step * down, column + step * right) for step in range(length)]
            for row, column in own
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))
        )
        return tuple(sorted({cell for line in lines if own.issuperset(line) for cell in line}))

    def _names(self, actions: Sequence[int]) -> str:
        return ", ".join(self.env.action_names[action] for action in actions)


def begin(env: AbstractGame, moves: Sequence[str] = ()) -> Session:
    """Return a game after some moves, as people write them; ValueError names the first that cannot be played."""
    session = _session(env, batch_of(env.reset()), None, None)
    for number, name in enumerate(moves, start=1):
        try:
            session = session.play_named(name)
        except ValueError as error:
            raise ValueError(f"move {number}: {error}") from None
    return session


def answered(session: Session, opponent: Player, generator: np.random.Generator) -> Session:
    """Return the game after the opponent's move; ValueError if the game is over."""
    if session.is_over:
        return session.play(0)  # which says why nobody can
    return session.play(int(opponent.choose(batch_of(session.state), generator)[0]))


def line_length(env: AbstractGame) -> int | None:
    """Return how many stones in a row win; None for a game that is won in another way."""
    if isinstance(env, TicTacToe):
        return 3
    return 4 if isinstance(env, ConnectFour) else None


def _session(env: AbstractGame, states: Any, action: int | None, previous: Session | None) -> Session:
    """Return the game at a position, given as a batch of one."""
    mask, is_over, outcome, turn = rows_of(jax.device_get(look(env, states)), 0)
    winner = {1: 0, -1: 1}.get(int(outcome)) if is_over else None
    legal = () if is_over else tuple(np.flatnonzero(mask).tolist())
    return Session(env, rows_of(states, 0), legal, None if is_over else int(turn), winner, action, previous)
