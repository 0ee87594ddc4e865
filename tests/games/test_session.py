"""A game in progress, and what a judge says of it."""

import threading
import time

import numpy as np
import pytest
from tests.games.boards import Board, worth_of_move
from tests.games.heap import OneHeap

from narrows.games.names import game_named
from narrows.games.players import TacticPlayer, UniformPlayer
from narrows.games.session import answered, begin
from narrows.games.verdicts import Referee, perfect_judge

SQUARE = pytest.mark.slow("plays whole games; the board that is no square guards the same")
SIZES = {"tic_tac_toe": (3, 3, 3, False), "connect4-4x4": (4, 4, 4, True), "connect4-5x4": (4, 5, 4, True)}


@pytest.mark.parametrize("name", ["tic_tac_toe", pytest.param("connect4-4x4", marks=SQUARE), "connect4-5x4"])
def test_a_session_is_what_a_board_of_plain_python_is(name):
    env, generator = game_named(name), np.random.default_rng(5)
    ends = set()
    for _ in range(6):
        session, board = begin(env), Board(*SIZES[name])
        while True:
            assert session.rows == board.text()
            assert list(session.legal) == board.legal()
            assert list(session.winning_cells()) == board.winning()
            assert session.winner == board.winner()
            assert session.is_over == (board.legal() == [])
            assert session.turn == (None if session.is_over else board.num_stones % 2)
            if session.is_over:
                break
            action = int(generator.choice(session.legal))
            place = board.place(action)
            session, board = session.play(action), board.play(action)
            assert session.last_cell() == place
        assert begin(env, session.moves).rows == session.rows
        ends.add(session.winner)
    assert {0, 1} <= ends


def test_all_lines_that_one_move_completes_win():
    # The first player holds 1, 2, 6 and 9 and puts 3: a row and a column at once.
    session = begin(game_named("tic_tac_toe"), "142765983")
    assert session.winner == 0
    assert session.winning_cells() == ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2))


def test_taking_back_leads_to_the_positions_that_were():
    env = game_named("connect4-4x4")
    session = begin(env, "1223")
    assert session.take_back(0).moves == ("1", "2") and session.take_back(1).moves == ("1", "2", "2")
    assert session.moves == ("1", "2", "2", "3"), "the game itself stays as it is"
    assert session.take_back(0).rows == begin(env, "12").rows
    won = begin(env, "1212121")
    assert won.is_over and won.take_back(0).moves == ("1", "2", "1", "2", "1", "2") and won.take_back(0).turn == 0
    with pytest.raises(ValueError, match="no move of yours to take back"):
        begin(env, "1").take_back(1)


@pytest.mark.parametrize(
    ("moves", "name", "reason"),
    [
        ("", "5", "'5' is not a move. Expected one of 1, 2, 3, 4"),
        ("", "", "'' is not a move"),
        ("", "1" * 300, r"'1{17}\.\.\.' is not a move"),
        ("1111", "1", "1 cannot be played now: column 1 is full. Legal: 2, 3, 4"),
        ("1212121", "3", "the game is over: the first player has won. Take a move back"),
    ],
)
def test_a_move_that_cannot_be_played_says_why(moves, name, reason):
    session = begin(game_named("connect4-4x4"), moves)
    with pytest.raises(ValueError, match=reason):
        session.play_named(name)
    with pytest.raises(ValueError, match=f"move {len(moves) + 1}: "):
        begin(session.env, [*moves, name])


def test_wide_boards_name_columns_by_letters_in_capitals_or_not():
    session = begin(game_named("connect4-12x4"), "aC")
    assert session.actions == (9, 11) and session.moves == ("A", "C")


def test_a_game_without_lines_is_played_as_well():
    env = OneHeap()
    session = begin(env, ["two", "One"])
    assert (session.rows, session.turn, session.legal) == (("2",), 0, (0, 1))
    session = session.play_named("two")
    assert session.is_over and session.winner == 0 and session.winning_cells() == () and session.last_cell() is None


def test_opponents_answer_and_an_ended_game_has_no_answer():
    env = game_named("connect4-4x4")
    generator = np.random.default_rng(0)
    session = begin(env, "121")
    assert answered(begin(env, "12121"), TacticPlayer(env), generator).moves[-1] == "1", "it blocks"
    assert len(answered(session, UniformPlayer(env), generator).moves) == 4
    with pytest.raises(ValueError, match="the game is over"):
        answered(begin(env, "1212121"), UniformPlayer(env), generator)


@pytest.mark.parametrize(("name", "least"), [("tic_tac_toe", 3), ("connect4-4x4", 9)])
def test_verdicts_are_those_of_play_to_the_end(name, least, monkeypatch, tmp_path):
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path))
    env, generator = game_named(name), np.random.default_rng(1)
    judge = perfect_judge(env)
    assert judge is not None
    referee = Referee(judge, 60.0)
    seen, num = set(), 0
    while num < 15:
        session = begin(env)
        for _ in range(int(generator.integers(least, env.max_steps))):
            if not session.is_over:
                session = session.play(int(generator.choice(session.legal)))
        if session.is_over or len(session.actions) < least:
            continue
        num += 1
        truth = {action: worth_of_move(SIZES[name], session.actions, action) for action in session.legal}
        best = max(truth.values(), key=lambda end: (end[0], -end[0] * end[1]))
        verdicts = referee.verdicts(session)
        assert [verdict.name for verdict in verdicts] == [env.action_names[action] for action in session.legal]
        for verdict, (result, length) in zip(verdicts, truth.values(), strict=True):
            # The mover's own stones are the first, third ... of the moves to come, the other's the second, fourth ...
            stones = (length + 1) // 2 if result > 0 else length // 2
            assert verdict.words == ("draw" if result == 0 else f"{'wins' if result > 0 else 'loses'} in {stones}")
            assert verdict.is_best == ((result, length if result else 0) == (best[0], best[1] if best[0] else 0))
            seen.add(verdict.words[:4])
    assert seen >= {"wins", "draw"}


def test_who_waits_too_long_is_told_and_finds_the_answer_later():
    env = game_named("connect4-4x4")
    release, asked = threading.Event(), []

    def judge(state, look_up):
        asked.append(int(state.num_moves))
        assert release.wait(10.0)
        return [0, 1, -1, 0]

    referee = Referee(judge, 0.05)
    slow, other = begin(env, "12"), begin(env, "3")
    with pytest.raises(ValueError, match="too deep to solve here, ask again after a few more moves"):
        referee.verdicts(slow)
    with pytest.raises(ValueError, match="busy with an earlier position"):
        referee.verdicts(other)
    release.set()
    deadline = time.monotonic() + 5.0
    while True:
        try:
            found = referee.verdicts(slow)
            break
        except ValueError:
            assert time.monotonic() < deadline
    assert [verdict.is_best for verdict in found] == [False, True, False, False]
    assert asked == [2], "the question is asked once, and a question that was taken back never"
    assert len(referee.verdicts(other)) == 4 and asked == [2, 1]


def test_a_judge_that_looks_up_is_stopped_and_asked_again():
    env, tries = game_named("connect4-4x4"), []
    has_stopped = threading.Event()

    def judge(state, look_up):
        tries.append(state)
        try:
            while len(tries) == 1:
                look_up()
                time.sleep(0.005)
        except BaseException:
            has_stopped.set()
            raise
        return [0, 0, 0, 0]

    referee = Referee(judge, 0.1)
    with pytest.raises(ValueError, match="too deep"):
        referee.verdicts(begin(env))
    assert has_stopped.wait(5.0)
    time.sleep(0.05)
    assert len(referee.verdicts(begin(env))) == 4 and len(tries) == 2


def test_a_judge_that_fails_says_so_every_time():
    def judge(state, look_up):
        raise ValueError("numba is missing. Do: pip install 'narrows[games]'")

    referee = Referee(judge)
    for _ in range(2):
        with pytest.raises(ValueError, match="pip install"):
            referee.verdicts(begin(game_named("tic_tac_toe")))
    with pytest.raises(ValueError, match="nothing to judge"):
        referee.verdicts(begin(game_named("tic_tac_toe"), "14253"))
