"""The tables of the speed benchmark, for the page and for the terminal."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks._speed.plan import PLANS, SAYS
from benchmarks._speed.workers import OURS
from benchmarks.harness.rows import Row
from benchmarks.harness.tables import Column, Found, lines, name_of, part_of, ratio, spread, table, verdict

_LOSSES = {"tb": "mean squared trajectory balance with a learned log Z", "db": "mean squared detailed balance"}
_SIDE = {
    "trajectories/s": "trajectories",
    "iterations/s": "iterations",
    "compile, s": "compile time",
    "peak memory, MB": "peak memory",
    "share of peak": "share of the product peak",
    "decisions a trajectory": "decisions a trajectory",
}


def tables(rows: Sequence[Row]) -> str:
    """Return a table for each case with its footnote, the sweeps, and what was learned."""
    cases = dict.fromkeys(part_of(row.case, 1) for row in rows)
    parts = [part for name in cases if name in PLANS for part in _plan(rows, name)]
    parts += _sweep(rows, "length", "Transformer over 4 letters, one length, batch 16; time a trajectory.")
    parts += _sweep(rows, "batch", "The bit sequences (trajectory balance) with other batches.")
    return "\n\n".join([*parts, *_learning(rows)])


def _sides(rows: Sequence[Row], is_shown: Callable[[str], bool]) -> list[Row]:
    return [row for row in rows if is_shown(part_of(row.case, 1))]


def _plan(rows: Sequence[Row], name: str) -> list[str]:
    here, problem = _sides(rows, lambda case: case == name), PLANS[name].problem
    found = Found(row for row in here if row.against is None)
    losses = dict.fromkeys(row.metric for row in here if row.metric.startswith("loss after "))
    columns = [(title, found.cell(metric)) for title, metric in (*_SIDE.items(), *zip(losses, losses, strict=True))]
    judged = [row for row in here if row.against is not None or (row.target is not None and f"/{OURS}" in row.case)]
    rates = f"Adam at {problem.learning_rate:g}"
    if problem.objective == "tb":
        rates += f", log Z at {problem.log_z_learning_rate:g}"
    footnote = (
        f"*On every side:* {PLANS[name].note} Batch {problem.batch}, {_LOSSES[problem.objective]}, "
        f"{rates}, gradient clipped at norm 10, float32, on policy, uniform backward policy."
    )
    own = lines(dict.fromkeys(row.case for row in here), [("side", name_of), *columns])
    return [f"### {PLANS[name].title}", own, *_verdicts(judged), footnote]


def _verdicts(rows: Iterable[Row]) -> list[str]:
    cells = [
        (row.metric, f"{spread(row)} {row.unit}".strip(), row.against or "", ratio(row), row.target or "", verdict(row))
        for row in rows
    ]
    return [table(("figure", "ours", "against", "ratio", "target", "met"), cells)] if cells else []


def _sweep(rows: Sequence[Row], kind: str, words: str) -> list[str]:
    here = _sides(rows, lambda case: case.startswith(f"{kind}-"))
    if not here:
        return []
    found, units = Found(here), {row.metric: row.unit for row in here}
    columns: list[Column] = [(kind, lambda case: part_of(case, 1).split("-", 1)[1]), ("side", name_of)]
    columns += [(f"{metric}, {unit}" if unit else metric, found.cell(metric)) for metric, unit in units.items()]
    judged = [row for row in rows if part_of(row.case, 1) == kind or (row in here and row.target is not None)]
    own = lines(dict.fromkeys(row.case for row in here), columns)
    return [f"### {kind.capitalize()} sweep", words, own, *_verdicts(judged)]


def _learning(rows: Sequence[Row]) -> list[str]:
    cells = [
        (part_of(row.case, 1).split(": ")[1], name_of(row.case), row.metric, spread(row), row.target or "", verdict(row))
        for row in _sides(rows, lambda case: case.startswith("learning: "))
    ]
    header = ("problem", "of", "figure", "value", "target", "met")
    return ["### Does speed cost learning?", SAYS["learning"], table(header, cells)] if cells else []
