"""Training by self-play in a folder of its own: begun, stopped, continued and shown."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from narrows.files import WriterLock
from narrows.games.exam import Watch
from narrows.games.folder import GameFolder, save_player
from narrows.games.recipe import Recipe
from narrows.games.self_play import SelfPlayInfo, SelfPlayTrainer
from narrows.printing import printable
from narrows.runs.interrupt import interruptible
from narrows.runs.progress import PatientConsole
from narrows.runs.rows import read_rows, write_rows
from narrows.storage import checkpoint

SAVE_SECONDS = 120.0
"""Seconds of training between two checkpoints."""

SHOW_SECONDS = 5.0
"""Seconds between two lines of progress."""

LOOK_SECONDS = 60.0
"""Seconds of training between two looks at how well the player does."""


@dataclass(frozen=True)
class Trained:
    """The progress of a run by self-play over all its parts: `seconds` are those of training alone.

    `was_interrupted` says that somebody asked it to stop.
    """

    folder: GameFolder
    step: int
    num_steps: int
    seconds: float
    row: dict[str, float]
    was_interrupted: bool = False

    @property
    def is_finished(self) -> bool:
        return self.step >= self.num_steps

    @property
    def exit_status(self) -> int:
        """Return what the command exits with: 0 if the run is finished or its time was up, 130 after Ctrl-C."""
        return 130 if self.was_interrupted and not self.is_finished else 0


def train(
    path: Path,
    recipe: Recipe,
    *,
    seconds: float | None = None,
    watch: Watch | None = None,
    console: Console | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trained:
    """Train a recipe in the folder at a path, from its last checkpoint or from the start.

    Args:
        path: the folder; one that holds a run of the same recipe is continued, bit for bit.
        recipe: what to train.
        seconds: training time in this call after which to stop as if asked to; None for no limit.
        watch: how well the player does, for the history; None looks at nothing but the loss.
        console: where progress goes.
        clock: what seconds are read from; `time.process_time` counts what the processor did, whatever else it does.

    Raises ValueError for a folder that holds something else or a run of another recipe, and OSError while another process
    trains in it.
    """
    trainer = recipe.trainer()
    folder = _folder(path, recipe)
    console = console or PatientConsole()
    # Two writers would each remove what the other takes for its last checkpoints.
    with WriterLock.acquire(folder.path / "run.lock", f"the run in {path}"), interruptible() as should_stop:
        console.print("compiling ...", soft_wrap=True)
        like = jax.eval_shape(trainer.init, jax.random.key(recipe.seed))
        found = checkpoint.latest(folder.checkpoints)
        for line in found.skipped:
            console.print(printable(line, None), highlight=False, markup=False, soft_wrap=True)
        rows = read_rows(folder.history)
        if found.path is None:
            state, rows = trainer.init(jax.random.key(recipe.seed)), []
        else:
            state, manifest = checkpoint.restore(found.path, like)
            rows = [row for row in rows if row["step"] <= manifest.step]
            console.print(f"continuing at step {manifest.step:,}", soft_wrap=True)
        keeper = _Keeper(folder, recipe, rows, watch, console)
        state = _advance(trainer, state, recipe, keeper, should_stop, seconds, clock)
        keeper.save(state)
        was_interrupted = should_stop()
    last = keeper.rows[-1] if keeper.rows else {}
    return Trained(folder, int(state.step), recipe.num_steps, float(last.get("seconds", 0.0)), dict(last), was_interrupted)


def _folder(path: Path, recipe: Recipe) -> GameFolder:
    if not GameFolder(path).recipe_file.is_file():
        return GameFolder.create(path, recipe)
    folder = GameFolder.open(path)
    before = folder.recipe()
    if before != recipe:
        theirs, ours = before.as_data(), recipe.as_data()
        other = [name for name in ours if theirs[name] != ours[name]]
        changed = ", ".join(f"{name} (there {printable(theirs[name])}, now {printable(ours[name])})" for name in other)
        raise ValueError(
            f"{path} holds a run of another recipe: {changed}. Name another folder with --out, or the same recipe."
        )
    return folder


def _advance(
    trainer: SelfPlayTrainer,
    state: Any,
    recipe: Recipe,
    keeper: "_Keeper",
    should_stop: Callable[[], bool],
    seconds: float | None,
    clock: Callable[[], float],
) -> Any:
    @partial(jax.jit, donate_argnums=0, static_argnums=1)
    def advance(state: Any, length: int) -> tuple[Any, SelfPlayInfo]:
        return jax.lax.scan(lambda state, _: trainer.step(state), state, length=length)

    used = 0.0
    while (done := int(state.step)) < recipe.num_steps and not should_stop() and (seconds is None or used < seconds):
        length = min(recipe.every - done % recipe.every, recipe.num_steps - done)
        began = clock()
        state, info = jax.block_until_ready(advance(state, length))
        spent = clock() - began
        used += spent
        keeper(state, info, spent)
    return state


class _Keeper:
    """Keeps the history, shows it, and saves checkpoint and player when they are due."""

    def __init__(
        self, folder: GameFolder, recipe: Recipe, rows: list[dict[str, float]], watch: Watch | None, console: Console
    ) -> None:
        self.rows = rows
        self._folder = folder
        self._recipe = recipe
        self._watch = watch
        self._console = console
        self._seconds = float(rows[-1]["seconds"]) if rows else 0.0
        self._saved = self._looked = self._seconds
        self._saved_step = -1
        self._shown = 0.0

    def __call__(self, state: Any, info: SelfPlayInfo, seconds: float) -> None:
        self._seconds += seconds
        skipped = np.asarray(info.is_skipped)
        losses = np.asarray(info.loss)[~skipped]
        row = {
            "step": int(state.step),
            "seconds": round(self._seconds, 3),
            "loss": float(losses.mean()) if losses.size else float("nan"),
            "games": int(state.games.total),
            "moves": int(state.num_moves),
            "rows": int(state.num_rows),
            "skipped": int(skipped.sum()),
        }
        if self._watch is not None and (
            self._seconds - self._looked >= LOOK_SECONDS or int(state.step) >= self._recipe.num_steps
        ):
            self._looked = self._seconds
            row |= self._watch(state.average.policy)
        self.rows.append(row)
        is_last = int(state.step) >= self._recipe.num_steps
        if is_last or "optimal" in row or time.monotonic() - self._shown >= SHOW_SECONDS:
            self._shown = time.monotonic()
            self._console.print(_line(row, self._recipe.num_steps), soft_wrap=True, highlight=False)
        if self._seconds - self._saved >= SAVE_SECONDS:
            self.save(state)

    def save(self, state: Any) -> None:
        """Write history, checkpoint and player, unless this step has them."""
        step = int(state.step)
        if step == self._saved_step:
            return
        write_rows(self._folder.history, self.rows)
        checkpoint.save(self._folder.checkpoints, state, step=step, metadata={"recipe": self._recipe.game}, keep=2)
        save_player(self._folder.player, state.average.policy, self._recipe, step)
        self._saved, self._saved_step = self._seconds, step


def _line(row: dict[str, float], num_steps: int) -> str:
    parts = [f"step {int(row['step'])}/{num_steps}", f"{row['seconds']:.0f} s", f"loss {row['loss']:.4f}"]
    parts.append(f"{int(row['games']):,} games")
    parts += [f"{name} {value:.1%}" for name, value in row.items() if name in ("optimal", "strict")]
    return "  ".join(parts)
