"""One draw of rows: the commands on it, the rivals on the same rows, and what the truth says of every list."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from benchmarks._tables import path, rivals
from benchmarks._tables.plan import ASKED, POOL, K, Setting
from benchmarks._tables.tasks import Task, draw, task_of
from benchmarks.harness.places import ROOT
from narrows.config import load_job, measurements
from narrows.data import Table, write_table
from narrows.proxies.fitted import load, read_quality
from narrows.proxies.quality import rank_agreement
from narrows.runs import OpenRun
from narrows.runs.candidates import load_candidates
from narrows.runs.shortlists import choose
from narrows.search import SEARCHES, Space

NARROWS, MEASURED, EXHAUSTIVE = "Narrows", "best measured rows", "exhaustive ranking, our proxy"
RIDGE, FOREST = "ridge", "random forest"
GENETIC, ADALEAD = "genetic algorithm, our proxy", "AdaLead, our proxy"
GIVEN = (RIDGE, FOREST, MEASURED)
"""Rivals that are given the same rows."""
RULES = {"ours by mean": "mean", "ours by neighbourhood": "neighbourhood", "ours by draws": "thompson"}
"""Lists from the same candidates by other rules of choice."""
OWN = (EXHAUSTIVE, GENETIC, ADALEAD, *RULES)
"""Lists that are given our proxy."""


@dataclass(frozen=True)
class Outcome:
    """What is known of one draw, plain values that JSON can hold."""

    lists: dict[str, list[float]]  # the true scores of every method's list, best ranked first
    spread: float  # standard deviation of the true scores of what was held back
    # by NARROWS, RIDGE and FOREST: rank correlation with the truth of what was held back
    spearman: dict[str, float]
    coverage: dict[str, float]  # by 68 and 95: share of what was held back within the proxy's intervals
    beats_mean: bool  # whether the proxy is better than the mean, as it says itself
    # processor seconds of each command, and of the rivals and everything else
    seconds: dict[str, float] = field(default_factory=dict)
    num_seen: int | None = None  # distinct objects that the run and its searches asked for; None for a pool


def measure_draw(setting: Setting, seed: int, folder: Path) -> Outcome:
    """Return what one draw gives, in an empty folder; ValueError where a command fails."""
    began = time.process_time()
    task = task_of(setting, seed)
    rows = draw(task, setting, seed)
    _write_job(folder, task, rows.texts, setting.factor * rows.cells + setting.offset)
    seconds = _run_commands(folder, 0 if setting.table == POOL else ASKED)
    job = load_job(folder / path.JOB)
    table = measurements(job)
    assert table is not None and job.shortlist.k == K, "the job has a table, and its default is the benchmark's"
    proxy, quality = load(folder / path.PROXY)[0], read_quality(folder / path.PROXY)
    space = Space(proxy.alphabet, proxy.space.min_length, proxy.space.max_length)
    held_back = [text for text, held in zip(rows.held_back, space.holds(rows.held_back).tolist(), strict=True) if held]
    truth = task.truth(held_back)
    mean, std = proxy.predict(held_back)
    agreed, lists = {NARROWS: rank_agreement(mean, truth) or 0.0}, {}
    run = None if setting.table == POOL else OpenRun(folder / path.RUN)
    apart, known = job.shortlist.min_distance, table.sequences
    lists[NARROWS] = rivals.choose(held_back, mean, known, apart) if run is None else _own_list(run)
    describe = rivals.composition if run is None else rivals.one_hot
    for name, model in rivals.models(seed).items():
        score = rivals.learned(model(), describe, space, table)
        said = score(held_back)
        agreed[name] = rank_agreement(said, truth) or 0.0
        found = (held_back, said) if run is None else rivals.candidates(score, space, table, seed)
        lists[name] = rivals.choose(*found, known, apart)
    if run is not None:
        lists |= _own_lists(run, table, apart, seed)
    scores = {name: rivals.judged(chosen, task.truth) for name, chosen in lists.items()}
    within = {share: float(np.mean(np.abs(truth - mean) <= reach * std)) for share, reach in _reaches(quality.interval_95)}
    seconds["beside"] = time.process_time() - began
    seen = None if run is None else run.num_asked
    return Outcome(scores, float(np.std(truth)), agreed, within, quality.beats_mean, seconds, seen)


def _write_job(folder: Path, task: Task, texts: Sequence[str], cells: Float[np.ndarray, " text"]) -> None:
    """Write the table and a job that says no more than whose it is."""
    said = {"path": "measurements.csv", "space": task.space, **task.settings}
    write_table(folder / said["path"], texts, cells)
    lines = [f'{name} = "{value}"' for name, value in said.items()]
    (folder / path.JOB).write_text("\n".join(["[data]", *lines, ""]), encoding="utf-8")


def _run_commands(folder: Path, num_rows: int) -> dict[str, float]:
    # What an earlier process has compiled would make this one faster than a user's first.
    environ = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    words = [sys.executable, "-m", path.__name__, str(folder), str(num_rows)]
    ended = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise ValueError(f"the commands failed in {folder}: {ended.stderr[-2000:]}")
    return path.read_seconds(folder)


def _own_list(run: OpenRun) -> list[str]:
    assert run.selection is not None, "its shortlist was written"
    return [row.sequence for row in run.selection[0]]


def _own_lists(run: OpenRun, table: Table, min_distance: int, seed: int) -> dict[str, list[str]]:
    """Return the lists of other searches of the run's own proxy, and the best measured rows."""
    problem = run.problem
    assert problem is not None, "the run has a proxy and a table"
    calls = run.num_asked
    found = {GENETIC: SEARCHES["genetic algorithm"](problem, calls, seed), ADALEAD: SEARCHES["AdaLead"](problem, calls, seed)}
    found |= {} if run.listed is None else {EXHAUSTIVE: run.listed}
    lists = {name: rivals.choose(*one, table.sequences, min_distance) for name, one in found.items()}
    scored, settings = load_candidates([run]), replace(run.job.shortlist, k=ASKED)
    for name, rule in RULES.items():
        lists[name] = [row.sequence for row in choose([run], scored, replace(settings, by=rule)).rows]
    return lists | {MEASURED: rivals.choose(table.sequences, table.scores, (), min_distance)}


def _reaches(interval_95: float) -> tuple[tuple[str, float], ...]:
    return ("68", 1.0), ("95", interval_95)
