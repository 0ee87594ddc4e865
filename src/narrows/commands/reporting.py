"""`narrows report`: everything a run folder knows, as one page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from narrows.commands import again
from narrows.config import SECTIONS, Job, build_env, build_kernel, measurements, proxy_of_other_rows
from narrows.data import Check, Space, check_table
from narrows.data import space as named_space
from narrows.envs import Sequence as SequenceEnv
from narrows.files import read_record
from narrows.noise import Observed
from narrows.proxies.ensemble import read_quality
from narrows.report import (
    Candidate,
    DataQuality,
    Foretold,
    History,
    Noise,
    Provenance,
    ProxyQuality,
    ReportData,
    ScoreGroup,
    Search,
    Selection,
    SetAside,
    Truth,
    write_report,
)
from narrows.report.content import Status
from narrows.runs import RunFolder, read_rows, read_set_aside
from narrows.runs.records import SetAsideLine, VerificationRecord
from narrows.runs.rows import TIMING
from narrows.selection import SelectionRecord, read_csv, read_selection

_LISTED_SET_ASIDE = 50
_RANKINGS = {
    "lower_bound": "lower bound",
    "expected": "expected score of what comes out",
    "sampler": "how likely the sampler itself is to make them",
}


@dataclass(frozen=True)
class Page:
    """Where the page is."""

    path: Path


def report(folder: Positional[Path], *, out: Path | None = None) -> Page:
    """Write one self-contained page about a run: how it went, the shortlist, and how far to trust it.

    Args:
        folder: the run folder; what is not there yet (a shortlist, a verification) the page says how to add.
        out: the page; by default report.html in the run folder.
    """
    if out is not None and out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out {out}: expected a name that ends in .html.")
    opened = RunFolder.open(folder)
    path = opened.report if out is None else out
    write_report(gather(opened), path)
    return Page(path)


def render(page: Page) -> str:
    """Return what the command prints."""
    return f"page: {page.path.resolve()}"


def gather(folder: RunFolder) -> ReportData:
    """Return what a run folder knows, as the page's data; what is missing stays empty."""
    job = folder.job()
    set_aside = read_set_aside(folder.set_aside)
    truth = _of_this_shortlist(folder)
    return ReportData(
        name=job.name,
        settings=_settings(job),
        folder=str(folder.path),
        space=_space(job),
        noise=_noise(job),
        search=_search(folder, job),
        selection=_selection(folder, job, truth),
        truth=_truth(truth),
        history=_history(folder, job),
        data=_data(job),
        proxy=_proxy(job),
        provenance=_provenance(folder, job, truth),
        set_aside=tuple(_set_aside_item(line) for line in set_aside[:_LISTED_SET_ASIDE]),
        num_set_aside=len(set_aside),
        guide=job.guide,
        distance=build_env(job).distance,
    )


def _settings(job: Job) -> dict[str, object]:
    settings: dict[str, object] = {"name": job.name, "seed": job.seed}
    for section in SECTIONS:
        table = getattr(job, section)
        if table is not None:
            settings[section] = dict(table) if isinstance(table, Mapping) else asdict(table)
    return settings


def _space(job: Job) -> Space | None:
    env = build_env(job)
    if not isinstance(env, SequenceEnv):
        return None
    return Space(job.data.space if job.data is not None else env.alphabet, env.alphabet, env.min_length, env.max_length)


def _noise(job: Job) -> Noise | None:
    if job.noise is None:
        return None
    settings = {name: value for name, value in job.noise.items() if name != "name"}
    kernel = build_kernel(job, build_env(job))
    if not isinstance(kernel, Observed):
        return Noise(job.noise["name"], settings)
    found = kernel.quality
    quality = (
        f"on {found.num_held_out:,} letters that it was not learned from, a cross-entropy of {found.cross_entropy:.3f} nats, "
        f"where the same rate of substitution for all letters has {found.substitution:.3f}"
    )
    return Noise(job.noise["name"], settings, quality)


def _search(folder: RunFolder, job: Job) -> Search:
    rows, timing = read_rows(folder.history), read_rows(folder.timing, TIMING)
    last = rows[-1] if rows else {}
    step = int(last.get("step", 0))
    status: Status = "finished" if step >= job.train.num_steps else "stopped"
    return Search(
        objective=_objective(job.objective),
        status=status,
        num_steps=step,
        planned_steps=job.train.num_steps,
        num_sampled=int(last["sampled"]) if "sampled" in last else None,
        num_distinct=int(last["distinct"]) if "distinct" in last else None,
        seconds=sum(row["seconds"] for row in timing) if timing else None,
    )


def _objective(section: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name} {section[name]:g}" for name in ("omega", "alpha", "q", "lambda_") if name in section)
    return f"{section['name']} ({shown})" if shown else section["name"]


def _selection(folder: RunFolder, job: Job, truth: VerificationRecord | None) -> Selection | None:
    if not folder.shortlist.exists():
        return None
    found, record = read_selection(folder.shortlist)
    true_scores = _true_scores(truth)
    rows = tuple(Candidate(**asdict(row), true_score=true_scores.get(row.sequence)) for row in found)
    if record is None:
        return Selection(rows)
    return Selection(
        rows,
        num_asked=record.k,
        min_distance=record.min_distance,
        num_considered=record.num_candidates,
        kappa=record.kappa,
        ranked_by=_RANKINGS.get(record.ranked_by, job.guide.mean),
        reason_fewer=record.reason_fewer or "",
        foretold=_foretold(record),
    )


def _foretold(record: SelectionRecord) -> Foretold | None:
    found = record.foretold
    if found is None:
        return None
    return Foretold(found.method, found.num_outcomes, found.standard_error, found.num_not_foretold, found.reason or "")


def _of_this_shortlist(folder: RunFolder) -> VerificationRecord | None:
    """Return the verification, None where it is of a shortlist that was replaced since: its figures would mislead."""
    if not folder.verification.exists() or not folder.shortlist.exists():
        return None
    truth = read_record(folder.verification, VerificationRecord, f"Make it again: narrows verify {folder.path} SCORE")
    verified = [name for group in truth.groups if group.role == "shortlist" for name in group.objects]
    return truth if verified == [row.sequence for row in read_csv(folder.shortlist)] else None


def _true_scores(truth: VerificationRecord | None) -> dict[str, float | None]:
    groups = [] if truth is None else [group for group in truth.groups if group.role == "shortlist"]
    return {name: value for group in groups for name, value in zip(group.objects, group.true_scores, strict=True)}


def _truth(truth: VerificationRecord | None) -> Truth | None:
    if truth is None:
        return None
    groups = tuple(
        ScoreGroup(group.role, group.label, _numbers(group.true_scores), _numbers(group.scores), group.note)
        for group in truth.groups
    )
    return Truth(truth.scorer, groups, truth.matched_inverse_temperature, truth.failures)


def _history(folder: RunFolder, job: Job) -> History | None:
    rows, timing = read_rows(folder.history), read_rows(folder.timing, TIMING)
    if not rows:
        return None
    seconds = {row["step"]: row for row in timing}
    timed = [seconds.get(row["step"]) for row in rows]
    return History(
        step=_column(rows, "step"),
        loss=_column(rows, "loss"),
        mean_score=_column(rows, "mean_score"),
        top_score=_column(rows, "top10_score"),
        num_distinct=_column(rows, "distinct"),
        num_sampled=_column(rows, "sampled"),
        distance_to_data=() if job.data is None else _column(rows, "distance_to_data"),
        steps_per_second=[np.nan if row is None else row["steps"] / row["seconds"] for row in timed],
        seconds=np.cumsum([0.0 if row is None else row["seconds"] for row in timed]),
    )


def _data(job: Job) -> DataQuality | None:
    if job.data is None:
        return None
    data = job.data
    check = check_table(
        job.folder / data.path,
        named_space(data.space),
        sequence_column=data.sequence_column,
        score_column=data.score_column,
        score_sense=data.score_sense,
    )
    header, columns = ("", ""), check.layout
    if columns is not None:
        header = (columns.header[columns.sequence], columns.header[columns.score])
    return _data_quality(check, data.path, *header)


def _data_quality(check: Check, path: str, sequence_column: str, score_column: str) -> DataQuality:
    return DataQuality(
        path=path,
        num_rows=check.num_rows,
        num_used=len(check.table),
        num_rejected=check.num_rejected,
        num_duplicates=check.num_duplicates,
        findings=check.findings,
        scores=check.table.scores,
        lengths=[len(sequence) for sequence in check.table.sequences],
        sequence_column=sequence_column,
        score_column=score_column,
        rejected_path="rejected.csv" if check.num_rejected else "",
        sha256=check.sha256 or "",
    )


def _proxy(job: Job) -> ProxyQuality | None:
    if job.reward["name"] != "Proxy":
        return None
    quality = read_quality(job.folder / job.reward["path"])
    return ProxyQuality(
        num_train=quality.num_train,
        num_test=quality.num_test,
        spearman=quality.spearman,
        rmse=quality.rmse,
        rmse_of_mean=quality.rmse_of_mean,
        coverage_1std=quality.coverage_1std,
        coverage_2std=quality.coverage_2std,
        test_truth=quality.test_truth,
        test_mean=quality.test_mean,
        test_std=quality.test_std,
        test_distance=quality.test_distance,
        description=quality.description,
        split=quality.split,
        seconds=quality.seconds,
        other_rows=proxy_of_other_rows(job, measurements(job)) or "",
    )


def _provenance(folder: RunFolder, job: Job, truth: VerificationRecord | None) -> Provenance:
    about = folder.about()
    selection = read_selection(folder.shortlist)[1] if folder.shortlist.exists() else None
    commands = again.commands(folder, job, selection, truth)
    created = about.created.replace("T", " ").replace("+00:00", " UTC")
    return Provenance(job.seed, created, about.versions, about.machine, commands)


def _set_aside_item(line: SetAsideLine) -> SetAside:
    item = f"{len(line.objects)} objects of one step" if line.object is None else line.object
    return SetAside(item, line.reason, line.step)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _column(rows: Sequence[Mapping[str, float]], name: str) -> list[float]:
    return [row.get(name, np.nan) for row in rows]
