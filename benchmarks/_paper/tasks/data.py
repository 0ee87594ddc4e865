"""The biological tasks of the TGM paper (tgm 5.1 and 5.4), and their published data, read from files on this machine.

design-bench's UTR and GFP are folders of shards, `utr-x-0.npy` with letters as numbers (int32 `[row, length]`) beside
`utr-y-0.npy` with targets (float32 `[row, 1]`), and so on; UTR has 28 of each, GFP 12. The peptides of AMP are CSV files with a
column `sequence` (`pos_D1_target.csv`, `pos_D2_target.csv`) and a FASTA file of negatives (`all_nonAMP.fasta`).
"""

import csv
from collections.abc import Sequence as Objects
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Int

from narrows.data import Space
from narrows.data.spaces import CUSTOM_PREFIX, NAMED_ALPHABETS
from narrows.envs.sequence import Sequence

DESIGN_BENCH_PROTEIN: Final = "ARNDCQEGHILKMFPSTWYV"
"""The order in which design-bench numbers amino acids, by their names; alphabets here go by their letters."""
Objective = Literal["regression", "binary"]
"""`regression` is the squared error on standardised targets, `binary` the cross-entropy on labels 0 and 1."""


@dataclass(frozen=True)
class PublishedTask:
    """Which sequences there are, the encoder that scores them, and how that encoder is trained."""

    name: str  # design-bench's files start with it in lower case
    alphabet: str  # the letters in the order of the environment's actions
    # min_length, max_length: letters of the objects that are built; AMP's shortest is not settled in what was published
    min_length: int
    max_length: int
    objective: Objective  # what the proxy learns from
    embed: int  # width of a token's vector, of a head, and hidden units of the feed-forward layers
    layers: int  # blocks of the encoder
    batch: int  # rows a step
    learning_rate: float  # of AdamW
    heads: int = 8  # of each block, every one as wide as a token's vector
    weight_decay: float = 1e-6  # of AdamW
    max_epochs: int = 250  # passes over the training rows
    patience: int = 5  # training ends after more than so many epochs without a better validation loss
    validation_fraction: float = 0.2  # share of the rows, drawn at random, that only judge
    published_rows: int | None = None  # how many rows the published data have, None where that is not known
    design_bench_order: str | None = None  # the letters in the order of design-bench's numbers, None where it has no such task

    def environment(self) -> Sequence:
        """Return the task's environment: letters appended one by one, and an end from `min_length` on."""
        return Sequence(self.alphabet, self.min_length, self.max_length)

    @property
    def readable(self) -> Space:
        """The sequences that the proxy can be trained on and asked about.

        Where lengths vary, shorter ones than are built belong to them: they are in the published data, and tell as much.
        """
        shortest = self.max_length if self.min_length == self.max_length else min(self.min_length, 1)
        named = {letters: name for name, letters in NAMED_ALPHABETS.items()}
        return Space(named.get(self.alphabet, CUSTOM_PREFIX + self.alphabet), self.alphabet, shortest, self.max_length)


_DNA, _PROTEIN = NAMED_ALPHABETS["dna"], NAMED_ALPHABETS["protein"]
UTR: Final = PublishedTask(
    *("UTR", _DNA, 50, 50, "regression", 64, 4, 128, 1e-4), published_rows=280_000, design_bench_order="ACGT"
)
"""5' untranslated regions of 50 nucleotides and the ribosome load they lead to (design-bench's UTR)."""
AMP: Final = PublishedTask("AMP", _PROTEIN, 14, 60, "binary", 64, 4, 256, 1e-4, published_rows=6_438 + 9_522)
"""Antimicrobial peptides (label 1) among others (label 0), from DBAASP."""
GFP: Final = PublishedTask(
    *("GFP", _PROTEIN, 237, 237, "regression", 128, 3, 128, 1e-5),
    published_rows=56_086,
    design_bench_order=DESIGN_BENCH_PROTEIN,
)
"""Variants of a green fluorescent protein and their median brightness (design-bench's GFP)."""


@dataclass(frozen=True, eq=False)
class PublishedData:
    """The sequences of a task in the order of the files, and a target for each: a label 0 or 1, or a measurement."""

    task: PublishedTask
    sequences: tuple[str, ...]
    targets: Float[np.ndarray, " row"]

    def __len__(self) -> int:
        return len(self.sequences)


def read_design_bench(task: PublishedTask, folder: Path) -> PublishedData:
    """Read every shard of a task that lies in a folder, in the order of their numbers, repeats included.

    The numbers are turned into letters by design-bench's own order, so that what is scored elsewhere is the protein that was
    measured. Raises ValueError for a folder with a gap and for a shard of another shape or with numbers that are no letters.
    """
    assert task.design_bench_order is not None, f"design-bench has no {task.name}"
    name = task.name.lower()
    numbers = sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob(f"{name}-x-*[0-9].npy"))
    if not numbers or numbers != list(range(len(numbers))):
        raise ValueError(f"{folder} has the shards {numbers} of {name}, expected 0, 1 and so on. Fetch the others.")
    texts, targets = [], []
    for number in numbers:
        ids, values = (np.load(folder / f"{name}-{side}-{number}.npy", allow_pickle=False) for side in "xy")
        values = values.reshape(len(values), -1)
        is_whole = np.issubdtype(ids.dtype, np.integer) and ids.shape == (len(values), task.max_length)
        if not is_whole or values.shape[1] != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError(
                f"{folder}, shard {number} of {name}: expected whole numbers [row, {task.max_length}] and a finite target a "
                f"row, got {ids.dtype}{list(ids.shape)} and {values.dtype}{list(values.shape)}. Fetch the shard again."
            )
        if ids.min() < 0 or ids.max() >= len(task.alphabet):
            raise ValueError(
                f"{folder}, shard {number} of {name}: letters are numbered 0 to {len(task.alphabet) - 1}, got others."
            )
        texts += spell(ids, task.design_bench_order)
        targets.append(values[:, 0].astype(np.float64))
    return PublishedData(task, tuple(texts), np.concatenate(targets))


def read_classes(task: PublishedTask, positives: Objects[Path], negatives: Objects[Path]) -> PublishedData:
    """Read a binary task from files of class 1 and files of class 0: CSV with a column `sequence`, FASTA, or a sequence a line.

    As published, sequences beyond the longest length are left out, repeats count once, and a negative that is a positive too
    is left out. Raises ValueError for letters that are not in the alphabet and where a class is empty.
    """
    sides = [dict.fromkeys(text for path in paths for text in _listed(task, path)) for paths in (positives, negatives)]
    good, bad = sides[0], [text for text in sides[1] if text not in sides[0]]
    if not good or not bad:
        raise ValueError(f"{task.name} needs sequences of both classes, got {len(good)} of class 1 and {len(bad)} of class 0.")
    return PublishedData(task, (*good, *bad), np.repeat([1.0, 0.0], [len(good), len(bad)]))


def spell(ids: Int[np.ndarray, "row length"], order: str) -> list[str]:
    """Return the texts that rows of numbers stand for, a number being a place in `order`.

    >>> spell(np.array([[0, 1, 19]]), "ARNDCQEGHILKMFPSTWYV")
    ['ARV']
    """
    letters = np.frombuffer(order.encode("ascii"), np.uint8)[ids]
    return [row.tobytes().decode("ascii") for row in letters]


def _listed(task: PublishedTask, path: Path) -> list[str]:
    """Return the sequences of a file that are not too long."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if lines and lines[0].startswith(">"):
        whole = "".join(">" if line.startswith(">") else line for line in lines)
        texts = whole[1:].split(">")
    elif lines and "sequence" in lines[0].split(","):
        texts = [row["sequence"].strip() for row in csv.DictReader(lines)]
    else:
        texts = lines
    strange = sorted(set("".join(texts)) - set(task.alphabet))
    if strange or not all(texts):
        raise ValueError(
            f"{path}: expected sequences of the letters {task.alphabet}, got {strange or 'an empty one'}. Correct it."
        )
    return [text for text in texts if len(text) <= task.max_length]
