"""A job file, read and checked: every section with all its defaults filled in."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from narrows.config.derived import fill_in
from narrows.config.names import SCORE, USUAL_NAMES, RewardKind, reward_kind
from narrows.config.schema import JobError, Section, build_or_explain, resolve_named, validate_fields
from narrows.config.settings import (
    DataSettings,
    NearSettings,
    PolicySettings,
    RewardSettings,
    ScoreSettings,
    ShortlistSettings,
    TrainSettings,
)
from narrows.data import Check
from narrows.printing import did_you_mean, name_some, printable, quote
from narrows.selection.guide import PROXY_GUIDE, SCORE_GUIDE, Guide
from narrows.training import Surrogate, adam
from narrows.training.replay import Replay
from narrows.trajectories.behaviour import Behaviour

Scalar = str | bool | int | float
T = TypeVar("T")
SECTIONS = tuple("env noise reward policy objective optimizer exploration replay train shortlist data near".split())
SURROGATE = "surrogate"


@dataclass(frozen=True)
class Job:
    """A checked job: every section with all its defaults filled in, as it is kept in the run folder.

    Args:
        name: what the run is called on its page.
        seed: of all random numbers, from 0 to 2^32 - 1; the same job with the same seed gives the same run.
        env: what is made, and step by step how; as far as it is left out in a job with [data], sequences of the letters of its
            space, from the 5th to the 95th percentile of the measured lengths.
        noise: what takes place instead of what was asked for, where steps may go wrong; left out, nothing does.
        reward: the score that guides the search; left out in a job with [data], the proxy that `narrows fit` puts into the
            folder `proxy` beside the job.
        policy: the network that chooses the steps.
        objective: the loss that trains it.
        optimizer: how the network's parameters move: AdamW, and a faster Adam for the estimate of the total, `log_z`.
        exploration: how sampling differs from the policy while training, and what it keeps of earlier objects.
        replay: past objects that are trained on again; left out, none are.
        train: the length of training, and its portions.
        shortlist: the selection of `narrows shortlist` unless told otherwise.
        data: the table of measurements that a proxy learns from and that novelty is measured against.
        near: the price of being far from the measurements of `[data]`; left out, distance is free.
        folder: where relative paths start.
        check: what was found in the table of `[data]`, where it was read for what the job leaves out.
    """

    name: str
    seed: int
    env: Section
    reward: Section
    policy: Section
    objective: Section
    optimizer: Section
    exploration: Section
    train: TrainSettings
    shortlist: ShortlistSettings
    noise: Section | None = None
    replay: Section | None = None
    data: DataSettings | None = None
    near: NearSettings | None = None
    folder: Path = field(default=Path(), compare=False)
    check: Check | None = field(default=None, compare=False, repr=False)

    @property
    def guide(self) -> Guide:
        """Return what guides the run, in words: a proxy that was fitted to measurements, or the score itself."""
        return PROXY_GUIDE if self.reward_kind is RewardKind.FITTED else SCORE_GUIDE

    @property
    def reward_kind(self) -> RewardKind:
        return reward_kind(self.reward["name"])

    @property
    def reward_path(self) -> Path | None:
        """Return the file or folder that the reward reads, None for one that reads none."""
        return self.folder / self.reward["path"] if "path" in self.reward else None


def load_job(path: Path | str, overrides: Mapping[str, Scalar] | None = None) -> Job:
    """Read and check a job file.

    Args:
        path: TOML file.
        overrides: values that replace the file's, by dotted name: `{"train.num_steps": 100}`.

    Raises JobError naming the table and the field.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JobError(f"{path}: there is no such job file. Give the path of a .toml file.") from None
    except IsADirectoryError:
        raise JobError(f"{path} is a folder. Give the path of the .toml file in it.") from None
    except ValueError as error:  # also bytes that are no text, and a number of thousands of digits
        raise JobError(f"{path}: not a TOML file ({printable(error)}). Correct the line it names.") from None
    try:
        for name, value in (overrides or {}).items():
            _override(document, name, value)
        return parse_job(document, path.parent, path.stem)
    except JobError as error:
        raise JobError(f"{path}: {error}") from error


def parse_job(document: Mapping[str, Any], folder: Path, name: str = "job") -> Job:
    """Return the checked job of a parsed document; relative paths in it start from `folder`."""
    known = ("name", "seed", *SECTIONS)
    unknown = sorted(set(document) - set(known))
    if unknown:
        guess = did_you_mean(unknown[0], known)
        raise JobError(
            f"unknown entries [{name_some(unknown)}].{guess} A job has: {', '.join(known)}; `narrows list` explains them."
        )
    seed = document.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise JobError(f"seed must be an integer from 0 to 2^32 - 1, got {quote(seed)}.")
    tables = {section: _table(document, section) for section in SECTIONS if section in document}
    data = _record("data", tables["data"], DataSettings) if "data" in tables else None
    tables, check = (tables, None) if data is None else fill_in(tables, data, folder)
    for section in ("env", "reward"):
        if section not in tables:
            raise JobError(
                f"[{section}] is missing. Add a table with a name, which `narrows list {section}` explains, or a [data] "
                "table, from which it follows."
            )
    replay = tables.get("replay")
    near = tables.get("near")
    if near is not None and data is None:
        raise JobError("[near] is about the distance from measurements, and the job has none. Add a [data] table.")
    return Job(
        name=str(document.get("name", name)),
        seed=seed,
        env=resolve_named("env", tables["env"]),
        reward=_reward_section(tables["reward"]),
        policy=_policy_section({"name": USUAL_NAMES["policy"], **tables.get("policy", {})}),
        objective=resolve_named("objective", {"name": USUAL_NAMES["objective"], **tables.get("objective", {})}),
        optimizer=_optimizer_section(tables.get("optimizer", {})),
        exploration=_exploration_section({"name": USUAL_NAMES["exploration"], **tables.get("exploration", {})}),
        train=_record("train", tables.get("train", {}), TrainSettings),
        shortlist=_record("shortlist", tables.get("shortlist", {}), ShortlistSettings),
        noise=resolve_named("noise", tables["noise"]) if "noise" in tables else None,
        replay=None if replay is None else validate_fields("replay", replay, Replay),
        data=data,
        near=None if near is None else _record("near", near, NearSettings),
        folder=folder,
        check=check,
    )


def dump_job(job: Job) -> str:
    """Return a job as TOML, every default written out, so that reading it gives the same job."""
    lines = [f"name = {toml(job.name)}", f"seed = {job.seed}"]
    for section in SECTIONS:
        table = getattr(job, section)
        if table is None:
            continue
        entries = table if isinstance(table, Mapping) else vars(table)
        lines += ["", f"[{section}]"]
        lines += [f"{name} = {toml(value)}" for name, value in entries.items() if value is not None]
    return "\n".join(lines) + "\n"


def _reward_section(table: Section) -> Section:
    rest, shared = _shared("reward", table, RewardSettings)
    if table.get("name") == SCORE:
        own = {key: value for key, value in rest.items() if key != "name"}
        return {"name": SCORE, **vars(_record("reward", own, ScoreSettings)), **shared}
    return {**resolve_named("reward", rest, extra=tuple(shared), also=(SCORE,)), **shared}


def _policy_section(table: Section) -> Section:
    rest, shared = _shared("policy", table, PolicySettings)
    return {**resolve_named("policy", rest, extra=tuple(shared)), **shared}


def _exploration_section(table: Section) -> Section:
    own, shared = parts_of_exploration(table)
    checked = validate_fields("exploration", shared, Behaviour)
    return {**resolve_named("exploration", own, extra=tuple(checked)), **checked}


def parts_of_exploration(table: Section) -> tuple[Section, Section]:
    """Return the fields of the name of `[exploration]`, and those of the behaviour, which stand beside every name."""
    names = {field.name for field in fields(Behaviour)}
    own = {key: value for key, value in table.items() if key not in names}
    return own, {key: value for key, value in table.items() if key in names}


def _shared(section: str, table: Section, kind: type[Any]) -> tuple[Section, Section]:
    """Return a table without the fields that every name of its section has, and those fields, checked."""
    names = {field.name for field in fields(kind)}
    own = {key: value for key, value in table.items() if key not in names}
    return own, vars(_record(section, {key: value for key, value in table.items() if key in names}, kind))


def _record(section: str, table: Section, kind: type[T]) -> T:
    """Return the record of a section that has no name."""
    return build_or_explain(section, kind, validate_fields(section, table, kind))


def _table(document: Mapping[str, Any], section: str) -> Section:
    table = document[section]
    if not isinstance(table, Mapping):
        raise JobError(f"{section} must be a table, got {quote(table)}. Write [{section}] on a line of its own.")
    return table


def _override(document: dict[str, Any], name: str, value: Scalar) -> None:
    *sections, entry = name.split(".")
    if len(sections) > 2:
        raise JobError(f"cannot set {name!r}. Write seed or SECTION.FIELD, for example train.num_steps.")
    table = document
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise JobError(f"cannot set {name!r}: {section} is not a table.")
    table[entry] = value


def without_surrogate(optimizer: Section) -> Section:
    """Return the fields of the optimiser itself."""
    return {name: value for name, value in optimizer.items() if name != SURROGATE}


def _optimizer_section(table: Section) -> Section:
    """Return the checked table of the optimiser, with the table of a surrogate in it where the job has one."""
    section = validate_fields("optimizer", without_surrogate(table), adam, extra=(SURROGATE,))
    if SURROGATE not in table:
        return section
    settings = table[SURROGATE]
    if not isinstance(settings, Mapping):
        raise JobError(f"[optimizer] surrogate must be a table such as {{ inner_steps = 5 }}, got {quote(settings)}.")
    return {**section, SURROGATE: validate_fields(f"optimizer.{SURROGATE}", settings, Surrogate)}


def toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
