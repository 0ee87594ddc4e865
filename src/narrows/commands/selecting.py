"""`narrows shortlist`: from everything a run has seen to a few rows that differ."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from narrows.commands.foretelling import choose_by_expected, foretelling, settings_of, unasked_sampler
from narrows.commands.likelihoods import log_likelihoods
from narrows.commands.predictions import Believed, believe
from narrows.commands.scores import kappa_of
from narrows.config import Job, build_env, measurements
from narrows.files import open_plain
from narrows.runs import RunFolder
from narrows.selection import Candidates, Shortlist, ShortlistRow, select, write_selection


@dataclass(frozen=True)
class Selected:
    """A shortlist and the files it was written to; `notes` say what is not as it usually would be."""

    shortlist: Shortlist
    csv: Path
    fasta: Path | None  # for sequences only
    num_passed_over: int = 0
    notes: tuple[str, ...] = ()


def shortlist(
    runs: Positional[tuple[Path, ...]],
    *,
    k: int | None = None,
    min_distance: int | None = None,
    by: Literal["mean", "lower_bound", "expected", "sampler"] | None = None,
    kappa: float | None = None,
    out: Path | None = None,
) -> Selected:
    """Select the best objects that differ from one another, from one run or several, running ones and killed ones too.

    Args:
        runs: one or more run folders, guided by the same score.
        k: rows to select; by default the job's [shortlist] k.
        min_distance: smallest distance between two rows, edits for sequences; by default the job's.
        by: rank by the mean score, by its lower bound, by how likely the trained sampler itself is to make an object, which
            smooths over single objects that a proxy is wrong about, or, for a job with noise, by the expected score of what
            comes out; by default the job's, and where it says nothing expected under noise, sampler where the score is a
            fitted proxy and mean where it is not.
        kappa: the lower bound is the score minus kappa standard deviations; by default the job's.
        out: the CSV file; by default shortlist.csv in the run folder, and it must be given for several runs.
    """
    if not runs:
        raise ValueError("expected at least one run folder, got none.")
    if out is None and len(runs) > 1:
        raise ValueError("several runs have no folder in common. Name the file to write with --out shortlist.csv.")
    if out is not None:
        _refuse_to_overwrite(out)
    folders = [RunFolder.open(run) for run in runs]
    jobs = [folder.job() for folder in folders]
    asked = {"k": k, "min_distance": min_distance, "by": by, "kappa": kappa}
    settings = replace(settings_of(jobs[0], folders), **{name: value for name, value in asked.items() if value is not None})
    believed = believe(folders, jobs, build_env(jobs[0]))
    chosen = choose(believed, folders, jobs, settings)
    csv = folders[0].shortlist if out is None else out
    csv.parent.mkdir(parents=True, exist_ok=True)
    written = write_selection(chosen, csv, with_fasta=jobs[0].env["name"] == "Sequence")
    unasked = None if by is not None else unasked_sampler(jobs[0], folders)
    without = None if written.no_fasta is None else f"no FASTA file: {written.no_fasta}"
    notes = [note for note in (unasked, without, believed.conflicts) if note is not None]
    return Selected(chosen, csv, written.fasta, believed.num_passed_over, tuple(notes))


def _refuse_to_overwrite(out: Path) -> None:
    """Keep --out from replacing a job, a table of measurements or whatever else is no shortlist."""
    if out.suffix != ".csv":
        raise ValueError(f"--out {out}: expected a name that ends in .csv; the .fasta and the .json go beside it.")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder. Name a file in it.")
    if out.exists():
        with open_plain(out, "r", encoding="utf-8", errors="replace") as stream:
            if not stream.readline().startswith("rank,"):
                raise ValueError(f"--out {out} exists and is no shortlist. Give another name, so that nothing is lost.")


def choose(believed: Believed, folders: Sequence[RunFolder], jobs: Sequence[Job], settings: Any) -> Shortlist:
    """Return the shortlist of some runs' candidates without writing anything."""
    # What a score of the user's counted below its mean already is not taken off again.
    kappa = max(0.0, settings.kappa - kappa_of(jobs[0]))
    return replace(_chosen(believed, folders, jobs, replace(settings, kappa=kappa)), kappa=settings.kappa)


def _chosen(believed: Believed, folders: Sequence[RunFolder], jobs: Sequence[Job], settings: Any) -> Shortlist:
    env = build_env(jobs[0])
    table = next((found for found in map(measurements, jobs) if found is not None), None)
    measured = () if table is None else table.sequences
    choice = partial(
        select,
        k=settings.k,
        min_distance=settings.min_distance,
        measured=measured,
        measured_scores=None if table is None else table.scores,
        lower_bound_kappa=settings.kappa,
        max_from_measured=None if jobs[0].near is None else jobs[0].near.limit,
        guide=jobs[0].guide,
        distance=env.distance,
    )
    foretold = foretelling(jobs[0], env)
    if settings.by != "expected":
        log_prob = log_likelihoods(folders, jobs, believed.candidates.objects) if settings.by == "sampler" else None
        chosen = choice(believed.candidates, believed.mean, believed.std, by=settings.by, log_prob=log_prob)
        return chosen if foretold is None else foretold.explained(chosen)

    def by_expected(candidates: Candidates, mean: np.ndarray, std: np.ndarray, expected: np.ndarray) -> Shortlist:
        return choice(candidates, mean, std, by="expected", expected=expected)

    by_mean = choice(believed.candidates, believed.mean, believed.std, by="mean")
    return choose_by_expected(foretold, believed, by_mean, {*measured}, by_expected)


def render(selected: Selected) -> str:
    """Return what the command prints: the first rows, the summary and where the files are."""
    rows = selected.shortlist.rows
    width = max((len(row.sequence) for row in rows), default=8)
    is_noisy = selected.shortlist.foretold is not None
    has_std = any(row.score_std is not None for row in rows)
    has_measured = any(row.distance_to_measured is not None for row in rows)
    heads = ["rank", f"{'sequence':<{width}}", f"{selected.shortlist.guide.mean:>10}"]
    heads += ["  std"] * has_std + ["expected      ±  as asked"] * is_noisy + ["from data"] * has_measured + ["why"]
    lines = ["  ".join(heads)]
    for row in rows[:10]:
        cells = [f"{row.rank:>4}", f"{row.sequence:<{width}}", f"{row.score:>10.4f}"]
        cells += ["     " if row.score_std is None else f"{row.score_std:5.3f}"] * has_std
        cells += [_outcome_cells(row)] * is_noisy
        cells += [f"{'' if row.distance_to_measured is None else row.distance_to_measured:>9}"] * has_measured
        lines.append("  ".join([*cells, row.why]))
    if len(rows) > 10:
        lines.append(f"      ... and {len(rows) - 10} more")
    also = "" if selected.fasta is None else f" and {selected.fasta.name}"
    lines += ["", selected.shortlist.summary()]
    if selected.num_passed_over:
        lines.append(f"{selected.num_passed_over:,} more objects were seen, all of a lower score than these candidates")
    lines += selected.notes
    lines += [f"written: {selected.csv}{also}"]
    return "\n".join(lines)


def _outcome_cells(row: ShortlistRow) -> str:
    mean = "" if row.expected_mean is None else f"{row.expected_mean:.4f}"
    std = "" if row.expected_std is None else f"{row.expected_std:.3f}"
    probability = "" if row.prob_as_asked is None else f"{row.prob_as_asked:.3f}"
    return f"{mean:>8}  {std:>5}  {probability:>8}"
