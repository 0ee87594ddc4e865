"""What a job leaves out and its measurements say: letters and lengths, the proxy, how far apart the rows of a list are."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from narrows.config.schema import JobError, Section
from narrows.config.settings import AUTO, DataSettings
from narrows.data import Check, DataError, Table, accept_table, check_table, space
from narrows.data.mutations import read_parent
from narrows.data.spaces import as_read

_SEQUENCE = "Sequence"
_PROXY: Section = {"name": "Proxy", "path": "proxy"}
_LISTED_BITS = 20
"""A space of so many bits is listed, and its list needs no sampler."""
_OF_TRAINING = ("train", "objective", "policy", "optimizer", "replay", "exploration", "noise")
"""Sections of which one in a job says that a sampler is wanted."""
_CAUTION = 0.5
"""Standard deviations taken off what a proxy predicts: whatever searches it finds what it is too hopeful about, first."""
_BEST: Final[dict[str, Section]] = {
    "exploration": {"name": "Recombination", "epsilon": 0.01},
    "replay": {"keep": "best", "capacity": 1000, "prioritised": True},
    "train": {"given_per_step": 16, "patience": 150},
}
"""A sampler that learns from its own objects alone is lost on the first good one where good ones are rare."""
_SHARE = 0.15
_VALUES = "skip lower -log10 mean keep refuse upper dna rna protein".split()
_OPTION = re.compile(rf"--(?P<name>[a-z]+(?:-[a-z]+)*)(?:[ =](?:(?P<value>{'|'.join(_VALUES)})\b|'(?P<quoted>[^']*)'))?")
FROM_DATA: Final = frozenset(
    "env.name env.Sequence.alphabet env.Sequence.min_length env.Sequence.max_length reward.name reward.Proxy.path reward.beta "
    "reward.Proxy.kappa exploration.name exploration.epsilon replay.keep replay.capacity replay.prioritised train.num_steps "
    "train.given_per_step train.patience shortlist.min_distance shortlist.by shortlist.kappa".split()
)
"""The fields that the measurements of a job stand for where it leaves them out."""


def fill_in(tables: Mapping[str, Section], data: DataSettings, folder: Path) -> tuple[Mapping[str, Section], Check | None]:
    """Return the tables of a job with what its measurements say of what it leaves out, and the check of their table.

    `[env]` is sequences of the letters of the data's space with lengths that are usual among the measured ones; `[reward]` the
    proxy that `narrows fit` puts beside the job, less half a standard deviation, at a temperature that the run finds; `[train]
    num_steps` is 0 where all objects can be listed (2^20) and the job has no section about training. Else the best objects and
    the measured ones are recombined and trained on until the list has not become better for a while. `[shortlist] min_distance`
    is `usual_distance`, and rows are ranked by the lower bound. What the job says stands. The table is read, once, only where
    something is left out that it says.

    Args:
        tables: what the job says, by section.
        data: its `[data]`, checked.
        folder: where its paths start.

    Raises JobError for a table that cannot be used.
    """
    env, reward, shortlist = (tables.get(section, {}) for section in ("env", "reward", "shortlist"))
    is_fitted = reward.get("name", _PROXY["name"]) == _PROXY["name"]
    if env.get("name", _SEQUENCE) != _SEQUENCE:
        return {**tables, **({"reward": {**_PROXY, "beta": AUTO, **reward}} if is_fitted else {})}, None
    found, check = {**tables, "env": {"name": _SEQUENCE, **env}}, None
    if not {"alphabet", "min_length", "max_length"} <= {*env} or "min_distance" not in shortlist:
        check = check_measurements(data, folder)
        # Rows that are skipped are written out only when the table is used.
        measured = check.table if data.on_invalid == "skip" and len(check.table) else accept_measurements(check)
        lengths = [len(sequence) for sequence in measured.sequences]
        if not check.asked.alphabet and "alphabet" not in env:
            raise JobError(
                f'[data] space is {check.asked.name}, which has no letters to build from. Name them, space = "letters:ABC", or '
                "say in [env] what is built."
            )
        shortest, longest = usual_lengths(lengths)
        derived = {"alphabet": check.asked.alphabet, "min_length": shortest, "max_length": longest}
        found["env"] = {"name": _SEQUENCE, **derived, **env}
        found["shortlist"] = {"min_distance": usual_distance(lengths), **shortlist}
    return (_searching(found, tables) if is_fitted else found), check


def _searching(found: Mapping[str, Section], said: Mapping[str, Section]) -> Mapping[str, Section]:
    """Return the sections of a job with how a fitted proxy is searched, as far as the job does not say it.

    A job that gives a temperature, or noise, says how it searches.
    """
    reward = found.get("reward", {})
    found = {**found, "reward": {**_PROXY, "beta": AUTO, **reward}}
    if "beta" in reward or "noise" in said:
        return found
    if "trust" not in reward:
        found["reward"] = {"kappa": _CAUTION, **found["reward"]}
        found["shortlist"] = {"by": "lower_bound", "kappa": _CAUTION, **found.get("shortlist", {})}
    if _can_be_listed(found["env"]) and not any(section in said for section in _OF_TRAINING):
        return {**found, "train": {"num_steps": 0}}
    if "objective" not in said:  # others may not take what they have not drawn
        found |= {section: {**usual, **found.get(section, {})} for section, usual in _BEST.items()}
        if "num_steps" in said.get("train", {}) and "patience" not in said["train"]:
            found["train"] = {**found["train"], "patience": None}
    return found


def _can_be_listed(env: Section) -> bool:
    alphabet, longest = env["alphabet"], env["max_length"]
    if not isinstance(alphabet, str) or type(longest) is not int:
        return False  # a mistake that is told when the section is checked
    return longest * math.log2(max(len(alphabet), 1)) <= _LISTED_BITS


def usual_lengths(lengths: Sequence[int]) -> tuple[int, int]:
    """Return the shortest and the longest length that are made where a job does not say, of some measured lengths.

    They are the 5th and the 95th percentile, for a proxy knows little of lengths that are rare. Of fewer than 20 rows these are
    the shortest and the longest.

    >>> usual_lengths([2, *range(10, 30), 190])
    (10, 29)
    """
    ordered = sorted(lengths)
    outside = len(ordered) // 20
    return ordered[outside], ordered[-1 - outside]


def usual_distance(lengths: Iterable[int]) -> int:
    """Return how many edits the rows of a list are apart, at least, where a job does not say it.

    15 % of the median measured length, rounded; at least 2 from 4 letters on, for a list of neighbours by one letter is one
    bet, and at least 1.

    >>> [usual_distance([length]) for length in (3, 4, 8, 14, 20, 60)]
    [1, 2, 2, 2, 3, 9]
    """
    median = statistics.median(lengths)
    return max(2 if median >= 4 else 1, round(_SHARE * median))


def check_measurements(data: DataSettings, folder: Path) -> Check:
    """Return what is found in the table that `[data]` names; JobError for a space that there is not."""
    try:
        return check_table(folder / data.path, space(data.space), with_parent(data, folder))
    except ValueError as error:
        raise JobError(f"[data] {in_words_of_a_job(str(error))}") from error


def accept_measurements(check: Check) -> Table:
    """Return the rows that a check leaves; JobError for a table that cannot be used."""
    try:
        return accept_table(check)
    except DataError as error:
        raise JobError(f"[data] {in_words_of_a_job(str(error))}") from error


def with_parent(data: DataSettings, folder: Path) -> DataSettings:
    """Return the settings of a job's table with the parent's letters in place of the file, in a folder, that has them."""
    if data.parent is None:
        return data
    return replace(data, parent=read_parent(data.parent, as_read(space(data.space), data.case), data.case, folder))


def in_words_of_a_job(message: str) -> str:
    """Return a message about a table with the fields of `[data]` in place of the command's options."""
    return _OPTION.sub(_field, message)


def _field(option: re.Match[str]) -> str:
    name, value = option["name"].replace("-", "_"), option["value"] or option["quoted"]
    return f"{name} =" if value is None else f'{name} = ["{value}"]' if name == "inactive" else f'{name} = "{value}"'
