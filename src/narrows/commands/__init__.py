"""The commands of a user, one Python function each: the command line and a notebook call the same ones.

    from narrows.commands import check, fit, report, resume, run, shortlist, tune, verify, worst

Each is loaded when it is first used: checking a table should not wait for JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from narrows.commands.checking import TableSettings as TableSettings
    from narrows.commands.checking import check as check
    from narrows.commands.diagnosing import doctor as doctor
    from narrows.commands.examples import example as example
    from narrows.commands.fitting import FitSettings as FitSettings
    from narrows.commands.fitting import fit as fit
    from narrows.commands.listing import list_names as list_names
    from narrows.commands.new_job import new as new
    from narrows.commands.reporting import report as report
    from narrows.commands.selecting import shortlist as shortlist
    from narrows.commands.training import TrainingSettings as TrainingSettings
    from narrows.commands.training import resume as resume
    from narrows.commands.training import run as run
    from narrows.commands.tuning import TuneSettings as TuneSettings
    from narrows.commands.tuning import tune as tune
    from narrows.commands.verifying import verify as verify
    from narrows.commands.worst_case import WorstSettings as WorstSettings
    from narrows.commands.worst_case import worst as worst

_MODULES = {
    "FitSettings": "fitting",
    "TableSettings": "checking",
    "TrainingSettings": "training",
    "TuneSettings": "tuning",
    "WorstSettings": "worst_case",
    "check": "checking",
    "doctor": "diagnosing",
    "example": "examples",
    "fit": "fitting",
    "list_names": "listing",
    "new": "new_job",
    "report": "reporting",
    "resume": "training",
    "run": "training",
    "shortlist": "selecting",
    "tune": "tuning",
    "verify": "verifying",
    "worst": "worst_case",
}


__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]  # imported when they are asked for


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"narrows.commands.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'narrows.commands' has no attribute {name!r}. It has: {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
