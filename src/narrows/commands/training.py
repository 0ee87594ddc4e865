"""`narrows run` and `narrows resume`: train the sampler of a job, and go on after a stop or a kill."""

import shlex
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from narrows.commands.scores import MaybeProxy, MaybeScore, Scheduler, Workers, kappa_of, opened_on
from narrows.commands.team import Address, assembled
from narrows.config import SCORE, JobError, Scalar, load_job
from narrows.runs import Followed, Outcome, OutOfMemory, RunFolder, conflict_note, execute, follow, read_rows, rehearse
from narrows.training import Devices

_TIMEOUT = 600.0
"""Seconds that one batch of a score may take unless told otherwise."""

# A tuple within the tuple: `--set a=1 b=2 --set c=3` means all three.
Overrides = Annotated[
    tuple[str | tuple[str, ...], ...], tyro.conf.arg(name="set", metavar="SECTION.FIELD=VALUE"), tyro.conf.UseAppendAction
]


def run(
    job: Positional[Path],
    out: Path,
    *,
    score: MaybeScore = None,
    proxy: MaybeProxy = None,
    timeout: float = _TIMEOUT,
    scheduler: Scheduler = None,
    pending: int | None = None,
    piece: int | None = None,
    devices: int = 1,
    coordinator: Address = None,
    processes: int | None = None,
    process: int | None = None,
    overrides: Overrides = (),
) -> Outcome | Followed:
    """Train the sampler that a job file describes, in a run folder of its own.

    Ctrl-C stops after the running chunk, with a checkpoint; `narrows resume` goes on.

    Args:
        job: the job file.
        out: the run folder to make; it must not hold anything yet.
        score: your own score as FILE.py:FUNCTION, for a job whose reward is named Score. The file runs; nothing in a job does.
        proxy: folder that `narrows tune` wrote, in place of a score of your own.
        timeout: seconds that one batch of your score may take; on a cluster, one piece. Looking for what hangs in it may take
            up to 8 times that, and 16 minutes in which your file is loaded anew.
        scheduler: a dask scheduler whose workers run your score, each with narrows installed (pip install "narrows[cluster]").
        pending: batches that are scored on the cluster at once, 4 unless told otherwise. Training takes them as they come
            back, so that such a run does not repeat bit for bit; with 1 it waits for each, and does.
        piece: objects in one call of your score on the cluster, 1 unless told otherwise.
        devices: how many devices share each batch; on a CPU, how many threads. Objects and numbers are those of one, up to
            the order in which sums are taken.
        coordinator: address of the first of several processes that train together, each with so many devices: the same
            command in each of them, with its own --process. All must see the run folder, which the first one makes.
        processes: how many there are.
        process: which one this is, counted from 0.
        overrides: values to use instead of the job's, such as train.num_steps=500 seed=1; may be repeated.
    """
    changes = _flat(overrides)
    workers = Workers.named(scheduler, pending, piece)
    team = assembled(devices, coordinator, processes, process)
    settings = load_job(job, _parse(changes))
    is_scored = score is not None or proxy is not None
    # What to type to make the run again; a function at hand has no name to type.
    options = {
        **({"score": score} if isinstance(score, str) else {}),
        **({"proxy": str(proxy)} if proxy is not None else {}),
        **({"timeout": timeout} if is_scored and timeout != _TIMEOUT else {}),
        **({"devices": devices} if devices > 1 else {}),
        **({} if workers is None else vars(workers)),
    }
    rehearse(settings, _unasked if is_scored else None, team)  # every mistake is found before a folder is made
    if not team.is_first:
        return _follow(out, team)
    with ExitStack() as stack:
        with team.all_or_none():
            about = {"job": str(job), "overrides": changes, "options": options, "devices": team.num}
            folder = RunFolder.create(out, settings, about)
            try:
                scorer = stack.enter_context(opened_on(workers, score, folder.path, timeout, proxy, kappa_of(settings)))
            except BaseException:
                shutil.rmtree(folder.path)  # made a moment ago, and nothing has been learned in it
                raise
            folder.remember_score(None if scorer is None else scorer.identity)
        try:
            return execute(folder, score=scorer, devices=team)
        except OutOfMemory:
            if scorer is None and not read_rows(folder.history):  # what a score has said may be dear
                shutil.rmtree(folder.path)
            raise


def resume(
    folder: Positional[Path],
    *,
    score: MaybeScore = None,
    proxy: MaybeProxy = None,
    timeout: float = _TIMEOUT,
    scheduler: Scheduler = None,
    pending: int | None = None,
    piece: int | None = None,
    devices: int = 1,
    coordinator: Address = None,
    processes: int | None = None,
    process: int | None = None,
) -> Outcome | Followed:
    """Continue a stopped or killed run from its last checkpoint, bit for bit as if it had never stopped.

    Args:
        folder: the run folder.
        score: your own score as FILE.py:FUNCTION, for a job whose reward is named Score.
        proxy: folder that `narrows tune` wrote, in place of a score of your own.
        timeout: seconds that one batch of your score may take; on a cluster, one piece. Looking for what hangs in it may take
            up to 8 times that, and 16 minutes in which your file is loaded anew.
        scheduler: a dask scheduler whose workers run your score; the run may have begun without one, or with another.
        pending: batches that are scored on the cluster at once, 4 unless told otherwise. What was under way when the run
            ended is drawn anew, so that with more than 1 the run goes on whole but not bit for bit.
        piece: objects in one call of your score on the cluster, 1 unless told otherwise.
        devices: how many devices share each batch; on another number than before, the run goes on with its sums taken in
            another order, so not bit for bit.
        coordinator: address of the first of several processes that train together; see `narrows run --help`.
        processes: how many there are.
        process: which one this is, counted from 0.
    """
    workers = Workers.named(scheduler, pending, piece)
    team = assembled(devices, coordinator, processes, process)
    if not team.is_first:
        return _follow(folder, team)
    with ExitStack() as stack:
        with team.all_or_none():
            found = RunFolder.open(folder)
            scorer = stack.enter_context(opened_on(workers, score, found.path, timeout, proxy, kappa_of(found.job())))
            if scorer is not None:  # without one, a job that needs it says so
                found.remember_score(scorer.identity)
        return execute(found, score=scorer, devices=team)


def _follow(path: Path, devices: Devices) -> Followed:
    with devices.all_or_none():
        pass  # here the first process makes or finds the folder
    return follow(path, devices)


def render(outcome: Outcome | Followed) -> str:
    """Return what the command prints when training has ended."""
    if isinstance(outcome, Followed):
        return f"Followed to step {outcome.step} of {outcome.num_steps}; the first process has the run."
    path = outcome.folder.path
    caution = ""
    if outcome.num_set_aside:
        caution = f"\n{outcome.num_set_aside:,} items or steps were not finite and taught nothing: {outcome.folder.set_aside}"
    conflicts = conflict_note(outcome.num_conflicts)
    caution += "" if conflicts is None else f"\n{conflicts}"
    shown = shlex.quote(str(path))
    score = " --score FILE.py:FUNCTION (or --proxy FOLDER)" if outcome.folder.job().reward["name"] == SCORE else ""
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
