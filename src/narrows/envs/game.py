"""What the rules of a two-player zero-sum game add: who has won, and which positions are the same up to a symmetry."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array, Int

from narrows.envs.base import AbstractEnvironment, State

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractGame(AbstractEnvironment[State]):
    """Rules of a two-player zero-sum game on a board of rows and columns.

    `observe` looks at the board as the player to move does: own stones and the other's, never first player's and second's, so
    that one network plays both (eflow 3.4). `num_features` is a whole number of features for each cell of `board`,
    the cells row by row from the top.

    Attributes:
        board: numbers of rows and columns.
        action_names: how people write each action; a game is written as the names of its moves one after another.
        action_symmetries: a row a symmetry of the game, the identity first: the action that takes the place of each action.
        feature_symmetries: the same rows for observations: after a game with its actions replaced, feature `i` is what
            feature `feature_symmetries[symmetry, i]` was without.
    """

    board: AbstractVar[tuple[int, int]]
    action_names: AbstractVar[tuple[str, ...]]
    action_symmetries: AbstractVar[Int[np.ndarray, "symmetry action"]]
    feature_symmetries: AbstractVar[Int[np.ndarray, "symmetry feature"]]

    @abstractmethod
    def outcome(self, state: State) -> Int[Array, ""]:
        """Return 1 where player 0 has won, -1 where player 1 has, else 0; also in a position that is not terminal."""


def cells_of(text: str, rows: int, columns: int, num: int) -> list[list[str]]:
    """Return the rows of cells that a text such as `x.o/.../...` has; ValueError says what is not as it should be.

    Args:
        text: rows from the top, `/` between them; `x` for the first player's stones, `o` for the second's, `.` for none.
        rows: of the board.
        columns: of the board.
        num: of the text among others, for the message.
    """
    lines = text.split("/")
    if len(lines) != rows or any(len(line) != columns or set(line) - set("xo.") for line in lines):
        example = "/".join(["." * columns] * rows)
        raise ValueError(
            f"position {num}, {text!r}: expected {rows} rows of {columns} cells from the top, '/' between them, each cell "
            f"'x' (first player), 'o' (second player) or '.', as in {example!r}."
        )
    return [list(line) for line in lines]


def count_stones(cells: list[list[str]], text: str, num: int) -> int:
    """Return the number of stones; ValueError unless the first player has as many as the second or one more."""
    flat = [cell for row in cells for cell in row]
    first, second = flat.count("x"), flat.count("o")
    if first - second not in (0, 1):
        raise ValueError(
            f"position {num}, {text!r}: expected as many 'x' as 'o' or one more, because the players take turns and 'x' "
            f"begins; got {first} and {second}."
        )
    return first + second
