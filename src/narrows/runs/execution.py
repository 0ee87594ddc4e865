"""Start a run and continue one: training, archive, history and checkpoints kept in step with each other.

After any kill the run goes back to its last whole checkpoint: what the archive, the history and the set-aside file learned
since is forgotten and learned again, so that a continued run ends bit for bit where an uninterrupted one does. Only where
several batches are scored at once (`AbstractAsyncScore`) does the order of their return decide: such a run goes on whole, with
nothing lost or counted twice, but another time it ends elsewhere. On another number of devices a run goes on with sums taken in
another order, and so ends where it would have up to rounding.

Where several processes train together, the first one `execute`s and writes; the others `follow`.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from narrows.config import Job, JobError, RewardKind, build, cautions_about_proxy, measurements
from narrows.envs import AbstractEnvironment
from narrows.envs import Sequence as Sequences
from narrows.printing import printable
from narrows.report import COURSE
from narrows.runs import memory
from narrows.runs.criterion import Criterion, has_settled
from narrows.runs.folder import RunError, RunFolder
from narrows.runs.given import given_objects
from narrows.runs.interrupt import interruptible
from narrows.runs.opened import OpenRun
from narrows.runs.page import course
from narrows.runs.pinned import changed_sections, what_decides
from narrows.runs.progress import Meter, PatientConsole
from narrows.runs.recorder import Recorder, rewind_set_aside
from narrows.runs.rows import TIMING, read_rows, write_rows
from narrows.scorers import ExecutorScorer, Scorer
from narrows.storage import checkpoint
from narrows.storage.archive import Archive
from narrows.training import ONE, Chunk, Devices, Row, Trainer, TrainState, restore
from narrows.training import run as train

TextScore = Callable[[Any], Any]
_LOOKS = 10
"""Times that a run is looked at for what its progress line says of it."""
_CURE = (
    "Start anew with less of what is large: [train] batch_size, [policy] hidden or width, [replay] capacity, or the size of "
    "objects in [env]."
)


@dataclass(frozen=True)
class RunResult:
    """The end of a run: how far it went, whether it was stopped or has settled before its last step, and what was seen."""

    folder: RunFolder
    step: int
    num_steps: int
    distinct: int
    num_set_aside: int = 0
    num_conflicts: int = 0
    is_listed: bool = False
    has_settled: bool = False

    @property
    def is_finished(self) -> bool:
        return self.step >= self.num_steps or self.has_settled

    @property
    def exit_status(self) -> int:
        """Return what the command exits with: 130, as after any Ctrl-C, where what follows must not take it for finished."""
        return 0 if self.is_finished else 130


@dataclass(frozen=True)
class FollowerResult:
    """The end of a process that went along with a run which another one writes."""

    step: int
    num_steps: int
    has_settled: bool = False

    @property
    def exit_status(self) -> int:
        """Return what the command exits with, as the first process's does."""
        return 0 if self.step >= self.num_steps or self.has_settled else 130


def execute(
    run: OpenRun | RunFolder, *, score: TextScore | None = None, console: Console | None = None, devices: Devices = ONE
) -> RunResult:
    """Train a run from its last checkpoint, or from the start, until it is finished or interrupted.

    Args:
        run: the run, or its folder.
        score: the user's score, for a job whose reward is `Score`; an `ExecutorScorer` may overlap with training.
        console: where progress goes.
        devices: what trains; with those of other processes, each of them calls `follow` at the same time.

    Raises JobError, RunError, DataError and TooManySetAside with what to do.
    """
    with contextlib.ExitStack() as stack:
        should_stop = stack.enter_context(interruptible())
        with devices.all_or_none():
            run = _opened(run, score)
            folder, job, table = run.folder, run.job, run.table
            run_id = folder.about().run_id
            console = console or PatientConsole()
            for caution in cautions_about_proxy(job, table):
                console.print(f"Caution: {caution}", highlight=False, markup=False, soft_wrap=True)
            if run.is_untrained:
                _check_untrained(job, run.env)
                with Archive.open(folder.archive, create=True, run_id=run_id) as archive:
                    return RunResult(folder, 0, 0, archive.count(), is_listed=run.can_be_listed)
            parts = run.parts
            trainer = parts.trainer(job, devices=devices, **given_objects(job, parts, table))
            newest = checkpoint.latest(folder.checkpoints)
            if newest.path is not None and not folder.archive.exists():
                raise RunError(
                    f"{folder.archive} is missing, though {newest.path} shows that the run has seen objects. "
                    "Restore it from a copy, or start the run anew in another folder."
                )
            archive = stack.enter_context(Archive.open(folder.archive, create=True, run_id=run_id))
            state, step = _restore(folder, newest, trainer, job, console)
            archive.rollback_after(step)
            _rewind(folder, step)
            folder.remember_job()
            recorder = Recorder(
                parts.env,
                archive,
                parts.beta,
                () if table is None else table.sequences,
                folder.set_aside,
                job.train.max_set_aside,
                Criterion(archive, run.env.distance, job.shortlist.k, job.shortlist.min_distance, parts.beta),
                rewind_set_aside(folder.set_aside, step),
                _reasons(score),
            )
        with Meter(console, job.train.num_steps, step) as meter, _heard(score, meter):
            keeper = _Keeper(run, recorder, meter, step)
            with memory.explained(_CURE):
                state = _train(trainer, state, job, keeper, should_stop)
        keeper.save(state, int(state.step))
        return RunResult(
            folder,
            int(state.step),
            job.train.num_steps,
            archive.count(),
            recorder.num_set_aside,
            archive.conflicts(),
            has_settled=keeper.has_settled,
        )


def _opened(run: OpenRun | RunFolder, score: TextScore | None) -> OpenRun:
    if isinstance(run, OpenRun):
        return run if score is None else run.scored_by(score)
    return OpenRun(run, score)


def conflict_note(number: int) -> str | None:
    """Return what to tell of objects that came again with another score, None where none did."""
    if not number:
        return None
    how_often = "Once" if number == 1 else f"{number:,} times"
    return (
        f"{how_often} an object came again with another score than before, and the first was kept: the score does not say the "
        "same each time, or was changed in between"
    )


def follow(path: Path, devices: Devices) -> FollowerResult:
    """Train along with the first process, which `execute`s the run in the folder at a path; this one writes nothing there.

    Raises RunError, JobError and DataError as `execute` does, and RuntimeError where the first process could not begin.
    """
    with interruptible() as should_stop:
        with devices.all_or_none():
            run = OpenRun(path)
            job = run.job
            trainer = run.parts.trainer(job, devices=devices, **given_objects(job, run.parts, run.table))
            state = trainer.init(jax.random.key(job.seed))  # its form alone counts: training begins with the first process's
        state = _train(trainer, state, job, None, should_stop)
        # The first process has written the row of the last chunk before any of them stopped.
        return FollowerResult(
            int(state.step), job.train.num_steps, has_settled(read_rows(run.folder.history), job.train.patience)
        )


def _train(
    trainer: Trainer, state: TrainState, job: Job, keeper: "_Keeper | None", should_stop: Callable[[], bool]
) -> TrainState:
    """Return the state at the last step, or at the one after which a process was told to stop or could not keep what it saw."""
    devices, errors = trainer.devices, []

    def keep(chunk: Chunk) -> Row:
        assert keeper is not None, "one without is not asked"
        try:
            return keeper(chunk)
        except Exception as error:
            if not devices.has_others:
                raise
            errors.append(error)  # others would wait in the next step for a process that has ended
            return {}

    state, _ = train(
        trainer,
        state,
        job.train.num_steps,
        every=job.train.every,
        observers=[] if keeper is None else [keep],
        should_stop=lambda: devices.any_process(should_stop() or bool(errors) or (keeper is not None and keeper.has_settled)),
    )
    if errors:
        raise errors[0]
    return state


def _reasons(score: TextScore | None) -> Callable[[], Mapping[str, str]]:
    """Return a function that says why objects have no score, as far as the score knows."""
    return (lambda: score.failures) if isinstance(score, Scorer | ExecutorScorer) else dict


def _heard(score: TextScore | None, meter: Meter) -> contextlib.AbstractContextManager[None]:
    """Return a context manager in which the progress line tells what a score that takes long is about."""
    if not isinstance(score, Scorer | ExecutorScorer):
        return contextlib.nullcontext()
    return score.heard_by(lambda sentence: meter.note(f"{sentence}; Ctrl-C twice stops at once"))


def rehearse(job: Job, score: TextScore | None = None, devices: Devices = ONE) -> None:
    """Do everything that a run does before its first step, and write nothing; raise what would be raised there.

    A job with a mistake must not leave a run folder behind, which its corrected version would then find occupied.
    """
    parts = build(job, score)
    if job.train.num_steps == 0:
        _check_untrained(job, parts.env)
        return
    # Skipping bad rows writes them out, which belongs into the run folder and waits until there is one.
    is_skipping = job.data is not None and job.data.on_invalid == "skip"
    given = {} if is_skipping else given_objects(job, parts, measurements(job))
    devices.check_shares("[train] given_per_step", job.train.given_per_step)
    memory.check_number_of_states(job, parts)
    memory.refuse_too_large(memory.needs_of(job, parts, parts.trainer(job, devices=devices, **given)), devices)


def _check_untrained(job: Job, env: AbstractEnvironment) -> None:
    """Raise JobError for a job that trains nothing and has nothing that plain searches could begin with."""
    if job.reward_kind is not RewardKind.FITTED or job.data is None or not isinstance(env, Sequences):
        raise JobError(
            "[train] num_steps = 0 trains nothing, and a list comes from searches of a fitted proxy of sequences, which begin "
            "with what [data] has measured. Give a number of steps."
        )


class _Keeper:
    """The one observer: records a chunk, shows it, and writes history and checkpoint when they are due."""

    def __init__(self, run: OpenRun, recorder: Recorder, meter: Meter, step: int) -> None:
        self._run, self._folder, self._job = run, run.folder, run.job
        self._recorder = recorder
        self._meter = meter
        self._rows = read_rows(self._folder.history)
        self._timing = read_rows(self._folder.timing, TIMING)
        self._told: set[int] = set()
        self._saved_step = step
        self._is_first = True

    def __call__(self, chunk: Chunk) -> Row:
        columns = self._recorder(chunk)
        row: Row = {"step": chunk.last_step, "loss": chunk.loss, **columns}
        self._rows.append(row)
        # Seconds differ from run to run, so they have a file of their own and the history repeats bit for bit.
        self._timing.append({"step": chunk.last_step, "steps": chunk.num_steps, "seconds": chunk.seconds})
        write_rows(self._folder.history, self._rows)
        write_rows(self._folder.timing, self._timing)
        self._meter.show(row, chunk.num_steps, chunk.seconds, self._is_first)
        self._is_first = False
        self._tell(chunk)
        period = self._job.train.checkpoint_every
        if chunk.last_step // period > (chunk.last_step - chunk.num_steps) // period:
            self.save(chunk.state, chunk.last_step)
        return columns

    def _tell(self, chunk: Chunk) -> None:
        """Say once what there is to worry about, looking ten times in a run."""
        tenth = max(1, self._job.train.num_steps // _LOOKS)
        if (
            chunk.last_step // tenth == (chunk.last_step - chunk.num_steps) // tenth
            or chunk.last_step >= self._job.train.num_steps
        ):
            return
        data = course(self._run, self._rows)
        for number, check in enumerate(COURSE):
            found = [] if number in self._told else [caution for caution in check(data) if caution.level == "caution"]
            for caution in found:
                self._told.add(number)
                self._meter.tell(f"Caution: {caution.text}")

    @property
    def has_settled(self) -> bool:
        """Whether the run has come to its end before its last step."""
        return has_settled(self._rows, self._job.train.patience)

    def save(self, state: TrainState, step: int) -> None:
        """Write a checkpoint unless this step has one."""
        if step > self._saved_step:
            checkpoint.save(self._folder.checkpoints, state, step=step, metadata={"job": what_decides(self._job)})
            self._saved_step = step


def _rewind(folder: RunFolder, step: int) -> None:
    """Forget the rows that were written after a step."""
    for path in (folder.history, folder.timing):
        rows = [row for row in read_rows(path) if row["step"] <= step]
        if step > 0 and (not rows or rows[-1]["step"] != step):
            raise RunError(f"{path} has no row for step {step}, the last checkpoint's. Restore it from a copy or start anew.")
        write_rows(path, rows)


def _restore(
    folder: RunFolder, found: checkpoint.Found, trainer: Trainer, job: Job, console: Console
) -> tuple[TrainState, int]:
    key = jax.random.key(job.seed)
    for sentence in found.skipped:
        console.print(printable(sentence, None), highlight=False, markup=False, soft_wrap=True)
    if found.path is None:
        return trainer.init(key), 0
    # The same text decides the same, also where a later release has sections and fields that the checkpoint knows nothing of.
    before = {} if folder.has_its_job() else checkpoint.read_manifest(found.path).metadata.get("job", {})
    changed = changed_sections(before, what_decides(job)) if before else []
    if changed:
        raise RunError(
            f"{folder.job_file} was changed in {', '.join(changed)} since {found.path.name}, so the run cannot go on as if "
            "nothing had happened. Undo the change, or start a new run with it. num_steps may be changed."
        )
    state, manifest = restore(found.path, jax.eval_shape(trainer.init, key))
    return state, manifest.step
