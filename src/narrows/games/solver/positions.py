"""Batches of Connect-4 positions in NumPy: games at random, moves replayed, and which positions are quiet."""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int, Int8, UInt8, UInt64

from narrows.games.solver.board import ILLEGAL, Board

Words: TypeAlias = UInt64[np.ndarray, " position"]
"""A word for each of a batch of positions: the stones of one player, or of both."""

Scores: TypeAlias = Int8[np.ndarray, "position column"]
"""The score of every move in each of a batch of positions, `ILLEGAL` for a full column."""

NO_MOVE: Final = 255
"""Fills up the rows of shorter games."""


class Positions(NamedTuple):
    """Unfinished positions, and the games that led there, filled up with `NO_MOVE`."""

    mover: Words
    stones: Words
    moves: UInt8[np.ndarray, "position time"]


def random_positions(board: Board, ply: int, num: int, generator: np.random.Generator) -> Positions:
    """Return positions after `ply` moves drawn uniformly among the legal ones; games that end sooner are left out.

    There are fewer than `num` rows, maybe none, because so many games are begun.
    """
    mover, stones = np.zeros(num, np.uint64), np.zeros(num, np.uint64)
    moves = np.zeros((num, ply), np.uint8)
    for time in range(ply):
        falling = falling_stones(board, stones)
        draws = np.where(falling != 0, generator.random(falling.shape), -1.0)
        choice = np.argmax(draws, axis=1)
        moves[:, time] = choice
        mover, stones = mover ^ stones, stones | falling[np.arange(len(stones)), choice]
        goes_on = ~are_four(board, mover ^ stones) & (stones != board.full)
        mover, stones, moves = mover[goes_on], stones[goes_on], moves[goes_on]
    return Positions(mover, stones, moves)


def replayed(board: Board, moves: UInt8[np.ndarray, "position time"]) -> Positions:
    """Return the positions to which games lead; ValueError names the first game with a move that cannot be played."""
    mover, stones = np.zeros(len(moves), np.uint64), np.zeros(len(moves), np.uint64)
    for time in range(moves.shape[1]):
        column = moves[:, time]
        plays = column != NO_MOVE
        falling = falling_stones(board, stones)
        stone = falling[np.arange(len(stones)), np.minimum(column, board.width - 1)]
        ended = (moves[:, time - 1] == NO_MOVE) if time else np.zeros(len(moves), bool)
        bad = plays & ((column >= board.width) | (stone == 0) | are_four(board, mover ^ stones) | ended)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(f"game {row}: move {time + 1}, column {int(column[row]) + 1}, cannot be played there.")
        mover = np.where(plays, mover ^ stones, mover)
        stones = np.where(plays, stones | stone, stones)
    return Positions(mover, stones, moves)


def falling_stones(board: Board, stones: Words) -> UInt64[np.ndarray, "position column"]:
    """Return the stone that falls into each column, 0 for a full column."""
    columns = [((1 << board.height) - 1) << (int(board.side) * number) for number in range(board.width)]
    playable = (stones + board.bottom) & board.full
    return playable[:, None] & np.asarray(columns, np.uint64)


def are_four(board: Board, stones: UInt64[np.ndarray, "*position"]) -> Bool[np.ndarray, "*position"]:
    """Return whether stones contain four in a row."""
    found = np.zeros(stones.shape, bool)
    one = np.uint64(1)
    for step in (one, board.side, board.side - one, board.side + one):
        pairs = stones & (stones >> step)
        found |= (pairs & (pairs >> (step + step))) != 0
    return found


def winning_moves(board: Board, own: Words, stones: Words) -> Bool[np.ndarray, "position column"]:
    """Return the columns in which the owner of the stones `own`, were it their turn, would win at once."""
    falling = falling_stones(board, stones)
    return are_four(board, own[:, None] | falling) & (falling != 0)


def are_calm(board: Board, positions: Positions) -> Bool[np.ndarray, " position"]:
    """Return whether neither player, were it their turn, could win with their next stone."""
    mover, stones = positions.mover, positions.stones
    return ~np.any(winning_moves(board, mover, stones) | winning_moves(board, mover ^ stones, stones), axis=1)


def scores_of_moves(
    board: Board,
    mover: Words,
    stones: Words,
    values: Callable[..., Int[np.ndarray, " move"]],
    *,
    weak: bool = False,
) -> Scores:
    """Return the score of every move, `ILLEGAL` for a full column.

    Args:
        board: what is played on.
        mover: stones of the player to move.
        stones: stones of both.
        values: from the mover's and all stones after the moves that do not end the game, and the numbers of the positions that
            these moves are made in, to the scores for the player who moves next.
        weak: whether `values` gives signs only.
    """
    falling = falling_stones(board, stones)
    wins = winning_moves(board, mover, stones)
    num_stones = np.bitwise_count(stones).astype(np.int64)[:, None]
    scores = np.where(wins, 1 if weak else (board.cells + 1 - num_stones) // 2, 0)
    row, column = np.nonzero((falling != 0) & ~wins & (num_stones + 1 < board.cells))
    scores[row, column] = -values(mover[row] ^ stones[row], stones[row] | falling[row, column], row)
    return np.where(falling == 0, ILLEGAL, scores).astype(np.int8)


def mirror_images(board: Board, words: Words) -> Words:
    """Return words with their columns in the opposite order."""
    column = (np.uint64(1) << board.side) - np.uint64(1)
    mirrored = np.zeros_like(words)
    for _ in range(board.width):
        mirrored = (mirrored << board.side) | (words & column)
        words = words >> board.side
    return mirrored


def canonical_keys(board: Board, mover: Words, stones: Words) -> Words:
    """Return the smaller key of each position and its mirror image.

    A position's key is a number that no other position has: in each column the mover's stones and a bit above the top one.
    """
    key = mover + stones + board.bottom
    return np.minimum(key, mirror_images(board, key))


def are_telling(scores: Scores) -> Bool[np.ndarray, " position"]:
    """Return for each position whether its legal moves lead to more than one outcome."""
    outcomes = np.sign(scores)
    highest = np.where(scores == ILLEGAL, -2, outcomes).max(axis=1)
    lowest = np.where(scores == ILLEGAL, 2, outcomes).min(axis=1)
    return highest != lowest
