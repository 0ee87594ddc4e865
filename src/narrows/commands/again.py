"""The commands that make a run again: in order, with the options that were used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.config import SCORE, Job
from narrows.proxies.ensemble import read_quality
from narrows.report.words import command
from narrows.runs import RunFolder
from narrows.runs.records import VerificationRecord
from narrows.selection import SelectionRecord

_PATH = "reward.path="
_FIT_OPTIONS = {"members": 5, "seed": 0, "test_fraction": 0.2, "max_distance": None}
"""Options of `narrows fit` with what they are unless told otherwise."""


def typed(options: Mapping[str, Any]) -> list[str]:
    """Return options as they are typed: nothing for None, a flag for a truth value.

    >>> typed({"seed": 3, "max_distance": None, "refit": False})
    ['--seed', '3', '--no-refit']
    """
    found: list[str] = []
    for option, value in options.items():
        dashed = option.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{dashed}" if value else f"--no-{dashed}")
        elif value is not None:
            found += [f"--{dashed}", str(value)]
    return found


def commands(
    folder: RunFolder, job: Job, selection: SelectionRecord | None, verification: VerificationRecord | None
) -> tuple[str, ...]:
    """Return the commands, from the measurements to the page.

    Args:
        folder: the run folder.
        job: its job.
        selection: how its shortlist was selected, None without one.
        verification: the true scores of that shortlist, None without them.
    """
    place = str(folder.path)
    lines = [_fit(folder, job), _run(folder, job)]
    if selection is not None:
        options = {"k": selection.k, "min_distance": selection.min_distance, "by": selection.ranked_by}
        kappa = selection.kappa if selection.kappa != job.shortlist.kappa else None
        lines.append(["shortlist", place, *typed({**options, "kappa": kappa})])
    if verification is not None:
        has_control = any(group.role == "control" for group in verification.groups)
        is_left_out = not has_control and job.objective.get("q", 0.0) > 0.0
        lines.append(["verify", place, "--score", verification.scorer, *(["--no-control"] if is_left_out else [])])
    lines.append(["report", place])
    return tuple(command("narrows", *words) for words in lines if words)


def _fit(folder: RunFolder, job: Job) -> list[str]:
    """Return how the proxy was fitted, nothing for a run without one or without the table that it learned from."""
    if job.reward["name"] != "Proxy" or job.data is None:
        return []
    settings = read_quality(job.folder / job.reward["path"]).settings
    asked = {name: settings.get(name) for name, usual in _FIT_OPTIONS.items() if settings.get(name, usual) != usual}
    if settings.get("refit") is False:
        asked["refit"] = False
    about = folder.about()
    path = next((override[len(_PATH) :] for override in about.overrides if override.startswith(_PATH)), None)
    if path is not None:
        asked["out"] = str(Path(about.job).parent / path)
    return ["fit", about.job, *typed(asked)]


def _run(folder: RunFolder, job: Job) -> list[str]:
    about = folder.about()
    options = dict(about.options)
    if job.reward["name"] == SCORE and not options.keys() & {"score", "proxy"}:
        options["score"] = "FILE.py:FUNCTION"  # a function at hand, or a run from before this was kept
    changed = [word for override in about.overrides for word in ("--set", override)]
    return ["run", about.job, "--out", str(folder.path), *typed(options), *changed]
