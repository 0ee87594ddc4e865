"""The search of the Connect-4 solver, compiled: null-window negamax with a table, on a stack of its own (eflow 8.1).

A search asks only whether a score is above a bound, so a node has one bound, `alpha`, in place of a window. What it answers
bounds the true score: from above if it is at most `alpha`, else from below. The stack lies in arrays of the caller, so a search
can stop after a number of nodes and go on later: compiled code cannot be interrupted otherwise.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt

from narrows.games.solver.board import Board, board_of
from narrows.games.solver.compiled import compiled

_MIX = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying by it loses nothing of a key; 2^64 over the golden ratio spreads keys over the table."""

_ONE, _TWO, _THREE, _EIGHT, _BYTE, _WORD = (np.uint64(number) for number in (1, 2, 3, 8, 255, 64))
_S1, _S2, _S4 = (np.uint64(mask) for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
_BYTES, _TOP = np.uint64(0x0101010101010101), np.uint64(56)

_MOVER, _STONES, _MIXED, _MOVES = 0, 1, 2, 3
_ALPHA, _BEST, _NEXT, _COUNT = 0, 1, 2, 3
_DEPTH, _BASE, _VALUE = 0, 1, 2


class Stack(NamedTuple):
    """Where a search stands: a row a depth.

    Attributes:
        words: the mover's stones, all stones, the mixed key, the moves in the order in which they are tried.
        numbers: `alpha`, the best score so far, the number of the move being tried, how many moves there are.
        control: the depth or -1 when the search has ended, the stones of the position that it began with, what it found.
        order: the columns, in the order that decides between moves which promise the same.
    """

    words: UInt[np.ndarray, "depth word"]
    numbers: Int[np.ndarray, "depth number"]
    control: Int[np.ndarray, " number"]
    order: Int[np.ndarray, " column"]


def new_stack(width: int, height: int) -> Stack:
    """Return an idle stack for a board."""
    depth = board_of(width, height).cells + 2
    # Columns near the middle first, the left one of two: 3, 2, 4, 1, 5, 0, 6.
    order = sorted(range(width), key=lambda column: (abs(2 * column - (width - 1)), column))
    return Stack(
        np.zeros((depth, _MOVES + width), np.uint64),
        np.zeros((depth, 4), np.int64),
        np.asarray([-1, 0, 0], np.int64),
        np.asarray(order, np.int64),
    )


@compiled
def winning_cells(board: Board, own: np.uint64, stones: np.uint64) -> np.uint64:
    """Return the empty cells, in reach or not, in which one more stone makes four of `own`."""
    wins = (own << _ONE) & (own << _TWO) & (own << _THREE)
    for step in (board.side - _ONE, board.side, board.side + _ONE):
        two_below = (own << step) & (own << (_TWO * step))
        two_above = (own >> step) & (own >> (_TWO * step))
        wins |= two_below & ((own << (_THREE * step)) | (own >> step))
        wins |= two_above & ((own >> (_THREE * step)) | (own << step))
    return wins & board.full & ~stones


@compiled
def count_bits(word: np.uint64) -> np.int64:
    """Return how many bits of a word are set."""
    word = word - ((word >> _ONE) & _S1)
    word = (word & _S2) + ((word >> _TWO) & _S2)
    word = (word + (word >> np.uint64(4))) & _S4
    return np.int64((word * _BYTES) >> _TOP)


@compiled
def mirrored(board: Board, word: np.uint64) -> np.uint64:
    """Return a word with its columns in the opposite order."""
    column = (_ONE << board.side) - _ONE
    result = np.uint64(0)
    for _ in range(board.width):
        result = (result << board.side) | (word & column)
        word >>= board.side
    return result


@compiled
def begin(stack: Stack, mover: np.uint64, stones: np.uint64, alpha: int) -> None:
    """Put a position, in which the mover cannot win at once, on the stack: is its score above `alpha`?"""
    stack.words[0, _MOVER] = mover
    stack.words[0, _STONES] = stones
    stack.numbers[0, _ALPHA] = alpha
    stack.control[_DEPTH] = 0
    stack.control[_BASE] = count_bits(stones)


@compiled
def proceed(board: Board, table: UInt[np.ndarray, " slot"], stack: Stack, budget: int) -> int:
    """Search until the end or until `budget` nodes have been seen; return how many were seen.

    The table keeps a word a slot: what the slot's number does not say of the mixed key, and 8 bits for a bound: 1 and up for
    a score at most, with `2 top + 1` added for a score at least.
    """
    words, numbers, control, order = stack.words, stack.numbers, stack.control, stack.order
    depth, base = control[_DEPTH], control[_BASE]
    top = (board.cells + 1) // 2
    span = 2 * top + 1
    bits = np.uint64(count_bits(np.uint64(table.size - 1)))
    column = board.full & ((_ONE << board.side) - _ONE)
    num_mirrored = 4 * board.cells // 7  # later positions have too few equals to pay for looking for them
    nodes = 0
    while True:
        if nodes >= budget:
            control[_DEPTH] = depth
            return nodes
        nodes += 1
        mover, stones, alpha = words[depth, _MOVER], words[depth, _STONES], numbers[depth, _ALPHA]
        num_stones = base + depth
        other_wins = winning_cells(board, mover ^ stones, stones)
        moves = (stones + board.bottom) & board.full
        forced = moves & other_wins
        if forced != 0:
            moves = forced if forced & (forced - _ONE) == 0 else np.uint64(0)
        moves &= ~(other_wins >> _ONE)
        highest, lowest = (board.cells - 1 - num_stones) // 2, -((board.cells - 2 - num_stones) // 2)
        is_settled = True
        value = 0
        if moves == 0:
            value = -((board.cells - num_stones) // 2)
        elif num_stones >= board.cells - 2:
            value = 0
        elif highest <= alpha:
            value = highest
        elif lowest > alpha:
            value = lowest
        else:
            key = mover + stones + board.bottom
            if num_stones < num_mirrored:
                key = min(key, mirrored(board, key))
            mixed = key * _MIX
            word = table[mixed >> (_WORD - bits)]
            code = np.int64(word & _BYTE)
            is_settled = False
            if code != 0 and (word >> _EIGHT) == ((mixed << bits) >> bits):
                if code <= span:
                    value = code - 1 - top
                    is_settled = value <= alpha
                else:
                    value = code - 1 - span - top
                    is_settled = value > alpha
            if not is_settled:
                words[depth, _MIXED] = mixed
                count = 0
                for place in range(board.width):
                    move = moves & (column << (board.side * np.uint64(order[place])))
                    if move != 0:
                        promise = count_bits(winning_cells(board, mover | move, stones))
                        slot = count
                        # The row below is not in use yet: it holds what each move promises while they are put in order.
                        while slot > 0 and np.int64(words[depth + 1, _MOVES + slot - 1]) < promise:
                            words[depth, _MOVES + slot] = words[depth, _MOVES + slot - 1]
                            words[depth + 1, _MOVES + slot] = words[depth + 1, _MOVES + slot - 1]
                            slot -= 1
                        words[depth, _MOVES + slot] = move
                        words[depth + 1, _MOVES + slot] = np.uint64(promise)
                        count += 1
                numbers[depth, _BEST] = -span
                numbers[depth, _NEXT] = 0
                numbers[depth, _COUNT] = count
        while is_settled:
            if depth == 0:
                control[_DEPTH] = -1
                control[_VALUE] = value
                return nodes
            depth -= 1
            value = -value
            best = max(value, numbers[depth, _BEST])
            numbers[depth, _BEST] = best
            numbers[depth, _NEXT] += 1
            is_above = best > numbers[depth, _ALPHA]
            is_settled = is_above or numbers[depth, _NEXT] == numbers[depth, _COUNT]
            if is_settled:
                value = best
                mixed = words[depth, _MIXED]
                code = best + 1 + top + (span if is_above else 0)
                table[mixed >> (_WORD - bits)] = (((mixed << bits) >> bits) << _EIGHT) | np.uint64(code)
        mover, stones = words[depth, _MOVER], words[depth, _STONES]
        words[depth + 1, _MOVER] = mover ^ stones
        words[depth + 1, _STONES] = stones | words[depth, _MOVES + numbers[depth, _NEXT]]
        numbers[depth + 1, _ALPHA] = -numbers[depth, _ALPHA] - 1
        depth += 1


@compiled
def narrow(
    board: Board,
    table: UInt[np.ndarray, " slot"],
    stack: Stack,
    position: UInt[np.ndarray, "2"],
    bounds: Int[np.ndarray, "2"],
    is_weak: bool,
    budget: int,
) -> int:
    """Narrow the bounds of a score until it is known, or its sign if `is_weak`, or `budget` nodes have been seen.

    Bounds that are far apart are halved, away from zero: what a shallow search can settle is asked first.
    """
    nodes = 0
    while True:
        low, high = bounds[0], bounds[1]
        if low == high or (is_weak and (low > 0 or high < 0)):
            return nodes
        if is_weak:
            alpha = 0 if high > 0 else -1
        else:
            alpha = (low + high) // 2
            if alpha <= 0 and -(-low // 2) < alpha:
                alpha = -(-low // 2)
            elif alpha >= 0 and high // 2 > alpha:
                alpha = high // 2
        if stack.control[_DEPTH] < 0:
            begin(stack, position[0], position[1], alpha)
        nodes += proceed(board, table, stack, budget - nodes)
        if stack.control[_DEPTH] >= 0:
            return nodes
        if stack.control[_VALUE] > alpha:
            bounds[0] = stack.control[_VALUE]
        else:
            bounds[1] = stack.control[_VALUE]
