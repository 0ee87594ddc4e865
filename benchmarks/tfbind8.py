"""TF-Bind-8: the learned law beside the exact one over all 65,536 DNA 8-mers, on measured scores."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks._laws import (
    Learned,
    Recipe,
    Shape,
    Truth,
    gibbs,
    list_truth,
    matching_inverse_temperature,
    shape_of,
    train,
)
from benchmarks.harness.case import Case, prose
from benchmarks.harness.places import TFBIND8, measured_table
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.tables import Column, Found, count, lines, part_of, plain, verdict
from narrows.envs import Sequence as Sequences
from narrows.exact import Solution, solve
from narrows.metrics.exact import log_prob_correlation, total_variation
from narrows.objectives import TrajectoryGeneralMellowmax
from narrows.policies import MLP, Tabular, sizes_of
from narrows.rewards.landscape import Landscape

BETA = 4.0
TARGET = Target("<=", 0.05)
_GAIN = "least gain of top-decile mass from one q to the next"
TABLE = Recipe(
    "table",
    lambda env, key: Tabular(sizes_of(env), key=key),
    batch_size=4096,
    num_steps=500,
    learning_rate=0.03,
    temperature=2.0,
)
NETWORK = Recipe(
    "network",
    lambda env, key: MLP(sizes_of(env), hidden=256, depth=2, key=key),
    batch_size=512,
    num_steps=800,
    learning_rate=1e-3,
    temperature=1.0,
)


class Setting(NamedTuple):
    """The parameters of the operator."""

    omega: float
    alpha: float
    q: float

    def __str__(self) -> str:
        return f"{self.omega:g} {self.alpha:g} {self.q:g}"

    @property
    def objective(self) -> TrajectoryGeneralMellowmax:
        return TrajectoryGeneralMellowmax(omega=self.omega, alpha=self.alpha, q=self.q)


class Plan(NamedTuple):
    """What one run measures of one factor with one policy."""

    factor: str
    recipe: Recipe
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]


ASKED = (Setting(1, 1, 0), Setting(1, 1, 0.5), Setting(4, 1, 0.5))
SWEEP = tuple(Setting(1, 1, q) for q in (0, 0.25, 0.5, 0.75, 1))
FULL = (
    Plan("SIX6", TABLE, (*SWEEP, Setting(4, 1, 0.5)), (0, 1, 2, 3, 4)),
    Plan("VSX1", TABLE, ASKED, (0, 1, 2)),
    Plan("SIX6", NETWORK, ASKED, (0, 1, 2)),
)
QUICK = (
    Plan("SIX6", replace(TABLE, num_steps=400), ASKED, (0,)),
    Plan("SIX6", replace(NETWORK, num_steps=100), ASKED, (0,)),
)


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of every plan, the exact laws of a factor before anything learned."""
    plans = QUICK if context.quick else FULL
    folder = TFBIND8 if context.data is None else context.data
    env = Sequences("ACGT", 8, 8)
    truths = {factor: list_truth(env, _landscape(env, folder, factor), BETA) for factor in {plan.factor for plan in plans}}
    is_known: set[tuple[str, Setting]] = set()
    for plan in plans:
        for setting in plan.settings:
            if (plan.factor, setting) not in is_known:
                yield from exact_rows(context, truths[plan.factor], plan.factor, setting)
                is_known.add((plan.factor, setting))
        yield from learned_rows(context, truths[plan.factor], plan)


def exact_rows(context: Context, truth: Truth, factor: str, setting: Setting) -> Iterator[Row]:
    """Yield the dynamic programme's law and the two controls of tgm 6.4, which are exact too."""
    solution = _solution(truth, setting)
    shape = shape_of(solution.log_probs, truth.scores)
    laws = {"exact": shape}
    if setting.q > 0:
        matched = (setting.omega + setting.q * setting.alpha) * BETA
        laws["temperature-matched"] = shape_of(gibbs(matched, truth.scores), truth.scores)
        matched = matching_inverse_temperature(shape.entropy, truth.scores)
        laws["entropy-matched"] = shape_of(gibbs(matched, truth.scores), truth.scores)
    for law, found in laws.items():
        yield from _shape_rows(context, f"tfbind8/{factor}/{law}/{setting}", [found], (), None if law == "exact" else shape)


def learned_rows(context: Context, truth: Truth, plan: Plan) -> Iterator[Row]:
    """Yield what training reaches, and whether the mass of the top decile grows with q at equal omega (tgm T13a)."""
    masses: dict[Setting, list[float]] = {}
    for setting in plan.settings:
        solution = _solution(truth, setting)
        learned = [_train(truth, plan, setting, seed) for seed in plan.seeds]
        shapes = [shape_of(one.log_probs, truth.scores) for one in learned]
        masses[setting] = [shape.top_decile for shape in shapes]
        case = f"tfbind8/{plan.factor}/{plan.recipe.name}/{setting}"
        yield from _law_rows(context, case, plan, learned, solution)
        yield from _shape_rows(context, case, shapes, plan.seeds, shape_of(solution.log_probs, truth.scores))
    swept = sorted((setting for setting in plan.settings if setting.omega == 1), key=lambda setting: setting.q)
    gains = [
        min(after - before for before, after in itertools.pairwise(masses[setting][run] for setting in swept))
        for run in range(len(plan.seeds))
    ]
    case = f"tfbind8/{plan.factor}/{plan.recipe.name}/q = {', '.join(f'{setting.q:g}' for setting in swept)}"
    yield context.row(case, _GAIN, gains, seeds=plan.seeds, target=Target(">", 0.0))


def _law_rows(context: Context, case: str, plan: Plan, learned: Sequence[Learned], solution: Solution) -> Iterator[Row]:
    law, seeds, against = solution.log_probs, plan.seeds, "dynamic programme"
    distances = [total_variation(one.log_probs, law) for one in learned]
    correlations = [log_prob_correlation(one.log_probs, law) for one in learned]
    errors = [abs(one.root_value - solution.root_value) for one in learned]
    yield context.row(case, "total variation", distances, seeds=seeds, against=against, target=TARGET)
    yield context.row(case, "rank correlation of log-probabilities", correlations, seeds=seeds, against=against)
    yield context.row(case, "error of the root value", errors, seeds=seeds, against=against)
    sampled = float(plan.recipe.num_steps * plan.recipe.batch_size)
    yield context.row(case, "objects sampled in training", [sampled])
    yield context.row(case, "training time", [one.seconds for one in learned], seeds=seeds, unit="s")


def _shape_rows(
    context: Context, case: str, shapes: Sequence[Shape], seeds: tuple[int, ...], peer: Shape | None
) -> Iterator[Row]:
    against = None if peer is None else "dynamic programme"
    for metric, value_of in _SHAPE.items():
        unit = "nat" if metric == "entropy" else ""
        theirs = None if peer is None else value_of(peer)
        yield context.row(case, metric, [value_of(one) for one in shapes], unit=unit, seeds=seeds, against=against, peer=theirs)


def _train(truth: Truth, plan: Plan, setting: Setting, seed: int) -> Learned:
    began = time.perf_counter()
    learned = train(truth, setting.objective, plan.recipe, seed)
    took = time.perf_counter() - began
    tell(f"{plan.factor}, {plan.recipe.name}, ({setting}), seed {seed}: {took:.0f} s")
    return learned


def _solution(truth: Truth, setting: Setting) -> Solution:
    return solve(truth.graph, truth.log_reward, setting.objective.operator)


def _landscape(env: Sequences, folder: Path, factor: str) -> Landscape:
    path = str(measured_table(folder, factor))
    return Landscape(env, path, sequence_column="#1", score_column="E-score", both_strands=True)


_LAWS = {
    "exact": "exact",
    "table": "learned, table",
    "network": "learned, network",
    "temperature-matched": "GFlowNet, temperature matched",
    "entropy-matched": "GFlowNet, entropy matched",
}
_DECILES = (*(f"mass of decile {place}" for place in range(1, 10)), "mass of the top decile")
_SHAPE: dict[str, Callable[[Shape], float]] = {
    "mean score": lambda shape: shape.mean_score,
    "entropy": lambda shape: shape.entropy,
    **{metric: lambda shape, place=place: shape.deciles[place] for place, metric in enumerate(_DECILES)},
}


def tables(rows: Sequence[Row]) -> str:
    """Return how near the learned laws are, where each law puts its probability, and what q does."""
    found = Found(rows)
    factor, law, setting = (lambda case, place=place: part_of(case, place) for place in (1, 2, 3))
    cases = found.cases("tfbind8")
    laws = [case for case in cases if (case, "entropy") in found]
    laws.sort(key=lambda case: (factor(case), setting(case), list(_LAWS).index(law(case))))
    of_law: list[Column] = [("factor", factor), ("omega alpha q", setting), ("law", lambda case: _LAWS[law(case)])]
    near: list[Column] = [
        ("factor", factor),
        ("policy", law),
        ("omega alpha q", setting),
        ("total variation", found.cell("total variation")),
        *found.judged("total variation"),
        ("rank correlation", found.cell("rank correlation of log-probabilities", plain, 4)),
        ("error of the root value", found.cell("error of the root value", plain)),
        ("objects sampled", found.cell("objects sampled in training", count)),
        ("seconds", found.cell("training time", plain)),
    ]
    shown = [(metric, found.cell(metric, plain, 4)) for metric in ("mean score", _DECILES[-1], "entropy")]
    tenths = [(str(place), found.cell(metric, plain, 4)) for place, metric in enumerate(_DECILES, 1)]
    with_tenths = [case for case in laws if (case, _DECILES[0]) in found]
    gains: list[Column] = [
        *(("factor", factor), ("policy", law), ("values", setting), ("least gain", found.cell(_GAIN))),
        ("grows", found.cell(_GAIN, verdict)),
    ]
    parts = [
        lines([case for case in cases if (case, "total variation") in found], near),
        *(SAYS["laws"], lines(laws, [*of_law, *shown])),
        *((SAYS["deciles"], lines(with_tenths, [*of_law, *tenths])) if with_tenths else ()),
        *(SAYS["gains"], lines([case for case in cases if (case, _GAIN) in found], gains)),
    ]
    return "\n\n".join(parts)


SAYS = prose("tfbind8")
CASE = Case("TF-Bind-8: the learned law beside the exact one", SAYS["text"], measure, tables)
