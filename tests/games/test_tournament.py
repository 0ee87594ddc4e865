"""Openings, tournaments and what is told of them, against games played one by one; and the commands around them."""

import json
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
import tyro
from tests.games.boards import Board
from tests.games.tables import Leftmost

from narrows.commands.games import competing
from narrows.envs.connect_four import ConnectFour
from narrows.envs.contract import rows_of
from narrows.envs.tic_tac_toe import TicTacToe
from narrows.games import openings as listing
from narrows.games.alphazero import SearchPlayer
from narrows.games.elo import score_interval
from narrows.games.exam import exam
from narrows.games.folder import save_player
from narrows.games.notation import moves_of
from narrows.games.openings import beginnings, openings, usual_plies
from narrows.games.players import NetworkPlayer, TacticPlayer, UniformPlayer
from narrows.games.recipe import Recipe
from narrows.games.rules import batch_of, moved
from narrows.games.sets import EvaluationSet, quiet, save
from narrows.games.solver import PerfectPlayer, SmallBoard, solve_tic_tac_toe
from narrows.games.standings import json_lines, picture, render
from narrows.games.tournament import tournament, written
from narrows.policies import MLP, Scaled, sizes_of

CELLS, SMALL = TicTacToe(), ConnectFour(4, 4)
FEW = pytest.mark.slow("compiles again; two moves have them as their beginnings")
STARTS = [pytest.param(CELLS, 0, marks=FEW), pytest.param(CELLS, 1, marks=FEW), (CELLS, 2), (SMALL, 3)]
SIZES = {(3, 3): (3, 3, 3, False), (4, 4): (4, 4, 4, True)}


@pytest.fixture(scope="module")
def network():
    """A network that has not learned anything, but plays otherwise than whoever plays leftmost."""
    policy = MLP(sizes_of(SMALL, flow_head=True), hidden=16, key=jax.random.key(3))
    return NetworkPlayer(SMALL, policy, "network")


@pytest.fixture(scope="module")
def small(network):
    """Three players on 4 by 4 cells; only one of them has randomness."""
    players = [Leftmost(SMALL), network, TacticPlayer(SMALL)]
    return tournament(SMALL, players, openings(SMALL, 2), seed=5)


def after(env, moves):
    board = Board(*SIZES[env.board])
    for move in moves:
        board.play(move)
    return board


def slow_positions(env, plies):
    """The distinct boards after so many moves, by playing all games."""
    games = [()]
    for _ in range(plies):
        games = [(*game, move) for game in games for move in after(env, game).legal()]
        games = [game for game in games if after(env, game).winner() is None and after(env, game).legal()]
    return {after(env, game).text() for game in games}


@pytest.mark.parametrize(("env", "plies"), STARTS)
def test_all_openings_are_those_of_all_games(env, plies):
    found = openings(env, plies)
    texts = [after(env, moves).text() for moves in found.moves.tolist()]
    assert len(set(texts)) == found.num
    assert set(texts) == slow_positions(env, plies)
    assert [tuple(text.split("/")) for text in env.to_text(found.states)] == texts


def test_the_usual_openings_are_as_many_as_the_specification_says():
    assert usual_plies(ConnectFour()) == 4
    assert openings(CELLS, usual_plies(CELLS)).num == 72


@pytest.mark.slow("compiles moves for a thousand boards; test_solver.py has as many positions after four moves")
def test_the_usual_openings_of_connect_four_are_as_many():
    assert openings(ConnectFour(), usual_plies(ConnectFour())).num == 1120


@pytest.mark.parametrize("limit", [10_000, 30])
def test_a_sample_has_distinct_openings_and_a_seed(limit, monkeypatch):
    monkeypatch.setattr(listing, "LIMIT", limit)
    found, again, other = (openings(SMALL, 3, 40, seed=seed) for seed in (1, 1, 2))
    assert found.num == 40
    np.testing.assert_array_equal(found.moves, again.moves)
    assert not np.array_equal(found.moves, other.moves)
    texts = {after(SMALL, moves).text() for moves in found.moves.tolist()}
    assert len(texts) == 40
    assert texts <= slow_positions(SMALL, 3)
    assert [tuple(text.split("/")) for text in SMALL.to_text(found.states)] == [
        after(SMALL, moves).text() for moves in found.moves.tolist()
    ]


def test_openings_that_cannot_be_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="every game is over after 9 moves"):
        openings(CELLS, 9)
    with pytest.raises(ValueError, match="at least one opening, got plies=2 and num=0"):
        openings(CELLS, 2, 0)
    assert openings(CELLS, 1, 1000).num == 9, "there are no more"
    monkeypatch.setattr(listing, "LIMIT", 5)
    with pytest.raises(ValueError, match="more than 5 positions after 2 moves. Ask for a sample"):
        openings(CELLS, 2)


def slow_game(env, pair, moves):
    """The moves of one game, its players asked one position at a time."""
    moves = list(moves)
    board, states = after(env, moves), batch_of(env.reset())
    for move in moves:
        states = moved(env, states, np.asarray([move]))
    while board.winner() is None and board.legal():
        move = int(pair[len(moves) % 2].choose(states, np.random.default_rng(0))[0])
        moves.append(move)
        board.play(move)
        states = moved(env, states, np.asarray([move]))
    return moves, {0: 1.0, 1: 0.0, None: 0.5}[board.winner()]


def test_games_side_by_side_are_those_played_one_by_one(small, network):
    played = next(pairing for pairing in small.played if (pairing.first, pairing.second) == (0, 1))
    one, other = Leftmost(SMALL), network
    for row in range(0, len(small.openings), 3):
        moves, worth = slow_game(SMALL, (one, other), small.openings[row].tolist())
        assert [move for move in played.moves[row, 0].tolist() if move >= 0] == moves
        assert played.points[row, 0] == worth
        moves, worth = slow_game(SMALL, (other, one), small.openings[row].tolist())
        assert [move for move in played.moves[row, 1].tolist() if move >= 0] == moves
        assert played.points[row, 1] == 1 - worth


def test_every_game_is_legal_ends_and_has_the_points_of_its_end(small):
    for played in small.played:
        assert played.points.shape == (len(small.openings), 2)
        for row, colour in np.ndindex(played.points.shape):
            moves = [move for move in played.moves[row, colour].tolist() if move >= 0]
            assert moves[:2] == small.openings[row].tolist()
            board = Board(*SIZES[SMALL.board])
            for move in moves:
                assert move in board.legal()
                board.play(move)
            assert not board.legal()
            first = {0: 1.0, 1: 0.0, None: 0.5}[board.winner()]
            assert played.points[row, colour] == (first if colour == 0 else 1 - first)


def test_standings_count_every_game_of_a_player(small):
    standings = small.standings()
    assert [row.rating for row in standings] == sorted((row.rating for row in standings), reverse=True)
    assert np.mean([row.rating for row in standings]) == pytest.approx(1500)
    for row in standings:
        number = small.players.index(row.name)
        scores = [small.score(number, other).mean for other in range(3) if other != number]
        assert row.num_games == 2 * 2 * len(small.openings)
        assert row.score == pytest.approx(np.mean(scores))
        assert row.interval.low <= row.rating <= row.interval.high
    assert small.num_games == 3 * 2 * len(small.openings)
    forth, back = small.score(0, 2), small.score(2, 0)
    assert forth.mean == pytest.approx(1 - back.mean)
    assert forth.interval == score_interval(small.points(0, 2).sum(axis=1), 2)
    assert forth.interval.low == pytest.approx(1 - back.interval.high)
    with pytest.raises(ValueError, match="players 0 and 7 have not met"):
        small.points(0, 7)


def test_two_players_are_rated_as_their_score_says():
    found = tournament(CELLS, [UniformPlayer(CELLS), TacticPlayer(CELLS)], openings(CELLS, 2), seed=2)
    best, worst = found.standings()
    assert (best.name, worst.name) == ("tactic", "random")
    expected_score = 1 / (1 + 10 ** ((worst.rating - best.rating) / 400))
    assert expected_score == pytest.approx(best.score, abs=2e-3)
    assert best.interval.low > worst.interval.high


def test_the_perfect_player_never_loses_a_game_that_is_not_lost_yet():
    found = tournament(CELLS, [PerfectPlayer(CELLS), UniformPlayer(CELLS)], beginnings(CELLS, 60), seed=1)
    points = found.points(0, 1)
    assert points.min() >= 0.5
    assert points.mean() > 0.85
    assert points[:, 0].mean() > points[:, 1].mean(), "whoever begins has an advantage"


def test_colours_are_balanced():
    """One player against themselves under two names scores as much as they give away with the other colour."""
    found = tournament(SMALL, [Leftmost(SMALL, "one"), Leftmost(SMALL, "two")], openings(SMALL, 2))
    points = found.points(0, 1)
    np.testing.assert_array_equal(points[:, 0], 1 - points[:, 1])
    assert found.score(0, 1).mean == 0.5
    assert len(set(points[:, 0].tolist())) > 1


def test_a_pairing_does_not_depend_on_who_else_plays():
    begun = openings(CELLS, 2, 20)
    two = [UniformPlayer(CELLS), TacticPlayer(CELLS)]
    alone = tournament(CELLS, two, begun, seed=4)
    more = tournament(CELLS, [Leftmost(CELLS), *two], begun, seed=4)
    again = tournament(CELLS, two, begun, seed=5)
    np.testing.assert_array_equal(alone.points(0, 1), more.points(1, 2))
    assert not np.array_equal(alone.played[0].moves, again.played[0].moves)


class Wrong:
    """Answers with whatever it was given."""

    name = "wrong"

    def __init__(self, answer):
        self.answer = answer

    def choose(self, states, generator):
        return np.full(len(np.asarray(states.mover)), self.answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (0, r"player 'wrong' made an illegal move: '1' after '(1[2-9]|[2-9]1)'. Legal there: "),
        (9, r"player 'wrong' made an illegal move: number 9 after"),
        (-1, r"player 'wrong' made an illegal move: number -1 after"),
        (0.5, r"player 'wrong' was asked about \d+ positions .* whole numbers, got float64"),
        ([1, 2], r"player 'wrong' was asked about \d+ positions .* got int64 of shape"),
    ],
)
def test_whoever_answers_wrongly_is_named(answer, message):
    player = Wrong(answer)
    if isinstance(answer, list):
        player.choose = lambda states, generator: np.asarray(answer)
    with pytest.raises(ValueError, match=message):
        tournament(CELLS, [player, Leftmost(CELLS)], openings(CELLS, 2, 40))


def test_players_of_one_name_and_lone_players_are_refused():
    begun = openings(CELLS, 1)
    with pytest.raises(ValueError, match="two are called 'leftmost'"):
        tournament(CELLS, [Leftmost(CELLS), Leftmost(CELLS)], begun)
    with pytest.raises(ValueError, match="two or more players of different names, got 1"):
        tournament(CELLS, [Leftmost(CELLS)], begun)


def test_lines_of_json_hold_every_game(small):
    lines = [json.loads(line) for line in json_lines(SMALL, small)]
    kinds = [line["kind"] for line in lines]
    assert kinds == ["tournament"] + 3 * ["player"] + 3 * ["pairing"] + small.num_games * ["game"]
    assert lines[0]["players"] == list(small.players)
    points = dict.fromkeys(small.players, 0.0)
    for line in lines:
        if line["kind"] == "game":
            board = after(SMALL, ["1234".index(name) for name in line["moves"]])
            assert line["points"] == {0: 1.0, 1: 0.0, None: 0.5}[board.winner()]
            points[line["first"]] += line["points"]
            points[line["second"]] += 1 - line["points"]
    for line in lines:
        if line["kind"] == "player":
            assert points[line["name"]] == line["wins"] + line["draws"] / 2
    assert moves_of(SMALL, lines[-1]["moves"]) == ["1234".index(name) for name in lines[-1]["moves"]]
    assert written(SMALL, np.asarray([0, 3, -1])) == "14"


def test_the_table_and_the_picture_name_everybody(small):
    text, svg = render(small), picture(small)
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert picture(small) == svg, "the same tournament gives the same picture"
    for row in small.standings():
        assert row.name in text
        assert f"{row.rating:.0f}" in text
        assert f">{row.name}<" in svg
    assert f"{small.num_games} games: {len(small.openings)} openings of 2 moves" in text


def test_an_exam_of_tic_tac_toe_is_what_the_specification_says():
    questions = exam(CELLS)
    is_legal = questions.scores > -100
    uniform = questions.grade(is_legal / is_legal.sum(axis=1, keepdims=True))
    assert len(questions) == uniform.overall.num == 4520
    assert uniform.overall.outcome == pytest.approx(0.57965, abs=5e-6)
    masks = jax.vmap(CELLS.action_mask)(questions.states)
    np.testing.assert_array_equal(masks, is_legal)
    best = questions.grade(PerfectPlayer(CELLS).choose(questions.states, np.random.default_rng(0)))
    assert best.overall.strict == best.overall.outcome == 1.0
    with pytest.raises(ValueError, match="no set 'quiet' of tic-tac-toe"):
        exam(CELLS, "quiet")


def test_an_exam_of_a_small_board_has_the_positions_in_which_moves_differ(tmp_path):
    questions, board = exam(SMALL), SmallBoard(4, 4)
    assert len(questions) == len(board.all(only_telling=True).mover)
    mask = np.asarray(jax.vmap(SMALL.action_mask)(questions.states))
    np.testing.assert_array_equal(mask, questions.scores > -100)
    chosen = TacticPlayer(SMALL).choose(questions.states, np.random.default_rng(0))
    rows = range(0, len(questions), 997)
    graded = exam(SMALL, num=10**9).grade(chosen).overall.outcome
    kept = [np.sign(row[move]) == np.sign(row.max()) for row, move in zip(questions.scores, chosen.tolist(), strict=True)]
    assert graded == pytest.approx(np.mean(kept))
    assert all(int(rows_of(questions.states, row).num_moves) == questions.ply[row] for row in rows)
    sample = exam(SMALL, num=50, seed=1)
    assert sample.name.startswith("50 of ")
    assert set(map(tuple, sample.scores.tolist())) <= set(map(tuple, questions.scores.tolist()))
    found = EvaluationSet(4, 4, "random", 0, np.zeros((1, 0), np.uint8), board.all().scores[:1] * 0)
    save(found, tmp_path / "empty.npz")
    assert len(exam(SMALL, str(tmp_path / "empty.npz"))) == 1
    with pytest.raises(ValueError, match="is of 4 columns by 4 rows, the player's board has 5 by 4"):
        exam(ConnectFour(5, 4), str(tmp_path / "empty.npz"))
    with pytest.raises(ValueError, match="there is no set 'loud'"):
        exam(SMALL, "loud")


def test_the_usual_exam_of_connect_four_is_the_quiet_set():
    questions, whole = exam(ConnectFour(), num=300), quiet()
    assert len(exam(ConnectFour())) == len(whole)
    assert questions.name == f"300 of {len(whole)} quiet positions"
    mask = np.asarray(jax.vmap(ConnectFour().action_mask)(questions.states))
    np.testing.assert_array_equal(mask, questions.scores > -100)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a network for tic-tac-toe; it has not learned anything."""
    folder = tmp_path_factory.mktemp("runs") / "untrained"
    network = {"name": "MLP", "hidden": 16}
    recipe = Recipe("tic_tac_toe", network, {}, {}, {}, num_steps=1, every=1, algorithm="alphazero")
    save_player(folder, Scaled(recipe.make_policy(jax.random.key(0)), 1.0, 1.0), recipe, 1)
    return folder


def test_the_command_plays_a_tournament_and_writes_it_down(trained, tmp_path):
    words = [str(trained), "random", "tactic", "perfect", "--games", "30", "--seed", "3", "--out", str(tmp_path / "out")]
    found = tyro.cli(competing.tournament, args=words, config=(tyro.conf.OmitArgPrefixes,))
    assert found.result.players == ("untrained", "random", "tactic", "perfect")
    assert found.result.num_games == 6 * 30
    assert found.result.standings()[0].name == "perfect"
    lines = (tmp_path / "out" / "tournament.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4 + 6 + 6 * 30
    ElementTree.fromstring((tmp_path / "out" / "ratings.svg").read_text())
    text = competing.render(found)
    assert all(str(path) in text for path in found.files)
    assert len(found.files) == 2


def test_players_are_seated_at_one_game(trained):
    env, players = competing.seated((f"{trained}@7", str(trained), "random", "random:tic_tac_toe"), "puct")
    assert isinstance(env, TicTacToe)
    searching = players[0]
    assert isinstance(searching, SearchPlayer)
    assert (searching.settings.num_simulations, searching.settings.kind, searching.scale) == (7, "puct", 1.0)
    assert [player.name for player in players] == ["untrained@7", "untrained", "random", "random:tic_tac_toe"]
    with pytest.raises(
        ValueError, match=r"one game: 'tactic:connect4-4x4' plays ConnectFour on 4 columns by 4 rows, .*TicTacToe"
    ):
        competing.seated((str(trained), "tactic:connect4-4x4"), "gumbel")
    with pytest.raises(ValueError, match="'random@5': random has no network to search with"):
        competing.seated((str(trained), "random@5"), "gumbel")
    for games in (0, 7):
        with pytest.raises(ValueError, match="--games must be an even number"):
            competing.tournament(("random", "tactic"), games=games)
    with pytest.raises(ValueError, match="two players or more, got 1"):
        competing.tournament(("random",))


def test_the_command_says_how_much_of_the_play_is_perfect(trained):
    found = tyro.cli(competing.evaluate, args=[str(trained)], config=(tyro.conf.OmitArgPrefixes,))
    solved = solve_tic_tac_toe()
    _, (player,) = competing.seated((str(trained),), "gumbel")
    assert isinstance(player, NetworkPlayer)
    policy = np.exp(player.advise(exam(CELLS).states).log_policy)
    is_best = np.sign(solved.scores) == np.sign(solved.scores.max(axis=1, keepdims=True))
    is_best &= solved.scores > -100
    assert found.chosen.overall.outcome == pytest.approx(np.mean(is_best[np.arange(4520), policy.argmax(axis=1)]))
    assert found.expected is not None
    assert found.expected.overall.outcome == pytest.approx(np.mean((policy * is_best).sum(axis=1)), abs=1e-5)
    assert sum(found.first) == sum(found.second) == 100
    text = competing.render(found)
    assert f"{found.chosen.overall.outcome:.2%}" in text
    assert f"moving first {found.first.wins} won" in text
    perfect = competing.evaluate("perfect:tic_tac_toe", positions=200)
    assert perfect.chosen.overall.strict == 1.0
    assert perfect.first.losses == perfect.second.losses == 0
    assert perfect.expected is None
    assert "200 of 4520 positions" in competing.render(perfect)
    uniform = competing.evaluate("random:tic_tac_toe")
    assert uniform.expected is not None
    assert uniform.expected.overall.outcome == pytest.approx(0.57965, abs=5e-6)
