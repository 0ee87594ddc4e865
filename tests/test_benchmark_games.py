"""The benchmark of games: exact figures, the judge and speed against slow loops and made-up times, its page and its command."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from benchmarks import __main__ as command
from benchmarks import games
from benchmarks._games import connect4, exact, judge, rivals, small_games, speed, tables
from benchmarks.harness import docs
from benchmarks.harness.places import RESULTS
from benchmarks.harness.rows import Context, read_rows, write_rows
from benchmarks.harness.tables import Found as known
from tests.games.recipes import tiny

from narrows.envs import ConnectFour
from narrows.envs.bitboard import numbers
from narrows.games.sets import quiet
from narrows.games.solver import SmallBoard

CONTEXT = Context(False, None, "python -m benchmarks games", {"python": "3.11.0"}, "2 cores, Linux x86_64")


# Exact solutions.


@pytest.fixture(scope="module")
def exact_rows():
    return list(exact.exact_rows(CONTEXT, "tic_tac_toe", (1.0, 10.0)))


def test_exact_figures_are_the_specifications(exact_rows):
    found = known(exact_rows)
    assert len(found) == len(exact_rows), "a metric of a case stands once"
    errors = [row for row in exact_rows if row.metric.startswith(exact.ERROR)]
    assert len(errors) == 1 + 5 + 11 and all(row.met for row in errors)
    assert found["games/exact/tic_tac_toe/10", f"{exact.ERROR}{exact.LOG_Z}"].target == "<= 1e-05"
    assert found["games/exact/tic_tac_toe/10", f"{exact.ERROR}{exact.OPTIMAL}"].target == "<= 0"
    for scale, gap in ((1, (0.982 + 0.812) / 2), (10, 0.0022)):
        assert found[f"games/exact/tic_tac_toe/{scale}", exact.EXPLOITABILITY].value == pytest.approx(gap, abs=5e-4)


def test_a_figure_that_is_off_is_seen(monkeypatch):
    wrong = exact.KNOWN | {("tic_tac_toe", 10.0, exact.LOG_Z): exact.Known(2.1407, 1e-5)}
    monkeypatch.setattr(exact, "KNOWN", wrong)
    monkeypatch.setitem(exact.NUM_POSITIONS, "tic_tac_toe", 4521)
    rows = list(exact.exact_rows(CONTEXT, "tic_tac_toe", (10.0,)))
    missed = {row.metric for row in rows if row.met is False}
    assert missed == {f"{exact.ERROR}{exact.LOG_Z}", f"{exact.ERROR}{exact.POSITIONS}"}
    assert exact_line(rows).endswith("| **no**       |")


def exact_line(rows):
    return next(line for line in tables.tables(rows).splitlines() if line.startswith("| 10 "))


@pytest.mark.slow("enumerates 161,000 states; the specified figures of tic-tac-toe guard the same code")
def test_strict_moves_are_those_of_the_solver():
    """By scores of the solver instead of minimax with hastened wins; ties are broken alike, the first of the best."""
    env, board = ConnectFour(4, 4), SmallBoard(4, 4)
    graph = exact.enumerate_graph(env)
    outcome = np.asarray(jax.vmap(env.outcome)(graph.terminal_states)).astype(float)
    log_policy = exact.solve_game(graph, 10.0 * outcome).log_policy[~graph.is_terminal]
    states = graph.rows(np.flatnonzero(~graph.is_terminal))
    scores = board.scores(numbers(states.mover), numbers(states.stones))
    rate = np.mean(scores[np.arange(len(scores)), log_policy.argmax(axis=1)] == scores.max(axis=1))
    rows = known(exact.exact_rows(CONTEXT, "connect4-4x4", (10.0,)))
    assert all(row.met is not False for row in rows.values())
    assert rows["games/exact/connect4-4x4/10", exact.STRICT].value == pytest.approx(rate, abs=1e-6)


# The judge.


@pytest.mark.slow("solves positions; the solver's own tests and the committed rows guard the same")
def test_the_judge_is_timed_and_untrained_players_are_measured():
    effort = judge.Effort({26: 3, 30: 2}, {30: 10, 32: 10}, table_bits=12)
    found = known(judge.judge_rows(CONTEXT, effort))
    for ply, num in effort.positions.items():
        assert found[f"games/solver/ply {ply}", "positions"].value == num
        nodes = found[f"games/solver/ply {ply}", judge.NODES]
        assert nodes.ratio == pytest.approx(nodes.value / judge.SPECIFIED_NODES[ply], rel=1e-5)
    assert found["games/solver", judge.RATE].target == ">= 1e+06"
    assert found[f"games/solver/{judge.RANDOM_SET}", "positions"].value == 20
    positions = judge.late(quiet())
    assert found[f"games/solver/{judge.LATE_QUIET_SET}", "positions"].value == len(positions) and positions.ply.min() == 12
    expected, centre = 0.0, 0
    for scores in positions.scores.tolist():
        legal = [column for column, score in enumerate(scores) if score != judge.ILLEGAL]
        best = [column for column in legal if scores[column] == max(scores)]
        expected += len(best) / len(legal) / len(positions)
        centre += next(column for column in (3, 2, 4, 1, 5, 0, 6) if column in legal) in best
    case = f"games/solver/{judge.LATE_QUIET_SET}"
    uniform, first = found[f"{case}/{judge.UNIFORM}", judge.STRICT], found[f"{case}/{judge.CENTRE}", judge.STRICT]
    assert uniform.value == pytest.approx(expected, abs=1e-5) and uniform.against == exact.SPECIFICATION
    assert first.value == pytest.approx(centre / len(positions), abs=1e-5)
    assert found[f"{case}/{judge.TACTIC}", judge.OUTCOME].ratio == pytest.approx(1.0, abs=0.05)


# Speed.


@pytest.mark.slow("compiles play of two libraries; the slots' own tests guard the counts")
def test_random_play_counts_every_move_once():
    side = speed._players(tiny(self_play={"capacity": 200}), None, "x", 32, 25)
    slots, ring, _ = side.advance(side.state)
    assert 0 < int(ring.total) == int(ring.size), "the ring has room for all"
    assert int(ring.num_moves.sum()) + int(slots.num_moves.sum()) == 32 * 25
    side = speed._pgx("x", 4, 60)
    state, _ = side.advance(side.state)
    assert state.legal_action_mask.shape == (4, 7)


@pytest.mark.slow("compiles a training; the trainer's own tests guard when it plays")
def test_a_training_that_is_timed_alone_plays_nothing():
    side = speed._learning(tiny(), "x", 3)
    state = side.advance(side.state)
    assert int(state.step) == 4 and int(state.num_moves) == 0
    assert 32 * 3 >= int(state.num_rows) >= (32 - 8) * 3, "whole games of random play fill the rows"
    assert int(state.games.total) == int(side.state.games.total) >= 512


@pytest.fixture(scope="module")
def speed_rows():
    """Rows of windows of 2 s for the first side of each kind and twice as much for each that follows."""

    def sides(*names):
        return [speed.Side(name, lambda state: state, None, [2.0 ** (number + 1)] * 3) for number, name in enumerate(names)]

    players = sides(speed.CHILDREN, speed.HEAD, speed.NOBODY, speed.PEER)
    steps = sides(speed.OURS, speed.FAITHFUL)
    return [
        *speed.rate_rows(CONTEXT, players, [60_000, 60_000, 6_000_000, 6_000_000]),
        *speed.step_rows(CONTEXT, steps, {speed.OURS: 4.0, speed.FAITHFUL: 16.0}, {speed.OURS: 200.0, speed.FAITHFUL: 100.0}),
        *speed.share_rows(CONTEXT, sides("learning", "whole")[::-1], 10),
    ]


def test_rates_and_ratios_of_known_times(speed_rows):
    found = known(speed_rows)
    assert len(found) == len(speed_rows)
    rate = found[f"games/speed/{speed.CHILDREN}", speed.MOVES]
    assert (rate.value, rate.target, rate.met, rate.low) == (30_000.0, ">= 20000", True, 30_000.0)
    alone = found[f"games/speed/{speed.NOBODY}", speed.MOVES]
    assert (alone.value, alone.target, alone.met) == (750_000.0, ">= 1e+06", False)
    assert found[f"games/speed/{speed.NOBODY}", speed.RATIO].value == 2.0
    ours = f"games/speed/step/{speed.OURS}"
    assert found[ours, speed.STEP].value == 8.0 and found[ours, speed.POSITION].value == 10.0
    ratio = found[ours, speed.STEP_RATIO]
    assert (ratio.value, ratio.target, ratio.met) == (16.0 * 4.0 / 8.0, ">= 10", False)
    assert found[ours, speed.POSITION_RATIO].value == 4.0
    assert found["games/speed/training/whole", speed.STEP].value == 400.0
    assert found["games/speed/training/whole", speed.SHARE].value == 0.5


# The page and the command.


def test_the_page_comes_from_rows_alone(tmp_path, exact_rows, speed_rows):
    judged = [row for row in read_rows(RESULTS / "games.jsonl") if row.case.startswith("games/solver")]
    rows = [*exact_rows, *speed_rows, *judged]
    assert len(known(rows)) == len(rows), "a metric of a case stands once"
    write_rows(tmp_path / "games.jsonl", rows)
    page = docs.page("games_results", tmp_path)
    assert tables.tables(read_rows(tmp_path / "games.jsonl")) in page
    assert "17 of 17" in page and page.count("\n### ") == 1 + len(("exact", "solver", "speed"))
    assert "| 30,000 (30,000 to 30,000)" in page and "50.0 % (50.0 to 50.0) is spent on playing" in page
    assert "4,520 unfinished positions, as many as specified." in page
    assert "Two-player" not in docs.page("results", tmp_path)
    assert docs.pictures(tmp_path, tmp_path) == [], "nothing has been trained"
    write_rows(tmp_path / "games.jsonl", exact_rows)
    assert "### Speed" not in docs.page("games_results", tmp_path)


def test_the_full_plan_covers_what_was_asked():
    assert set(exact.FULL) == {"tic_tac_toe", "connect4-4x4", "connect4-4x5", "connect4-5x4"}
    assert all({scale for game, scale, _ in exact.KNOWN if game == one} <= set(scales) for one, scales in exact.FULL.items())
    small, contest = small_games.FULL, rivals.FULL
    assert len(small.seeds) == 3 and small.games == 2000 and {"connect4-4x4", "connect4-5x4"} <= set(small.boards)
    assert small.steps is connect4.FULL.seconds is None
    assert contest.game == "connect4" and 2 * contest.num_openings >= 400
    assert set(contest.simulations) == {25, 100, 400} and contest.reproduces
    assert "faithful" in games.ONLY_WHEN_ASKED and set(games.ONLY_WHEN_ASKED) < set(games.PARTS)


def test_parts_are_those_that_were_asked_for(monkeypatch, capsys):
    def part(name):
        return lambda context, folder: iter([context.row(f"games/{name}", "m", [1.0])])

    monkeypatch.setattr(games, "PARTS", {name: part(name) for name in games.PARTS})
    told = [row.case for row in games.measure(CONTEXT)]
    assert told == [f"games/{name}" for name in games.PARTS if name != "faithful"]
    asked = replace(CONTEXT, cases=("faithful", "exact"))
    assert [row.case for row in games.measure(asked)] == ["games/exact", "games/faithful"], "in their own order"
    assert command.main(["games", "--case", "speed", "--json"]) == 0
    line = capsys.readouterr().out
    assert '"games/speed"' in line and '"python -m benchmarks games --case speed"' in line
    assert command.main(["games", "--case", "chess"]) == 1
    assert "there is no case 'chess'. There are: exact, solver, " in capsys.readouterr().err
    assert command.main(["games", "--against", "gfnx"]) == 1
    assert "--against belongs to the benchmark speed, not to games" in capsys.readouterr().err
    assert command.main(["tfbind8", "--case", "exact"]) == 1
    assert (
        "--case belongs to the benchmarks games, kills, large, paper, robustness, speed, tables, tuning and vi, not to tfbind8"
        in capsys.readouterr().err
    )
