"""What is believed about the objects of one or more runs: candidates with a mean and a standard deviation each."""

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from narrows.commands.scores import CACHE
from narrows.config import SCORE, Job, JobError, build
from narrows.config.names import NAMES
from narrows.config.schema import build_or_explain
from narrows.envs import AbstractEnvironment
from narrows.files import ChangedFile, sha256_of
from narrows.proxies import Proxy
from narrows.proxies.ensemble import MANIFEST, Ensemble
from narrows.rewards import AbstractReward
from narrows.runs import RunError, RunFolder, conflict_note, read_rows
from narrows.scorers import HostReward
from narrows.scorers.cache import ScoreCache, stds_of
from narrows.selection import Candidates, Run, merge_candidates
from narrows.selection.digits import rounded
from narrows.storage.archive import Archive

_POOL = 200_000
"""Best objects of a run that can enter a shortlist: far more than any minimum distance passes over."""


@dataclass(frozen=True, eq=False)
class Believed:
    """Candidates of one or more runs with predicted scores, shape `[n]`; `std` is NaN where it is not known.

    `num_passed_over` counts the objects of the archives that scored too low to be among them; `conflicts` says that some came
    with several scores, None where none did.
    """

    candidates: Candidates
    mean: np.ndarray
    std: np.ndarray
    num_passed_over: int
    conflicts: str | None = None


def believe(folders: Sequence[RunFolder], jobs: Sequence[Job], env: AbstractEnvironment) -> Believed:
    """Return the best objects of several runs and what their reward says of them.

    With a `Proxy`, mean and standard deviation are the ensemble's; any other reward is its own mean, read from the archive
    as it counted, lowered by what a job's `[near]` takes off, with the standard deviation that a score of the user's gave.
    """
    first, *others = (_signature(folder, job) for folder, job in zip(folders, jobs, strict=True))
    for folder, signature in zip(folders[1:], others, strict=True):
        if signature != first:
            raise JobError(
                f"{folder.path} and {folders[0].path} had another score, other objects or other noise, so that they "
                "cannot be ranked together. Name runs of one score and one environment."
            )
    parts: list[Candidates] = []
    scores: dict[str, float] = {}
    num_passed_over = num_conflicts = 0
    for folder, job in zip(folders, jobs, strict=True):
        candidates, log_rewards, total, conflicts = _read(folder, job)
        num_passed_over += total - len(candidates.objects)
        num_conflicts += conflicts
        parts.append(candidates)
        values = log_rewards / job.reward["beta"]
        for name, value in zip(candidates.objects, values.tolist(), strict=True):
            scores.setdefault(name, value)
    merged = merge_candidates(parts)
    proxy = load_proxy(jobs[0], env)
    if proxy is not None:
        mean, std = proxy.ensemble.predict(merged.objects)
    else:
        mean = np.array([scores[name] for name in merged.objects])
        stds = _stds(folders, merged.objects) if jobs[0].reward["name"] == SCORE else {}
        std = np.array([stds.get(name, np.nan) for name in merged.objects])
    return Believed(merged, rounded(mean), rounded(std), num_passed_over, conflict_note(num_conflicts))


def _stds(folders: Sequence[RunFolder], objects: Sequence[str]) -> dict[str, float]:
    """Return the standard deviations that a user's score gave with its means, of the objects for which it gave one."""
    found: dict[str, float] = {}
    for folder in folders:
        identity = folder.about().score_identity
        path = folder.path / CACHE
        if identity is not None and path.exists():
            with closing(ScoreCache(path, read_only=True)) as cache:
                found |= cache.get(stds_of(identity), objects)
    return found


def predict(job: Job, env: AbstractEnvironment, objects: Sequence[str]) -> np.ndarray:
    """Return the score that guided a run for any objects, shape `[n]`; NaN for a run guided by a function of the user's."""
    if job.reward["name"] == SCORE:
        return np.full(len(objects), np.nan)
    proxy = load_proxy(job, env)
    if proxy is not None:
        return proxy.ensemble.predict(objects)[0]
    parts = build(job)
    assert not isinstance(parts.reward, HostReward), "a score of the user's is not asked"
    return parts.reward.in_double(parts.env.from_text(objects)) / parts.beta


class _Mean(AbstractReward):
    """What an ensemble predicts of finished sequences."""

    ensemble: Ensemble

    def __call__(self, states: Any) -> Float[Array, " batch"]:
        return self.ensemble(states.tokens)[0]

    @property
    def reference(self) -> float:
        return self.ensemble.offset

    def centred(self) -> "_Mean":
        return _Mean(self.ensemble.centred())


def score_of(job: Job, env: AbstractEnvironment) -> AbstractReward | None:
    """Return the score that guided a run as a function of finished objects, for compiled programs; None for the user's own.

    Args:
        job: the run's job.
        env: its environment, without noise.
    """
    if job.reward["name"] == SCORE:
        return None
    proxy = load_proxy(job, env)
    if proxy is not None:
        return _Mean(proxy.ensemble)
    settings = {key: value for key, value in job.reward.items() if key not in ("name", "beta")}
    if "path" in settings:
        settings["path"] = str(job.folder / settings["path"])
    return build_or_explain("reward", lambda **fields: NAMES["reward"][job.reward["name"]](env, **fields), settings)


def load_proxy(job: Job, env: AbstractEnvironment) -> Proxy | None:
    """Return the fitted proxy that guides a job, None where something else does."""
    if job.reward["name"] != "Proxy":
        return None
    return Proxy(env, str(job.folder / job.reward["path"]), job.reward["kappa"], job.reward["trust"])


def _read(folder: RunFolder, job: Job) -> tuple[Candidates, np.ndarray, int, int]:
    if not folder.archive.exists():
        raise RunError(f"{folder.path} has seen no objects yet. Wait for its first steps, or `narrows resume {folder.path}`.")
    with Archive.open(folder.archive, read_only=True) as archive:
        total = archive.count()
        best = archive.top(_POOL)
        conflicts = archive.conflicts()
    _warn_if_fewer(folder, total)
    if not best:
        raise RunError(f"{folder.path} has seen no objects yet. Wait for its first steps, or `narrows resume {folder.path}`.")
    run = Run(str(folder.path), job.seed)
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


def _signature(folder: RunFolder, job: Job) -> tuple[object, ...]:
    """Return what makes two runs' scores comparable: the reward's settings and the bytes of its input, objects and noise."""
    settings = {key: value for key, value in job.reward.items() if key not in ("beta", "path")}
    source = job.folder / job.reward["path"] if "path" in job.reward else None
    if source is not None and source.is_dir():
        source = source / MANIFEST  # it holds the hash of the weights
    return (
        *sorted(settings.items()),
        _digest(source),
        folder.about().score_identity,
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
