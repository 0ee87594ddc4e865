"""`narrows run` and `narrows resume`: train the sampler of a job, and go on after a stop or a kill."""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from narrows.commands.devices import Address, select_devices
from narrows.commands.scores import MaybeProxy, MaybeScore, Scheduler, Workers, open_scorer_on
from narrows.config import JobError, RewardKind, Scalar, load_job
from narrows.runs import (
    FollowerResult,
    OpenRun,
    OutOfMemory,
    RunFolder,
    RunResult,
    conflict_note,
    execute,
    follow,
    read_rows,
    rehearse,
    with_temperature,
)
from narrows.runs.opened import unasked
from narrows.runs.page import told
from narrows.scorers import ExecutorScorer, Scorer
from narrows.training import Devices
from narrows.training.exploration import Variants

_TIMEOUT = 600.0
"""Seconds that one batch of a score may take unless told otherwise."""

# A tuple within the tuple: `--set a=1 b=2 --set c=3` means all three.
Overrides = Annotated[
    tuple[str | tuple[str, ...], ...], tyro.conf.arg(name="set", metavar="SECTION.FIELD=VALUE"), tyro.conf.UseAppendAction
]


@dataclass(frozen=True)
class TrainingSettings:
    """Where a run's score comes from and what trains it; a notebook gives one to `run` and to `resume`.

    Args:
        score: your own score as FILE.py:FUNCTION, for a job whose reward is named Score. The file runs; nothing in a job does.
        proxy: folder that `narrows tune` wrote, in place of a score of your own.
        timeout: seconds that one batch of your score may take; on a cluster, one piece. Looking for what hangs in it may take
            up to 8 times that, and 16 minutes in which your file is loaded anew.
        scheduler: a dask scheduler whose workers run your score, each with narrows installed (pip install "narrows[cluster]");
            a resumed run may have begun without one, or with another.
        pending: batches that are scored on the cluster at once, 4 unless told otherwise. Training takes them as they come
            back, so that such a run does not repeat bit for bit, and what was under way when it ended is drawn anew; with 1
            it waits for each, and does.
        piece: objects in one call of your score on the cluster, 1 unless told otherwise.
        devices: how many devices share each batch; on a CPU, how many threads. Objects and numbers are those of one, up to
            the order in which sums are taken, so that a run resumed on another number does not go on bit for bit.
        coordinator: address of the first of several processes that train together, each with so many devices: the same
            command in each of them, with its own --process. All must see the run folder, which the first one makes.
        processes: how many there are.
        process: which one this is, counted from 0.
    """

    score: MaybeScore = None
    proxy: MaybeProxy = None
    timeout: float = _TIMEOUT
    scheduler: Scheduler = None
    pending: int | None = None
    piece: int | None = None
    devices: int = 1
    coordinator: Address = None
    processes: int | None = None
    process: int | None = None

    @property
    def is_scored(self) -> bool:
        return self.score is not None or self.proxy is not None

    @property
    def workers(self) -> Workers | None:
        """The cluster to score on, None without one; ValueError for options that need one."""
        return Workers.named(self.scheduler, self.pending, self.piece)

    def select_devices(self) -> Devices:
        """Return the devices to train on, made ready; ValueError for options that do not go together."""
        return select_devices(self.devices, self.coordinator, self.processes, self.process)

    def open_scorer(self, run: OpenRun) -> AbstractContextManager[Scorer | ExecutorScorer | None]:
        """Return a context manager that holds the score of a run, None without one."""
        return open_scorer_on(self.workers, self.score, run.folder, self.timeout, self.proxy, run.kappa_of_score)

    def as_typed(self) -> dict[str, Any]:
        """Return the options to type to make the run again; a function at hand has no name to type."""
        return {
            **({"score": self.score} if isinstance(self.score, str) else {}),
            **({"proxy": str(self.proxy)} if self.proxy is not None else {}),
            **({"timeout": self.timeout} if self.is_scored and self.timeout != _TIMEOUT else {}),
            **({"devices": self.devices} if self.devices > 1 else {}),
            **({} if self.workers is None else vars(self.workers)),
        }


_USUAL = TrainingSettings()


def run(
    job: Positional[Path],
    out: Path,
    *,
    settings: TrainingSettings = _USUAL,
    overrides: Overrides = (),
    like: str | None = None,
    keep: float | None = None,
) -> RunResult | FollowerResult:
    """Train the sampler that a job file describes, in a run folder of its own.

    Ctrl-C stops after the running chunk, with a checkpoint; `narrows resume` goes on.

    Args:
        job: the job file.
        out: the run folder to make; it must not hold anything yet.
        settings: where the score comes from and what trains.
        overrides: values to use instead of the job's, such as train.num_steps=500 seed=1; may be repeated.
        like: an object by its text, part of which every object is to keep; stands for [exploration] name = "Variants".
        keep: share of it to keep, in [0, 1), 0.7 unless told otherwise.
    """
    if keep is not None and like is None:
        raise JobError("--keep is the share of an object that stays, and none is given. Add --like OBJECT.")
    asked: dict[str, Scalar] = {name: value for name, value in (("like", like), ("keep", keep)) if value is not None}
    changes = _flat(overrides)
    options = {**settings.as_typed(), **asked}
    devices = settings.select_devices()
    checked = with_temperature(load_job(job, {**_parse(changes), **_variants(asked)}))
    # Every mistake is found before a folder is made.
    rehearse(checked, unasked if settings.is_scored else None, devices)
    if not devices.is_first:
        return _follow(out, devices)
    with ExitStack() as stack:
        with devices.all_or_none():
            about = {"job": str(job), "overrides": changes, "options": options, "devices": devices.num}
            folder = RunFolder.create(out, checked, about)
            try:
                made = OpenRun(folder)
                scorer = stack.enter_context(settings.open_scorer(made))
            except BaseException:
                shutil.rmtree(folder.path)  # made a moment ago, and nothing has been learned in it
                raise
            folder.remember_score(None if scorer is None else scorer.identity)
        try:
            return execute(made, score=scorer, devices=devices)
        except OutOfMemory:
            if scorer is None and not read_rows(folder.history):  # what a score has said may be dear
                shutil.rmtree(folder.path)
            raise


def resume(folder: Positional[Path], *, settings: TrainingSettings = _USUAL) -> RunResult | FollowerResult:
    """Continue a stopped or killed run from its last checkpoint, bit for bit as if it had never stopped.

    Args:
        folder: the run folder.
        settings: where the score comes from and what trains.
    """
    _ = settings.workers  # a mistake in the options is told first
    devices = settings.select_devices()
    if not devices.is_first:
        return _follow(folder, devices)
    with ExitStack() as stack:
        with devices.all_or_none():
            found = OpenRun(folder)
            scorer = stack.enter_context(settings.open_scorer(found))
            if scorer is not None:  # without one, a job that needs it says so
                found.folder.remember_score(scorer.identity)
        return execute(found, score=scorer, devices=devices)


def _follow(path: Path, devices: Devices) -> FollowerResult:
    with devices.all_or_none():
        pass  # here the first process makes or finds the folder
    return follow(path, devices)


def render(result: RunResult | FollowerResult) -> str:
    """Return what the command prints when training has ended."""
    if isinstance(result, FollowerResult):
        return f"Followed to step {result.step} of {result.num_steps}; the first process has the run."
    path = result.folder.path
    caution = ""
    if result.num_set_aside:
        caution = f"\n{result.num_set_aside:,} items or steps were not finite and taught nothing: {result.folder.set_aside}"
    conflicts = conflict_note(result.num_conflicts)
    caution += "" if conflicts is None else f"\n{conflicts}"
    shown = shlex.quote(str(path))
    score = " --score FILE.py:FUNCTION (or --proxy FOLDER)" if result.folder.job().reward_kind is RewardKind.USER else ""
    if result.is_finished and result.num_steps == 0:
        from_where = "all objects there are" if result.is_listed else "searches of the proxy"
        done = f"Nothing to train ([train] num_steps = 0), the list comes from {from_where}. Next: narrows shortlist {shown}"
    elif result.has_settled and result.step < result.num_steps:
        done = (
            f"Trained {result.step} steps of at most {result.num_steps}, for the list has not become better in "
            f"{result.folder.job().train.patience}; {result.distinct:,} distinct objects seen. Next: narrows shortlist {shown}"
        )
    elif result.is_finished:
        done = f"Trained {result.step} steps, {result.distinct:,} distinct objects seen. Next: narrows shortlist {shown}"
    else:
        done = f"Stopped at step {result.step} of {result.num_steps}, saved. Continue with: narrows resume {shown}{score}"
    return "\n".join([done + caution, *(f"Caution: {sentence}" for sentence in told([OpenRun(result.folder)]))])


def _variants(asked: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return what `--like` and `--keep` stand for in a job."""
    fields = {"like": "parent", "keep": "keep"}
    named: dict[str, Scalar] = {"exploration.name": Variants.__name__} if asked else {}
    return named | {f"exploration.{fields[name]}": value for name, value in asked.items()}


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
