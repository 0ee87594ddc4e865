"""What comes out of a run's objects under the noise of its job, and the shortlist of those whose outcomes score best."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from narrows.commands.predictions import Believed, score_of
from narrows.config import SCORE, Job, ShortlistSettings, build_env, build_kernel
from narrows.envs import AbstractEnvironment
from narrows.envs.sequence import AbstractSequence
from narrows.metrics.likelihood import is_tree
from narrows.outcomes import Foreteller, foreteller
from narrows.runs import RunFolder
from narrows.selection import Candidates, Foretold, Outcomes, Shortlist, with_outcomes
from narrows.selection.digits import rounded
from narrows.storage.checkpoint import latest

_WEIGHED = (4096, 16_384, 65_536)
"""Candidates, best means first, whose every outcome is weighed: more of them if fewer do not fill the list."""

_LOOKED_AT = 4096
_FIRST_LOOK = 32
"""Where outcomes are simulated, so many of each of the best means decide which candidates are looked at closely."""

_FEWEST_CLOSE, _CLOSE_A_ROW = 256, 8

Choose = Callable[[Candidates, np.ndarray, np.ndarray, np.ndarray], Shortlist]
"""From candidates, means, standard deviations and expected scores to a shortlist ranked by the last."""


@dataclass(frozen=True, eq=False)
class Foretelling:
    """What can be said of outcomes.

    Args:
        noise: name and settings of the noise, in words.
        closely: says what comes out of objects; None for objects that are no sequences.
        at_first: says it from a few simulated outcomes; None where that is not needed.
        reason: why something is not known, and what would help.
    """

    noise: str
    closely: Foreteller | None
    at_first: Foreteller | None = None
    reason: str | None = None

    def explained(self, chosen: Shortlist) -> Shortlist:
        """Return a shortlist whose rows say what comes out of them."""
        if self.closely is None:
            return with_outcomes(chosen, None, Foretold(self.noise, "unknown", reason=self.reason))
        return self.told(chosen, self.closely([row.sequence for row in chosen.rows]))

    def told(self, chosen: Shortlist, outcomes: Outcomes, num_not_foretold: int = 0) -> Shortlist:
        """Return a shortlist with the outcomes of its rows."""
        assert self.closely is not None, "there are outcomes of sequences only"
        errors = self.closely.standard_error(outcomes)
        error = None if np.isnan(errors).any() else float(f"{max(errors, default=0.0):.6g}")
        method, num = self.closely.method, self.closely.num_outcomes
        return with_outcomes(chosen, outcomes, Foretold(self.noise, method, num, error, num_not_foretold, self.reason))


def settings_of(job: Job, folders: Sequence[RunFolder]) -> ShortlistSettings:
    """Return how a job's shortlist is selected, where the job does not say by what.

    Under noise by the expected score where it can be known. By the trained sampler where the score is a proxy that learned from
    measurements: a single object that a proxy is wrong about leads its list, and does not lead the sampler's, which has learned
    from many (`docs/robustness_results.md`); runs that have no checkpoint yet have no sampler to ask. Else by the score itself.
    """
    if job.shortlist.by is not None:
        return job.shortlist
    env = build_env(job)
    if job.noise is not None and isinstance(env, AbstractSequence) and job.reward["name"] != SCORE:
        return replace(job.shortlist, by="expected")
    by_sampler = _would_ask_sampler(job, env) and not _untrained(folders)
    return replace(job.shortlist, by="sampler" if by_sampler else "mean")


def unasked_sampler(job: Job, folders: Sequence[RunFolder]) -> str | None:
    """Return why a job that says nothing of it is not ranked by its trained sampler, as it would be if it had one."""
    if job.shortlist.by is not None or not _would_ask_sampler(job, build_env(job)):
        return None
    untrained = _untrained(folders)
    if not untrained:
        return None
    cure = "Wait for the next checkpoint, or `narrows resume` the run, and ask again."
    return f"ranked by the proxy's mean, for there is no trained sampler to rank by: {'; '.join(untrained)}. {cure}"


def _would_ask_sampler(job: Job, env: AbstractEnvironment) -> bool:
    return job.noise is None and job.guide.is_proxy and is_tree(env)


def _untrained(folders: Sequence[RunFolder]) -> list[str]:
    """Return what is the matter with each run that has no checkpoint to open."""
    each = [(folder, latest(folder.checkpoints)) for folder in folders]
    return [
        f"{folder.path} has no checkpoint" + "".join(f"; {line}" for line in found.skipped)
        for folder, found in each
        if found.path is None
    ]


def foretelling(job: Job, env: AbstractEnvironment) -> Foretelling | None:
    """Return what can be said of the outcomes of a job's objects, None for a job without noise."""
    kernel = build_kernel(job, env)
    if job.noise is None or kernel is None:
        return None
    settings = ", ".join(f"{name} {value}" for name, value in job.noise.items() if name != "name" and value is not None)
    noise = f"{job.noise['name']} ({settings})" if settings else job.noise["name"]
    if not isinstance(env, AbstractSequence):
        reason = (
            "what comes out of a row is not known: it is worked out for sequences, which are asked for letter by letter, while "
            f"an object of {type(env).__name__} can be asked for in many orders. Rows are ranked by their own score"
        )
        return Foretelling(noise, None, reason=reason)
    score = score_of(job, env)
    if score is None:
        reason = (
            "the expected score of what comes out is not known: the score is a function of yours, which is not called for a "
            'shortlist. Fit a proxy to scores that it gave (narrows fit) and run a job with [reward] name = "Proxy"'
        )
        return Foretelling(noise, foreteller(env, kernel, None), reason=reason)
    closely = foreteller(env, kernel, score)
    at_first = foreteller(env, kernel, score, num=_FIRST_LOOK) if closely.method == "simulated" else None
    return Foretelling(noise, closely, at_first)


def choose_by_expected(
    foretold: Foretelling | None, believed: Believed, by_mean: Shortlist, measured: AbstractSet[str], choose: Choose
) -> Shortlist:
    """Return the shortlist of the objects whose outcomes are expected to score best.

    Candidates that promise most are foretold and ranked, and the rows of the shortlist by mean with them: more of them if
    these do not fill the list.

    Args:
        foretold: what can be said of outcomes.
        believed: all candidates.
        by_mean: the shortlist of the same candidates by their own means.
        measured: objects that cannot be chosen.
        choose: the choice by expected score.
    """
    if foretold is None:
        raise ValueError("by = expected ranks what comes out under noise, and this job has none. Use --by mean.")
    if foretold.closely is None or foretold.closely.moments is None:
        raise ValueError(f"by = expected needs expected scores; {foretold.reason}. Use --by mean.")
    objects, k = believed.candidates.objects, by_mean.k
    is_measured = np.array([name in measured for name in objects], bool)
    order, sizes = _promising(foretold, believed, is_measured, k)
    chosen_by_mean = {row.sequence for row in by_mean.rows}
    kept = np.flatnonzero([name in chosen_by_mean for name in objects])
    columns = Outcomes(*(np.full(len(objects), np.nan) for _ in range(3)))
    chosen, ranked = by_mean, order[:0]
    for size in sizes:
        ranked = np.union1d(order[:size], kept)
        new = ranked[np.isnan(columns.mean[ranked])]
        for column, values in zip(columns, foretold.closely([objects[place] for place in new.tolist()]), strict=True):
            column[new] = values
        expected = rounded(columns.mean[ranked])
        chosen = _choose_among(believed, ranked, expected, np.flatnonzero(is_measured), choose)
        if len(chosen.rows) == k or len(ranked) == len(order):
            break
    places = {objects[place]: place for place in ranked.tolist()}
    rows = [places[row.sequence] for row in chosen.rows]
    return foretold.told(chosen, Outcomes(*(column[rows] for column in columns)), len(order) - len(ranked))


def _promising(foretold: Foretelling, believed: Believed, is_measured: np.ndarray, k: int) -> tuple[np.ndarray, Sequence[int]]:
    """Return the candidates that can be chosen, the most promising first, and how many to try before trying more."""
    best_first = np.argsort(-believed.mean, kind="stable")
    order = best_first[~is_measured[best_first]]
    if foretold.at_first is None:
        return order, _WEIGHED
    looked_at = order[:_LOOKED_AT]
    glimpsed = foretold.at_first([believed.candidates.objects[place] for place in looked_at.tolist()])
    order = np.concatenate([looked_at[np.argsort(-glimpsed.mean, kind="stable")], order[_LOOKED_AT:]])
    close = max(_FEWEST_CLOSE, _CLOSE_A_ROW * k)
    return order, (close, 4 * close)


def _choose_among(
    believed: Believed, ranked: np.ndarray, expected: np.ndarray, measured: np.ndarray, choose: Choose
) -> Shortlist:
    """Return the choice among ranked candidates; measured ones come along so that they are counted as left out."""
    places = np.concatenate([ranked, measured])
    all_candidates = believed.candidates
    candidates = Candidates(
        tuple(all_candidates.objects[place] for place in places.tolist()),
        all_candidates.runs,
        all_candidates.run_index[places],
        all_candidates.steps[places],
    )
    filled = np.concatenate([expected, np.zeros(len(measured))])  # of measured ones it is never read
    return choose(candidates, believed.mean[places], believed.std[places], filled)
