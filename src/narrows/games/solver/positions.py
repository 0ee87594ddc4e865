"""Batches of Connect-4 positions in NumPy: games at random, moves replayed, and which positions are quiet."""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Int8, UInt8, UInt64

from narrows.games.solver.board import ILLEGAL, Board

NO_MOVE: Final = 255
"""Fills up the rows of shorter games."""


class Positions(NamedTuple):
    """Unfinished positions, and the games that led there, filled up with `NO_MOVE`."""

    mover: UInt64[np.ndarray, " position"]
    stones: UInt64[np.ndarray, " position"]
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


def falling_stones(board: Board, stones: UInt64[np.ndarray, " position"]) -> UInt64[np.ndarray, "position column"]:
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


def are_calm(board: Board, positions: Positions) -> Bool[np.ndarray, " position"]:
    """Return whether neither player, were it his turn, could win with his next stone."""
    falling = falling_stones(board, positions.stones)
    calm = np.ones(len(positions.stones), bool)
    for own in (positions.mover, positions.mover ^ positions.stones):
        calm &= ~np.any(are_four(board, own[:, None] | falling) & (falling != 0), axis=1)
    return calm


def mirror_images(board: Board, words: UInt64[np.ndarray, " position"]) -> UInt64[np.ndarray, " position"]:
    """Return words with their columns in the opposite order."""
    column = (np.uint64(1) << board.side) - np.uint64(1)
    mirrored = np.zeros_like(words)
    for _ in range(board.width):
        mirrored = (mirrored << board.side) | (words & column)
        words = words >> board.side
    return mirrored


def canonical_keys(board: Board, positions: Positions) -> UInt64[np.ndarray, " position"]:
    """Return the smaller key of each position and its mirror image."""
    key = positions.mover + positions.stones + board.bottom
    return np.minimum(key, mirror_images(board, key))


def are_telling(scores: Int8[np.ndarray, "position column"]) -> Bool[np.ndarray, " position"]:
    """Return for each position whether its legal moves lead to more than one outcome."""
    outcomes = np.sign(scores)
    highest = np.where(scores == ILLEGAL, -2, outcomes).max(axis=1)
    lowest = np.where(scores == ILLEGAL, 2, outcomes).min(axis=1)
    return highest != lowest


def all_positions(board: Board, ply: int) -> Positions:
    """Return every different position without four in a row that can arise after `ply` moves, with one game that leads there.

    Mirror images count as different. There are 1, 7, 49, 238, 1120, 4263, 16422, 54131, 182383 of the usual board.
    """
    start = np.zeros(1, np.uint64)
    found = Positions(start, start, np.zeros((1, 0), np.uint8))
    for _ in range(ply):
        falling = falling_stones(board, found.stones)
        row, column = np.nonzero(falling)
        mover, stones = found.mover[row] ^ found.stones[row], found.stones[row] | falling[row, column]
        goes_on = ~are_four(board, mover ^ stones)
        _, first = np.unique((mover + stones)[goes_on], return_index=True)
        kept = np.flatnonzero(goes_on)[first]
        moves = np.concatenate([found.moves[row[kept]], column[kept, None].astype(np.uint8)], axis=1)
        found = Positions(mover[kept], stones[kept], moves)
    return found
