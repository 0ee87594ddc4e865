"""The records of a run between two chunks: the archive, the columns of the history, and what was set aside."""

import heapq
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from narrows.envs import AbstractEnvironment
from narrows.files import ChangedFile, append, parse_record, read_text, record_text, write_atomically
from narrows.printing import printable
from narrows.runs.criterion import COLUMN, Criterion
from narrows.runs.records import SetAsideLine
from narrows.storage.archive import Archive
from narrows.training import Chunk, objects_of, reference

_NUM_COMPARED = 64
"""Newest objects whose distance to the data is measured at each look: enough for a curve."""
_NUM_BEST = 10
_NUM_PAIRS = 1_000_000
"""Distances computed for that at most, so that a look stays short beside a large table; then fewer objects are compared."""


class TooManySetAside(RuntimeError):
    """More non-finite rewards, losses or gradients than the job allows."""


@dataclass
class Recorder:
    """Archives each chunk's objects and returns the columns of its row in the history.

    Args:
        env: names the objects.
        archive: where every distinct one goes.
        beta: turns log-rewards back into scores.
        measured: objects to measure the distance to; may be empty.
        set_aside: file that gets a JSON line for everything non-finite.
        budget: how much may be set aside, over the whole run, before it ends with `TooManySetAside`.
        criterion: how good the list would be by now.
        num_set_aside: how much was, before this process.
        reasons: returns why objects have no score, for those of which it is known.
    """

    env: AbstractEnvironment
    archive: Archive
    beta: float
    measured: Sequence[str]
    set_aside: Path
    budget: int
    criterion: Criterion
    num_set_aside: int = 0
    reasons: Callable[[], Mapping[str, str]] = dict

    def __post_init__(self) -> None:
        self._best = {entry.object: entry.log_reward for entry in self.archive.top(_NUM_BEST)}

    def __call__(self, chunk: Chunk) -> dict[str, float]:
        objects = list(objects_of(chunk.info, self.env))
        log_reward = np.asarray(chunk.info.log_reward, np.float64).reshape(-1)
        batch_size = len(objects) // chunk.num_steps
        steps = np.repeat(np.arange(chunk.last_step - chunk.num_steps, chunk.last_step) + 1, batch_size)
        is_finite = np.isfinite(log_reward)
        kept = np.flatnonzero(is_finite).tolist()
        near = reference.number(chunk.state.reference) if kept else 0.0
        self.archive.add([objects[i] for i in kept], log_reward[kept], steps[kept], reference=near)
        self._set_aside(chunk, objects, log_reward, steps, batch_size)
        return {
            "mean_score": float(np.mean(log_reward[kept]) / self.beta) if len(kept) else float("nan"),
            "top10_score": self._top_score([objects[i] for i in kept], log_reward[kept]),
            COLUMN: self.criterion([objects[i] for i in kept], log_reward[kept], steps[kept]),
            "distinct": self.archive.count(),
            "sampled": chunk.last_step * batch_size,
            "distance_to_data": self._distance(objects),
            "set_aside": self.num_set_aside,
        }

    def _top_score(self, objects: Sequence[str], log_reward: np.ndarray) -> float:
        """Return the mean score of the best objects seen so far; the archive would have to be read through for them."""
        least = min(self._best.values()) if len(self._best) == _NUM_BEST else -np.inf
        for i in np.flatnonzero(log_reward > least).tolist():
            self._best.setdefault(objects[i], float(log_reward[i]))
        self._best = dict(heapq.nlargest(_NUM_BEST, self._best.items(), key=itemgetter(1)))
        return float(np.mean(list(self._best.values())) / self.beta) if self._best else float("nan")

    def _distance(self, objects: Sequence[str]) -> float:
        if not self.measured or not objects:
            return float("nan")
        newest = objects[-max(1, min(_NUM_COMPARED, _NUM_PAIRS // len(self.measured))) :]
        return float(self.env.distance.nearest(newest, self.measured).distance.mean())

    def _set_aside(
        self, chunk: Chunk, objects: Sequence[str], log_reward: np.ndarray, steps: np.ndarray, batch_size: int
    ) -> None:
        unscored = np.flatnonzero(~np.isfinite(log_reward)).tolist()
        known = self.reasons() if unscored else {}
        lines: list[dict[str, Any]] = [
            {"step": int(steps[i]), "object": objects[i], "reason": known.get(objects[i], f"log-reward is {log_reward[i]}")}
            for i in unscored
        ]
        for row in np.flatnonzero(np.asarray(chunk.info.is_skipped)).tolist():
            batch = objects[row * batch_size : (row + 1) * batch_size]
            reason = f"the loss ({chunk.info.loss[row]}), its gradient or every reward is not finite; the step changed nothing"
            lines.append({"step": int(steps[row * batch_size]), "objects": batch, "reason": reason})
        if not lines:
            return
        self.num_set_aside += len(lines)
        append(self.set_aside, "".join(map(_line, lines)))
        latest = printable(lines[-1]["reason"])
        if self.num_set_aside > self.budget:
            raise TooManySetAside(
                f"{self.num_set_aside} items or steps were not finite, more than [train] max_set_aside = {self.budget} "
                f"(the latest at step {lines[-1]['step']}: {latest}). All are listed in {self.set_aside}. "
                "Repair the score, or lower beta or the learning rate in a new run; to go on with this one, raise "
                "max_set_aside in its job.toml and resume it."
            )
        if np.asarray(chunk.info.is_skipped).all():
            raise TooManySetAside(
                f"none of steps {chunk.last_step - chunk.num_steps + 1} to {chunk.last_step} could train: every loss or "
                f"gradient was not finite, or no score was ({latest}). All are listed in {self.set_aside}. "
                "Repair the score, or lower beta or the learning rate in a new run."
            )


def rewind_set_aside(path: Path, step: int) -> int:
    """Forget what was set aside after a step; return how much remains."""
    lines = [line for line in read_set_aside(path) if line.step <= step]
    if path.exists():
        write_atomically(path, "".join(_line(line.model_dump(exclude_unset=True)) for line in lines))
    return len(lines)


def read_set_aside(path: Path) -> list[SetAsideLine]:
    """Return what was set aside, `[]` without the file.

    A last line that a kill cut short is left out, with a warning of the kind ChangedFile. Raises ValueError naming the file
    and the line for anything else that was not written there.
    """
    if not path.exists():
        return []
    text = read_text(path)
    if text and not text.endswith("\n"):
        warnings.warn(f"{path}: its last line is cut short and left out, as a kill leaves it.", ChangedFile, stacklevel=2)
    whole = text[: text.rfind("\n") + 1].splitlines()
    cure = "Restore the file from a copy of the run, or delete the line."
    return [parse_record(line, f"{path}, line {number}", SetAsideLine, cure) for number, line in enumerate(whole, 1)]


def _line(content: Mapping[str, Any]) -> str:
    return record_text(content, indent=None)
