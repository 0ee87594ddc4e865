"""The benchmark of games: its trainings, their continuation, and the arithmetic of its rows with trainings that are made up."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks._games import connect4, rivals, small_games, speed, tables, training
from benchmarks._games.compute import forward_flops
from benchmarks.harness import docs
from benchmarks.harness.places import RESULTS
from benchmarks.harness.rows import Context, read_rows, write_rows
from benchmarks.harness.tables import Found as known
from tests.games.recipes import TINY_PLAY, lived, made_up_run, tiny, without_training

from narrows.envs import ConnectFour, TicTacToe
from narrows.envs.bitboard import numbers
from narrows.games.alphazero import AlphaZero, SearchPlayer
from narrows.games.exam import exam
from narrows.games.folder import GameFolder
from narrows.games.players import NetworkPlayer
from narrows.games.recipe import preset
from narrows.games.solver import SmallBoard, small
from narrows.storage import checkpoint

CONTEXT = Context(False, None, "python -m benchmarks games", {"python": "3.11.0"}, "2 cores, Linux x86_64")


# Trainings.


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Tic-tac-toe with two seeds of a recipe that takes no time, as the benchmark asks for it."""
    patch = pytest.MonkeyPatch()
    patch.setattr(small_games, "preset", lambda game, name, seed: tiny(game, seed=seed))
    asked = small_games.Plan(seeds=(0, 1), steps=None, games=40, boards={})
    rows = list(small_games.tic_tac_toe_rows(CONTEXT, asked, "cpu"))
    patch.undo()
    return rows


@pytest.mark.slow("trains; boards, bands and contests of made-up trainings guard the rows")
def test_tic_tac_toe_is_trained_and_measured(cells):
    found, case = known(cells), "games/tic_tac_toe/cpu"
    assert len(found) == len(cells)
    outcome, mean = found[case, training.OUTCOME], found[case, small_games.MEAN]
    assert outcome.low is not None and outcome.high is not None and outcome.seeds == (0, 1) and outcome.target is None
    assert mean.value == pytest.approx((outcome.low + outcome.high) / 2, abs=1e-5)
    assert (mean.target, mean.met) == (">= 0.995", False)
    wall = found[case, small_games.WALL]
    assert wall.target == "< 60" and wall.value > found[case, training.SECONDS].value > 0.0
    assert found[case, training.STEPS].value == 4.0 and found[case, training.GAMES].value >= 4 + 4 * 2
    ends = [found[case, metric] for metric in (small_games.WON, small_games.DRAWN, small_games.LOST)]
    assert ends[2].target == "<= 0" and ends[2].met is False
    for pick in ("low", "high"):
        assert sum(getattr(row, pick) for row in ends) == pytest.approx(40, abs=12)
    truth = found[case, small_games.LOG_Z]
    assert truth.ratio is not None and truth.value / truth.ratio == pytest.approx(2.140596, abs=1e-4)
    assert found[case, small_games.LOG_Z_ERROR].high == pytest.approx(
        max(abs(end - 2.140596) for end in (truth.low, truth.high) if end is not None), abs=1e-4
    )


@pytest.mark.slow("trains; the games' own tests continue trainings")
def test_a_training_goes_on_where_it_was_and_stops_with_whoever_stops_it(tmp_path, monkeypatch):
    recipe = tiny()
    first = training.trained(tmp_path / "run", recipe, seconds=0.02)
    assert first.last("step") == 2 and first.wall > first.seconds > 0.01, "one chunk takes longer than asked for"
    again = training.trained(tmp_path / "run", recipe, seconds=first.seconds)
    assert again.history == first.history and again.wall < 1.0, "its time was used up"
    monkeypatch.setattr(training, "train", lambda *_, **__: SimpleNamespace(is_finished=False, seconds=5.0))
    with pytest.raises(KeyboardInterrupt):
        training.trained(tmp_path / "run", recipe)
    with pytest.raises(KeyboardInterrupt):
        training.trained(tmp_path / "run", recipe, seconds=1e6)


def test_log_z_is_read_where_each_loss_learns_it(tmp_path):
    run = made_up_run(tiny(), [])
    empty = TicTacToe().observe(TicTacToe().reset())[None]
    log_flow = run.player.policy.unroll(empty).log_flow
    assert log_flow is not None and small_games._log_z(run) == pytest.approx(float(log_flow[0]), rel=1e-5) != 0.0
    recipe = tiny(loss={"name": "AdversarialTrajectoryBalance"}, self_play={**TINY_PLAY, "initial_games": 0})
    state = recipe.trainer().init(jax.random.key(0))
    folder = GameFolder.create(tmp_path / "run", recipe)
    model = eqx.tree_at(lambda model: model.log_z, state.model, jnp.asarray(0.37))
    checkpoint.save(folder.checkpoints, state._replace(model=model), step=3, metadata={})
    assert small_games._log_z(replace(made_up_run(recipe, []), folder=folder)) == pytest.approx(0.37)


# Small boards.


def test_a_sample_of_a_board_is_uniform_without_repetition(monkeypatch):
    monkeypatch.setattr(small, "_BLOCK", 1 << 16)
    board = SmallBoard(4, 4)
    whole = board.all(only_telling=True)
    everything = small_games.sample_of(board, 10**6, seed=0)
    assert everything.total == len(everything.questions) == len(whole.mover) == 55_506
    scores = {
        (int(own), int(both)): tuple(row)
        for own, both, row in zip(whole.mover, whole.stones, whole.scores.tolist(), strict=True)
    }
    sample, again = (small_games.sample_of(board, 5000, seed=3).questions for _ in range(2))
    states = sample.states
    keys = list(zip(numbers(states.mover).tolist(), numbers(states.stones).tolist(), strict=True))
    assert len(set(keys)) == 5000 and all(
        scores[key] == tuple(row) for key, row in zip(keys, sample.scores.tolist(), strict=True)
    )
    np.testing.assert_array_equal(sample.scores, again.scores)
    ply = np.bitwise_count(whole.stones)
    assert abs(sample.ply.mean() - ply.mean()) < 4 * ply.std() / 5000**0.5


@pytest.fixture
def boards(monkeypatch):
    asked = without_training(monkeypatch, small_games, [lived(700.0)])
    monkeypatch.setattr(small_games, "preset", lambda game, name, seed: tiny(game, seed=seed))
    wanted = small_games.Plan((0,), 3, 2, {"connect4-4x4": small_games.Board((0, 1), 500)})
    rows = list(small_games.board_rows(CONTEXT, wanted, "connect4-4x4", training.Path("kept")))
    assert [recipe.num_steps for _, recipe, _, _ in asked] == [3, 3]
    return rows


def test_a_board_is_judged_with_intervals_where_it_is_a_sample(boards):
    found, case = known(boards), "games/small/connect4-4x4"
    assert len(found) == len(boards)
    assert found[case, small_games.POSITIONS].value == 500
    assert found[case, small_games.OF_ALL].value == pytest.approx(500 / 55_506, rel=1e-4)
    outcome = found[f"{case}/children", training.OUTCOME]
    assert (outcome.target, outcome.met) == (">= 0.99", False) and found[f"{case}/head", training.OUTCOME].target is None
    low, high = found[f"{case}/children", small_games.LOW], found[f"{case}/children", small_games.HIGH]
    for end in ("low", "high"):
        value, below, above = (getattr(row, end) for row in (outcome, low, high))
        assert below < value < above and above - below == pytest.approx(2 * 1.96 * (value * (1 - value) / 500) ** 0.5, rel=0.02)


# The usual board.


@pytest.fixture
def usual(monkeypatch):
    """The usual board's rows on a small one, with a history that is made up."""
    small_exam = exam(ConnectFour(4, 4), num=300)
    looks = {120.0: 0.4, 300.0: 0.72, 400.0: 0.69, 500.0: 0.79}
    history = [lived(60.0)] + [lived(seconds, optimal=share + 0.1, strict=share) for seconds, share in looks.items()]
    asked = without_training(monkeypatch, connect4, history)
    monkeypatch.setattr(connect4, "preset", lambda game, name="cpu": tiny("connect4-4x4"))
    monkeypatch.setattr(connect4, "exam", lambda env, name: small_exam)
    wanted = connect4.QUICK._replace(seconds=12.0, ablated=7.0, seeds=(0, 1), variants=(connect4.FULL_RECIPE, "TB"))
    rows = list(connect4.connect4_rows(CONTEXT, wanted, training.Path("kept")))
    assert [(path.name, seconds, looks) for path, _, seconds, looks in asked] == [("c4", 12.0, True)]
    asked.clear()
    rows += connect4.ablation_rows(CONTEXT, wanted, training.Path("kept"))
    assert [(recipe.seed, seconds) for _, recipe, seconds, _ in asked] == [(0, 7.0), (1, 7.0)] * 2
    assert len({path for path, _, _, _ in asked}) == 4
    return rows


def test_the_usual_board_is_judged_by_band_and_along_its_history(usual):
    found, case = known(usual), "games/connect4/cpu"
    assert len(found) == len(usual)
    for acts, metric in itertools.product(("children", "head"), (training.STRICT, training.OUTCOME_MASS)):
        bands = [one for one, of in found if one.startswith(f"{case}/{acts}/") and of == connect4.POSITIONS]
        weights = [found[band, connect4.POSITIONS].value for band in bands]
        assert sum(weights) == 300 and len(bands) >= 2
        mean = np.average([found[band, metric].value for band in bands], weights=weights)
        assert found[f"{case}/{acts}", metric].value == pytest.approx(mean, abs=1e-5)
    assert found[f"{case}/children", training.STRICT].target == ">= 0.8"
    assert found[f"{case}/children", training.OUTCOME].target == ">= 0.9"
    assert all(row.target is None for row in usual if "/head" in row.case)
    taken = found[case, training.SECONDS]
    assert (taken.value, taken.target, taken.met) == (500.0, "<= 10800", True)
    assert found[case, f"{connect4.REACHED} 70%"].value == 300.0 and found[case, f"{connect4.REACHED} 75%"].value == 500.0
    assert (case, f"{connect4.REACHED} 80%") not in found
    assert found[f"{case}/after 400 s", connect4.HISTORY_STRICT].value == 0.69


def test_ablated_recipes_lack_one_thing_each_and_can_be_trained():
    known_ones = connect4.variants(300)
    assert tuple(connect4.variants(500)) == connect4.FULL.variants and len(known_ones) == 12
    whole = known_ones[connect4.FULL_RECIPE]
    own = preset("connect4")
    assert replace(whole, optimizer=own.optimizer, num_steps=own.num_steps) == own
    seen = set()
    for name, recipe in known_ones.items():
        recipe.trainer()  # raises where parts do not fit
        changed = frozenset(key for key, value in recipe.as_data().items() if value != whole.as_data()[key])
        assert changed <= {"self_play", "loss", "shows_threats", "network"} and bool(changed) == (name != connect4.FULL_RECIPE)
        seen.add(repr(recipe))
        assert recipe.acts == ("head" if "Adversarial" in recipe.loss["name"] else "children")
    assert len(seen) == len(known_ones)


# AlphaZero.


def test_arithmetic_is_counted_and_matched_by_hand():
    ours, theirs = tiny(), tiny(algorithm="alphazero", every=5)
    history = [lived(1.0, 10, moves=100, rows=500), lived(2.0, 20, moves=200, rows=1000), lived(3.0, 30, moves=400, rows=1500)]
    run, rival = made_up_run(ours, history), made_up_run(theirs, history)
    one, other = (forward_flops(one.player.policy, TicTacToe()) for one in (run, rival))
    assert rivals.spent(run).total == pytest.approx(one * (3 * 1500 + 9 * 1500 + 9 * 400))
    assert rivals.spent(rival, history[0]).total == pytest.approx(other * (3 * 500 + 33 * 100))
    balance = made_up_run(replace(ours, loss={"name": "AdversarialDetailedBalance"}, self_play={"acts": "head"}), history)
    assert rivals.spent(balance).total == pytest.approx(one * (3 * 1500 + 400))
    totals = [other * (3 * row["rows"] + 33 * row["moves"]) for row in history]
    assert rivals.steps_for(rival, totals[1]) == 20 and rivals.steps_for(rival, totals[0] / 2) == 5
    assert rivals.steps_for(rival, totals[2] + 2 * (totals[2] - totals[1])) == 50
    assert rivals.steps_for(rival, 1.0) == 5, "a chunk at least"
    assert rivals.steps_for(replace(rival, history=history[:1]), 2 * totals[0]) == 20


@pytest.fixture
def contest(monkeypatch):
    asked = without_training(monkeypatch, rivals, [lived(5.0), lived(9.0, 20, 50, 100, 900)])
    monkeypatch.setattr(rivals, "preset", tiny)
    wanted = rivals.Plan("tic_tac_toe", 9.0, 1, 3, (), True)
    monkeypatch.setattr(rivals, "SHOWN", 50)
    players = rivals.players_of
    monkeypatch.setattr(rivals, "players_of", lambda run, simulations, is_puct: players(run, (), is_puct))
    rows = list(rivals.rival_rows(CONTEXT, wanted, training.Path("kept")))
    assert [seconds for _, _, seconds, _ in asked] == [9.0, 9.0, None, 9.0]
    ours, by_time, by_operations, again = (recipe for _, recipe, _, _ in asked)
    assert ours.network == by_time.network and by_operations == replace(by_time, num_steps=by_operations.num_steps)
    assert ours.optimizer["decay_steps"] is by_time.optimizer["decay_steps"] is again.optimizer["decay_steps"] is None
    assert again.self_play["num_simulations"] == 25 and again.self_play["kind"] == "puct"
    return rows


def test_contests_have_scores_with_intervals_and_targets_for_the_fair_ones(contest):
    found = known(contest)
    assert len(found) == len(contest)
    for budget in (rivals.EQUAL_TIME, rivals.EQUAL_FLOPS, rivals.REPRODUCTION):
        of = f"games/alphazero/{budget}"
        assert found[of, rivals.SHARE].value == pytest.approx(
            found["games/alphazero/AFlowNet", rivals.ARITHMETIC].value / found[of, rivals.ARITHMETIC].value, rel=1e-4
        )
        pairs = itertools.product((rivals.OURS, rivals.OURS_HEAD), (rivals.THEIRS, rivals.THEIRS_CHILDREN))
        for ours, theirs in pairs:
            case = f"{of}/{ours}/{theirs}"
            score, low, high = (found[case, metric] for metric in (rivals.SCORE, rivals.LOW, rivals.HIGH))
            assert low.value <= score.value <= high.value and found[case, rivals.GAMES_PLAYED].value == 6
            assert low.target == ("> 0.5" if (ours, theirs) in rivals.JUDGED else None) and score.target is None
            assert (6 * score.value * 2) == pytest.approx(round(6 * score.value * 2), abs=1e-4)


def test_searching_rivals_search_as_they_say():
    run = made_up_run(tiny(algorithm="alphazero"), [])
    found = rivals.players_of(run, (25, 100), is_puct=False)
    plain = [player for player in found if isinstance(player, NetworkPlayer)]
    assert [(player.name, player.acts) for player in plain] == [(rivals.THEIRS, "head"), (rivals.THEIRS_CHILDREN, "children")]
    searching = [player for player in (*found, *rivals.players_of(run, (25,), True)) if isinstance(player, SearchPlayer)]
    assert [(one.settings.num_simulations, one.settings.kind) for one in searching] == [
        *((25, "gumbel"), (100, "gumbel"), (25, "puct"))
    ]


# The page.


def test_the_page_and_its_picture_come_from_rows_alone(tmp_path, boards, usual, contest):
    cells = [row for row in read_rows(RESULTS / "games.jsonl") if row.case.startswith("games/tic_tac_toe")]
    rows = [*cells, *boards, *usual, *contest]
    assert len(known(rows)) == len(rows), "a metric of a case stands once"
    write_rows(tmp_path / "games.jsonl", rows)
    page = docs.page("games_results", tmp_path)
    assert tables.tables(read_rows(tmp_path / "games.jsonl")) in page
    assert page.count("\n### ") == 1 + len(("tic_tac_toe", "small", "connect4", "ablation", "alphazero"))
    assert "70% after 300 s, 75% after 500 s." in page and "Not reached: 80%." in page
    assert "500, 0.9 %" in page and "(target >= 0.8: **missed**)" in page
    for name in (rivals.OURS, rivals.THEIRS_CHILDREN, rivals.EQUAL_FLOPS, connect4.FULL_RECIPE):
        assert name in page
    assert docs.pictures(tmp_path, tmp_path) == [tmp_path / tables.PICTURE]
    first = (tmp_path / tables.PICTURE).read_bytes()
    assert docs.pictures(tmp_path, tmp_path) and (tmp_path / tables.PICTURE).read_bytes() == first
    assert b"minutes of training" in first and f"]({tables.PICTURE})" in page


def test_what_the_page_says_of_the_recipes_is_so():
    ours, theirs = preset("connect4"), preset("connect4", algorithm="alphazero")
    page = " ".join(tables.SAYS["alphazero"].split())
    rates = [f"{recipe.optimizer['learning_rate']:g}" for recipe in (theirs, ours)]
    assert "learning rate is {}, as in the published examples, ours {};".format(*rates) in page
    assert f"with {AlphaZero(**theirs.self_play).num_simulations} simulations a move in self-play, the same trunk" in page
    assert ours.network == theirs.network
    assert speed.FULL.slots == speed.QUICK.slots == 1024 == speed.play_of(ours).num_rows, "as the page says of speed"
