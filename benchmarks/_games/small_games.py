"""Networks for games that are solved completely: tic-tac-toe (eflow T11) and Connect-4 on small boards (eflow T12)."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks._games.training import (
    Grades,
    Run,
    acting,
    effort_rows,
    grade_rows,
    trained,
)
from benchmarks.harness.rows import Context, Row, Target
from narrows.envs.connect_four import ConnectFour
from narrows.exact import enumerate_graph, solve_game
from narrows.games.elo import wilson
from narrows.games.exam import Exam, exam, states_of
from narrows.games.openings import beginnings
from narrows.games.players import UniformPlayer
from narrows.games.recipe import Preset, Recipe, preset
from narrows.games.solver import SmallBoard
from narrows.games.solver.small import Solved
from narrows.games.tournament import play_pairing
from narrows.storage import checkpoint

WALL = "training time, all of it"
MEAN, LOG_Z, LOG_Z_ERROR = "outcome, its move, mean of the seeds", "log Z", "error of log Z"
LOST, DRAWN, WON = "games lost to random play", "games drawn with random play", "games won against random play"
POSITIONS, OF_ALL = "positions", "share of all positions"
LOW, HIGH = "outcome, its move, lower end of its 95 % interval", "outcome, its move, upper end of its 95 % interval"
NEARLY_ALL, MOST, NO_LOSS, IN_A_MINUTE = Target(">=", 0.995), Target(">=", 0.99), Target("<=", 0.0), Target("<", 60.0)


class Board(NamedTuple):
    """A board of Connect-4: seeds of its trainings, and how many positions are looked at; of more, a sample."""

    seeds: tuple[int, ...]
    most: int


class Plan(NamedTuple):
    """What is trained on small games."""

    seeds: tuple[int, ...]  # of tic-tac-toe
    steps: int | None  # of each training; None for the preset's
    games: int  # against random play, half of them with each colour
    boards: dict[str, Board]  # boards of Connect-4


_EVERYTHING = 1 << 30
FULL = Plan(
    seeds=(0, 1, 2),
    steps=None,
    games=2000,
    boards={
        "connect4-4x4": Board((0, 1, 2), _EVERYTHING),
        "connect4-5x4": Board((0,), _EVERYTHING),
        "connect4-5x5": Board((0,), 500_000),
    },
)
QUICK = Plan(seeds=(0,), steps=200, games=200, boards={"connect4-4x4": Board((0,), 20_000)})


def tic_tac_toe_rows(context: Context, plan: Plan, name: Preset) -> Iterator[Row]:
    """Yield what networks trained by a preset know of all 4,520 positions, and how they do against random play.

    They are trained afresh, wherever other trainings are kept: their time is what counts.
    """
    recipes = [_recipe("tic_tac_toe", name, seed, plan.steps) for seed in plan.seeds]
    with tempfile.TemporaryDirectory() as folder:
        runs = [trained(Path(folder) / str(recipe.seed), recipe) for recipe in recipes]
        found = [_log_z(run) for run in runs]
    questions, case = exam(recipes[0].env()), f"games/tic_tac_toe/{name}"
    grades = [Grades(questions, run.player) for run in runs]
    yield from grade_rows(context, case, grades, seeds=plan.seeds)
    mean = float(np.mean([one.chosen.overall.outcome for one in grades]))
    # The authors' preset has a target of its own, the specification's.
    yield context.row(case, MEAN, [mean], target=MOST if name == "faithful" else NEARLY_ALL)
    limit = None if name == "faithful" else IN_A_MINUTE
    yield context.row(case, WALL, [run.wall for run in runs], unit="s", seeds=plan.seeds, target=limit)
    yield from effort_rows(context, case, runs, plan.seeds)
    counts = [_against_random(run, plan.games) for run in runs]
    for metric, worth, target in ((WON, 1.0, None), (DRAWN, 0.5, None), (LOST, 0.0, NO_LOSS)):
        values = [float(np.sum(points == worth)) for points in counts]
        yield context.row(case, metric, values, seeds=plan.seeds, target=target)
    truth = _exact_log_z(recipes[0])
    yield context.row(case, LOG_Z, found, seeds=plan.seeds, against="exact", peer=truth)
    yield context.row(case, LOG_Z_ERROR, [abs(one - truth) for one in found], seeds=plan.seeds)


def small_rows(context: Context, plan: Plan, folder: Path) -> Iterator[Row]:
    """Yield what the cpu preset learns of every board."""
    for game in plan.boards:
        yield from board_rows(context, plan, game, folder)


def board_rows(context: Context, plan: Plan, game: str, folder: Path) -> Iterator[Row]:
    """Yield how many of the positions of a board in which moves differ in outcome a network keeps the best outcome in."""
    seeds, most = plan.boards[game]
    recipes = [_recipe(game, "cpu", seed, plan.steps) for seed in seeds]
    runs = [trained(folder / f"{game}-{recipe.seed}", recipe) for recipe in recipes]
    env, case = recipes[0].env(), f"games/small/{game}"
    assert isinstance(env, ConnectFour), "boards are of Connect-4"
    sample = sample_of(SmallBoard(env.width, env.height), most, seed=0)
    yield context.row(case, POSITIONS, [len(sample.questions)])
    yield context.row(case, OF_ALL, [len(sample.questions) / sample.total])
    for acts in ("children", "head"):
        grades = [Grades(sample.questions, acting(run, acts)) for run in runs]
        of, target = f"{case}/{acts}", MOST if acts == recipes[0].acts else None
        yield from grade_rows(context, of, grades, seeds=seeds, outcome=target)
        if len(sample.questions) < sample.total:
            ends = [wilson(one.chosen.overall.outcome, len(sample.questions)) for one in grades]
            yield context.row(of, LOW, [end.low for end in ends], seeds=seeds)
            yield context.row(of, HIGH, [end.high for end in ends], seeds=seeds)
    yield from effort_rows(context, case, runs, seeds)


class Sample(NamedTuple):
    """Positions of a board, and how many there are of their kind."""

    questions: Exam
    total: int


def sample_of(board: SmallBoard, most: int, *, seed: int) -> Sample:
    """Return all positions of a board in which moves differ in outcome, or a uniform sample of them without replacement.

    Every position gets a number at random, and those with the smallest are kept, so that never more than a block of them and
    the sample are in memory.
    """
    generator = np.random.default_rng(seed)
    kept, ranks, total = None, np.zeros(0), 0
    for block in board.blocks(only_telling=True):
        total += len(block.mover)
        ranks = np.concatenate([ranks, generator.random(len(block.mover))])
        fields = block if kept is None else Solved(*map(np.concatenate, zip(kept, block, strict=True)))
        rows = np.argpartition(ranks, most - 1)[:most] if len(ranks) > most else np.arange(len(ranks))
        kept, ranks = Solved(*(field[rows] for field in fields)), ranks[rows]
    if kept is None:
        raise ValueError(f"on {board.board.width} by {board.board.height} cells no position has moves that differ in outcome.")
    ply = np.bitwise_count(kept.stones).astype(np.int64)
    name = f"{len(ply)} of {total} positions in which moves differ in outcome"
    return Sample(Exam(name, states_of(kept.mover, kept.stones), kept.scores, ply), total)


def _recipe(game: str, name: Preset, seed: int, steps: int | None) -> Recipe:
    recipe = preset(game, name, seed=seed)
    return recipe if steps is None else replace(recipe, num_steps=steps)


def _against_random(run: Run, games: int) -> np.ndarray:
    """Return the points of a run's player against random play, half of the games with each colour."""
    env = run.player.env
    generator = np.random.default_rng(run.recipe.seed)
    return play_pairing(env, (run.player, UniformPlayer(env)), beginnings(env, games // 2), generator)[0]


def _exact_log_z(recipe: Recipe) -> float:
    env = recipe.env()
    graph = enumerate_graph(env)
    outcome = np.asarray(jax.jit(jax.vmap(env.outcome))(graph.terminal_states)).astype(np.float64)
    return solve_game(graph, recipe.scale * outcome).root_value


def _log_z(run: Run) -> float:
    """Return what a run has learned of log Z: the flow of the empty board, or the number that trajectory balance learns."""
    if run.recipe.loss["name"] == "AdversarialTrajectoryBalance":
        found = checkpoint.latest(run.folder.checkpoints)
        assert found.path is not None, "a run that has ended has been saved"
        state, _ = checkpoint.restore(found.path, jax.eval_shape(run.recipe.trainer().init, jax.random.key(0)))
        return float(state.model.log_z)
    env = run.player.env
    log_flow = run.player.policy.unroll(jax.vmap(env.observe)(beginnings(env, 1).states)).log_flow
    assert log_flow is not None, "a recipe's networks have flow heads"
    return float(log_flow[0])
