"""`narrows run` and `narrows resume`: train the sampler of a job, and go on after a stop or a kill."""

import shlex
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from narrows.commands.scores import MaybeScore, opened
from narrows.config import SCORE, JobError, Scalar, load_job
from narrows.runs import Outcome, RunFolder, execute, rehearse

# A tuple within the tuple: `--set a=1 b=2 --set c=3` means all three.
Overrides = Annotated[
    tuple[str | tuple[str, ...], ...], tyro.conf.arg(name="set", metavar="SECTION.FIELD=VALUE"), tyro.conf.UseAppendAction
]


def run(
    job: Positional[Path],
    out: Path,
    *,
    score: MaybeScore = None,
    timeout: float = 600.0,
    overrides: Overrides = (),
) -> Outcome:
    """Train the sampler that a job file describes, in a run folder of its own.

    Ctrl-C stops after the running chunk, with a checkpoint; `narrows resume` goes on.

    Args:
        job: the job file.
        out: the run folder to make; it must not hold anything yet.
        score: your own score as FILE.py:FUNCTION, for a job whose reward is named Score. The file runs; nothing in a job does.
        timeout: seconds that one batch of your score may take.
        overrides: values to use instead of the job's, such as train.num_steps=500 seed=1; may be repeated.
    """
    changes = _flat(overrides)
    settings = load_job(job, _parse(changes))
    rehearse(settings, None if score is None else _unasked)  # every mistake in the job is found before a folder is made
    folder = RunFolder.create(out, settings, {"job": str(job), "overrides": changes})
    with ExitStack() as stack:
        try:
            scorer = stack.enter_context(opened(score, folder.path, timeout))
        except BaseException:
            shutil.rmtree(folder.path)  # made a moment ago, and nothing has been learned in it
            raise
        folder.remember_score(None if scorer is None else scorer.identity)
        return execute(folder, score=scorer)


def resume(folder: Positional[Path], *, score: MaybeScore = None, timeout: float = 600.0) -> Outcome:
    """Continue a stopped or killed run from its last checkpoint, bit for bit as if it had never stopped.

    Args:
        folder: the run folder.
        score: your own score as FILE.py:FUNCTION, for a job whose reward is named Score.
        timeout: seconds that one batch of your score may take.
    """
    found = RunFolder.open(folder)
    with opened(score, found.path, timeout) as scorer:
        if scorer is not None:  # without one, a job that needs it says so
            found.remember_score(scorer.identity)
        return execute(found, score=scorer)


def render(outcome: Outcome) -> str:
    """Return what the command prints when training has ended."""
    path = outcome.folder.path
    caution = ""
    if outcome.num_set_aside:
        caution = f"\n{outcome.num_set_aside:,} items or steps were not finite and taught nothing: {outcome.folder.set_aside}"
    shown = shlex.quote(str(path))
    score = " --score FILE.py:FUNCTION" if outcome.folder.job().reward["name"] == SCORE else ""
    if outcome.is_finished:
        done = f"Trained {outcome.step} steps, {outcome.distinct:,} distinct objects seen. Next: narrows shortlist {shown}"
    else:
        done = f"Stopped at step {outcome.step} of {outcome.num_steps}, saved. Continue with: narrows resume {shown}{score}"
    return done + caution


def _unasked(texts: Any) -> Any:
    raise AssertionError("a score is not asked while a job is checked")


def _flat(overrides: Sequence[str | Sequence[str]]) -> list[str]:
    return [text for group in overrides for text in ((group,) if isinstance(group, str) else group)]


def _parse(overrides: Sequence[str]) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for override in overrides:
        name, sign, text = override.partition("=")
        if not sign or not name:
            raise JobError(f"--set {override!r}: expected SECTION.FIELD=VALUE, for example train.num_steps=500.")
        name = name.strip()
        if name in values:
            raise JobError(f"--set names {name} twice. Give it one value.")
        values[name] = _value(text.strip())
    return values


def _value(text: str) -> Scalar:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
