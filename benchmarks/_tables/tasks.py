"""The real tables: what may be measured of each, and the truth that lists are judged by."""

import csv
import functools
import gzip
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from benchmarks._tables.plan import POOL, Setting
from benchmarks.harness.places import ROOT, TFBIND8, measured_table
from narrows.alphabet import reverse_complements
from narrows.data import TableSettings, check_table, space
from narrows.scorers.rna import RnaBinding

DATA = TFBIND8.parent
_GB1, _MIC = DATA / "gb1" / "gb1_four_sites.csv.gz", DATA / "amp" / "mic.csv"
_WORST = 0.6
_MOST_HELD_BACK = 10_000
"""Held-out objects that proxies are judged on."""

Truth = Callable[[Sequence[str]], Float[np.ndarray, " object"]]
"""The true scores of objects, higher is better; NaN for those of which nobody knows it."""


@dataclass(frozen=True, eq=False)
class Task:
    """A table from which rows are drawn as measured, and the truth."""

    space: str  # of the job
    texts: tuple[str, ...]  # as they stand in the table
    cells: Float[np.ndarray, " text"]  # the column of scores as it stands in the table
    truth: Truth
    known: tuple[str, ...]  # objects whose true score is known
    settings: dict[str, str] = field(default_factory=dict)  # what a job says of the table beside path and space


@dataclass(frozen=True, eq=False)
class Draw:
    """What was measured, and what was held back."""

    texts: tuple[str, ...]
    cells: Float[np.ndarray, " text"]
    held_back: tuple[str, ...]  # objects whose true score is known, none of them measured


def task_of(setting: Setting, seed: int) -> Task:
    """Return the task of a setting; ValueError or ImportError where what it needs is missing."""
    return _rna(seed) if setting.table == "rna" else _MAKERS[setting.table]()


def missing(setting: Setting) -> str | None:
    """Return why a setting cannot be measured here, None where it can."""
    try:
        if setting.table == "rna":
            RnaBinding()
        elif setting.table in ("SIX6", "VSX1"):
            measured_table(TFBIND8, setting.table)
        else:
            path = _GB1 if setting.table == "gb1" else _MIC
            if not path.is_file():
                raise ValueError(f"it needs {path.name} in {path.parent.name} of ../shared/data beside the checkout.")
    except (ValueError, ImportError) as error:
        return str(error)
    return None


def draw(task: Task, setting: Setting, seed: int) -> Draw:
    """Return the rows that a seed measures; the rest is held back, some thousands of them at most."""
    rng = np.random.default_rng(seed)
    places = np.arange(len(task.texts))
    if setting.is_worst:
        places = np.argsort(task.cells, kind="stable")[: round(_WORST * len(places))]
    chosen = np.sort(rng.choice(places, setting.num_rows, replace=False))
    texts = tuple(task.texts[place] for place in chosen.tolist())
    seen = {text.upper() for text in texts}
    seen |= set(reverse_complements(texts, "ACGT")) if task.space == "dna" else set()
    rest = [text for text in task.known if text not in seen]
    kept = np.sort(rng.permutation(len(rest))[:_MOST_HELD_BACK])
    return Draw(texts, task.cells[chosen], tuple(rest[place] for place in kept.tolist()))


@functools.cache
def _gb1() -> Task:
    with gzip.open(_GB1, "rt", encoding="utf-8", newline="") as stream:
        rows = [(row["Variants"], float(row["Fitness"])) for row in csv.DictReader(stream)]
    texts, fitness = tuple(text for text, _ in rows), np.array([value for _, value in rows])
    return Task("protein", texts, fitness, _looked_up(texts, fitness), texts)


@functools.cache
def _tfbind8(factor: str) -> Task:
    """Return the task of a factor: E-scores scaled to 0..1, as the field has them, a row for both strands."""
    with open(measured_table(TFBIND8, factor), encoding="utf-8", newline="") as stream:
        _, *rows = csv.reader(stream, delimiter="\t")
    texts, scores = tuple(row[0] for row in rows), np.array([float(row[2]) for row in rows])
    scores = (scores - scores.min()) / np.ptp(scores)
    both = (*texts, *(row[1] for row in rows))
    return Task("dna", texts, scores, _looked_up(both, np.concatenate([scores, scores])), texts)


@functools.cache
def _mic() -> Task:
    """Return the peptides with a MIC on E. coli: rows as people have them, the truth as Narrows reads and joins them."""
    with open(_MIC, encoding="utf-8", newline="") as stream:
        rows = [(row["Sequence"], float(row["E_coli"])) for row in csv.DictReader(stream) if row["E_coli"]]
    settings = TableSettings(sequence_column="Sequence", score_column="E_coli", score_sense="lower", on_invalid="skip")
    table = check_table(_MIC, space("protein"), settings).table
    texts, cells = tuple(text for text, _ in rows), np.array([value for _, value in rows])
    said = {"score_sense": settings.score_sense, "on_invalid": settings.on_invalid}
    return Task("protein", texts, cells, _looked_up(table.sequences, table.scores), table.sequences, said)


@functools.lru_cache(maxsize=1)
def _rna(seed: int) -> Task:
    """Return the task of the example, measured with a seed of its own; the truth is the duplex energy without the noise."""
    path = ROOT / "examples" / "rna_binder" / "make_measurements.py"
    spec = importlib.util.spec_from_file_location("make_measurements", path)
    assert spec is not None and spec.loader is not None, "the example is there"
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    texts, scores = example.measure(seed)
    score = RnaBinding(length=example.LENGTH)
    return Task("rna", tuple(texts), np.asarray(scores), lambda objects: np.asarray(score(list(objects))), tuple(texts))


_MAKERS: dict[str, Callable[[], Task]] = {
    "gb1": _gb1,
    "SIX6": functools.partial(_tfbind8, "SIX6"),
    "VSX1": functools.partial(_tfbind8, "VSX1"),
    POOL: _mic,
}


def _looked_up(texts: Sequence[str], scores: Float[np.ndarray, " text"]) -> Truth:
    known = dict(zip(texts, scores.tolist(), strict=True))
    return lambda objects: np.array([known.get(text, np.nan) for text in objects])
