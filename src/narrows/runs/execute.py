"""Start a run and continue one: training, archive, history and checkpoints kept in step with each other.

After any kill the run goes back to its last whole checkpoint: what the archive, the history and the set-aside file learned
since is forgotten and learned again, so that a continued run ends bit for bit where an uninterrupted one does.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from rich.console import Console

from narrows import checkpoint
from narrows.archive import Archive
from narrows.config import Job, JobError, Parts, build
from narrows.data import Table, read_table, space
from narrows.rewards import HostReward
from narrows.runs.folder import RunError, RunFolder, read_rows, write_rows
from narrows.runs.progress import Meter, PatientConsole
from narrows.runs.recorder import Recorder, rewind_set_aside
from narrows.training import Chunk, Given, Trainer, TrainState, run

TextScore = Callable[[Any], Any]


@dataclass(frozen=True)
class Outcome:
    """How far a run went, and whether it was stopped before its last step."""

    folder: RunFolder
    step: int
    num_steps: int
    distinct: int
    num_set_aside: int = 0

    @property
    def is_finished(self) -> bool:
        return self.step >= self.num_steps

    @property
    def exit_status(self) -> int:
        """Return what the command exits with: 130, as after any Ctrl-C, where what follows must not take it for finished."""
        return 0 if self.is_finished else 130


def execute(folder: RunFolder, *, score: TextScore | None = None, console: Console | None = None) -> Outcome:
    """Train the run in a folder from its last checkpoint, or from the start, until it is finished or interrupted.

    Args:
        folder: where the run lives.
        score: the user's score, for a job whose reward is `Score`.
        console: where progress goes.

    Raises JobError, RunError, DataError and TooManySetAside with what to do.
    """
    job = folder.job()
    parts = build(job, score)
    table = measurements(job)
    trainer = parts.trainer(job, **_given(job, parts, table))
    run_id = folder.about()["run_id"]
    console = console or PatientConsole()
    _refuse_without_archive(folder)
    with Archive.open(folder.archive, create=True, run_id=run_id) as archive, _interruptible() as should_stop:
        state, step = _restore(folder, trainer, job.seed, console)
        archive.rollback_after(step)
        write_rows(folder.history, [row for row in read_rows(folder.history) if row["step"] <= step])
        num_set_aside = rewind_set_aside(folder.set_aside, step)
        recorder = Recorder(
            parts.env,
            archive,
            parts.beta,
            () if table is None else table.sequences,
            folder.set_aside,
            job.train.max_set_aside,
            num_set_aside,
        )
        with Meter(console, job.train.num_steps, step) as meter:
            keeper = _Keeper(folder, job, recorder, meter, should_stop)
            state, _ = run(
                trainer,
                state,
                job.train.num_steps,
                every=job.train.every,
                observers=[keeper],
                should_stop=should_stop,
            )
        return Outcome(folder, int(state.step), job.train.num_steps, archive.count(), recorder.num_set_aside)


def rehearse(job: Job, score: TextScore | None = None) -> None:
    """Do everything that a run does before its first step, and write nothing; raise what would be raised there.

    A job with a mistake must not leave a run folder behind, which its corrected version would then find occupied.
    """
    parts = build(job, score)
    # Skipping bad rows writes them out, which belongs into the run folder and waits until there is one.
    is_skipping = job.data is not None and job.data.on_invalid == "skip"
    given = {} if is_skipping else _given(job, parts, measurements(job))
    jax.eval_shape(parts.trainer(job, **given).init, jax.random.key(job.seed))


def measurements(job: Job) -> Table | None:
    """Return the checked table of a job's measurements, None for a job without one."""
    if job.data is None:
        return None
    data = job.data
    return read_table(
        job.folder / data.path,
        space(data.space),
        sequence_column=data.sequence_column,
        score_column=data.score_column,
        score_sense="lower" if data.score_sense == "lower" else "higher",
        on_invalid="skip" if data.on_invalid == "skip" else "refuse",
    )


class _Keeper:
    """The one observer: records a chunk, shows it, and writes history and checkpoint when they are due."""

    def __init__(self, folder: RunFolder, job: Job, recorder: Recorder, meter: Meter, should_stop: Callable[[], bool]) -> None:
        self._folder = folder
        self._job = job
        self._recorder = recorder
        self._meter = meter
        self._should_stop = should_stop
        self._rows = read_rows(folder.history)
        self._timing = read_rows(folder.timing)
        self._is_first = True

    def __call__(self, chunk: Chunk) -> dict[str, float]:
        columns = self._recorder(chunk)
        row = {"step": chunk.last_step, "loss": float(chunk.info.loss.mean()), **columns}
        self._rows.append(row)
        # Seconds differ from run to run, so they have a file of their own and the history repeats bit for bit.
        self._timing.append({"step": chunk.last_step, "steps": chunk.num_steps, "seconds": chunk.seconds})
        write_rows(self._folder.history, self._rows)
        write_rows(self._folder.timing, self._timing)
        self._meter.show(row, chunk.num_steps, chunk.seconds, self._is_first)
        self._is_first = False
        if self._is_due(chunk):
            checkpoint.save(self._folder.checkpoints, chunk.state, step=chunk.last_step, metadata={"job": self._job.name})
        return columns

    def _is_due(self, chunk: Chunk) -> bool:
        train = self._job.train
        crossed = chunk.last_step // train.checkpoint_every > (chunk.last_step - chunk.num_steps) // train.checkpoint_every
        return crossed or chunk.last_step >= train.num_steps or self._should_stop()


def _refuse_without_archive(folder: RunFolder) -> None:
    found = checkpoint.latest(folder.checkpoints).path
    if found is not None and not folder.archive.exists():
        raise RunError(
            f"{folder.archive} is missing, though {found} shows that the run has seen objects. "
            "Restore it from a copy, or start the run anew in another folder."
        )


def _restore(folder: RunFolder, trainer: Trainer, seed: int, console: Console) -> tuple[TrainState, int]:
    key = jax.random.key(seed)
    found = checkpoint.latest(folder.checkpoints)
    for sentence in found.skipped:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    if found.path is None:
        return trainer.init(key), 0
    state, manifest = checkpoint.restore(found.path, jax.eval_shape(trainer.init, key))
    return state, manifest.step


def _given(job: Job, parts: Parts, table: Table | None) -> dict[str, Any]:
    if job.train.given_per_step == 0:
        return {}
    if table is None:
        raise JobError("[train] given_per_step needs measurements to train from. Add a [data] table or set it to 0.")
    states = parts.env.from_text(table.sequences)
    # The sampler learns one law, so measured objects count with the proxy's score; a slow score is not asked again.
    log_reward = parts.beta * table.scores if isinstance(parts.reward, HostReward) else parts.reward(states)
    return {"given": Given(states, jax.numpy.asarray(log_reward, jax.numpy.float32), job.train.given_per_step)}


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a wish to stop after the running chunk; the second one stops at once."""
    wish = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield wish.is_set
        return
    previous = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: Any) -> None:
        wish.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield wish.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
