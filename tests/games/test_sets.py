"""Evaluation sets: how they are drawn, kept and measured on, and the commands around them."""

import dataclasses

import numpy as np
import pytest
import tyro
from tests.reference import connect_four as plain

from narrows.commands.games import building, solving
from narrows.envs.connect_four import ConnectFour
from narrows.games import drawing
from narrows.games.drawing import build_play, build_set, joined
from narrows.games.exam import BANDS, exam_of
from narrows.games.players import TacticPlayer, UniformPlayer
from narrows.games.sets import EvaluationSet, load, quiet, save
from narrows.games.solver import SmallBoard, Solver


@pytest.fixture(autouse=True)
def no_cache_of_the_user(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def solver():
    return Solver(table_bits=18)


@pytest.fixture(scope="module")
def committed():
    return quiet()


@pytest.fixture(scope="module")
def small(solver):
    return build_set(solver, "quiet", {20: 12, 26: 15, 31: 10}, seed=7)


def columns_of(found, row):
    """Return a position as text columns, by playing its game."""
    moves = [move for move in found.moves[row].tolist() if move != 255]
    columns, is_over = plain.played(found.width, found.height, moves)
    assert not is_over
    return columns


def can_win(columns, height, stone):
    return any(
        len(column) < height and plain.has_four((*columns[:number], column + stone, *columns[number + 1 :]), height, number)
        for number, column in enumerate(columns)
    )


def same(one, two):
    return np.array_equal(one.moves, two.moves) and np.array_equal(one.scores, two.scores)


def test_the_set_that_comes_along_has_what_it_promises(committed):
    plies = dict(zip(*np.unique(committed.ply, return_counts=True), strict=True))
    assert plies == dict.fromkeys(range(8, 12), 100) | dict.fromkeys(range(12, 33), 500)
    assert (committed.width, committed.height, committed.kind, committed.seed) == (7, 6, "quiet", 0)
    keys = set()
    for row in range(0, len(committed), 31):
        columns = columns_of(committed, row)
        assert plain.words(columns, 6) == (int(committed.mover[row]), int(committed.stones[row]))
        assert not can_win(columns, 6, "x")
        assert not can_win(columns, 6, "o")
        scores = committed.scores[row]
        assert [score == -100 for score in scores] == [len(column) == 6 for column in columns]
        assert len(set(np.sign(scores[scores != -100]).tolist())) > 1
        keys.add(min(columns, columns[::-1]))
    assert len(keys) == len(range(0, len(committed), 31))


def test_the_scores_that_come_along_are_those_of_plain_minimax_and_of_a_fresh_solver(committed, solver):
    late = np.flatnonzero(committed.ply >= 31)[::20]
    expected = [plain.scores(columns_of(committed, row), 6) for row in late.tolist()]
    np.testing.assert_array_equal(committed.scores[late], expected)
    rows = np.flatnonzero(committed.ply >= 16)[::50]
    np.testing.assert_array_equal(solver.scores(committed.mover[rows], committed.stones[rows]), committed.scores[rows])


def test_simple_players_score_what_the_specification_says(committed):
    """Within sampling error of eflow 8.3, which measured 100 positions a ply from 12 on."""
    rows = committed.ply >= 12
    found = EvaluationSet(7, 6, "quiet", 0, committed.moves[rows], committed.scores[rows])
    legal = (found.scores != -100).astype(float)
    uniform = exam_of(found).grade(legal / legal.sum(axis=1, keepdims=True)).overall
    rank = np.array([5, 3, 1, 0, 2, 4, 6])
    central = exam_of(found).grade(np.argmin(np.where(legal > 0, rank, 99), axis=1)).overall
    # Standard errors of a share of 2,100 positions: 1.1 points at most, less for the mean of shares.
    assert (uniform.outcome, uniform.strict) == (pytest.approx(0.426, abs=0.025), pytest.approx(0.279, abs=0.025))
    assert (central.outcome, central.strict) == (pytest.approx(0.539, abs=0.03), pytest.approx(0.400, abs=0.03))


def test_drawing_is_seeded_by_ply(solver, small):
    assert small.ply.tolist() == [20] * 12 + [26] * 15 + [31] * 10
    assert same(build_set(solver, "quiet", {20: 12, 26: 15, 31: 10}, seed=7), small)
    assert np.array_equal(build_set(solver, "quiet", {26: 15}, seed=7).scores, small.scores[12:27])
    assert not np.array_equal(build_set(solver, "quiet", {26: 15}, seed=8).moves, small.moves[12:27, :26])
    for row in range(len(small)):
        columns = columns_of(small, row)
        assert not can_win(columns, 6, "x")
        assert not can_win(columns, 6, "o")


def test_random_sets_keep_positions_that_are_not_quiet(solver):
    found = build_set(solver, "random", {30: 80, 41: 5}, seed=1)
    assert len(found) == 85
    winning = [can_win(columns_of(found, row), 6, "xo"[int(found.ply[row]) % 2]) for row in range(80)]
    assert 10 < sum(winning) < 75
    expected = [plain.scores(columns_of(found, row), 6) for row in range(70, 85)]
    np.testing.assert_array_equal(found.scores[70:], expected)


def test_an_interrupted_build_goes_on_where_it_was(solver, small, tmp_path):
    class Enough(Exception):
        pass

    seen = []

    def stop(num, total):
        seen.append((num, total))
        if num == 20:
            raise Enough

    with pytest.raises(Enough):
        build_set(solver, "quiet", {20: 12, 26: 15, 31: 10}, seed=7, parts=tmp_path, progress=stop)
    assert [part.name for part in tmp_path.iterdir()] == ["quiet-7x6-7-20-12.npz"]
    assert seen == sorted(seen)
    assert seen[0] == (0, 37)
    again = []
    found = build_set(
        solver, "quiet", {20: 12, 26: 15, 31: 10}, seed=7, parts=tmp_path, progress=lambda num, total: again.append(num)
    )
    assert same(found, small)
    assert again[0] == 12


MANY = pytest.param({17: 12, 20: 10}, 128, marks=pytest.mark.slow("solves many positions; some guard the same"))


@pytest.mark.parametrize(("sizes", "begun"), [({20: 6, 22: 5}, 32), MANY])
def test_positions_of_games_between_players(solver, tmp_path, monkeypatch, sizes, begun):
    monkeypatch.setattr(drawing, "_BEGUN", begun)
    env = ConnectFour()
    players = [TacticPlayer(env), UniformPlayer(env)]
    found = build_play(solver, players, sizes, seed=2, parts=tmp_path)
    assert (found.kind, sorted(found.ply.tolist())) == ("play", [ply for ply, num in sizes.items() for _ in range(num)])
    assert len(list(tmp_path.iterdir())) > 1
    for row in range(len(found)):
        columns = columns_of(found, row)
        assert not can_win(columns, 6, "x")
        assert not can_win(columns, 6, "o")
        scores = found.scores[row]
        assert len(set(np.sign(scores[scores != -100]).tolist())) > 1
    np.testing.assert_array_equal(solver.scores(found.mover, found.stones), found.scores)
    assert same(build_play(solver, players, sizes, seed=2), found)
    last = max(tmp_path.iterdir(), key=lambda part: int(part.stem.rsplit("-", 1)[1]))
    last.unlink()
    assert same(build_play(solver, players, sizes, seed=2, parts=tmp_path), found)


def test_a_player_who_cheats_is_named(solver):
    class Stubborn:
        name = "stubborn"

        def choose(self, states, generator):
            return np.zeros(states.num_moves.shape, np.int64)

    with pytest.raises(ValueError, match="'stubborn' put a stone into a full column"):
        build_play(solver, [Stubborn()], {20: 1}, seed=0)


def test_sizes_that_cannot_be_had_are_refused(solver, monkeypatch):
    with pytest.raises(ValueError, match="from 0 to 41"):
        build_set(solver, "quiet", {42: 3}, seed=0)
    with pytest.raises(ValueError, match="at least one position"):
        build_set(solver, "quiet", {20: 0}, seed=0)
    monkeypatch.setattr(drawing, "_TRIES", 4096)
    with pytest.raises(ValueError, match="ply 1: expected 20 positions, found 3 only"):
        build_set(Solver(5, 4, table_bits=16), "random", {1: 20}, seed=0)  # five first moves are three up to mirroring


def test_a_set_survives_its_file(small, tmp_path):
    path = tmp_path / "deep" / "set.npz"
    save(small, path)
    found = load(path)
    assert same(found, small)
    assert (found.width, found.height, found.kind, found.seed) == (7, 6, "quiet", 7)
    assert [file.name for file in path.parent.iterdir()] == ["set.npz"]
    content = path.read_bytes()
    save(small, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields | {"moves": np.where(fields["moves"] == 255, 255, 3).astype(np.uint8)}, "cannot be played"),
        (lambda fields: fields | {"moves": fields["moves"].astype(np.int64)}, "moves of uint8"),
        (lambda fields: fields | {"scores": fields["scores"][:-1]}, "7 scores for each of 37 games"),
        (lambda fields: fields | {"scores": np.full_like(fields["scores"], 20)}, "game 0 has scores"),
        (lambda fields: fields | {"kind": np.asarray("odd")}, "kind must be one of"),
        (lambda fields: fields | {"board": np.asarray([3, 3])}, "at least 4 columns"),
        (lambda fields: {name: value for name, value in fields.items() if name != "seed"}, "seed"),
        (lambda fields: fields | {"moves": np.asarray([[None]], dtype=object)}, "holds no set"),
    ],
)
def test_a_file_that_holds_something_else_is_named(small, tmp_path, change, message):
    path = tmp_path / "set.npz"
    save(small, path)
    with np.load(path) as archive:
        fields = dict(archive)
    np.savez(path, **change(fields))
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_broken_or_missing_file_is_named(small, tmp_path):
    path = tmp_path / "set.npz"
    with pytest.raises(ValueError, match="there is no file"):
        load(path)
    save(small, path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:60] + b"\0" * 200 + whole[260:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="holds no set of positions"):
            load(path)


def test_a_game_that_is_over_is_no_position():
    moves = np.asarray([[0, 1, 0, 1, 0, 1, 0]], np.uint8)
    with pytest.raises(ValueError, match="game 0 is over"):
        EvaluationSet(7, 6, "quiet", 0, moves, np.zeros((1, 7), np.int8))
    gap = np.asarray([[0, 255, 1]], np.uint8)
    with pytest.raises(ValueError, match="cannot be played"):
        EvaluationSet(7, 6, "quiet", 0, gap, np.zeros((1, 7), np.int8))


def test_optimality_equals_loops(small):
    generator = np.random.default_rng(0)
    legal = small.scores != -100
    policy = generator.random(legal.shape) * legal
    policy /= policy.sum(axis=1, keepdims=True)
    chosen = np.argmax(policy, axis=1)
    for play, weight in (
        (chosen, lambda row, column: chosen[row] == column),
        (policy, lambda row, column: policy[row, column]),
    ):
        result = exam_of(small).grade(play)
        outcome, strict, by_band = [], [], {}
        for row, scores in enumerate(small.scores.tolist()):
            best = max(scores)
            outcome.append(sum(weight(row, c) for c in range(7) if scores[c] > -100 and np.sign(scores[c]) == np.sign(best)))
            strict.append(sum(weight(row, c) for c in range(7) if scores[c] == best))
            band = next(band for band in BANDS if band[0] <= small.ply[row] <= band[1])
            by_band.setdefault(band, []).append((outcome[-1], strict[-1]))
        assert result.overall == pytest.approx((37, np.mean(outcome), np.mean(strict)))
        assert set(result.bands) == set(by_band) == {(16, 23), (24, 63)}
        for band, shares in by_band.items():
            assert result.bands[band] == pytest.approx((len(shares), *np.mean(shares, axis=0)))


def test_play_that_cannot_be_is_refused(small):
    with pytest.raises(ValueError, match="no positions"):
        exam_of(EvaluationSet.empty(7, 6, "quiet", 0)).grade(np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="a column from 0 to 6"):
        exam_of(small).grade(np.full(len(small), 7))
    with pytest.raises(ValueError, match="sum to 1"):
        exam_of(small).grade(np.full((len(small), 7), 0.5))
    with pytest.raises(ValueError, match="probabilities of shape"):
        exam_of(small).grade(np.full((len(small), 6), 1 / 6))
    into_full = np.argmin(small.scores, axis=1)
    row = int(np.argmax(small.scores.min(axis=1) == -100))
    with pytest.raises(ValueError, match=f"position {row}: the player moves into a full column"):
        exam_of(small).grade(into_full)


def test_joined_sets_keep_their_order(small):
    halves = [
        dataclasses.replace(small, moves=small.moves[part], scores=small.scores[part]) for part in (slice(20), slice(20, 37))
    ]
    assert same(joined(halves), small)


def test_the_command_builds_a_set(tmp_path, capsys):
    out = tmp_path / "mine.npz"
    arguments = ["--out", str(out), "--kind", "random", "--game", "connect4-5x4", "--sizes", "6-7:5", "10:4", "--seed", "3"]
    built = tyro.cli(building.build, args=[*arguments, "--table-bits", "12"])
    assert building.render(built).startswith("14 random positions of 5 columns by 4 rows, after 6 to 10 moves, seed 3")
    found = load(out)
    assert list(tmp_path.iterdir()) == [out]
    np.testing.assert_array_equal(SmallBoard(5, 4).scores(found.mover, found.stones), found.scores)
    with pytest.raises(ValueError, match="exists already"):
        building.build(out=out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ("12-8:5",)}, "the first ply is after the last"),
        ({"sizes": ("8:5", "7-9:2")}, "ply 8 is named twice"),
        ({"sizes": ("many",)}, "expected sizes such as"),
        ({"game": "tic_tac_toe"}, "not of tic_tac_toe"),
        ({"kind": "play"}, "needs --players"),
        ({"players": ("tactic",)}, "needs --players"),
    ],
)
def test_the_command_refuses_what_it_cannot_build(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        building.build(out=tmp_path / "set.npz", **options)
    with pytest.raises(ValueError, match="a set is a .npz file"):
        building.build(out=tmp_path / "set.csv")


def test_the_command_says_what_every_move_is_worth():
    worth = solving.solve("connect4", "4444441777722", table_bits=20)
    text = solving.render(worth)
    assert [(move.name, move.score, move.is_best) for move in worth.moves if move.is_best] == [("2", 0, True)]
    assert [move.name for move in worth.moves] == ["1", "2", "3", "5", "6", "7"]
    assert "* 2   +0  draw" in text
    assert "  3   -3  loses in 12 moves" in text
    assert "connect4, o to move" in text
    weak = solving.solve("connect4", "4444441777722", weak=True, table_bits=20)
    assert [move.score for move in weak.moves] == np.sign([move.score for move in worth.moves]).tolist()
    assert "loses in" not in solving.render(weak)


def test_the_command_counts_moves_as_people_play_them():
    """A verdict in words equals the number of stones that the winner puts when both play on perfectly."""
    worth = solving.solve("connect4-5x4", "213141", table_bits=12)
    _check_by_playing(worth, ConnectFour(5, 4), "213141")
    tic = solving.solve("tic_tac_toe", "15")
    assert {move.name: move.words for move in tic.moves}["2"] == "draw"
    assert tic.mover == "x"
    threat = solving.solve("tic_tac_toe", "152")
    assert [move.words for move in threat.moves if move.name != "3"] == ["loses in 1 move"] * 5
    won = solving.solve("tic_tac_toe", "1425")
    assert [move.words for move in won.moves if move.is_best] == ["wins at once"]


def _check_by_playing(worth, env, start):
    """Play both sides perfectly after each move and count the winner's stones."""
    small = SmallBoard(env.width, env.height)
    for move in worth.moves:
        moves = [int(digit) - 1 for digit in start] + [int(move.name) - 1]
        counted = 1
        while True:
            columns, is_over = plain.played(env.width, env.height, moves)
            if is_over:
                break
            own, both = plain.words(columns, env.height)
            scores = small.scores(np.asarray([own], np.uint64), np.asarray([both], np.uint64))[0]
            moves.append(int(np.argmax(scores)))
            counted += 1
        drawn = not plain.has_four(columns, env.height, moves[-1])
        if drawn:
            assert move.words == "draw"
        else:
            by_mover = counted % 2 == 1
            num = (counted + 1) // 2
            expected = f"{'wins' if by_mover else 'loses'} in {num} move{'s' if num > 1 else ''}"
            assert move.words == ("wins at once" if expected == "wins in 1 move" else expected)


@pytest.mark.parametrize(
    ("game", "position", "message"),
    [
        ("connect4", "1212121", "a finished game: the first player has won"),
        ("connect4", "4444444", "column 4 is full"),
        ("connect4", "12121218", "move 8"),
        ("tic_tac_toe", "xx./x../...", "as many 'x' as 'o'"),
        ("chess", "", "there is no game 'chess'"),
    ],
)
def test_the_command_refuses_what_cannot_be_solved(game, position, message):
    with pytest.raises(ValueError, match=message):
        solving.solve(game, position)
