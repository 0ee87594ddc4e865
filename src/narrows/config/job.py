"""A job file, read and checked: every section with all its defaults filled in."""

import inspect
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from narrows.config.names import NAMES, OLD_NAMES, SCORE, RewardKind, reward_kind
from narrows.config.schema import JobError, Section, build_or_explain, refuse_unknown, resolve_named, validate_fields
from narrows.config.settings import DataSettings, NearSettings, ShortlistSettings, TrainSettings
from narrows.printing import name_some, printable, quote
from narrows.selection.guide import PROXY_GUIDE, SCORE_GUIDE, Guide
from narrows.training import Surrogate, adam
from narrows.training.replay import Replay
from narrows.trajectories.behaviour import Behaviour

Scalar = str | bool | int | float
POLICY_CONTEXT = ("sizes", "key")
"""Arguments of a policy that follow from the environment and the objective, not from the job."""
SECTIONS = tuple("env noise reward policy objective optimizer exploration replay train shortlist data near".split())
SURROGATE = "surrogate"


@dataclass(frozen=True)
class Job:
    """A checked job: every section with all its defaults filled in, as it is kept in the run folder."""

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
    unknown = set(document) - {*SECTIONS, "name", "seed"}
    if unknown:
        raise JobError(f"unknown entries [{name_some(sorted(unknown))}]. A job has: name, seed, {', '.join(SECTIONS)}.")
    for section in ("env", "reward"):
        if section not in document:
            raise JobError(f"[{section}] is missing. Add a table with a name; `narrows list` shows the names.")
    seed = document.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise JobError(f"seed must be an integer from 0 to 2^32 - 1, got {quote(seed)}.")
    tables = {section: _table(document, section) for section in SECTIONS if section in document}
    data = tables.get("data")
    replay = tables.get("replay")
    near = tables.get("near")
    if near is not None and data is None:
        raise JobError("[near] is about the distance from measurements, and the job has none. Add a [data] table.")
    return Job(
        name=str(document.get("name", name)),
        seed=seed,
        env=resolve_named("env", tables["env"], NAMES["env"], ()),
        reward=_reward_section(tables["reward"]),
        policy=_policy_section({"name": "MLP", **tables.get("policy", {})}),
        objective=resolve_named(
            "objective", {"name": "TrajectoryGeneralMellowmax", **tables.get("objective", {})}, NAMES["objective"], ()
        ),
        optimizer=_optimizer_section(tables.get("optimizer", {})),
        exploration=validate_fields("exploration", tables.get("exploration", {}), Behaviour, ()),
        train=build_or_explain("train", TrainSettings, validate_fields("train", tables.get("train", {}), TrainSettings, ())),
        shortlist=build_or_explain(
            "shortlist", ShortlistSettings, validate_fields("shortlist", tables.get("shortlist", {}), ShortlistSettings, ())
        ),
        noise=resolve_named("noise", tables["noise"], NAMES["noise"], ("env",)) if "noise" in tables else None,
        replay=None if replay is None else validate_fields("replay", replay, Replay, ()),
        data=None if data is None else build_or_explain("data", DataSettings, validate_fields("data", data, DataSettings, ())),
        near=None if near is None else build_or_explain("near", NearSettings, validate_fields("near", near, NearSettings, ())),
        folder=folder,
    )


def dump_job(job: Job) -> str:
    """Return a job as TOML, every default written out, so that reading it gives the same job."""
    lines = [f"name = {_toml(job.name)}", f"seed = {job.seed}"]
    for section in SECTIONS:
        table = getattr(job, section)
        if table is None:
            continue
        entries = table if isinstance(table, Mapping) else vars(table)
        lines += ["", f"[{section}]"]
        lines += [f"{name} = {_toml(value)}" for name, value in entries.items() if value is not None]
    return "\n".join(lines) + "\n"


def known_names() -> dict[str, dict[str, str]]:
    """Return every name a job may use, by section, each with the first sentence of its docstring."""
    names = {
        section: {name: _first_line(constructor) for name, constructor in names.items() if name not in OLD_NAMES}
        for section, names in NAMES.items()
    }
    names["reward"][SCORE] = "The function given on the command line as `--score FILE.py:FUNCTION`."
    return names


def fields_of(section: str, name: str) -> dict[str, str]:
    """Return the fields of one name of one section, each with its default or `required`."""
    if name == SCORE:
        return {"kappa": "0.0", "beta": "1.0"}
    context = POLICY_CONTEXT if section == "policy" else ("env",)
    signature = {key: p for key, p in inspect.signature(NAMES[section][name]).parameters.items() if key not in context}
    shown = {key: "required" if p.default is p.empty else repr(p.default) for key, p in signature.items()}
    extra = {"reward": {"beta": "1.0"}, "policy": {"learned_backward": "False"}}
    return shown | extra.get(section, {})


def _reward_section(table: Section) -> Section:
    rest = {key: value for key, value in table.items() if key != "beta"}
    beta = validate_fields("reward", {"beta": table["beta"]} if "beta" in table else {}, _beta, ())
    if table.get("name") == SCORE:
        refuse_unknown("reward", rest, {"name", "kappa"})
        kappa = validate_fields("reward", {"kappa": rest["kappa"]} if "kappa" in rest else {}, _kappa, ())
        if not 0.0 <= kappa["kappa"] < float("inf"):
            raise JobError(f"[reward] kappa must be at least 0 and finite, got {kappa['kappa']}.")
        return {"name": SCORE, **kappa, **beta}
    return {**resolve_named("reward", rest, NAMES["reward"], ("env",), extra=("beta",), also=(SCORE,)), **beta}


def _policy_section(table: Section) -> Section:
    rest = {key: value for key, value in table.items() if key != "learned_backward"}
    learned = table.get("learned_backward", False)
    if not isinstance(learned, bool):
        raise JobError(f"[policy] learned_backward must be true or false, got {quote(learned)}.")
    return {
        **resolve_named("policy", rest, NAMES["policy"], POLICY_CONTEXT, extra=("learned_backward",)),
        "learned_backward": learned,
    }


def _beta(beta: float = 1.0) -> None:
    """The inverse temperature, whose schema is this signature."""


def _kappa(kappa: float = 0.0) -> None:
    """Standard deviations that a score with means and standard deviations counts below its mean."""


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
    refuse_unknown("optimizer", table, {*inspect.signature(adam).parameters, SURROGATE})
    section = validate_fields("optimizer", without_surrogate(table), adam, ())
    if SURROGATE not in table:
        return section
    settings = table[SURROGATE]
    if not isinstance(settings, Mapping):
        raise JobError(f"[optimizer] surrogate must be a table such as {{ inner_steps = 5 }}, got {quote(settings)}.")
    return {**section, SURROGATE: validate_fields(f"optimizer.{SURROGATE}", settings, Surrogate, ())}


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")
