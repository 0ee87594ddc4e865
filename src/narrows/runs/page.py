"""Everything that a run folder knows, as the data of its page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from narrows.config import SECTIONS, Job, fitted_to_other_rows, quality_of_proxy, with_parent
from narrows.data import Check, Space, check_table
from narrows.data import space as named_space
from narrows.envs import Sequence as SequenceEnv
from narrows.noise import Observed
from narrows.report import (
    COURSE,
    LIST,
    Apart,
    DataQuality,
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
)
from narrows.report.content import Status
from narrows.runs.criterion import COLUMN, has_settled
from narrows.runs.opened import OpenRun
from narrows.runs.recorder import read_set_aside
from narrows.runs.records import SetAsideLine, VerificationRecord
from narrows.runs.reproduce import commands
from narrows.runs.rows import TIMING, read_rows
from narrows.selection import SelectionRecord, Shortlist, ShortlistRow, choose_diverse
from narrows.selection.rankings import ranking_named
from narrows.storage.archive import Archive

Rows = Sequence[Mapping[str, float]]

_LISTED_SET_ASIDE = 50
_LISTS = 10
"""Lists whose rows should be among the objects of a run that are far enough apart; fewer are a collapse."""
_ENOUGH_A_ROW = 100
"""Objects that were seen for each of those rows, with which a run has not collapsed."""


def gather(run: OpenRun) -> ReportData:
    """Return what a run folder knows, as the page's data; what is missing stays empty."""
    job, folder = run.job, run.folder
    set_aside = read_set_aside(folder.set_aside)
    return replace(
        ended_course(run),
        noise=_noise(run),
        selection=None if run.selection is None else _selected(run, *run.selection),
        truth=_truth(run.verification),
        data=_data(job),
        proxy=_proxy(run),
        provenance=_provenance(run),
        set_aside=tuple(_set_aside_item(line) for line in set_aside[:_LISTED_SET_ASIDE]),
        num_set_aside=len(set_aside),
    )


def ended_course(run: OpenRun) -> ReportData:
    """Return what a run folder says of its course."""
    about = course(run, read_rows(run.folder.history), read_rows(run.folder.timing, TIMING))
    if about.search is None:
        return about
    return replace(about, search=replace(about.search, apart=_apart(run, about.search.num_distinct)))


def told(runs: Sequence[OpenRun], chosen: Shortlist | None = None) -> tuple[str, ...]:
    """Return what the terminal says at the end of a command: what is to worry about in some runs and in their shortlist.

    The same sentences as those of the page; the rest of them is there.
    """
    found = [caution for run in runs for data in [ended_course(run)] for check in COURSE for caution in check(data)]
    if chosen is not None:
        first = runs[0]
        lengths = () if first.table is None else [len(sequence) for sequence in first.table.sequences]
        data = replace(
            course(first, ()),
            selection=_selected(first, chosen.rows, chosen),
            data=DataQuality("", lengths=lengths),
            proxy=_proxy(first),
        )
        found += [caution for check in LIST for caution in check(data)]
    return tuple(dict.fromkeys(caution.text for caution in found if caution.level == "caution"))


def course(run: OpenRun, rows: Rows, timing: Rows = ()) -> ReportData:
    """Return what the rows of a run's history say, as a part of the page's data."""
    job = run.job
    return ReportData(
        name=job.name,
        settings=_settings(job),
        folder=str(run.folder.path),
        space=_space(run),
        search=_search(run, rows, timing),
        history=_history(job, rows, timing),
        guide=job.guide,
        distance=run.env.distance,
    )


def _settings(job: Job) -> dict[str, object]:
    settings: dict[str, object] = {"name": job.name, "seed": job.seed}
    for section in SECTIONS:
        table = getattr(job, section)
        if table is not None:
            settings[section] = dict(table) if isinstance(table, Mapping) else asdict(table)
    return settings


def _space(run: OpenRun) -> Space | None:
    env, data = run.env, run.job.data
    if not isinstance(env, SequenceEnv):
        return None
    return Space(data.space if data is not None else env.alphabet, env.alphabet, env.min_length, env.max_length)


def _noise(run: OpenRun) -> Noise | None:
    noise = run.job.noise
    if noise is None:
        return None
    settings = {name: value for name, value in noise.items() if name != "name"}
    if not isinstance(run.kernel, Observed):
        return Noise(noise["name"], settings)
    found = run.kernel.quality
    quality = (
        f"on {found.num_held_out:,} letters that it was not learned from, a cross-entropy of {found.cross_entropy:.3f} nats, "
        f"where the same rate of substitution for all letters has {found.substitution:.3f}"
    )
    return Noise(noise["name"], settings, quality)


def _search(run: OpenRun, rows: Rows, timing: Rows) -> Search | None:
    """Return how the run was trained, None where it trains nothing."""
    job, last = run.job, rows[-1] if rows else {}
    if job.train.num_steps == 0 and not rows:
        return None
    step = int(last.get("step", 0))
    status: Status = "finished" if step >= job.train.num_steps or has_settled(rows, job.train.patience) else "stopped"
    return Search(
        objective=_objective(job.objective),
        status=status,
        num_steps=step,
        planned_steps=job.train.num_steps,
        num_sampled=int(last["sampled"]) if "sampled" in last else None,
        num_distinct=int(last["distinct"]) if "distinct" in last else None,
        seconds=sum(row["seconds"] for row in timing) if timing else None,
        enough=_LISTS * job.shortlist.k,
        is_listed=run.can_be_listed,
    )


def _apart(run: OpenRun, num_distinct: int | None) -> Apart | None:
    """Return how many objects of a run's archive are as far apart as the rows of its list, None where so many are no worry."""
    k, apart = run.job.shortlist.k, run.job.shortlist.min_distance
    is_few = num_distinct is not None and num_distinct < _ENOUGH_A_ROW * _LISTS * k
    if not is_few or run.can_be_listed or not isinstance(run.env, SequenceEnv) or not run.folder.archive.exists():
        return None
    with Archive.open(run.folder.archive, read_only=True) as archive:
        seen = archive.entries().objects

    def num_of(objects: Sequence[str]) -> int:
        found = choose_diverse(objects, np.zeros(len(objects)), k=_LISTS * k, min_distance=apart, distance=run.env.distance)
        return len(found.kept)

    num = num_of(seen)
    space = Space("", run.env.alphabet, run.env.min_length, run.env.max_length)
    at_random = num if num == _LISTS * k else num_of(_drawn(space, len(seen)))
    return Apart(num, at_random, _LISTS * k, apart)


def _drawn(space: Space, num: int) -> list[str]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(space.min_length, space.max_length + 1, num).tolist()
    return list(dict.fromkeys("".join(rng.choice([*space.alphabet], size)) for size in sizes))


def _objective(section: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name} {section[name]:g}" for name in ("omega", "alpha", "q", "lambda_") if name in section)
    return f"{section['name']} ({shown})" if shown else section["name"]


def _selected(run: OpenRun, rows: tuple[ShortlistRow, ...], record: SelectionRecord | Shortlist | None) -> Selection:
    """Return the rows of a run's shortlist, and how they were chosen as far as that is known, for its page."""
    groups = () if run.verification is None else run.verification.groups
    truth = {
        name: value
        for group in groups
        if group.role == "shortlist"
        for name, value in zip(group.objects, group.true_scores, strict=True)
    }
    if record is None:
        return Selection(rows, true_scores=truth)
    return Selection(
        rows,
        num_asked=record.k,
        min_distance=record.min_distance,
        num_considered=record.num_candidates,
        kappa=record.kappa,
        ranked_by=ranking_named(record.ranked_by).title(run.job.guide),
        reason_fewer=record.reason_fewer or "",
        outcomes=record.outcomes,
        true_scores=truth,
    )


def _truth(truth: VerificationRecord | None) -> Truth | None:
    if truth is None:
        return None
    groups = tuple(ScoreGroup(group.role, group.label, group.true_scores, group.scores, group.note) for group in truth.groups)
    return Truth(truth.scorer, groups, truth.matched_inverse_temperature, truth.failures)


def _history(job: Job, rows: Rows, timing: Rows) -> History | None:
    if not rows:
        return None
    seconds = {row["step"]: row for row in timing}
    timed = [seconds.get(row["step"]) for row in rows]
    return History(
        step=_column(rows, "step"),
        loss=_column(rows, "loss"),
        mean_score=_column(rows, "mean_score"),
        top_score=_column(rows, "top10_score"),
        list_score=_column(rows, COLUMN),
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
    check = check_table(job.folder / data.path, named_space(data.space), with_parent(data, job.folder))
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
        num_joined=int(check.table.counts[check.table.counts > 1].sum()),
    )


def _proxy(run: OpenRun) -> ProxyQuality | None:
    quality = quality_of_proxy(run.job)
    if quality is None:
        return None
    names = {field.name for field in fields(quality)} & {field.name for field in fields(ProxyQuality)}
    known = {name: getattr(quality, name) for name in names}
    return ProxyQuality(**known, other_rows=fitted_to_other_rows(run.job, run.table) or "")


def _provenance(run: OpenRun) -> Provenance:
    about = run.folder.about()
    created = about.created.replace("T", " ").replace("+00:00", " UTC")
    return Provenance(run.job.seed, created, about.versions, about.machine, commands(run))


def _set_aside_item(line: SetAsideLine) -> SetAside:
    item = f"{len(line.objects)} objects of one step" if line.object is None else line.object
    return SetAside(item, line.reason, line.step)


def _column(rows: Rows, name: str) -> list[float]:
    return [row.get(name, np.nan) for row in rows]
