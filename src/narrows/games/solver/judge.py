"""Exact scores for states of the environments, and the player that plays by them."""

from typing import Any

import numpy as np
from jaxtyping import Int, Int8

from narrows.envs.bitboard import numbers
from narrows.envs.connect_four import ConnectFour
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe
from narrows.games.solver.solver import Solver, Watch
from narrows.games.solver.tic_tac_toe import cell_scores


class Judge:
    """Says of every move in a batch of states what it is worth: in Connect-4 of any size and in tic-tac-toe.

    Args:
        env: the game.
        solver: for Connect-4; a new `Solver` if absent.
    """

    def __init__(self, env: AbstractGame, solver: Solver | None = None) -> None:
        if not isinstance(env, ConnectFour | TicTacToe):
            raise ValueError(f"perfect play is known for Connect-4 and tic-tac-toe, not for {type(env).__name__}.")
        if isinstance(env, ConnectFour):
            solver = Solver(env.width, env.height) if solver is None else solver
            if (solver.board.width, solver.board.height) != (env.width, env.height):
                raise ValueError(
                    f"the solver is for {solver.board.width} columns by {solver.board.height} rows, the game has {env.width} "
                    f"by {env.height}. Make a Solver({env.width}, {env.height})."
                )
        self.env = env
        self._solver = solver

    def scores(self, states: Any, *, weak: bool = False, watch: Watch | None = None) -> Int8[np.ndarray, "position action"]:
        """Return the score of every action for the player to move, -100 for an illegal one.

        Args:
            states: a batch of states, none of them terminal.
            weak: Connect-4 only: whether win, draw or loss is enough.
            watch: Connect-4 only: told of progress every fraction of a second; an exception of its own ends the work.
        """
        if self._solver is not None and isinstance(self.env, ConnectFour):
            return self._solver.scores(numbers(states.mover), numbers(states.stones), weak=weak, watch=watch)
        bits = 1 << np.arange(9)
        return cell_scores(np.asarray(states.mover) @ bits, np.asarray(states.other) @ bits)


class PerfectPlayer:
    """Plays a random one of the best moves: the fastest win, a draw, or the slowest loss.

    Args:
        env: Connect-4 or tic-tac-toe.
        solver: for Connect-4; a new `Solver` if absent.
    """

    name = "perfect"

    def __init__(self, env: AbstractGame, solver: Solver | None = None) -> None:
        self.judge = Judge(env, solver)

    def choose(self, states: Any, generator: np.random.Generator) -> Int[np.ndarray, " game"]:
        scores = self.judge.scores(states)
        is_best = scores == scores.max(axis=1, keepdims=True)
        return np.argmax(np.where(is_best, generator.random(scores.shape), -1.0), axis=1)
