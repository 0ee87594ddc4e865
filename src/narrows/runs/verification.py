"""The true scores of a shortlist, beside comparisons that are fair to everybody."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from narrows.config import Job, ShortlistSettings
from narrows.policies.base import Model, Uniform
from narrows.printing import printable, quote
from narrows.runs.candidates import load_candidates
from narrows.runs.execution import execute
from narrows.runs.folder import RunFolder
from narrows.runs.opened import OpenRun
from narrows.runs.shortlists import choose, resolve_ranking
from narrows.scorers import Scorer
from narrows.search import SEARCHES
from narrows.selection import ScoredCandidates, candidates_from_objects
from narrows.selection.digits import rounded
from narrows.selection.rankings import Mean
from narrows.trajectories import sample

_RANDOM_SEED = 0
"""Seed of the random objects: the same ones for every run of one space and one k."""


@dataclass(frozen=True)
class Group:
    """True scores of one group of objects, NaN where the score failed, and their scores in the run (NaN: unknown)."""

    role: str
    label: str
    note: str
    objects: tuple[str, ...]
    true_scores: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.true_scores)) if not np.all(np.isnan(self.true_scores)) else float("nan")


class Comparison(NamedTuple):
    """Groups of objects with their true scores, the inverse temperature of the control, and why objects have no true score."""

    groups: tuple[Group, ...]
    matched_inverse_temperature: float | None
    failures: dict[str, str]


class _Objects(NamedTuple):
    role: str
    label: str
    note: str
    objects: Sequence[str]


def compare(run: OpenRun, shortlisted: Sequence[str], true_score: Scorer, *, with_control: bool) -> Comparison:
    """Return the true scores of a run's shortlist, of the best measured, of plain searches, of random ones and of a GFlowNet's.

    Args:
        run: the run.
        shortlisted: the objects of its shortlist.
        true_score: the score that counts.
        with_control: train and compare the matched GFlowNet, unless the run is one itself (q = 0).
    """
    num = len(shortlisted)
    groups = [_Objects("shortlist", "shortlist", "the rows of shortlist.csv", shortlisted)]
    if run.table is not None:
        best = [run.table.sequences[place] for place in np.argsort(-run.table.scores, kind="stable")[:num].tolist()]
        groups.append(_Objects("measured", "best measured", "the best of the measurements, as measured", best))
    groups += _rivals(run, num)
    groups.append(_Objects("random", "random", "drawn by uniform random play", random_objects(run, num)))
    _refuse_a_useless(true_score, shortlisted)  # before a control is trained for it
    matched = None
    if with_control and not run.is_untrained and run.job.objective.get("q", 0.0) > 0.0:
        objects, matched = _control_objects(run, num)
        noun = run.job.guide.noun
        note = f"q = 0, inverse temperature {matched:g}; same network, steps, batch, {noun} and selection"
        groups.append(_Objects("control", "plain GFlowNet, matched", note, objects))
    everything = list(dict.fromkeys(item for group in groups for item in group.objects))
    result = true_score(everything)
    truth = dict(zip(everything, result.values.tolist(), strict=True))
    scores = dict(zip(everything, run.predict(everything).tolist(), strict=True))
    scored = tuple(
        Group(role, label, note, tuple(objects), tuple(truth[o] for o in objects), tuple(scores[o] for o in objects))
        for role, label, note, objects in groups
    )
    return Comparison(scored, matched, dict(result.failures))


def control_job(job: Job) -> tuple[Job, float]:
    """Return the job of the temperature-matched GFlowNet and its inverse temperature (tgm 6.4, control 1).

    At q = 0 only the product of omega and beta matters for the law. Omega takes up the whole factor, so that the network's
    outputs enter the policy on the same scale as in the run that it is compared with.
    """
    objective = dict(job.objective)
    omega = objective.get("omega", 1.0) + objective.get("q", 0.0) * objective.get("alpha", 0.0)
    plain = {**objective, "q": 0.0} if "q" in objective else objective
    plain = {**plain, "omega": omega} if "omega" in objective else plain
    return replace(job, name=f"{job.name}-control", objective=plain), omega * job.reward["beta"]


def random_objects(run: OpenRun, num: int) -> list[str]:
    """Return `num` distinct objects from uniform random play, the same ones every time; fewer if the space is small."""
    drawn = sample(jax.random.key(_RANDOM_SEED), Model(Uniform(run.env.num_actions), jnp.zeros(())), run.env, 4 * num)
    return list(dict.fromkeys(run.env.to_text(drawn.terminal)))[:num]


def _rivals(run: OpenRun, num: int) -> list[_Objects]:
    """Return what plain searches of the run's own proxy find, selected as far apart as the shortlist.

    Nothing without a proxy and a table. Genetic algorithm and AdaLead ask for as many objects as the run has seen and its own
    searches have asked for.
    """
    problem, climbed = run.problem, run.climbed
    if problem is None or climbed is None:
        return []
    found = {"hill climb": ("from the best measured rows", climbed)}
    calls = run.num_asked
    for name, search in SEARCHES.items():
        if name not in found:
            found[name] = (f"with {calls:,} calls, as many as the run and its searches had", search(problem, calls))
    if run.listed is not None:
        found["exhaustive ranking"] = ("of every object there is", run.listed)
    settings = replace(_selection_of(run), k=num, by=Mean.name)
    rivals = []
    for name, (how, (objects, scores)) in found.items():
        known = np.isfinite(scores)
        candidates = candidates_from_objects([text for text, is_known in zip(objects, known.tolist(), strict=True) if is_known])
        if not candidates.objects:
            continue
        scored = ScoredCandidates.of(candidates, rounded(scores[known]), np.full(int(known.sum()), np.nan))
        rows = choose([run], scored, settings).rows
        note = f"{how}; on the run's own {run.job.guide.noun}, selected by it, same distance"
        rivals.append(_Objects("search", name, note, [row.sequence for row in rows]))
    return rivals


def _control_objects(run: OpenRun, num: int) -> tuple[list[str], float]:
    plain, inverse_temperature = control_job(run.job)
    if run.is_user_score:
        raise ValueError("the control would call the run's own score again for a whole training. Use --no-control.")
    path = run.folder.control
    if path.exists():
        control = OpenRun(path)
        _refuse_another_control(control, plain)
    else:
        control = OpenRun(RunFolder.create(path, plain, {"job": f"control of {run.folder.path}"}))
    Console().print("training the matched GFlowNet for comparison", highlight=False)
    result = execute(control)
    if not result.is_finished:
        raise ValueError(
            f"the control was stopped at step {result.step} of {result.num_steps}, so it cannot be compared yet. "
            "Verify again and it goes on from there, or use --no-control."
        )
    chosen = choose([control], load_candidates([control]), replace(_selection_of(run), k=num))
    return [row.sequence for row in chosen.rows], inverse_temperature


def _selection_of(run: OpenRun) -> ShortlistSettings:
    """Return how the run's shortlist was selected, which may differ from what its job says."""
    record = None if run.selection is None else run.selection[1]
    if record is None:
        return resolve_ranking([run])
    kept = {"k": record.k, "min_distance": record.min_distance or 0, "kappa": record.kappa, "by": record.ranked_by}
    kept["both_strands"] = bool(record.both_strands)
    return replace(run.job.shortlist, **kept)


def _refuse_another_control(control: OpenRun, plain: Job) -> None:
    kept = control.job
    names = ("seed", "env", "policy", "objective", "optimizer", "exploration", "replay", "train")
    changed = [name for name in names if getattr(kept, name) != getattr(plain, name)]
    if kept.reward["beta"] != plain.reward["beta"]:
        changed.append("reward")
    if changed:
        raise ValueError(
            f"{control.folder.path} was trained before the run's job changed in {', '.join(changed)}, so it is no fair "
            "comparison. Delete that folder and verify again."
        )


def _refuse_a_useless(true_score: Scorer, shortlisted: Sequence[str]) -> None:
    result = true_score(list(shortlisted))
    if shortlisted and np.isnan(result.values).all():
        item, reason = next(iter(result.failures.items()))
        raise ValueError(f"the score failed for every row of the shortlist, {quote(item)} first: {printable(reason)}")
