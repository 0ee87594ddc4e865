"""Two-player zero-sum games on a board: who has won, symmetries, and positions as texts."""

from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Sequence as Objects
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.base import AbstractEnvironment, State

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar

Cells: TypeAlias = Bool[np.ndarray, " cell"]

_EMPTIED = str.maketrans("xo", "..")


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


def read_boards(
    texts: Objects[str], rows: int, columns: int, why_not: Callable[[Cells, Cells, str], str | None]
) -> tuple[Bool[np.ndarray, "text cell"], Bool[np.ndarray, "text cell"]]:
    """Return the stones of the player to move, and of the other, in positions that texts such as `x.o/.../...` name.

    Args:
        texts: rows from the top, `/` between them; `x` for the first player's stones, `o` for the second's, `.` for none.
        rows: of the board.
        columns: of the board.
        why_not: says why a position cannot arise, None where it can; by its stones and the letter of the player to move.

    Raises ValueError that says of the first text that names no position why.
    """
    example = "/".join(["." * columns] * rows)
    stones = np.zeros((2, len(texts), rows * columns), bool)
    for num, text in enumerate(texts):
        first, second = text.count("x"), text.count("o")
        if text.translate(_EMPTIED) != example:
            problem = (
                f"expected {rows} rows of {columns} cells from the top, '/' between them, each cell 'x' (first player), "
                f"'o' (second player) or '.', as in {example!r}."
            )
        elif first - second not in (0, 1):
            problem = (
                "expected as many 'x' as 'o' or one more, because the players take turns and 'x' begins; got "
                f"{first} and {second}."
            )
        else:
            cells, letter = np.array(list(text.replace("/", ""))), "xo"[(first + second) % 2]
            stones[:, num] = cells == letter, (cells != letter) & (cells != ".")
            problem = why_not(stones[0, num], stones[1, num], letter)
        if problem is not None:
            raise ValueError(f"position {num}, {text!r}: {problem}")
    return stones[0], stones[1]


def write_boards(mover: Bool[np.ndarray, "position cell"], other: Bool[np.ndarray, "position cell"], columns: int) -> list[str]:
    """Return the texts that `read_boards` reads."""
    is_first = np.sum(mover | other, axis=-1, keepdims=True) % 2 == 0
    cells = np.where(np.where(is_first, mover, other), "x", np.where(np.where(is_first, other, mover), "o", "."))
    return ["/".join("".join(row) for row in board.reshape(-1, columns)) for board in cells]


def refuse_unfinished(texts: Objects[str], is_over: Bool[np.ndarray, " text"]) -> None:
    """Raise ValueError for the first text of a position in which play goes on."""
    if not np.all(is_over):
        num = int(np.argmin(is_over))
        raise ValueError(f"position {num}, {texts[num]!r}: the game is not over. Give a finished position.")
