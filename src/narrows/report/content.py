"""The data of a report page, filled from a run folder by whoever has one.

Everything but a run's name and settings is optional; the page says what a missing part would need. Numbers may be
`None` or NaN where they are not known, arrays may be empty: the page says "not known" and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple, final

import numpy as np

from narrows.data import Finding, Space
from narrows.distance import EDITS, AbstractDistance
from narrows.proxies.quality import ComparedModel
from narrows.selection.guide import PROXY_GUIDE, Guide
from narrows.selection.outcomes import OutcomeSummary
from narrows.selection.rows import ShortlistRow

Values = Sequence[float | None] | np.ndarray
"""One number an item, of any numeric type; entries that are None or not finite are counted and left out of a drawing."""

Status = Literal["finished", "running", "stopped", "unknown"]
Role = Literal["shortlist", "measured", "search", "random", "control"]


@final
class Apart(NamedTuple):
    """How many of the objects that were seen are at least `distance` apart, counted up to `enough`: ten lists.

    `at_random` is the same of as many objects drawn at random.
    """

    num: int
    at_random: int
    enough: int
    distance: int


@dataclass(frozen=True)
class Search:
    """The progress of the sampler and the objects that it saw."""

    objective: str = ""
    status: Status = "unknown"
    num_steps: int | None = None
    planned_steps: int | None = None
    num_sampled: int | None = None
    num_distinct: int | None = None
    seconds: float | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    enough: int | None = None
    """Distinct objects, ten lists of them, with which repeats are no sign of a collapse; None where that is not known."""
    apart: Apart | None = None
    is_listed: bool = False
    """Whether all objects are candidates, so that the list does not depend on what the sampler saw."""


@final
class Caution(NamedTuple):
    """A worry: how serious, in what words, and which section shows it."""

    level: Literal["caution", "note"]
    text: str
    anchor: str


@dataclass(frozen=True)
class Noise:
    """The noise that acts on the letters that are asked for; `settings` as in the job, without the name.

    `quality` says in words how well it predicts what it was not learned from, where it was learned.
    """

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    quality: str = ""


@dataclass(frozen=True)
class Selection:
    """The shortlist and how it was asked for: `num_asked` rows at least `min_distance` apart.

    `true_scores` are known after `narrows verify`, by the row's object; None where scoring failed.
    """

    rows: tuple[ShortlistRow, ...]
    num_asked: int | None = None
    min_distance: int | None = None
    num_considered: int | None = None
    kappa: float | None = None
    ranked_by: str = "proxy mean"
    reason_fewer: str = ""
    outcomes: OutcomeSummary | None = None
    true_scores: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ScoreGroup:
    """The true scores of one group of objects, NaN where scoring failed, and what guided the run had said."""

    role: Role
    label: str
    true_scores: Values
    scores: Values = ()
    note: str = ""

    def __post_init__(self) -> None:
        _same_lengths("score group", self.label, true_scores=self.true_scores, scores=self.scores)


@dataclass(frozen=True, eq=False)
class Truth:
    """The true scorer's verdict on the shortlist, beside the groups it is compared with."""

    scorer: str
    groups: tuple[ScoreGroup, ...]
    matched_inverse_temperature: float | None = None
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class History:
    """One entry a log line for each curve; a curve that was not recorded is empty."""

    step: Values
    loss: Values = ()
    mean_score: Values = ()
    top_score: Values = ()
    list_score: Values = ()
    """Of a list of what was seen so far: its criterion, the mean over its rows."""
    num_distinct: Values = ()
    num_sampled: Values = ()
    distance_to_data: Values = ()
    steps_per_second: Values = ()
    seconds: Values = ()

    def __post_init__(self) -> None:
        _same_lengths("history", "step", **{f.name: getattr(self, f.name) for f in fields(self)})


@dataclass(frozen=True, eq=False)
class DataQuality:
    """The measured table of a run, from which its proxy learned if it has one."""

    path: str
    num_rows: int | None = None
    num_used: int | None = None
    num_rejected: int | None = None
    num_duplicates: int | None = None
    findings: tuple[Finding, ...] = ()
    scores: Values = ()
    lengths: Values = ()
    sequence_column: str = ""
    score_column: str = ""
    rejected_path: str = ""
    sha256: str = ""
    num_joined: int = 0
    """Rows that are replicates, each joined with others of its sequence."""


@dataclass(frozen=True, eq=False)
class ProxyQuality:
    """The quality of the proxy on measured objects it never saw; `test_*` has one entry a held-out object.

    `other_rows` is a sentence where it was fitted to other rows than the data has; `beats_mean`, `trusted_distance` and
    `compared` are as in `narrows.proxies.quality`.
    """

    num_train: int | None = None
    num_test: int | None = None
    spearman: float | None = None
    rmse: float | None = None
    rmse_of_mean: float | None = None
    coverage_1std: float | None = None
    coverage_2std: float | None = None
    test_truth: Values = ()
    test_mean: Values = ()
    test_std: Values = ()
    test_distance: Values = ()
    description: str = ""
    split: str = ""
    seconds: float | None = None
    other_rows: str = ""
    beats_mean: bool = True
    trusted_distance: int | None = None
    compared: tuple[ComparedModel, ...] = ()

    def __post_init__(self) -> None:
        arrays = {name: getattr(self, name) for name in ("test_truth", "test_mean", "test_std", "test_distance")}
        _same_lengths("proxy quality", "test_truth", **arrays)


@dataclass(frozen=True)
class Provenance:
    """The origin of the run, so that somebody else can make it again."""

    seed: int | None = None
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class SetAside:
    """An item that never trained the sampler because a number of it was not finite."""

    item: str
    reason: str
    step: int | None = None


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything a report page may show; only `name` and `settings` are required.

    Args:
        name: what the run is called, for readers.
        settings: the resolved job, a mapping of tables as in a TOML file.
        folder: the run folder as a user would type it, for the commands the page suggests.
        noise: what decides what becomes of the letters asked for; `None` where everything comes out as asked.
        guide: what the scores of the run come from, as the page calls it.
        distance: of two objects, with its unit.
        set_aside: items with a non-finite number; `num_set_aside` counts them where only some are listed.
    """

    name: str
    settings: Mapping[str, object]
    folder: str = ""
    space: Space | None = None
    noise: Noise | None = None
    search: Search | None = None
    selection: Selection | None = None
    truth: Truth | None = None
    history: History | None = None
    data: DataQuality | None = None
    proxy: ProxyQuality | None = None
    provenance: Provenance | None = None
    set_aside: tuple[SetAside, ...] = ()
    num_set_aside: int | None = None
    guide: Guide = PROXY_GUIDE
    distance: AbstractDistance = EDITS


def _same_lengths(what: str, reference: str, **columns: Values) -> None:
    """Refuse columns that cannot be read side by side; an empty column was not recorded."""
    lengths = {name: len(values) for name, values in columns.items() if len(values) > 0}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"{what} {reference!r}: all columns need one entry an item, but {shown}. Leave out a column.")
