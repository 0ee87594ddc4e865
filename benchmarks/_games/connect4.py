"""Connect-4 on the usual board, from self-play alone (eflow T13), and what each ingredient of the recipe is worth."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks._games.training import (
    Grades,
    acting,
    effort_rows,
    grade_rows,
    trained,
)
from benchmarks.harness.rows import Context, Row, Target
from narrows.games.exam import Optimality, exam
from narrows.games.recipe import Preset, Recipe, preset

STRICT_ENOUGH, OUTCOME_ENOUGH = Target(">=", 0.80), Target(">=", 0.90)
REACHED = "training time until strict"
HISTORY_OUTCOME, HISTORY_STRICT = "outcome, in training", "strict, in training"
POSITIONS = "positions"
MILESTONES = (0.70, 0.75, 0.80)
FULL_RECIPE = "full recipe"
_LIMITS = {"cpu": Target("<=", 10_800.0), "gpu": Target("<=", 600.0)}
_CHUNK = 20.0
"""Seconds before the limit at which a training ends: it stops only between chunks of steps."""
_DENSE = {"name": "ResidualMLP", "hidden": 320, "blocks": 2, "precision": "bf16"}
"""A network that costs about as much a position as the cpu preset's."""
_POINTS = 40
"""Of a history, as many at most become rows."""


class Plan(NamedTuple):
    """What is trained on the usual board."""

    seconds: float | None  # of training, at most; None for those that are asked for on this kind of machine
    ablated: float  # seconds of training of each recipe that lacks something
    seeds: tuple[int, ...]  # of those
    variants: tuple[str, ...]  # which recipes
    curriculum: int  # steps over which the scale rises where it does


def connect4_rows(context: Context, plan: Plan, folder: Path) -> Iterator[Row]:
    """Yield how well the preset for this machine plays, and how it came to that.

    A training that `folder` holds is continued; its time counts from its beginning.
    """
    name: Preset = "cpu" if jax.default_backend() == "cpu" else "gpu"
    recipe = preset("connect4", name)
    seconds = _LIMITS[name].bound - _CHUNK if plan.seconds is None else plan.seconds
    run = trained(folder / ("c4" if name == "cpu" else f"c4-{name}"), recipe, seconds=seconds, looks=True)
    questions, case = exam(recipe.env(), "quiet"), f"games/connect4/{name}"
    yield context.row(case, POSITIONS, [len(questions)])
    for acts in ("children", "head"):
        grades = Grades(questions, acting(run, acts))
        is_own = acts == recipe.acts
        outcome, strict = (OUTCOME_ENOUGH, STRICT_ENOUGH) if is_own else (None, None)
        yield from grade_rows(context, f"{case}/{acts}", [grades], outcome=outcome, strict=strict)
        yield from _band_rows(context, f"{case}/{acts}", grades)
    yield from effort_rows(context, case, [run], target=_LIMITS[name])
    yield from _history_rows(context, case, run.history)


def ablation_rows(context: Context, plan: Plan, folder: Path) -> Iterator[Row]:
    """Yield what recipes that lack one thing come to in equal processor time, which a shared machine leaves comparable."""
    questions = exam(preset("connect4").env(), "quiet")
    known = variants(plan.curriculum)
    for number, name in enumerate(known):
        if name not in plan.variants:
            continue
        runs = [
            trained(
                folder / f"ablation-{number}-{seed}",
                replace(known[name], seed=seed),
                seconds=plan.ablated,
                clock=time.process_time,
            )
            for seed in plan.seeds
        ]
        case = f"games/ablation/{name}"
        grades = [Grades(questions, run.player) for run in runs]
        yield from grade_rows(context, case, grades, seeds=plan.seeds)
        yield from effort_rows(context, case, runs, plan.seeds)


def variants(curriculum: int) -> dict[str, Recipe]:
    """Return the recipes that are compared, the full one first. No learning rate falls, for a clock cuts all of them off."""
    full = replace(preset("connect4"), optimizer={**preset("connect4").optimizer, "decay_steps": None}, num_steps=10**9)

    def play(**fields: Any) -> Recipe:
        return replace(full, self_play={**full.self_play, **fields})

    def balance(objective: str) -> Recipe:
        # A balance objective takes whole games.
        return replace(play(acts="head", prefers_late=False), loss={"name": objective})

    return {
        FULL_RECIPE: full,
        "without mirror images": play(use_symmetries=False),
        "threats not shown": replace(full, shows_threats=False),
        "without random openings": play(max_random=0),
        "late positions not preferred": play(prefers_late=False),
        "dense network in place of columns": replace(full, network=_DENSE),
        "nothing carried back (carry 0)": replace(full, loss={**full.loss, "carry": 0.0}),
        "lambda 5": play(scale=5.0),
        f"lambda rises from 2 to 10 in {curriculum:,} steps": play(scale_start=2.0, scale_steps=curriculum),
        "SubTB with a value head": balance("AdversarialSubTrajectoryBalance"),
        "TB": balance("AdversarialTrajectoryBalance"),
        "DB": balance("AdversarialDetailedBalance"),
    }


def _band_rows(context: Context, case: str, grades: Grades) -> Iterator[Row]:
    measured: Mapping[str, Optimality] = {"its move": grades.chosen, "expected": grades.expected}
    for first, last in grades.chosen.bands:
        of = f"{case}/{first}-{last}" if last < 63 else f"{case}/{first}+"
        yield context.row(of, POSITIONS, [grades.chosen.bands[first, last].num])
        for kind, found in measured.items():
            share = found.bands[first, last]
            yield context.row(of, f"outcome, {kind}", [share.outcome])
            yield context.row(of, f"strict, {kind}", [share.strict])


def _history_rows(context: Context, case: str, history: Sequence[dict[str, float]]) -> Iterator[Row]:
    """Yield how the shares of optimal moves grew, and when they first were what."""
    looks = [row for row in history if "strict" in row]
    for share in MILESTONES:
        reached = next((row["seconds"] for row in looks if row["strict"] >= share), None)
        if reached is not None:
            yield context.row(case, f"{REACHED} {share:.0%}", [reached], unit="s")
    every = -(-len(looks) // _POINTS) if looks else 1
    for row in looks[::-1][::every][::-1]:  # the last one always
        of = f"{case}/after {row['seconds']:.0f} s"
        yield context.row(of, HISTORY_OUTCOME, [row["optimal"]])
        yield context.row(of, HISTORY_STRICT, [row["strict"]])


NAMES = tuple(variants(500))
FULL = Plan(seconds=None, ablated=140.0, seeds=(0, 1), variants=NAMES, curriculum=500)
QUICK = Plan(seconds=30.0, ablated=6.0, seeds=(0,), variants=(FULL_RECIPE, "TB"), curriculum=500)
