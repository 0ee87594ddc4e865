"""Connect-4 on boards of any size: four in a row, stones fall to the lowest empty cell of a column (eflow 4.4)."""

from collections.abc import Sequence as Objects
from functools import cached_property
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.bitboard import Bits, bits, boards
from narrows.envs.game import AbstractGame, Cells, read_boards, refuse_unfinished, write_boards


class ConnectFourState(NamedTuple):
    """`mover` has the stones of the player to move, `stones` those of both (eflow 8.1)."""

    mover: Bits
    stones: Bits
    num_moves: Int[Array, "*batch"]


class BitLayout:
    """The bits of the cells: column `c` has bits `(height + 1) c` and up from its bottom, the last of them never set."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        side = height + 1
        self.columns = [((1 << height) - 1) << (side * column) for column in range(width)]
        self.bottom = sum(1 << (side * column) for column in range(width))
        self.full = sum(self.columns)
        # Neighbours: above, to the right, right and up, right and down.
        self.directions = (1, side, side + 1, side - 1)
        rows = np.arange(height)[::-1, None]
        self.cells = (rows + side * np.arange(width)[None]).ravel()


class ConnectFour(AbstractGame[ConnectFourState]):
    """Connect-4. Action `c` drops a stone into column `c`; four in a row win, a full board is a draw.

    A position's text has its rows from the top, `x` for the first player's stones. An observed cell is 0 where the player to
    move has a stone, 1 where the other has, and `2 + m + 2 o + 4 p` where it is empty: `m` if the mover would have four with a
    stone there, `o` if the other would, `p` if a stone put now would fall there. All of that is in the rules; without
    `shows_threats` an empty cell is 2.

    Args:
        width: columns, at least 4.
        height: rows, 4 to 8; `width (height + 1)` is at most 64.
        shows_threats: whether an observation says of empty cells which would complete four and which can be played.

    >>> env = ConnectFour()
    >>> state = env.reset()
    >>> for column in (3, 3, 4, 4, 5, 5, 6):
    ...     state = env.step(state, jnp.asarray(column, jnp.int32))
    >>> bool(env.is_terminal(state)), int(env.outcome(state))
    (True, 1)
    """

    width: int = eqx.field(default=7, static=True)
    height: int = eqx.field(default=6, static=True)
    shows_threats: bool = eqx.field(default=True, static=True)

    def __check_init__(self) -> None:
        if self.width < 4 or not 4 <= self.height <= 8 or self.width * (self.height + 1) > 64:
            raise ValueError(
                "expected at least 4 columns, 4 to 8 rows and width * (height + 1) <= 64, the bits of a word; got "
                f"width={self.width} and height={self.height}."
            )

    @cached_property
    def layout(self) -> BitLayout:
        """The bits of the cells."""
        return BitLayout(self.width, self.height)

    @property
    def num_actions(self) -> int:
        return self.width

    @property
    def max_steps(self) -> int:
        return self.width * self.height

    @property
    def num_features(self) -> int:
        return self.width * self.height

    @property
    def num_values(self) -> int:
        return 10 if self.shows_threats else 3

    @property
    def board(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple("123456789ABC"[: self.width])

    @property
    def action_symmetries(self) -> Int[np.ndarray, "symmetry action"]:
        columns = np.arange(self.width)
        return np.stack([columns, columns[::-1]])

    @property
    def feature_symmetries(self) -> Int[np.ndarray, "symmetry feature"]:
        cells = np.arange(self.num_features).reshape(self.height, self.width)
        return np.stack([cells.ravel(), cells[:, ::-1].ravel()])

    def reset(self) -> ConnectFourState:
        return ConnectFourState(bits(0), bits(0), jnp.zeros((), jnp.int32))

    def step(self, state: ConnectFourState, action: Int[Array, ""]) -> ConnectFourState:
        columns = Bits(*(jnp.stack(words) for words in zip(*map(bits, self.layout.columns), strict=True)))
        column = jax.tree.map(lambda words: words[action], columns)
        stone = self._playable(state.stones) & column
        return ConnectFourState(state.mover ^ state.stones, state.stones | stone, state.num_moves + 1)

    def action_mask(self, state: ConnectFourState) -> Bool[Array, " action"]:
        playable = self._playable(state.stones)
        is_open = jnp.stack([(playable & bits(column)).is_any() for column in self.layout.columns])
        return is_open & ~self._has_four(state.mover ^ state.stones)

    def is_terminal(self, state: ConnectFourState) -> Bool[Array, ""]:
        return (state.num_moves == self.max_steps) | self._has_four(state.mover ^ state.stones)

    def turn(self, state: ConnectFourState) -> Int[Array, ""]:
        return state.num_moves % 2

    def outcome(self, state: ConnectFourState) -> Int[Array, ""]:
        by_mover = jnp.where(self._has_four(state.mover ^ state.stones), -1, 0)
        return jnp.where(state.num_moves % 2 == 0, by_mover, -by_mover).astype(jnp.int32)

    def observe(self, state: ConnectFourState) -> Int[Array, " feature"]:
        cells, other = self.layout.cells, state.mover ^ state.stones
        empty = 2
        if self.shows_threats:
            wins = (self.winning_cells(state.mover, state.stones), self.winning_cells(other, state.stones))
            empty = 2 + wins[0].at(cells) + 2 * wins[1].at(cells) + 4 * self._playable(state.stones).at(cells)
        return jnp.where(state.mover.at(cells) == 1, 0, jnp.where(other.at(cells) == 1, 1, empty)).astype(jnp.int32)

    def winning_cells(self, own: Bits, stones: Bits) -> Bits:
        """Return the empty cells, in reach or not, in which one more stone makes four of `own` (eflow 8.1)."""
        above, *others = self.layout.directions
        wins = own.up(above) & own.up(2 * above) & own.up(3 * above)
        for step in others:
            two_below, two_above = own.up(step) & own.up(2 * step), own.down(step) & own.down(2 * step)
            wins = wins | (two_below & own.up(3 * step)) | (two_below & own.down(step))
            wins = wins | (two_above & own.up(step)) | (two_above & own.down(3 * step))
        return wins & ~stones & bits(self.layout.full)

    def _playable(self, stones: Bits) -> Bits:
        return stones.plus(bits(self.layout.bottom)) & bits(self.layout.full)

    def _has_four(self, own: Bits) -> Bool[Array, "*batch"]:
        pairs = ((own & own.down(step), step) for step in self.layout.directions)
        fours = [pair & pair.down(2 * step) for pair, step in pairs]
        return (fours[0] | fours[1] | fours[2] | fours[3]).is_any()

    def to_text(self, states: ConnectFourState) -> list[str]:
        at_cells = jax.vmap(lambda stones: stones.at(self.layout.cells))
        mover, stones = (np.asarray(at_cells(stones)) == 1 for stones in (states.mover, states.stones))
        return write_boards(mover, stones & ~mover, self.width)

    def from_text(self, texts: Objects[str]) -> ConnectFourState:
        """Return the batch of finished positions that texts name; ValueError for one that is not finished or cannot arise."""
        states = self.positions(texts)
        refuse_unfinished(texts, np.asarray(self.is_terminal(states)))
        return states

    def positions(self, texts: Objects[str]) -> ConnectFourState:
        """Return the batch of positions, finished or not, that texts name; ValueError for one that cannot arise.

        What is checked: the numbers of stones, that none floats above an empty cell, and that play did not go on after four.
        """

        def why_not(mover: Cells, other: Cells, letter: str) -> str | None:
            stones = (mover | other).reshape(self.height, self.width)
            if np.any(stones[:-1] & ~stones[1:]):
                return "a stone floats above an empty cell. Stones fall to the lowest one."
            has_four = bool(self._has_four(self._bits_of(mover)))
            return f"{letter!r} has four in a row already and would move again." if has_four else None

        mover, other = read_boards(texts, self.height, self.width, why_not)
        stones = mover | other
        return ConnectFourState(
            self._bits_of(mover), self._bits_of(stones), jnp.asarray(np.sum(stones, axis=1, dtype=np.int32))
        )

    def _bits_of(self, cells: Bool[np.ndarray, "*batch cell"]) -> Bits:
        weights = np.uint64(1) << self.layout.cells.astype(np.uint64)
        return boards(np.asarray(np.sum(np.where(cells, weights, np.uint64(0)), axis=-1), np.uint64))
