"""The progress of a run, as a person sees it: one live line in a terminal, plain lines anywhere else."""

import math
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

_WIDE = 100
"""Columns of a terminal that has room for a bar beside the figures."""
_PLAIN_SECONDS = 5.0
"""Seconds between two plain lines: a log of a long run stays readable."""


class PatientConsole(Console):
    """A console whose reader may go away (`narrows run ... | head`): the run goes on without being watched."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class _Figures(ProgressColumn):
    """Shows the newest figures of the task beside its bar."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("figures", "")), no_wrap=True, overflow="ellipsis")


class Meter:
    """Shows the newest figures of a run; a context manager."""

    def __init__(self, console: Console, num_steps: int, first_step: int) -> None:
        self._console = console
        self._num_steps = num_steps
        self._steps_timed = 0
        self._seconds = 0.0
        self._printed = 0.0
        self._progress: Progress | None = None
        if console.is_terminal:
            bar = (BarColumn(bar_width=16),) if console.width >= _WIDE else ()
            columns = (TextColumn("step {task.completed}/{task.total}"), *bar, _Figures())
            self._progress = Progress(*columns, console=console)
            self._task = self._progress.add_task("train", total=num_steps, completed=first_step, figures="compiling ...")
        elif first_step < num_steps:
            console.print(f"step {first_step}/{num_steps}: compiling ...", soft_wrap=True)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, row: Mapping[str, float], num_steps: int, seconds: float, is_first: bool) -> None:
        """Show a row of the history; the first chunk's time holds the compilation and is left out of the rate."""
        if not is_first:
            self._steps_timed += num_steps
            self._seconds += seconds
        step = int(row["step"])
        how_good, how_far = self._figures(row, step)
        if self._progress is not None:
            self._progress.update(self._task, completed=step, figures=f"{how_good}\n{how_far}")
        elif time.monotonic() - self._printed > _PLAIN_SECONDS or step >= self._num_steps:
            self._printed = time.monotonic()
            self._console.print(f"step {step}/{self._num_steps}  {how_good}  {how_far}", soft_wrap=True, highlight=False)

    def note(self, sentence: str) -> None:
        """Show what takes long until there are new figures."""
        if self._progress is not None:
            self._progress.update(self._task, figures=sentence.replace("; ", "\n"))
        else:
            self._console.print(sentence, soft_wrap=True, highlight=False, markup=False)

    def tell(self, sentence: str) -> None:
        """Print a sentence above the line, where it stays."""
        self._console.print(sentence, soft_wrap=True, highlight=False, markup=False)

    def _figures(self, row: Mapping[str, float], step: int) -> tuple[str, str]:
        """Return how good the newest objects are, and how far the run is: two lines that fit a narrow terminal."""
        good = [f"loss {row['loss']:.3g}", f"score {row['mean_score']:.3f}, top-10 {row['top10_score']:.3f}"]
        if not math.isnan(row.get("list_score", math.nan)):
            good[1] += f", list {row['list_score']:.3f}"
        if not math.isnan(row["distance_to_data"]):
            good.append(f"{row['distance_to_data']:.1f} from data")
        far = [f"{int(row['distinct'])} distinct"]
        if row["set_aside"]:
            far.append(f"{int(row['set_aside'])} set aside")
        if self._seconds > 0.0:
            rate = self._steps_timed / self._seconds
            far += [f"{rate:.1f} step/s", f"{_clock((self._num_steps - step) / rate)} left"]
        return "  ".join(good), "  ".join(far)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
