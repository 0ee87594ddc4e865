"""`narrows verify`: what the true score says of a shortlist, beside comparisons that are fair to everybody."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from tyro.conf import Positional

from narrows.commands.foretelling import settings_of
from narrows.commands.predictions import believe, predict
from narrows.commands.reporting import report
from narrows.commands.scores import Score, opened
from narrows.commands.selecting import choose
from narrows.config import SCORE, Job, ShortlistSettings, build_env, measurements
from narrows.files import record_text, write_atomically
from narrows.policies.base import Model, Uniform
from narrows.printing import printable, quote
from narrows.runs import RunFolder, execute
from narrows.scorers import Scorer
from narrows.selection import read_selection
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


@dataclass(frozen=True)
class Verification:
    """The verdict of the true score and where the page is that shows it."""

    scorer: str
    groups: tuple[Group, ...]
    matched_inverse_temperature: float | None
    failures: dict[str, str]
    page: Path


def verify(
    folder: Positional[Path],
    score: Score,
    *,
    control: bool = True,
    timeout: float = 600.0,
) -> Verification:
    """Score a run's shortlist with the true score, beside the best measured, random ones and a plain GFlowNet's.

    The GFlowNet (q = 0) has the same network, steps, batch, score and selection, and the inverse temperature
    (omega + q alpha) beta that TGM's policy has; it is trained in the run folder the first time it is needed.

    Args:
        folder: the run folder; its shortlist.csv is verified.
        score: the true score: rna, or your own as FILE.py:FUNCTION.
        control: train and compare the matched GFlowNet, unless the run is one itself (q = 0).
        timeout: seconds that one batch of the score may take. Looking for what hangs in it may take up to 8 times that, and
            16 minutes in which the file is loaded anew.
    """
    found = RunFolder.open(folder)
    if not found.shortlist.exists():
        raise ValueError(f"{found.shortlist} does not exist. Make it with: narrows shortlist {folder}")
    job = found.job()
    rows, _ = read_selection(found.shortlist)
    groups: list[tuple[str, str, str, Sequence[str]]] = [
        ("shortlist", "shortlist", "the rows of shortlist.csv", [row.sequence for row in rows])
    ]
    table = measurements(job)
    if table is not None:
        best = [table.sequences[i] for i in np.argsort(-table.scores, kind="stable")[: len(rows)].tolist()]
        groups.append(("measured", "best measured", "the best of the measurements, as measured", best))
    groups.append(("random", "random", "drawn by uniform random play", random_objects(job, len(rows))))
    matched = None
    with opened(score, found.path, timeout) as true_score:
        assert true_score is not None, "verify always has a score"
        _refuse_a_useless(true_score, groups[0][3])  # before a control is trained for it
        if control and job.objective.get("q", 0.0) > 0.0:  # a run with q = 0 is the plain GFlowNet itself
            objects, matched = _control_objects(found, job, len(rows))
            note = f"q = 0, inverse temperature {matched:g}; same network, steps, batch, {job.guide.noun} and selection"
            groups.append(("control", "plain GFlowNet, matched", note, objects))
        scored, failures = _scored(groups, true_score, job)
    name = score if isinstance(score, str) else score.__name__
    verification = Verification(name, scored, matched, failures, found.report)
    write_atomically(found.verification, record_text(_plain(verification)))
    report(folder)
    return verification


def render(verification: Verification) -> str:
    """Return what the command prints: one line a group, and where the page is."""
    lines = [f"true score by {verification.scorer}:"]
    for group in verification.groups:
        values = np.asarray(group.true_scores)
        known = values[~np.isnan(values)]
        spread = f"(min {known.min():.4f}, max {known.max():.4f}, n = {len(known)})" if len(known) else "(none scored)"
        lines.append(f"  {group.label:<26} mean {group.mean:.4f}  {spread}")
    lines += [
        f"  could not be scored: {printable(item)} ({printable(reason)})" for item, reason in verification.failures.items()
    ]
    lines.append(f"page: {verification.page}")
    return "\n".join(lines)


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


def random_objects(job: Job, num: int) -> list[str]:
    """Return `num` distinct objects from uniform random play, the same ones every time; fewer if the space is small."""
    env = build_env(job)
    drawn = sample(jax.random.key(_RANDOM_SEED), Model(Uniform(env.num_actions), jnp.zeros(())), env, 4 * num)
    return list(dict.fromkeys(env.to_text(drawn.terminal)))[:num]


def _control_objects(folder: RunFolder, job: Job, num: int) -> tuple[list[str], float]:
    plain, inverse_temperature = control_job(job)
    if job.reward["name"] == SCORE:
        raise ValueError("the control would call the run's own score again for a whole training. Use --no-control.")
    if folder.control.exists():
        control = RunFolder.open(folder.control)
        _refuse_another_control(control, plain)
    else:
        control = RunFolder.create(folder.control, plain, {"job": f"control of {folder.path}"})
    Console().print("training the matched GFlowNet for comparison", highlight=False)
    outcome = execute(control)
    if not outcome.is_finished:
        raise ValueError(
            f"the control was stopped at step {outcome.step} of {outcome.num_steps}, so it cannot be compared yet. "
            "Verify again and it goes on from there, or use --no-control."
        )
    jobs = [control.job()]
    believed = believe([control], jobs, build_env(jobs[0]))
    chosen = choose(believed, [control], jobs, replace(_selection_of(folder, job), k=num))
    return [row.sequence for row in chosen.rows], inverse_temperature


def _selection_of(folder: RunFolder, job: Job) -> ShortlistSettings:
    """Return how the run's shortlist was selected, which may differ from what its job says."""
    _, record = read_selection(folder.shortlist)
    if record is None:
        return settings_of(job, [folder])
    return ShortlistSettings(record.k, record.min_distance or 0, record.kappa, record.ranked_by)


def _refuse_another_control(control: RunFolder, plain: Job) -> None:
    kept = control.job()
    names = ("seed", "env", "policy", "objective", "optimizer", "exploration", "replay", "train")
    changed = [name for name in names if getattr(kept, name) != getattr(plain, name)]
    if kept.reward["beta"] != plain.reward["beta"]:
        changed.append("reward")
    if changed:
        raise ValueError(
            f"{control.path} was trained before the run's job changed in {', '.join(changed)}, so it is no fair comparison. "
            "Delete that folder and verify again."
        )


def _refuse_a_useless(true_score: Scorer, shortlisted: Sequence[str]) -> None:
    result = true_score(list(shortlisted))
    if shortlisted and np.isnan(result.values).all():
        item, reason = next(iter(result.failures.items()))
        raise ValueError(f"the score failed for every row of the shortlist, {quote(item)} first: {printable(reason)}")


def _scored(
    groups: Sequence[tuple[str, str, str, Sequence[str]]], true_score: Scorer, job: Job
) -> tuple[tuple[Group, ...], dict[str, str]]:
    everything = list(dict.fromkeys(item for *_, objects in groups for item in objects))
    result = true_score(everything)
    truth = dict(zip(everything, result.values.tolist(), strict=True))
    believed = dict(zip(everything, predict(job, build_env(job), everything).tolist(), strict=True))
    scored = tuple(
        Group(role, label, note, tuple(objects), tuple(truth[o] for o in objects), tuple(believed[o] for o in objects))
        for role, label, note, objects in groups
    )
    return scored, dict(result.failures)


def _plain(verification: Verification) -> dict[str, Any]:
    """Return the verification as JSON values; NaN, which JSON lacks, as None."""
    facts = asdict(verification)
    facts["page"] = verification.page.name
    for group in facts["groups"]:
        for column in ("true_scores", "scores"):
            group[column] = [None if np.isnan(value) else value for value in group[column]]
    return facts
