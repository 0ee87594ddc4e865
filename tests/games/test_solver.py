"""The solver against plain minimax, the counts of the specification (eflow 8.4, 9) and small boards solved at once."""

import subprocess
import sys
import threading
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from tests.games.opening_book import all_positions
from tests.reference import connect_four as plain

from narrows.envs.bitboard import boards
from narrows.envs.connect_four import ConnectFour, ConnectFourState
from narrows.envs.tic_tac_toe import LINES, TicTacToe, TicTacToeState
from narrows.games.notation import position_of
from narrows.games.rules import batch_of
from narrows.games.solver import Judge, PerfectPlayer, SmallBoard, Solver, solve_tic_tac_toe
from narrows.games.solver import solver as solver_module
from narrows.games.solver.board import board_of, stones_to_win
from narrows.games.solver.compiled import compiled
from narrows.games.solver.positions import (
    are_calm,
    are_telling,
    canonical_keys,
    mirror_images,
    random_positions,
    replayed,
)
from narrows.games.solver.search import count_bits, mirrored, winning_cells


@pytest.fixture(scope="module")
def solver():
    return Solver(table_bits=18)


ALL = pytest.mark.slow("plain minimax takes long; every fourth of them guards the same")


@pytest.fixture(scope="module", params=[4, pytest.param(1, marks=ALL)])
def late(request):
    """2,840 random positions after 30 moves and more, or every so many of them, as words and as columns."""
    board, generator, parts = board_of(7, 6), np.random.default_rng(5), []
    for ply in range(30, 42):
        num, found = (40 if ply < 34 else 335), []  # plain minimax is slow where many cells are empty
        while sum(len(batch.stones) for batch in found) < num:
            found.append(random_positions(board, ply, 8000, generator))
        *stones, moves = (np.concatenate(fields)[:num] for fields in zip(*found, strict=True))
        parts.append((*stones, [plain.played(7, 6, row.tolist())[0] for row in moves]))
    mover, stones, columns = zip(*parts, strict=True)
    every = slice(None, None, request.param)
    return np.concatenate(mover)[every], np.concatenate(stones)[every], sum(columns, [])[every]


def signs(scores):
    return np.where(scores == -100, -100, np.sign(scores))


def test_scores_equal_plain_minimax(solver, late):
    mover, stones, columns = late
    assert [plain.words(column, 6) for column in columns] == list(zip(mover.tolist(), stones.tolist(), strict=True))
    expected = np.array([plain.scores(column, 6) for column in columns])
    assert len(expected) in (2840, 2840 // 4)
    assert len(np.unique(expected)) > 10
    np.testing.assert_array_equal(solver.scores(mover, stones), expected)
    np.testing.assert_array_equal(solver.scores(mover, stones, weak=True), signs(expected))
    np.testing.assert_array_equal(solver.value(mover, stones), expected.max(axis=1))
    np.testing.assert_array_equal(solver.value(mover, stones, weak=True), np.sign(expected.max(axis=1)))


@pytest.mark.parametrize(("width", "height", "left"), [(8, 7, 8), (9, 6, 7), (12, 4, 7), (5, 8, 8), (7, 8, 10), (6, 5, 10)])
def test_other_boards_equal_plain_minimax(width, height, left):
    judge = Solver(width, height, table_bits=10)
    generator = np.random.default_rng(width)
    found = random_positions(judge.board, width * height - left, 8000, generator)
    assert len(found.stones) >= 15
    rows = slice(0, 40)
    expected = [plain.scores(plain.played(width, height, moves.tolist())[0], height) for moves in found.moves[rows]]
    np.testing.assert_array_equal(judge.scores(found.mover[rows], found.stones[rows]), expected)


def test_openings_of_a_small_board_equal_plain_minimax():
    found = all_positions(board_of(4, 4), 3)
    mover, stones, moves = (field[::4] for field in (found.mover, found.stones, found.moves))
    expected = [plain.scores(plain.played(4, 4, row.tolist())[0], 4) for row in moves]
    np.testing.assert_array_equal(Solver(4, 4, table_bits=12).scores(mover, stones), expected)
    np.testing.assert_array_equal(SmallBoard(4, 4).scores(mover, stones), expected)


@pytest.mark.parametrize(("width", "height", "count"), [(4, 4, 134_289), (4, 5, 1_348_441)])
def test_a_small_board_has_every_position_and_the_solver_agrees(width, height, count):
    small = SmallBoard(width, height)
    solved = small.all()
    assert small.counts.sum() == len(solved.mover) == count
    for ply in range(5):
        assert small.counts[ply] == len(all_positions(small.board, ply).mover)
    rows = np.random.default_rng(0).choice(count, 2000, replace=False)
    judge = Solver(width, height, table_bits=14)
    np.testing.assert_array_equal(judge.scores(solved.mover[rows], solved.stones[rows]), solved.scores[rows])
    np.testing.assert_array_equal(small.value(solved.mover[rows], solved.stones[rows]), solved.scores[rows].max(axis=1))
    telling = small.all(only_telling=True)
    expected = [len(set(np.sign(row[row > -100]).tolist())) > 1 for row in solved.scores[rows]]
    np.testing.assert_array_equal(are_telling(solved.scores[rows]), expected)
    assert 0 < len(telling.mover) == np.sum(are_telling(solved.scores)) < count


def test_a_small_board_refuses_what_cannot_arise():
    small = SmallBoard(4, 4)
    floating = np.asarray([0b10], np.uint64)
    with pytest.raises(ValueError, match="position 0 is over or cannot arise"):
        small.scores(np.zeros(1, np.uint64), floating)
    with pytest.raises(ValueError, match="position 1 is over"):
        small.value(np.asarray([0, 1 << 60], np.uint64), np.asarray([0, 1 << 60], np.uint64))
    with pytest.raises(ValueError, match="Use Solver"):
        SmallBoard(7, 6)


def test_numbers_of_positions_are_those_of_the_specification():
    board = board_of(7, 6)
    counts = [len(all_positions(board, ply).stones) for ply in range(8)]
    assert counts == [1, 7, 49, 238, 1120, 4263, 16422, 54131]


def test_the_public_eight_ply_set_has_67557_classes():
    board = board_of(7, 6)
    found = all_positions(board, 8)
    assert len(found.stones) == 182_383
    calm = are_calm(board, found)
    assert calm.sum() == 134_934
    assert len(np.unique(canonical_keys(board, found.mover, found.stones)[calm])) == 67_557
    again = replayed(board, found.moves)
    np.testing.assert_array_equal(again.mover, found.mover)
    np.testing.assert_array_equal(again.stones, found.stones)


def mirror_of(word):
    """The columns of a word of the usual board in the opposite order."""
    columns = [(word >> 7 * number) & 127 for number in range(7)]
    return sum(column << 7 * number for number, column in enumerate(reversed(columns)))


def test_helpers_of_the_search_equal_loops_and_python():
    board = board_of(7, 6)
    found = random_positions(board, 16, 200, np.random.default_rng(1))
    for own, both in zip(found.mover[:60].tolist(), found.stones[:60].tolist(), strict=True):
        cells = [1 << (7 * column + row) for column in range(7) for row in range(6)]
        empty = [cell for cell in cells if not both & cell]
        expected = sum(cell for cell in empty if any(line & cell and not line & ~(own | cell) for line in LINES_OF_FOUR))
        assert int(winning_cells(board, np.uint64(own), np.uint64(both))) == expected
        assert int(count_bits(np.uint64(both))) == both.bit_count()
        assert int(mirrored(board, np.uint64(both))) == mirror_of(both)
    np.testing.assert_array_equal(mirror_images(board, found.stones), [mirror_of(both) for both in found.stones.tolist()])


LINES_OF_FOUR = [
    sum(1 << (7 * (column + across * step) + row + up * step) for step in range(4))
    for column in range(7)
    for row in range(6)
    for across, up in ((0, 1), (1, 0), (1, 1), (1, -1))
    if column + 3 * across < 7 and 0 <= row + 3 * up < 6
]


def test_there_are_69_lines_of_four():
    assert len(LINES_OF_FOUR) == 69


def test_a_mirror_image_has_mirrored_scores_and_a_small_table_the_same_ones(solver):
    found = random_positions(solver.board, 20, 60, np.random.default_rng(2))
    scores = solver.scores(found.mover, found.stones)
    images = [mirror_images(solver.board, words) for words in found[:2]]
    np.testing.assert_array_equal(solver.scores(*images), scores[:, ::-1])
    np.testing.assert_array_equal(Solver(table_bits=8).scores(found.mover, found.stones), scores)


def test_a_search_goes_on_after_it_was_stopped(monkeypatch):
    found = random_positions(board_of(7, 6), 16, 40, np.random.default_rng(3))
    expected = Solver(table_bits=16).scores(found.mover[:12], found.stones[:12])
    monkeypatch.setattr(solver_module, "BUDGET", 1000)
    judge, seen = Solver(table_bits=16), []
    np.testing.assert_array_equal(
        judge.scores(found.mover[:12], found.stones[:12], watch=lambda solved, nodes: seen.append((solved, nodes))), expected
    )
    assert seen == sorted(seen)
    assert seen[-1][1] <= judge.nodes
    assert seen[-1][0] > 2

    class Enough(Exception):
        pass

    def stop(solved, nodes):
        raise Enough

    judge.clear()
    with pytest.raises(Enough):
        judge.scores(found.mover[:12], found.stones[:12], watch=stop)
    np.testing.assert_array_equal(judge.scores(found.mover[:12], found.stones[:12]), expected)


def test_threads_share_a_solver():
    found = random_positions(board_of(7, 6), 20, 100, np.random.default_rng(4))
    expected = Solver(table_bits=16).scores(found.mover[:32], found.stones[:32])
    judge, results = Solver(table_bits=16), {}

    def work(part):
        results[part] = judge.scores(found.mover[part::4][:8], found.stones[part::4][:8])

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part, scores in results.items():
        np.testing.assert_array_equal(scores, expected[part::4])


@pytest.mark.parametrize(
    ("own", "both", "reason"),
    [
        (0, 0b10, "floats"),
        (0b1, 0b1, "expected half"),
        (0b100, 0b11, "not among all stones"),
        (0, 1 << 6, "outside the board"),
        (7 << 7, 0b1111 | 7 << 7, "four in a row"),
    ],
)
def test_what_is_no_position_is_refused(solver, own, both, reason):
    with pytest.raises(ValueError, match=reason):
        solver.scores(np.asarray([own], np.uint64), np.asarray([both], np.uint64))


def test_a_full_board_and_wrong_sizes_are_refused(solver):
    with pytest.raises(ValueError, match="at least 4 columns"):
        Solver(3, 6)
    with pytest.raises(ValueError, match="table_bits must be from 8"):
        Solver(table_bits=4)
    full = random_positions(solver.board, 41, 60_000, np.random.default_rng(6))
    last = full.stones ^ solver.board.full
    drawn = solver.value(full.mover, full.stones) == 0
    with pytest.raises(ValueError, match="the board is full"):
        solver.scores((full.mover ^ full.stones)[drawn], (full.stones | last)[drawn])


def test_numba_is_asked_for_by_name_and_loaded_late():
    script = (
        "import sys, narrows.games; from narrows.games.solver import Solver; assert 'numba' not in sys.modules; "
        "sys.modules['numba'] = None; Solver(4, 4, table_bits=8)"
    )
    outcome = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert "pip install 'narrows[games]'" in outcome.stderr


def test_code_without_a_folder_for_its_compiled_form_is_compiled_all_the_same():
    assert compiled(eval("lambda number: number + 1"))(41) == 42


def test_tic_tac_toe_has_the_optimal_sets_of_the_specification():
    solved = solve_tic_tac_toe()
    assert len(solved.mover) == 4520
    outcomes = signs(solved.scores)
    is_best = outcomes == outcomes.max(axis=1, keepdims=True)
    sizes, legal = is_best.sum(axis=1), (solved.scores != -100).sum(axis=1)
    first = legal % 2 == 1
    assert Counter(sizes[first].tolist()) == {1: 1246, 2: 476, 3: 456, 4: 108, 5: 116, 6: 8, 7: 12, 9: 1}
    assert Counter(sizes[~first].tolist()) == {1: 1160, 2: 416, 3: 64, 4: 391, 6: 66}
    assert np.mean(sizes / legal) == pytest.approx(0.57965, abs=5e-6)


def test_tic_tac_toe_scores_equal_a_search_on_lists():
    def best(cells, turn):
        values = {}
        for cell in [cell for cell in range(9) if not cells[cell]]:
            after = [*cells[:cell], turn, *cells[cell + 1 :]]
            if any(all(after[place] == turn for place in line) for line in LINES.tolist()):
                values[cell] = (after.count(0) + 2) // 2
            else:
                values[cell] = -max(best(after, -turn).values(), default=0)
        return values

    solved = solve_tic_tac_toe()
    for row in range(300, 4520, 37):
        cells = [int(solved.mover[row] >> cell & 1) - int(solved.other[row] >> cell & 1) for cell in range(9)]
        assert {cell: score for cell, score in enumerate(solved.scores[row]) if score != -100} == best(cells, 1)


def test_the_perfect_player_plays_every_best_move_and_no_other():
    env = TicTacToe()
    player, generator = PerfectPlayer(env), np.random.default_rng(0)
    assert player.name == "perfect"
    centre_taken = batch_of(position_of(env, "5"))
    many = TicTacToeState(*(jnp.repeat(leaf, 400, axis=0) for leaf in centre_taken))
    counts = Counter(player.choose(many, generator).tolist())
    assert set(counts) == {0, 2, 6, 8}
    assert min(counts.values()) > 60
    small = SmallBoard(4, 4)
    solved = small.all()
    rows = generator.choice(len(solved.mover), 500, replace=False)
    num_moves = jnp.asarray(np.bitwise_count(solved.stones[rows]), jnp.int32)
    states = ConnectFourState(boards(solved.mover[rows]), boards(solved.stones[rows]), num_moves)
    judge = Solver(4, 4, table_bits=12)
    chosen = PerfectPlayer(ConnectFour(4, 4), judge).choose(states, generator)
    assert np.all(solved.scores[rows, chosen] == solved.scores[rows].max(axis=1))
    np.testing.assert_array_equal(Judge(ConnectFour(4, 4), judge).scores(states), solved.scores[rows])
    with pytest.raises(ValueError, match="Make a Solver"):
        Judge(ConnectFour(), judge)


def test_scores_say_with_which_stone_a_game_is_won():
    # The very first stone of 21 wins: the 21st from the last; an opponent's next of 21.
    assert stones_to_win(42, 0, 21) == 1
    assert stones_to_win(42, 1, 21) == 1
    assert stones_to_win(42, 0, -21) == 1
    assert stones_to_win(42, 0, 1) == 21
    assert stones_to_win(42, 30, 0) == 0
