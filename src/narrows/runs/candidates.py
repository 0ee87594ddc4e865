"""The candidates of one or more runs: the best objects that they have seen, with a mean and a standard deviation each."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from narrows.config import Job, JobError
from narrows.files import ChangedFile, sha256_of
from narrows.proxies.files import MANIFEST
from narrows.runs.execution import conflict_note
from narrows.runs.folder import RunError, RunFolder
from narrows.runs.opened import OpenRun
from narrows.runs.rows import read_rows
from narrows.scorers.cache import ScoreCache, stds_of
from narrows.search import Found
from narrows.selection import Candidates, Run, ScoredCandidates, merge_candidates
from narrows.selection.digits import rounded, spread_of
from narrows.storage.archive import Archive

_POOL = 200_000
"""Best objects of a run that can enter a shortlist: far more than any minimum distance passes over."""


def load_candidates(runs: Sequence[OpenRun]) -> ScoredCandidates:
    """Return the best objects of several runs and what their reward says of them.

    With a proxy, mean and standard deviation are what it predicts; any other reward is its own mean, read from the archive as
    it counted, lowered by what a job's `[near]` takes off, with the standard deviation that a score of the user's gave. With a
    proxy and a table every object of a space that can be listed is among them, and of a larger one what a hill climb and a
    genetic algorithm from the best measured rows find: there is a list at once, and a later one is no worse for want of it.
    """
    first, *others = map(_signature, runs)
    for run, signature in zip(runs[1:], others, strict=True):
        if signature != first:
            raise JobError(
                f"{run.folder.path} and {runs[0].folder.path} had another score, other objects or other noise, so that they "
                "cannot be ranked together. Name runs of one score and one environment."
            )
    parts: list[Candidates] = []
    scores: dict[str, float] = {}
    searched: dict[str, Found] = {}
    num_passed_over = num_conflicts = 0
    for run in runs:
        searched = searched or run.searched
        candidates, log_rewards, total, conflicts = _read(run.folder, run.job.seed, is_needed=not searched)
        num_passed_over += total - len(candidates.objects)
        num_conflicts += conflicts
        parts.append(candidates)
        values = log_rewards / run.job.reward["beta"]
        for name, value in zip(candidates.objects, values.tolist(), strict=True):
            scores.setdefault(name, value)
    merged = merge_candidates([*parts, *(_of_search(found, how) for how, found in searched.items())])
    unseen = len(merged.objects) - len(scores)
    note = f"{unseen:,} of the candidates are from a {' or a '.join(searched)}" if unseen else None
    found = [np.array([*scores.values()]), *(found.scores for found in searched.values())]
    score = partial(_score, runs, merged.objects, scores, spread_of(np.concatenate(found)))
    return ScoredCandidates(merged, score, num_passed_over, conflict_note(num_conflicts), note)


def _score(
    runs: Sequence[OpenRun], objects: tuple[str, ...], scores: Mapping[str, float], spread: float, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the objects at some places, with the digits that tell all of them apart."""
    asked = [objects[place] for place in places.tolist()]
    if runs[0].proxy is not None:
        mean, std = runs[0].proxy.predict(asked)
    else:
        mean = np.array([scores[name] for name in asked])
        stds = _stds(runs, asked) if runs[0].is_user_score else {}
        std = np.array([stds.get(name, np.nan) for name in asked])
    return rounded(mean, spread=spread), rounded(std, spread=spread)


def _of_search(searched: Found, how: str) -> Candidates:
    best = np.argsort(-searched.scores, kind="stable")[:_POOL]
    objects = tuple(searched.objects[place] for place in best.tolist() if np.isfinite(searched.scores[place]))
    return Candidates(objects, (Run(how),), np.zeros(len(objects), np.int64), np.full(len(objects), -1, np.int64))


def _stds(runs: Sequence[OpenRun], objects: Sequence[str]) -> dict[str, float]:
    """Return the standard deviations that a user's score gave with its means, of the objects for which it gave one."""
    found: dict[str, float] = {}
    for run in runs:
        identity, path = run.folder.about().score_identity, run.folder.scores
        if identity is not None and path.exists():
            with closing(ScoreCache(path, read_only=True)) as cache:
                found |= cache.get(stds_of(identity), objects)
    return found


def _read(folder: RunFolder, seed: int, *, is_needed: bool) -> tuple[Candidates, np.ndarray, int, int]:
    """Return the best objects of a run, their log-rewards, how many it has seen, and how many scores were in conflict.

    Raises RunError where there are none and they are needed.
    """
    total, best, conflicts = 0, [], 0
    if folder.archive.exists():
        with Archive.open(folder.archive, read_only=True) as archive:
            total, best, conflicts = archive.count(), archive.top(_POOL), archive.conflicts()
        _warn_if_fewer(folder, total)
    if not best and is_needed:
        raise RunError(f"{folder.path} has seen no objects yet. Wait for its first steps, or `narrows resume {folder.path}`.")
    run = Run(str(folder.path), seed)
    steps = np.array([entry.step for entry in best], np.int64)
    candidates = Candidates(tuple(entry.object for entry in best), (run,), np.zeros(len(best), np.int64), steps)
    return candidates, np.array([entry.log_reward for entry in best]), total, conflicts


def _warn_if_fewer(folder: RunFolder, total: int) -> None:
    """Warn of an archive that has lost objects: it is always written before the history that counts them."""
    known = max((int(row["distinct"]) for row in read_rows(folder.history) if "distinct" in row), default=0)
    if total < known:
        warnings.warn(
            f"{folder.archive} holds {total:,} objects, though the run has seen {known:,}: some were lost, perhaps with the "
            f"file {folder.archive.name}-wal beside it.",
            ChangedFile,
            stacklevel=2,
        )


def _signature(run: OpenRun) -> tuple[object, ...]:
    """Return what makes two runs' scores comparable: the reward's settings and the bytes of its input, objects and noise."""
    job = run.job
    source = job.reward_path
    if source is not None and source.is_dir():
        source = source / MANIFEST  # it holds the hash of the weights
    return (
        *sorted((name, value) for name, value in job.reward.items() if name not in ("beta", "path")),
        _digest(source),
        run.folder.about().score_identity,
        *sorted(job.env.items()),
        *_noise_signature(job),
        # Lowered scores of one table and those of another are not on one scale.
        *(() if job.near is None or job.data is None else (repr(job.near), _digest(job.folder / job.data.path))),
    )


def _noise_signature(job: Job) -> tuple[object, ...]:
    if job.noise is None:
        return ()
    settings = {key: value for key, value in job.noise.items() if key != "path"}
    return (*sorted(settings.items()), _digest(job.folder / job.noise["path"] if "path" in job.noise else None))


def _digest(source: Path | None) -> str | None:
    return None if source is None else sha256_of(source)
