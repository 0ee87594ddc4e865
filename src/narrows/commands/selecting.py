"""`narrows shortlist`: from everything a run has seen to a few rows that differ."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from narrows.config import cautions_about_proxy
from narrows.files import open_plain
from narrows.runs import OpenRun
from narrows.runs.candidates import load_candidates
from narrows.runs.page import told
from narrows.runs.shortlists import choose, resolve_ranking
from narrows.selection import Shortlist, ShortlistRow, write_selection
from narrows.selection.rankings import Mean, RankingName


@dataclass(frozen=True)
class Selected:
    """A shortlist and the files it was written to.

    `notes` say what is not as it usually would be, `cautions` what should be read before the list.
    """

    shortlist: Shortlist
    csv: Path
    fasta: Path | None  # for sequences only
    num_passed_over: int = 0
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


def shortlist(
    runs: Positional[tuple[Path, ...]],
    *,
    k: int | None = None,
    min_distance: int | None = None,
    by: RankingName | None = None,
    kappa: float | None = None,
    both_strands: bool | None = None,
    out: Path | None = None,
) -> Selected:
    """Select the best objects that differ from one another, from one run or several, running ones and killed ones too.

    Args:
        runs: one or more run folders, guided by the same score.
        k: rows to select; by default the job's [shortlist] k.
        min_distance: smallest distance between two rows, edits for sequences; by default the job's.
        by: rank by the mean score, by its lower bound, by how likely the trained sampler itself is to make an object, which
            smooths over single objects that a proxy is wrong about, by the mean score over all single substitutions
            (neighbourhood), by a draw of the score for each row (thompson), or, for a job with noise, by the expected score of
            what comes out; by default the job's, and where it says nothing expected under noise and else mean.
        kappa: the lower bound is the score minus kappa standard deviations; by default the job's.
        both_strands: an object and its reverse complement are one; by default the job's.
        out: the CSV file; by default shortlist.csv in the run folder, and it must be given for several runs.
    """
    if not runs:
        raise ValueError("expected at least one run folder, got none.")
    if out is None and len(runs) > 1:
        raise ValueError("several runs have no folder in common. Name the file to write with --out shortlist.csv.")
    if out is not None:
        _refuse_to_overwrite(out)
    opened = [OpenRun(run) for run in runs]
    first = opened[0]
    asked = {"k": k, "min_distance": min_distance, "by": by, "kappa": kappa, "both_strands": both_strands}
    settings = replace(resolve_ranking(opened), **{name: value for name, value in asked.items() if value is not None})
    # It takes seconds, and a person at a terminal sees with what; anywhere else nothing is shown.
    with Console(stderr=True).status("gathering what the run has seen, and its scores ...") as status:
        scored = load_candidates(opened)
        num, rule = len(scored.candidates.objects), (settings.by or Mean.name).replace("_", " ")
        status.update(f"ranking {num:,} candidates by {rule}, and choosing {settings.k} that differ ...")
        chosen = choose(opened, scored, settings)
    csv = first.folder.shortlist if out is None else out
    csv.parent.mkdir(parents=True, exist_ok=True)
    written = write_selection(chosen, csv, with_fasta=first.job.env["name"] == "Sequence")
    without = None if written.no_fasta is None else f"no FASTA file: {written.no_fasta}"
    notes = [note for note in (scored.searched, without, scored.conflicts) if note is not None]
    cautions = [*cautions_about_proxy(first.job, first.table), *told(opened, chosen)]
    return Selected(chosen, csv, written.fasta, scored.num_passed_over, tuple(notes), tuple(cautions))


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


def render(selected: Selected) -> str:
    """Return what the command prints: the first rows, the summary and where the files are."""
    rows = selected.shortlist.rows
    width = max((len(row.sequence) for row in rows), default=8)
    is_noisy = selected.shortlist.outcomes is not None
    has_std = any(row.score_std is not None for row in rows)
    has_measured = any(row.distance_to_measured is not None for row in rows)
    heads = ["rank", f"{'sequence':<{width}}", f"{selected.shortlist.guide.mean:>10}"]
    heads += ["  std"] * has_std + ["expected      ±  as asked"] * is_noisy + ["from data"] * has_measured + ["why"]
    lines = [f"Caution: {caution}" for caution in selected.cautions]
    lines.append("  ".join(heads))
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
