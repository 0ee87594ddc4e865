"""The commands that make a run again: in order, with the options that were used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.config import quality_of_proxy
from narrows.report.words import command
from narrows.runs.opened import OpenRun

_PATH = "reward.path="
_FIT_OPTIONS = {"seed": 0, "test_fraction": 0.2, "max_distance": None}
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


def commands(run: OpenRun) -> tuple[str, ...]:
    """Return the commands, from the measurements to the page."""
    place = str(run.folder.path)
    lines = [_fit(run), _run(run)]
    record = None if run.selection is None else run.selection[1]
    if record is not None:
        options = {"k": record.k, "min_distance": record.min_distance, "by": record.ranked_by}
        kappa = record.kappa if record.kappa != run.job.shortlist.kappa else None
        lines.append(["shortlist", place, *typed({**options, "kappa": kappa})])
    if run.verification is not None:
        has_control = any(group.role == "control" for group in run.verification.groups)
        is_left_out = not has_control and run.job.objective.get("q", 0.0) > 0.0
        lines.append(["verify", place, "--score", run.verification.scorer, *(["--no-control"] if is_left_out else [])])
    lines.append(["report", place])
    return tuple(command("narrows", *words) for words in lines if words)


def _fit(run: OpenRun) -> list[str]:
    """Return how the proxy was fitted, nothing for a run without one or without the table that it learned from."""
    quality = None if run.job.data is None else quality_of_proxy(run.job)
    if quality is None:
        return []
    settings = quality.settings
    asked = {name: settings.get(name) for name, usual in _FIT_OPTIONS.items() if settings.get(name, usual) != usual}
    if settings.get("refit") is False:
        asked["refit"] = False
    about = run.folder.about()
    path = next((override[len(_PATH) :] for override in about.overrides if override.startswith(_PATH)), None)
    if path is not None:
        asked["out"] = str(Path(about.job).parent / path)
    models = str(settings.get("models") or "").split()
    return ["fit", about.job, *typed(asked), *(["--models", *models] if models else [])]


def _run(run: OpenRun) -> list[str]:
    about = run.folder.about()
    options = dict(about.options)
    if run.is_user_score and not options.keys() & {"score", "proxy"}:
        options["score"] = "FILE.py:FUNCTION"  # a function at hand, or a run from before this was kept
    changed = [word for override in about.overrides for word in ("--set", override)]
    return ["run", about.job, "--out", str(run.folder.path), *typed(options), *changed]
