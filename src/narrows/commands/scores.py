"""The score that a command is given: a built-in one by name, a function of a file that the user names, or any callable."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import tyro

from narrows.rewards.scoring import Scorer, load_scorer

Score = Annotated[str | Callable[[Sequence[str]], Any], tyro.conf.arg(constructor=str, metavar="FILE.py:FUNCTION")]
MaybeScore = Annotated[str | Callable[[Sequence[str]], Any] | None, tyro.conf.arg(constructor=str, metavar="FILE.py:FUNCTION")]
CACHE = "scores.sqlite"
"""What a user's score has been asked before, in the run folder: a slow score is not paid twice."""


def opened(
    score: str | Callable[[Sequence[str]], Any] | None, folder: Path, timeout: float
) -> AbstractContextManager[Scorer | None]:
    """Return a context manager that holds the scorer, or None without a score."""
    if score is None:
        return nullcontext()
    # A function at hand has no identity under which its scores could be remembered from one process to the next.
    return load_scorer(score, timeout=timeout, cache=folder / CACHE if isinstance(score, str) else None)
