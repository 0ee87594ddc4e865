"""The published data of the biological tasks, read from files on this machine and checked row by row.

design-bench's UTR and GFP are folders of shards, `utr-x-0.npy` with letters as numbers (int32 `[row, length]`) beside
`utr-y-0.npy` with targets (float32 `[row, 1]`), and so on; UTR has 28 of each, GFP 12. The peptides of AMP are CSV files with a
column `sequence` (`pos_D1_target.csv`, `pos_D2_target.csv`) and a FASTA file of negatives (`all_nonAMP.fasta`).
"""

import os
import re
from collections.abc import Sequence as Objects
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float, Int

from benchmarks._paper.tasks.lists import Listed, read_list
from benchmarks._paper.tasks.task import PublishedTask
from narrows.data import accept_table, check_table
from narrows.data.findings import count
from narrows.data.table import OnInvalid


class LeftOut(NamedTuple):
    """Why so many rows of the files are not among the data."""

    reason: str
    num: int


@final
@dataclass(frozen=True, eq=False)
class PublishedData:
    """Hold the sequences of a task and a target for each, float64, and where they came from.

    Args:
        task: the task they belong to.
        sequences: in the order of the files, repeats kept where the published data keep them.
        targets: labels 0 and 1, or measurements.
        sources: the files.
        left_out: rows that were not taken, by reason.
    """

    task: PublishedTask
    sequences: tuple[str, ...]
    targets: Float[np.ndarray, " row"]
    sources: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.sequences)

    def summary(self) -> str:
        """Return how many rows there are, how many were left out and why, and how many were published."""
        text = f"{self.task.name}: {count(len(self), 'row')} from {count(len(self.sources), 'source')}"
        if self.task.objective == "binary":
            text += f", {int(self.targets.sum()):,} of class 1 and {int((1.0 - self.targets).sum()):,} of class 0"
        else:
            text += f", targets from {self.targets.min():.4g} to {self.targets.max():.4g}"
        text += f"; {len(self) - len(set(self.sequences)):,} repeat a sequence."
        for reason in self.left_out:
            text += f" Left out: {count(reason.num, 'row')} {reason.reason}."
        if self.task.published_rows is not None and len(self) != self.task.published_rows:
            text += f" The published data have {self.task.published_rows:,} rows."
        return text


def read_design_bench(task: PublishedTask, folder: str | os.PathLike[str]) -> PublishedData:
    """Read every shard of a task that lies in a folder, in the order of their numbers.

    The numbers are turned into letters by design-bench's own order, so that what is shown or scored elsewhere is the protein
    that was measured. Repeats are kept: design-bench has them.

    Raises ValueError naming the file, and the row counted from 0, for whatever is missing, misshapen, out of range or not
    finite; an array of objects is refused, and nothing in a file is executed.
    """
    if task.design_bench_order is None:
        raise ValueError(f"design-bench has no {task.name}. Use read_classes or read_scored.")
    folder = Path(folder)
    texts: list[str] = []
    targets: list[np.ndarray] = []
    files: list[str] = []
    for number in _shard_numbers(folder, task.name.lower()):
        pair = [folder / f"{task.name.lower()}-{side}-{number}.npy" for side in "xy"]
        ids, values = _load_ids(pair[0], task), _load_targets(pair[1])
        if len(ids) != len(values):
            raise ValueError(
                f"{pair[0]} has {count(len(ids), 'row')} and {pair[1].name} {len(values):,}. Fetch both shards again."
            )
        texts += spell(ids, task.design_bench_order)
        targets.append(values)
        files += map(str, pair)
    return PublishedData(task, tuple(texts), np.concatenate(targets), tuple(files))


def read_scored(
    task: PublishedTask,
    path: str | os.PathLike[str],
    *,
    sequence_column: str | None = None,
    score_column: str | None = None,
    on_invalid: OnInvalid = "refuse",
) -> PublishedData:
    """Read the data of any task from a table of sequences and targets, as `narrows.data.read_table` does.

    Rows that repeat a sequence with the same target count once, rows that disagree are errors. Raises ValueError naming every
    bad row; with `on_invalid="skip"` those are written to `rejected.csv` beside the table and left out.
    """
    check = check_table(path, task.readable, sequence_column=sequence_column, score_column=score_column)
    table = accept_table(check, on_invalid=on_invalid)
    if task.objective == "binary" and not np.isin(table.scores, (0.0, 1.0)).all():
        first = int(np.flatnonzero(~np.isin(table.scores, (0.0, 1.0)))[0])
        raise ValueError(
            f"{table.path}: row {table.rows[first]} has the target {table.scores[first]:g}; {task.name} has classes 0 and 1."
        )
    reasons = [LeftOut("refused", check.num_rejected), LeftOut("repeating another", check.num_duplicates)]
    return PublishedData(task, table.sequences, table.scores, (table.path,), _some(reasons))


def read_classes(
    task: PublishedTask,
    positives: str | os.PathLike[str] | Objects[str | os.PathLike[str]],
    negatives: str | os.PathLike[str] | Objects[str | os.PathLike[str]],
    *,
    on_invalid: OnInvalid = "refuse",
) -> PublishedData:
    """Read a binary task from files of class 1 and files of class 0: CSV with a column `sequence`, FASTA, or a sequence a line.

    As published, sequences beyond the longest length are left out, repeats count once, and a negative that is a positive too
    is left out; `summary` says how many there were.

    Raises ValueError naming the file and every line with a letter that is not in the alphabet; `on_invalid="skip"` leaves those
    lines out.
    """
    if task.objective != "binary":
        raise ValueError(f"{task.name} has measurements, not classes. Use read_design_bench or read_scored.")
    sides = [[read_list(path, task.readable, on_invalid) for path in _paths(side)] for side in (positives, negatives)]
    kept = [list(dict.fromkeys(text for one in lists for text in one.sequences)) for lists in sides]
    is_positive = set(kept[0])
    clean = [text for text in kept[1] if text not in is_positive]
    both: list[Listed] = [*sides[0], *sides[1]]
    reasons = [
        LeftOut("refused", sum(one.num_refused for one in both)),
        LeftOut(f"longer than {count(task.max_length, 'letter')}", sum(one.num_long for one in both)),
        LeftOut("repeating another of their class", sum(len(one.sequences) for one in both) - len(kept[0]) - len(kept[1])),
        LeftOut("of class 0 that class 1 has too", len(kept[1]) - len(clean)),
    ]
    if not kept[0] or not clean:
        raise ValueError(
            f"{task.name} needs sequences of both classes, got {len(kept[0]):,} of class 1 and {len(clean):,} of class 0 in "
            f"{', '.join(one.path for one in both) or 'no file'}. Check that the two lists are not the same file."
        )
    targets = np.repeat([1.0, 0.0], [len(kept[0]), len(clean)])
    return PublishedData(task, (*kept[0], *clean), targets, tuple(one.path for one in both), _some(reasons))


def spell(ids: Int[np.ndarray, "row length"], order: str) -> list[str]:
    """Return the texts that rows of numbers stand for, a number being a place in `order`.

    >>> spell(np.array([[0, 1, 19]]), "ARNDCQEGHILKMFPSTWYV")
    ['ARV']
    """
    letters = np.frombuffer(order.encode("ascii"), np.uint8)[ids]
    return [row.tobytes().decode("ascii") for row in letters]


def _shard_numbers(folder: Path, prefix: str) -> range:
    """Return the numbers of the shards in a folder; ValueError unless they run from 0 without a gap, x and y alike."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder. Name the one with the shards {prefix}-x-0.npy, {prefix}-y-0.npy, ...")
    pattern = re.compile(rf"{re.escape(prefix)}-([xy])-([0-9]{{1,6}})\.npy", re.ASCII)
    found: dict[str, set[int]] = {"x": set(), "y": set()}
    for entry in folder.iterdir():
        if (match := pattern.fullmatch(entry.name)) and match[2] == str(int(match[2])):
            found[match[1]].add(int(match[2]))
    numbers = found["x"] | found["y"]
    if not numbers:
        raise ValueError(f"{folder} holds no shard of {prefix}: expected {prefix}-x-0.npy, {prefix}-y-0.npy and so on.")
    missing = [
        f"{prefix}-{side}-{number}.npy" for number in range(max(numbers) + 1) for side in "xy" if number not in found[side]
    ]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing[:10])}{' and more' if len(missing) > 10 else ''}. Fetch them.")
    return range(max(numbers) + 1)


def _load_ids(path: Path, task: PublishedTask) -> Int[np.ndarray, "row length"]:
    ids = _load_array(path)
    if ids.ndim != 2 or ids.shape[1] != task.max_length or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"{path} holds {_words(ids)}; {task.name} has whole numbers in the shape [rows, {task.max_length}]. Is it another "
            "task's file, or one of logits?"
        )
    is_bad = (ids < 0) | (ids >= len(task.alphabet))
    if is_bad.any():
        row, column = (int(place) for place in np.argwhere(is_bad)[0])
        raise ValueError(
            f"{path}: row {row} (the first is 0) has the number {ids[row, column]} at place {column}; {task.name}'s letters "
            f"are numbered 0 to {len(task.alphabet) - 1}."
        )
    return ids.astype(np.int64)


def _load_targets(path: Path) -> Float[np.ndarray, " row"]:
    values = _load_array(path)
    is_column = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    if not is_column or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"{path} holds {_words(values)}; expected one floating point number a row, [rows, 1].")
    values = values.reshape(-1).astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"{path}: row {row} (the first is 0) has the target {values[row]}. Fetch the shard again.")
    return values


def _load_array(path: Path) -> np.ndarray:
    """Return a .npy file's array; mapped first, so that a header that claims too much takes no memory."""
    if not path.is_file():  # also false for a pipe, which would never end
        raise ValueError(f"{path} is no file. Fetch the shard again.")
    try:
        mapped: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TokenError) as error:
        raise ValueError(f"{path} is no plain .npy array: {error}. Fetch the shard again.") from None
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise ValueError(f"{path} is an archive of arrays (.npz), not one array. Unpack it.")
    if not len(np.atleast_1d(mapped)):
        raise ValueError(f"{path} holds {_words(mapped)}, which is nothing. Fetch the shard again.")
    return np.array(mapped)


def _words(array: np.ndarray) -> str:
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"


def _paths(given: str | os.PathLike[str] | Objects[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    return [given] if isinstance(given, str | os.PathLike) else list(given)


def _some(reasons: list[LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(reason for reason in reasons if reason.num)
