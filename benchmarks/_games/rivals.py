"""Adversarial flow networks against AlphaZero with the same network, at equal time and at equal arithmetic (eflow T14)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks._games.compute import Compute, forward_flops
from benchmarks._games.training import Grades, Run, acting, effort_rows, grade_rows, trained
from benchmarks.harness.rows import Context, Row, Target
from narrows.games.elo import score_interval
from narrows.games.exam import exam
from narrows.games.openings import openings, usual_plies
from narrows.games.players import Player
from narrows.games.recipe import FLOW_MATCHING, Recipe, preset
from narrows.games.self_play import SelfPlay
from narrows.games.tournament import COLOURS, play_pairing

SCORE, GAMES_PLAYED = "score", "games played"
LOW, HIGH = "score, lower end of its 95 % interval", "score, upper end of its 95 % interval"
ARITHMETIC, SHARE = "floating-point operations", "operations, ours to theirs"
AHEAD = Target(">", 0.5)
OURS, OURS_HEAD = "AFlowNet, by children", "AFlowNet, by head"
THEIRS, THEIRS_CHILDREN = "AlphaZero, by head", "AlphaZero, by children"
EQUAL_TIME, EQUAL_FLOPS, REPRODUCTION = "equal time", "equal arithmetic", "25 simulations, equal time"
JUDGED = ((OURS, THEIRS), (OURS_HEAD, THEIRS), (OURS, THEIRS_CHILDREN))
"""The contests of policies without search that are to be won: each by its own way, both by head, both by children."""

SHOWN = 20_000
"""Positions, at most, that networks are shown beside their games."""

_FOREVER = 10**9
"""Steps of a training that a clock ends."""


class Plan(NamedTuple):
    """What is compared."""

    game: str  # which is played
    seconds: float  # of training of ours, and of theirs at equal time
    seed: int  # of both
    num_openings: int  # each is played with both colours
    simulations: tuple[int, ...]  # of AlphaZero's search
    reproduces: bool  # whether the configuration that the authors probably beat is trained too (eflow 6.4)


FULL = Plan("connect4", 900.0, 0, 400, (25, 100, 400), True)
QUICK = Plan("tic_tac_toe", 4.0, 0, 20, (4,), False)


def rival_rows(context: Context, plan: Plan, folder: Path) -> Iterator[Row]:
    """Yield what was spent on each network, how perfect it plays, and the scores of all contests."""
    place = folder / f"alphazero-{plan.game}"
    ours = trained(place / "aflownet", endless(preset(plan.game, seed=plan.seed)), seconds=plan.seconds)
    rival = endless(preset(plan.game, algorithm="alphazero", seed=plan.seed))
    by_time = trained(place / "by-time", rival, seconds=plan.seconds)
    steps = steps_for(by_time, spent(ours).total)
    runs = {EQUAL_TIME: by_time, EQUAL_FLOPS: trained(place / f"by-operations-{steps}", replace(rival, num_steps=steps))}
    if plan.reproduces:
        reproduction = endless(preset(plan.game, "faithful", "alphazero", plan.seed))
        runs[REPRODUCTION] = trained(place / "reproduction", reproduction, seconds=plan.seconds)
    yield from _network_rows(context, plan, "games/alphazero/AFlowNet", ours, ours)
    for number, (budget, run) in enumerate(runs.items()):
        case = f"games/alphazero/{budget}"
        yield from _network_rows(context, plan, case, ours, run)
        rivals = players_of(run, plan.simulations if budget != REPRODUCTION else (25,), budget == REPRODUCTION)
        yield from _contest_rows(context, plan, case, ours, rivals, number)


def endless(recipe: Recipe) -> Recipe:
    """Return a recipe whose learning rate does not fall and whose steps do not end: to cut it off anywhere is fair."""
    return replace(recipe, optimizer={**recipe.optimizer, "decay_steps": None}, num_steps=_FOREVER)


def spent(run: Run, row: Mapping[str, float] | None = None) -> Compute:
    """Return what a run has computed up to a row of its history, the last one by default."""
    row = run.history[-1] if row is None else row
    env, play, recipe = run.recipe.env(), run.recipe.self_play, run.recipe
    if recipe.algorithm == "alphazero":
        from narrows.games.alphazero import AlphaZero  # an optional library

        evaluations = row["moves"] * (1 + AlphaZero(**play).num_simulations)
    else:
        acts = SelfPlay(**play).acts
        evaluations = row["moves"] * (env.num_actions if acts == "children" else 1)
        evaluations += row["rows"] * (env.num_actions if recipe.loss["name"] == FLOW_MATCHING else 0)
    return Compute(forward_flops(run.player.policy, env), row["rows"], evaluations)


def steps_for(run: Run, operations: float) -> int:
    """Return after how many steps a training like a run's has computed so much, whole chunks of steps.

    What the run has not come to is expected to cost what its second half does, when games have their usual length.
    """
    steps = np.asarray([row["step"] for row in run.history])
    totals = np.asarray([spent(run, row).total for row in run.history])
    if operations <= totals[-1]:
        found = float(np.interp(operations, np.append(0.0, totals), np.append(0.0, steps)))
    else:
        half = len(steps) // 2
        each = (totals[-1] - totals[half]) / (steps[-1] - steps[half]) if half < len(steps) - 1 else totals[-1] / steps[-1]
        found = steps[-1] + (operations - totals[-1]) / each
    return max(1, round(found / run.recipe.every)) * run.recipe.every


def players_of(run: Run, simulations: Sequence[int], is_puct: bool) -> list[Player]:
    """Return AlphaZero without search, by its policy head and by its value of the positions one move away, and with search."""
    from narrows.games.alphazero import SearchPlayer  # an optional library

    found: list[Player] = [acting(run, "head", THEIRS), acting(run, "children", THEIRS_CHILDREN)]
    for num in simulations:
        kind = "puct" if is_puct else "gumbel"
        name = f"AlphaZero, {num} simulations"
        found.append(SearchPlayer(run.player.env, run.player.policy, num, scale=run.recipe.scale, kind=kind, name=name))
    return found


def _network_rows(context: Context, plan: Plan, case: str, ours: Run, run: Run) -> Iterator[Row]:
    yield from effort_rows(context, case, [run])
    total = spent(run).total
    yield context.row(case, ARITHMETIC, [total / 1e12], unit="TFLOP")
    if run is not ours:
        yield context.row(case, SHARE, [spent(ours).total / total])
    questions = exam(run.recipe.env(), num=SHOWN)
    for acts in ("children", "head"):
        grades = Grades(questions, acting(run, acts))
        yield from grade_rows(context, f"{case}/{acts}", [grades], expected=False)


def _contest_rows(context: Context, plan: Plan, case: str, ours: Run, rivals: Sequence[Player], number: int) -> Iterator[Row]:
    env = ours.player.env
    begun = openings(env, usual_plies(env), plan.num_openings, seed=plan.seed)
    for player in (acting(ours, "children", OURS), acting(ours, "head", OURS_HEAD)):
        for rival in rivals:
            generator = np.random.default_rng([plan.seed, number])
            points = play_pairing(env, (player, rival), begun, generator)[0]
            interval = score_interval(points.sum(axis=1), COLOURS)
            of = f"{case}/{player.name}/{rival.name}"
            target = AHEAD if (player.name, rival.name) in JUDGED else None
            yield context.row(of, SCORE, [float(points.mean())], against=rival.name)
            yield context.row(of, LOW, [interval.low], target=target)
            yield context.row(of, HIGH, [interval.high])
            yield context.row(of, GAMES_PLAYED, [points.size])
