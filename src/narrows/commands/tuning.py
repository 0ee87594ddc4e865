"""`narrows tune`: a pre-trained encoder tuned on a table of texts or sequences, on little memory, as a score."""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int
from tyro.conf import Positional

from narrows.data import Check, Table, accept_table, check_table
from narrows.data import space as named_space
from narrows.data.settings import AbstractTableSettings
from narrows.data.spaces import OpenSpace, Space
from narrows.printing import printable, say
from narrows.sizes import Count, Few, Seed

if TYPE_CHECKING:
    from narrows.tuning.profiling import Profile
    from narrows.tuning.scoring import Fitted, Plan, Sides, Watch

Method = Literal["far", "far_paper", "far_frugal", "learner", "lora", "full", "freeze_ffn", "bitfit", "head_only"]
Task = Literal["auto", "regression", "classification"]
Rows = Int[np.ndarray, " row"]

_VALIDATION = 0.1
"""Share of the rows that are learned from that say when to stop, and that the standard deviation is calibrated on."""
_SHOWN = 8
"""Classes that are named at most."""
_STEP_SECONDS = 5.0
"""Seconds between two lines about steps."""


@dataclass(frozen=True)
class Tuned:
    """A scorer's folder and what is in it; `fitted` is None where tuning was stopped, or only the costs were asked for."""

    folder: Path
    fitted: "Fitted | None"
    is_profile: bool = False


@dataclass(frozen=True, kw_only=True)
class TuneSettings(AbstractTableSettings):
    """Settings of a tuning: what the texts are, what is trained and for how long, and how it is judged.

    Args:
        space: text for any texts; rna, dna, protein or letters:ABC to have every letter checked, and near-duplicates kept on
            one side of the split.
        method: what is trained: far (few nodes of each feed-forward), learner (narrow paths beside every linear), lora, full,
            freeze_ffn, bitfit, head_only; far_paper and far_frugal are far with more and with less trained.
        task: auto takes classes where the column holds names, or two values; else scores.
        retention: share of the nodes that go on learning, for far; 0.1 by default.
        rank: of learners (64 by default) and of lora (8).
        members: guesses that a standard deviation comes from; 1 has none.
        members_by: heads on one encoder, which cost next to nothing; or seeds, encoders of their own, which take as many times
            as long and know better what they do not know.
        epochs: passes over the rows, at most.
        batch_size: rows a step.
        learning_rate: by default the method's usual one.
        precision: bf16 computes in half the bits where the processor can; weights stay in fp32.
        max_length: tokens read of a text; by default as many as the encoder reads.
        spaced: put a blank between any two letters, as encoders such as ProtBert want it.
        test_fraction: share of the rows held out to judge on.
        max_distance: sequences within this many edits are never on both sides of the split; by default 15 % of the length.
        patience: epochs without a lower loss on rows set aside, after which training ends.
        positive: the class whose probability is the score of a text; the last one by default.
        seed: of everything random.
    """

    space: str = "text"
    method: Method = "far"
    task: Task = "auto"
    retention: float | None = None
    rank: int | None = None
    members: Few = 1
    members_by: Literal["heads", "seeds"] = "heads"
    epochs: Count = 5
    batch_size: int = 16
    learning_rate: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    max_length: int | None = None
    spaced: bool = False
    test_fraction: float = 0.2
    max_distance: int | None = None
    patience: Count = 2
    positive: str | None = None
    seed: Seed = 0


_USUAL = TuneSettings()


def tune(
    table: Positional[Path],
    *,
    encoder: str,
    out: Path,
    settings: TuneSettings = _USUAL,
    profile_only: bool = False,
) -> Tuned:
    """Tune an encoder on a table of texts, peptides, DNA or SMILES with scores or classes, and judge it on held-out rows.

    What a step will cost is printed first, beside ordinary fine-tuning. Ctrl-C stops with a checkpoint; the same command
    goes on. The folder that comes out is a score: narrows run JOB --proxy FOLDER.

    Args:
        table: CSV file (comma, semicolon or tab) with a header, a column of texts and a column of scores or classes.
        encoder: folder of a pre-trained encoder (config.json, model.safetensors, tokenizer files), or its name on the hub.
        out: folder of the scorer.
        settings: what is trained, for how long, and how it is judged.
        profile_only: print what a step will cost, and end.
    """
    space = named_space(settings.space)
    rows = _accepted(table, space, settings)
    _say(_what(rows))
    sides = _sides(rows, space, settings.test_fraction, settings.max_distance, settings.seed)
    try:
        from narrows.tuning.scoring import Request, TuningSettings, fit_scorer, foreseen, prepare, refuse_taken
    except ImportError as error:
        raise ImportError(f'narrows tune needs PyTorch and transformers ({error}): pip install "narrows[tuning]"') from error
    refuse_taken(out)  # before minutes of learning, not after
    known = {field.name for field in fields(TuningSettings)}
    request = Request(
        _absolute(encoder),
        TuningSettings(**{name: value for name, value in vars(settings).items() if name in known}),
        settings.members,
        settings.members_by,
        settings.max_length,
        settings.spaced,
        settings.positive,
    )
    plan = prepare(request, rows.sequences, rows.scores, sides, rows.classes)
    _say(_costs(plan, foreseen))
    if profile_only:
        return Tuned(out, None, is_profile=True)
    from narrows.files import WriterLock
    from narrows.runs.interrupt import interruptible

    def hold(work: Path) -> WriterLock:
        return WriterLock.acquire(work / "lock", f"the scorer in {out}")

    with interruptible() as is_stopping:
        return Tuned(out, fit_scorer(plan, out, lambda member: _watch(plan, member, is_stopping), hold))


def render(tuned: Tuned) -> str:
    """Return what the command prints at the end: the quality, and what to do next."""
    if tuned.is_profile:
        return "Nothing was trained: --profile-only."
    folder = shlex.quote(str(tuned.folder))
    if tuned.fitted is None:
        return f"Stopped, saved in {folder}. The same command continues."
    positive = tuned.fitted.scorer.positive
    meaning = "" if positive is None else f"\nscore of a text: the probability of {positive!r} (--positive names another class)"
    return f"{tuned.fitted.quality}{meaning}\nsaved: {folder}   use it: narrows run JOB.toml --proxy {folder} --out RUN"


def _accepted(table: Path, space: Space | OpenSpace, settings: TuneSettings) -> Table:
    def look(has_classes: bool) -> Check:
        return check_table(table, space, settings, has_classes=has_classes)

    found = look(settings.task == "classification")
    if settings.task == "auto" and settings.score_sense == "higher" and _reads_like_classes(found):
        found = look(True)
    return accept_table(found)


def _reads_like_classes(found: Check) -> bool:
    """Whether there are names in every row, or the same two numbers in all of them; a few words among numbers are mistakes."""
    kinds = {finding.kind for finding in found.errors}
    if not len(found.table):
        return "non_numeric_score" in kinds
    return not found.errors and len(np.unique(found.table.scores)) == 2


def _what(rows: Table) -> str:
    if rows.classes:
        kinds = "1 class" if len(rows.classes) == 1 else f"{len(rows.classes)} classes"
        more = ", ..." if len(rows.classes) > _SHOWN else ""
        return f"{len(rows):,} rows of {kinds}: {', '.join(map(printable, rows.classes[:_SHOWN]))}{more}"
    return f"{len(rows):,} rows with scores from {rows.scores.min():g} to {rows.scores.max():g}"


def _sides(rows: Table, space: Space | OpenSpace, fraction: float, max_distance: int | None, seed: int) -> "Sides":
    """Split clusters of sequences, which keep near-duplicates together, or texts at random within their class."""
    from narrows.proxies.splits import cluster_split, held_out
    from narrows.tuning.scoring import Sides

    if not 0.0 < fraction < 1.0:
        raise ValueError(f"test_fraction must be between 0 and 1, got {fraction}. 0.2 holds out a fifth.")
    if space.alphabet:
        split = cluster_split(rows.sequences, fraction=fraction, max_distance=max_distance, seed=seed)
        _say(split.describe())
        inner = held_out(split.clusters[split.train], _VALIDATION * len(split.train), seed + 1)
        validation = split.train[inner] if len(inner) else _drawn(rows, split.train, _VALIDATION, seed + 1)
        return Sides(np.setdiff1d(split.train, validation), validation, split.test)
    if max_distance is not None:
        raise ValueError("max_distance counts edits between sequences: leave it out, or name the letters with --space.")
    everything = np.arange(len(rows))
    test = _drawn(rows, everything, fraction, seed)
    rest = np.setdiff1d(everything, test)
    validation = _drawn(rows, rest, _VALIDATION, seed + 1)
    return Sides(np.setdiff1d(rest, validation), validation, test)


def _drawn(rows: Table, among: Rows, fraction: float, seed: int) -> Rows:
    """Draw a share of some rows, of every class alike, leaving at least one row of each."""
    generator = np.random.default_rng(seed)
    groups = [among[rows.scores[among] == place] for place in range(len(rows.classes))] or [among]
    groups = [generator.permutation(group) for group in groups if len(group)]
    drawn = [group[: min(max(1, round(fraction * len(group))), len(group) - 1)] for group in groups]
    return np.sort(np.concatenate(drawn)) if drawn else among[:0]


def _absolute(encoder: str) -> str:
    """Return a folder's whole path, so that a fit resumed from elsewhere is the same fit; a hub's name as it is."""
    path = Path(encoder).expanduser()
    return str(path.resolve()) if path.exists() else encoder


def _costs(plan: "Plan", foreseen: "Callable[[Plan], Profile]") -> str:
    cut = f"{plan.num_cut:,} texts are longer than {plan.reader.max_length} tokens and lose their end\n" if plan.num_cut else ""
    return f"{cut}a step of {plan.request.settings.batch_size} rows, the longest ones:\n{foreseen(plan)}"


def _watch(plan: "Plan", member: int, is_stopping: Callable[[], bool]) -> "Watch":
    from narrows.tuning.scoring import Watch

    name = f"member {member + 1} of {plan.request.encoders}  " if plan.request.encoders > 1 else ""
    printed = [time.monotonic()]

    def step(done: int, total: int) -> None:
        if time.monotonic() - printed[0] > _STEP_SECONDS:
            printed[0] = time.monotonic()
            _say(f"{name}step {done}/{total}")

    def epoch(row: dict[str, float]) -> None:
        best = "  the lowest so far" if row["best"] else ""
        _say(
            f"{name}epoch {int(row['epoch'])}/{plan.request.settings.epochs}  loss {row['loss']:.4g}  "
            f"validation {row['validation']:.4g}{best}  {row['seconds']:.0f} s"
        )

    return Watch(epoch, step, is_stopping)


def _say(sentence: str) -> None:
    say(sentence, sys.stderr)
