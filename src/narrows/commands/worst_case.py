"""`narrows worst`: how much of a run's score is left when the score is wrong, as numbers and as a picture."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from narrows.commands.scores import MaybeProxy, MaybeScore, open_scorer
from narrows.files import open_plain, write_atomically
from narrows.metrics.worst_case import Mean
from narrows.report.uncertainty import write_two_actions
from narrows.runs import OpenRun
from narrows.runs.worst_case import (
    Listed,
    NamedSet,
    ObjectRow,
    Reference,
    Sampled,
    SetRow,
    TestedPolicy,
    first_choice,
    sets_of,
)
from narrows.selection.digits import digits
from narrows.selection.files import guarded
from narrows.sizes import Count

COLUMNS = ("object", "probability", "score", "worst_change", "worst_score", "from")

_LEGEND = (
    "gap: what the best policy against the adversary has more. margin: how much all scores must rise to be in the set; where",
    "the score itself is outside, the adversary has to raise some. less margin: the worst case once the set is moved to hold",
    "the score itself, which compares sets. * the set of the run's own objective",
)


@dataclass(frozen=True)
class Worst:
    """The worst case of a run's policy over several sets, the one asked for first; scores are log-rewards divided by beta.

    `reason` says why states could not be listed, None where they were; `num` is the number of states, or of trajectories.
    """

    mean_score: Mean
    rows: tuple[SetRow, ...]
    reference: Reference
    num: int
    reason: str | None
    written: tuple[Path, ...]


@dataclass(frozen=True)
class WorstSettings:
    """Over which sets a policy is judged, from how much, and what is written.

    Args:
        omega: inverse temperature of the sets; by default the run's.
        alpha: inverse temperature of the reference policy; by default the run's.
        q: pull towards the reference in the general set; by default the run's, and 0.5 where that is 0 or 1.
        reference: what the reference policy is a softmax of: the values of the exact solution, or the model's own. Where
            states cannot be listed it is the model's.
        states: most states to list; a score of your own is asked for every object among them.
        samples: trajectories where states cannot be listed.
        score: your own score as FILE.py:FUNCTION, for a run that was guided by it.
        proxy: folder that `narrows tune` wrote, for a run that was guided by it.
        timeout: seconds that one batch of your score may take. Looking for what hangs in it may take up to 8 times that, and
            16 minutes in which your file is loaded anew.
        out: CSV file for the worst case of single objects: the shortlist's and the most probable ones.
        top: how many of the most probable objects.
        plot: SVG file for the sets of the first choice, between its two most probable actions.
    """

    omega: float | None = None
    alpha: float | None = None
    q: float | None = None
    reference: Reference = "solution"
    states: Count = 200_000
    samples: int = 4096
    score: MaybeScore = None
    proxy: MaybeProxy = None
    timeout: float = 600.0
    out: Path | None = None
    top: int = 100
    plot: Path | None = None

    def check(self) -> None:
        """Refuse numbers that mean nothing, and to replace a file that this command did not write."""
        for name, least in (("states", 1), ("samples", 2), ("top", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}, got {getattr(self, name)}.")
        for name, suffix, start in (("out", ".csv", ",".join(COLUMNS)), ("plot", ".svg", "<svg")):
            path: Path | None = getattr(self, name)
            if path is not None:
                _refuse_to_replace(name, path, suffix, start)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.out, self.plot) if path is not None)


_USUAL = WorstSettings()


def worst(folder: Positional[Path], *, settings: WorstSettings = _USUAL) -> Worst:
    """Say what a run's policy is worth when an adversary changes the score within an uncertainty set.

    Exact where all states can be listed, else estimated from samples with a standard error. Beside the run's own set there
    are the GFlowNet's (q = 0), mellowmax's, soft mellowmax's and the general one between them.

    Args:
        folder: the run folder.
        settings: over which sets, from how much, and what is written.
    """
    settings.check()
    run = OpenRun(folder)
    with open_scorer(settings.score, run.folder, settings.timeout, settings.proxy, run.kappa_of_score) as scorer:
        policy = TestedPolicy.of(run.scored_by(scorer))
        sets = sets_of(policy.own, settings.omega, settings.alpha, settings.q)
        rows = () if settings.out is None or run.selection is None else run.selection[0]
        chosen = [row.sequence for row in rows]
        try:
            listed = Listed(policy, settings.states, settings.reference)
        except ValueError as error:
            return _from_samples(policy, sets, str(error), chosen, settings)
        return _from_states(policy, sets, listed, chosen, settings)


def render(result: Worst) -> str:
    """Return what the command prints: how the figures were had, and a line a set."""
    is_exact = result.reason is None
    how = f"exact, over {result.num:,} states" if is_exact else f"estimated from {result.num:,} trajectories (± standard error)"
    lines = [f"worst case in units of the score, {how}"]
    if not is_exact:
        lines.append(f"states are not listed (--states): {result.reason}")
    values = "the exact solution's values" if result.reference == "solution" else "the model's own values"
    lines += [f"reference policy: softmax(alpha Q) of {values}", f"mean score without an adversary: {_cell(result.mean_score)}"]
    columns = f"{'worst case':>18}{'best possible':>15}{'gap':>9}{'margin':>9}{'less margin':>13}"
    lines += ["", f"{'set':<46}{columns}  score itself", *(_line(row) for row in result.rows), ""]
    lines += _LEGEND
    lines += [f"written: {path}" for path in result.written]
    return "\n".join(lines)


def _from_states(
    run: TestedPolicy, sets: Sequence[NamedSet], listed: Listed, chosen: Sequence[str], settings: WorstSettings
) -> Worst:
    log_reward = run.log_reward(listed.graph.terminal_states)
    cases = listed.cases(sets, log_reward)
    if settings.out is not None:
        _write_objects(settings.out, listed.objects(cases[0], log_reward, chosen, settings.top))
    if settings.plot is not None:
        asked = sets[0].operator
        write_two_actions(settings.plot, first_choice(run, asked, listed.log_reference(asked, log_reward)[0]), unit="the score")
    mean = Mean(cases[0].mean_reward / run.beta, 0.0)
    return Worst(mean, listed.rows(sets, cases), listed.reference, listed.graph.num_states, None, settings.files)


def _from_samples(
    run: TestedPolicy, sets: Sequence[NamedSet], reason: str, chosen: Sequence[str], settings: WorstSettings
) -> Worst:
    sampled = Sampled(run, sets, settings.samples)
    if settings.out is not None:
        _write_objects(settings.out, sampled.objects(chosen, settings.top))
    if settings.plot is not None:
        write_two_actions(settings.plot, first_choice(run, sets[0].operator, None), unit="the score")
    mean = sampled.scaled(sampled.found.mean_reward)
    return Worst(mean, sampled.rows(sets), "model", sampled.found.num, reason, settings.files)


def _line(row: SetRow) -> str:
    operator = row.which.operator
    reference = "" if operator.q == 0.0 else f", alpha {operator.alpha:g}"
    name = f"{row.which.name} (omega {operator.omega:g}{reference}, q {operator.q:g}){' *' if row.which.is_own else ''}"
    best = gap = margin = shifted = holds = "?"
    if row.best_value is not None:
        best, gap = f"{row.best_value:.4f}", f"{row.best_value - row.value.value:.4f}"
    if row.margin is not None:
        shifted = f"{row.value.value - row.margin:.4f}"
        # A margin of rounding is none.
        margin, holds = f"{row.margin if abs(row.margin) > 5e-5 else 0.0:.4f}", "inside" if row.contains_proxy else "outside"
    return f"{name:<46}{_cell(row.value):>18}{best:>15}{gap:>9}{margin:>9}{shifted:>13}  {holds}"


def _cell(estimate: Mean) -> str:
    error = f" ± {estimate.standard_error:.4f}" if estimate.standard_error > 0.0 else ""
    return f"{estimate.value:.4f}{error}"


def _write_objects(path: Path, rows: Sequence[ObjectRow]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        numbers = (row.probability, row.score, row.worst_change, row.score + row.worst_change)
        # The change is to be seen behind an offset of the scores, too.
        shown = [f"{value:.{digits(value, abs(row.worst_change), least=9)}g}" for value in numbers]
        writer.writerow([guarded(row.name), *shown, row.source])
    write_atomically(path, stream.getvalue())


def _refuse_to_replace(name: str, path: Path, suffix: str, start: str) -> None:
    """Refuse a file that does not begin as this command's own do."""
    if path.suffix != suffix:
        raise ValueError(f"--{name} {path}: expected a name that ends in {suffix}.")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--{name} {path}: expected a file in a folder that is there.")
    if path.exists():
        with open_plain(path, "r", encoding="utf-8", errors="replace") as stream:
            if not stream.read(len(start)) == start:
                raise ValueError(f"--{name} {path} exists and is something else. Give another name, so that nothing is lost.")
