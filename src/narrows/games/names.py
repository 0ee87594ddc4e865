"""The games by the names that commands take."""

import re
from typing import Final

from narrows.envs.connect_four import ConnectFour
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe
from narrows.games.pgx_game import TAKEN, pgx_game

KNOWN: Final = (
    "tic_tac_toe, connect4 (7 columns by 6 rows), connect4-WIDTHxHEIGHT such as connect4-5x4, and of the pgx library "
    + ", ".join(f"pgx-{name}" for name in sorted(TAKEN))
)
"""The names in a sentence, for errors and for help."""


def game_named(name: str) -> AbstractGame:
    """Return the rules that a name stands for.

    Raises ValueError that lists the known names, and what is wrong with a size.

    >>> game_named("connect4-5x4").board
    (4, 5)
    """
    if name == "tic_tac_toe":
        return TicTacToe()
    if name == "connect4":
        return ConnectFour()
    size = re.fullmatch(r"connect4-(\d{1,2})x(\d{1,2})", name)
    if size:
        return ConnectFour(int(size[1]), int(size[2]))
    if name.startswith("pgx-"):
        return pgx_game(name.removeprefix("pgx-"))
    raise ValueError(f"there is no game {name!r}. Known: {KNOWN}.")
