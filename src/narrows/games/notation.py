"""Positions as people write them: the moves that led there, or a picture of the board."""

from typing import Any

import numpy as np

from narrows.envs.connect_four import ConnectFour
from narrows.envs.contract import rows_of
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe
from narrows.games.rules import batch_of, look, moved


def moves_of(env: AbstractGame, text: str) -> list[int]:
    """Return the actions that a text such as `4455` names, each playable after the ones before it.

    Raises ValueError that names the first move which is no move, is not legal, or comes after the end of the game.
    """
    return _play(env, text)[0]


def position_of(env: AbstractGame, text: str) -> Any:
    """Return the state that a text means: moves from the empty board such as `4455`, or rows of cells such as `x.o/.../...`.

    An empty text is the empty board. Raises ValueError for what is no position of this game or cannot arise in it.
    """
    text = text.strip()
    if "/" not in text:
        return _play(env, text)[1]
    if not isinstance(env, ConnectFour | TicTacToe):
        raise ValueError(f"a picture of the board is known for Connect-4 and tic-tac-toe, not for {type(env).__name__}.")
    return rows_of(env.positions([text]), 0)


def _play(env: AbstractGame, text: str) -> tuple[list[int], Any]:
    states, actions = batch_of(env.reset()), []
    for number, name in enumerate(_names(env, text), start=1):
        position = rows_of(look(env, states), 0)
        played = text if len(text) < 60 else text[:57] + "..."
        if name not in env.action_names:
            known = ", ".join(env.action_names)
            raise ValueError(f"{played!r}: move {number}, {name!r}, is none of {known}.")
        if position.is_over:
            raise ValueError(f"{played!r}: the game is over after {number - 1} moves, so there is no move {number}, {name!r}.")
        action = env.action_names.index(name)
        if not position.mask[action]:
            raise ValueError(f"{played!r}: move {number}, {name!r}, is not legal there{why_not(env, action)}.")
        states = moved(env, states, np.asarray([action]))
        actions.append(action)
    return actions, rows_of(states, 0)


def why_not(env: AbstractGame, action: int) -> str:
    """Return in a few words why an action may be illegal, to be put after a sentence."""
    if isinstance(env, ConnectFour):
        return f": column {env.action_names[action]} is full"
    if isinstance(env, TicTacToe):
        return f": cell {env.action_names[action]} has a stone already"
    return ""


def _names(env: AbstractGame, text: str) -> list[str]:
    """Return the names in a text: one character each, or words where a game's names are longer."""
    if max(map(len, env.action_names)) == 1:
        return list(text.replace(" ", "").replace(",", ""))
    return text.replace(",", " ").split()
