"""`narrows games solve`: the exact worth of every move in a position."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
from tyro.conf import Positional

from narrows.envs.connect_four import ConnectFour
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe
from narrows.games.names import game_named
from narrows.games.notation import position_of
from narrows.games.rules import batch_of
from narrows.games.solver import ILLEGAL, Judge, Solver, cache_folder
from narrows.games.solver.board import stones_to_win
from narrows.games.solver.solver import Watch
from narrows.printing import say

_LONG = 32
"""With so many empty cells a position may take minutes."""

_EVERY = 10.0
"""Seconds between two lines that say that the solver is still at work."""


@dataclass(frozen=True)
class MoveWorth:
    """The worth of one legal move.

    Args:
        name: how people write the move.
        score: `k > 0`: the mover wins with the `k`-th of their stones counted from their last; `-k`: the other does; 0: a draw.
        words: the same in words.
        is_best: whether no move has a better score.
    """

    name: str
    score: int
    words: str
    is_best: bool


@dataclass(frozen=True)
class Worth:
    """The worth of every legal move in a position.

    Args:
        game: its name.
        board: a line a row, from the top.
        mover: `x` or `o`, who is to move.
        is_weak: whether scores are signs only.
        moves: in the order of the board.
    """

    game: str
    board: tuple[str, ...]
    mover: str
    is_weak: bool
    moves: tuple[MoveWorth, ...]


def solve(
    game: Positional[str],
    position: Positional[str] = "",
    *,
    weak: bool = False,
    table_bits: int = 24,
    cache: Path | None = None,
) -> Worth:
    """Show the exact worth of every move: who wins and how soon.

    Args:
        game: connect4, connect4-WIDTHxHEIGHT or tic_tac_toe.
        position: the moves from the empty board, such as 4455, or rows of the board from the top, such as x.o/.x./...
        weak: show only who wins, which takes less time in openings.
        table_bits: the solver's table has 2^table_bits entries of 8 bytes; larger is faster in openings.
        cache: folder where slow openings are kept; by default $NARROWS_CACHE or the platform's folder for such files.
    """
    env = game_named(game)
    if not isinstance(env, ConnectFour | TicTacToe):
        raise ValueError(f"{game} cannot be solved here: Connect-4 and tic-tac-toe can.")
    state = position_of(env, position)
    if bool(env.is_terminal(state)):
        outcome = int(env.outcome(state))
        ending = {1: "the first player has won", -1: "the second player has won", 0: "it is a draw"}[outcome]
        raise ValueError(f"{position!r} is a finished game: {ending}. Give a position with a move left.")
    states = batch_of(state)
    folder = cache_folder() if cache is None else cache
    solver = Solver(env.width, env.height, table_bits=table_bits, cache=folder) if isinstance(env, ConnectFour) else None
    num_stones = int(jnp.sum(state.mover | state.other)) if isinstance(env, TicTacToe) else int(state.num_moves)
    scores = Judge(env, solver).scores(states, weak=weak, watch=_watch(env.max_steps - num_stones, folder))[0]
    best = int(scores.max())
    moves = tuple(
        MoveWorth(name, score, _words(env, num_stones, score, is_weak=weak), score == best)
        for name, score in zip(env.action_names, scores.tolist(), strict=True)
        if score != ILLEGAL
    )
    return Worth(game, tuple(env.to_text(states)[0].split("/")), "xo"[num_stones % 2], weak, moves)


def render(worth: Worth) -> str:
    """Return the board and a line a move, a star before the best ones."""
    lines = [f"{worth.game}, {worth.mover} to move", "", *(f"  {' '.join(row)}" for row in worth.board), ""]
    lines += [f"{'*' if move.is_best else ' '} {move.name}  {move.score:+3d}  {move.words}" for move in worth.moves]
    meaning = "" if worth.is_weak else ", 1 with the winner's last stone, 2 with the one before; moves are the winner's"
    return "\n".join([*lines, "", f"* best. Scores: + {worth.mover} wins, - the other{meaning}."])


def _words(env: AbstractGame, num_stones: int, score: int, *, is_weak: bool) -> str:
    if score == 0:
        return "draw"
    verb = "wins" if score > 0 else "loses"
    if is_weak:
        return verb
    num = stones_to_win(env.max_steps, num_stones, score)
    if score > 0 and num == 1:
        return "wins at once"
    return f"{verb} in {num} {'move' if num == 1 else 'moves'}"


def _watch(left: int, folder: Path) -> Watch:
    """Return what says now and then that the solver is at work on a position with so many empty cells."""
    started = told = time.monotonic()

    def watch(solved: int, nodes: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < _EVERY:
            return
        if told == started:
            say(
                f"narrows: {left} cells are empty: this may take {'minutes, even hours' if left >= _LONG else 'a while'}. "
                f"Ctrl-C stops it; what has been found out is kept in {folder} for the next time.",
                sys.stderr,
            )
        told = now
        say(f"narrows: {nodes / 1e6:.0f} million positions in {now - started:.0f} s", sys.stderr)

    return watch
