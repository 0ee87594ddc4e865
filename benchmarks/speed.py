"""Speed: training and sampling beside the peers, in turns on the same cores."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks._speed import learning, measure, tables
from benchmarks._speed.plan import LESSONS, PLANS, SAYS
from benchmarks._speed.workers import LIBRARIES, PEERS
from benchmarks.harness.case import Case, chosen
from benchmarks.harness.places import TFBIND8, measured_table
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row
from narrows.envs import Sequence as Sequences
from narrows.rewards.landscape import Landscape

SWEEPS = ("length", "batch", "learning")
CASES = (*PLANS, *SWEEPS)
QUICK = ("hypergrid_tb", "bits_tb")
QUICK_PEERS = ("gfnx",)
NOBODY = "none"
_SEEDS = (0, 1, 2)
_SWEEP_PEERS = ("gfnx",)


def measure_speed(context: Context) -> Iterator[Row]:
    """Yield the rows of every case that was asked for; ValueError for an unknown one and for a peer that is not installed."""
    cases, peers = _asked(context)
    for peer in peers:
        LIBRARIES[peer].python()  # before an hour's work, not after it
    effort = measure.QUICK if context.quick else measure.FULL
    with tempfile.TemporaryDirectory() as folder:
        table = _dna_table(context, Path(folder)) if {"tfbind8_tb", "learning"} & set(cases) else None
        for name in cases:
            if name == "length":
                yield from measure.measure_lengths(context, _among(_SWEEP_PEERS, peers), effort)
            elif name == "batch":
                yield from measure.measure_batches(context, _among(_SWEEP_PEERS, peers), effort)
            elif name == "learning":
                yield from _lessons(context, _among(_SWEEP_PEERS, peers), table)
            else:
                yield from _plan_rows(context, name, peers, effort, table)


def _plan_rows(context: Context, name: str, peers: Sequence[str], effort: measure.Effort, table: str | None) -> Iterator[Row]:
    plan = PLANS[name].quick() if context.quick else PLANS[name]
    if plan.problem.space == "dna8":
        if table is None:
            return
        plan = replace(plan, problem=replace(plan.problem, table=table))
    yield from measure.measure_plan(context, plan, _among(plan.peers, peers), effort)


def _lessons(context: Context, peers: Sequence[str], table: str | None) -> Iterator[Row]:
    for lesson in LESSONS:
        if lesson.problem.space == "dna8":
            if table is None:
                continue
            lesson = replace(lesson, problem=replace(lesson.problem, table=table))
        lesson = replace(lesson, trained=lesson.trained // 5, num=lesson.num // 5) if context.quick else lesson
        yield from learning.measure_lesson(context, lesson, peers, _SEEDS[:1] if context.quick else _SEEDS)


def _asked(context: Context) -> tuple[tuple[str, ...], tuple[str, ...]]:
    cases = chosen(context.cases or (QUICK if context.quick else CASES), CASES)
    peers = chosen(context.against or (QUICK_PEERS if context.quick else PEERS), (*PEERS, NOBODY), "peer")
    if NOBODY in peers and len(peers) > 1:
        raise ValueError(f"expected {NOBODY} alone or names of peers, got {', '.join(peers)}.")
    return cases, () if NOBODY in peers else peers


def _among(known: Sequence[str], peers: Sequence[str]) -> list[str]:
    return [peer for peer in peers if peer in known]


def _dna_table(context: Context, folder: Path) -> str | None:
    """Write the scores of all DNA 8-mers where every side can read them; None, and a word of it, without the measured table."""
    try:
        source = measured_table(TFBIND8 if context.data is None else context.data, "SIX6")
    except ValueError as missing:
        if "tfbind8_tb" in context.cases:
            raise
        tell(f"left out: {missing}")
        return None
    env = Sequences("ACGT", 8, 8)
    scores = Landscape(env, str(source), sequence_column="#1", score_column="E-score", both_strands=True).scores
    path = folder / "scores.npy"
    np.save(path, np.asarray(scores, np.float32))
    return str(path)


CASE = Case(*("Speed", SAYS["text"], measure_speed, tables.tables, "performance"), takes=("--case", "--against"))
