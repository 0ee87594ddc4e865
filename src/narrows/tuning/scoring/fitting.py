"""From a table of texts to a scorer: members trained one after the other, judged on rows that none of them saw."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from narrows.tuning.folders import draft_of, refuse_special, replace_text
from narrows.tuning.methods import config_of, tuned
from narrows.tuning.profiling import Profile, profile
from narrows.tuning.scoring.encoder import PretrainedEncoder, open_encoder
from narrows.tuning.scoring.outputs import predict
from narrows.tuning.scoring.quality import ScorerQuality, calibrated, quality
from narrows.tuning.scoring.reading import Reader, longest_of
from narrows.tuning.scoring.scorer import SCORER_FILE, TunedScorer, save_scorer
from narrows.tuning.scoring.task import Task, combined
from narrows.tuning.scoring.training import Member, Rows, TuningSettings, Watch, train_member

WORK: Final = "training"
"""Folder, in the scorer's, of an unfinished fit."""
_REQUEST: Final = "request.json"
_MIN_ROWS: Final = 20
_MIN_CALIBRATION: Final = 5

MembersBy = Literal["heads", "seeds"]


class Sides(NamedTuple):
    """Which rows are learned from, which say when to stop, and which judge in the end.

    Attributes:
        train, validation, test: rows; no row is in two of them.
    """

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]


@dataclass(frozen=True)
class Request:
    """A request for a fit.

    Attributes:
        encoder: folder or hub name of the pre-trained encoder.
        settings: of the training of each member.
        members: guesses that a standard deviation comes from; one has none.
        members_by: `heads`, several on one encoder, each trained on its own bootstrap sample; or `seeds`, as many encoders,
            which take as many times as long and are further apart.
        max_length: tokens read of a text; None for the longest of the table, up to what the encoder reads.
        is_spaced: put a blank between any two letters.
        positive: the class whose probability is the score; None for the last one.
    """

    encoder: str
    settings: TuningSettings
    members: int = 1
    members_by: MembersBy = "heads"
    max_length: int | None = None
    is_spaced: bool = False
    positive: str | None = None

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members must be at least 1, got {self.members}.")
        if self.members_by not in ("heads", "seeds"):
            raise ValueError(f"members come by heads or by seeds, got {self.members_by!r}.")

    @property
    def heads(self) -> int:
        """Heads on each encoder."""
        return self.members if self.members_by == "heads" else 1

    @property
    def encoders(self) -> int:
        """Encoders trained."""
        return self.members if self.members_by == "seeds" else 1


class Fitted(NamedTuple):
    """The result of a fit.

    Attributes:
        scorer: that was written.
        quality: on the test rows.
    """

    scorer: TunedScorer
    quality: ScorerQuality


class Plan(NamedTuple):
    """A fit that is ready to begin: everything that can be refused has been looked at.

    Attributes:
        request: what was asked.
        task: what the heads are for.
        encoder: the first member's.
        reader: of the texts.
        rows: tokens and values.
        sides: who learns from what.
        num_cut: texts that lose their end.
    """

    request: Request
    task: Task
    encoder: PretrainedEncoder
    reader: Reader
    rows: Rows
    sides: Sides
    num_cut: int


def prepare(
    request: Request,
    texts: Sequence[str],
    values: Float[np.ndarray, " row"],
    sides: Sides,
    classes: Sequence[str] = (),
) -> Plan:
    """Return a fit that is ready to begin.

    Args:
        texts: one a row.
        values: the score of each, or the place of its class.
        sides: which rows are for what.
        classes: names of the classes; none for scores.

    Raises ValueError for rows that cannot be learned from, and for an encoder that cannot be opened.
    """
    _check(texts, values, sides, classes)
    task = _task(values[sides.train], classes, request.heads)
    if request.positive is not None and request.positive not in task.classes:
        raise ValueError(f"there is no class {request.positive!r}. There are: {', '.join(classes) or 'none, for scores'}.")
    encoder = open_encoder(request.encoder, task.num_outputs, request.settings.seed, task.problem)
    limit = longest_of(encoder.tokenizer, encoder.model.config)
    if request.max_length is not None and request.max_length > limit:
        raise ValueError(f"max_length is {request.max_length} and {request.encoder} reads at most {limit} tokens.")
    reader = Reader(encoder.tokenizer, limit if request.max_length is None else request.max_length, request.is_spaced)
    tokens = reader.read(texts)
    unknown = sum(ids.count(encoder.tokenizer.unk_token_id) for ids in tokens.ids) if encoder.tokenizer.unk_token else 0
    if 2 * unknown > sum(map(len, tokens.ids)):
        raise ValueError(
            f"{request.encoder} does not know most of what these texts are written in (e.g. {texts[0][:40]!r}). Take an "
            "encoder for them, or let it see single letters: --spaced."
        )
    rows = Rows(tokens.ids, np.asarray(values, dtype=np.float64), sides.train, sides.validation)
    return Plan(request, task, encoder, reader, rows, sides, tokens.num_cut)


def foreseen(plan: Plan, rounds: int = 2) -> Profile:
    """Return what a step will cost, beside ordinary fine-tuning, on the first rows."""
    size = plan.request.settings.batch_size
    longest = np.argsort(-plan.rows.lengths[plan.sides.train], kind="stable")[:size]
    batch = plan.reader.batch([plan.rows.ids[row] for row in plan.sides.train[longest]])
    num, outputs = len(longest), plan.task.num_outputs
    single = plan.task.problem == "single_label_classification"
    labels = torch.zeros(num, dtype=torch.int64) if single else torch.zeros(num, outputs)
    model = open_encoder(plan.request.encoder, outputs, 0, plan.task.problem).model
    if plan.task.problem == "regression" and outputs == 1:
        labels = labels[:, 0]
    settings = plan.request.settings
    config = config_of(settings.method, settings.retention, settings.rank)
    return profile(tuned(model, config, [{**batch, "labels": labels}], 1), {**batch, "labels": labels}, rounds)


def fit_scorer(
    plan: Plan,
    folder: str | os.PathLike[str],
    watch: Callable[[int], Watch] = lambda member: Watch(),
    hold: Callable[[Path], AbstractContextManager[object]] = nullcontext,
) -> Fitted | None:
    """Train the members of a scorer in a folder, or go on with those that it holds, and write the scorer there.

    Returns None where somebody stopped it: a checkpoint is in the folder, and the same call goes on.

    Args:
        plan: of `prepare`.
        folder: of the scorer; holds checkpoints meanwhile.
        watch: who looks on at a member.
        hold: keeps other processes out of the folder of checkpoints, which it is given, while the fit is under way.

    Raises ValueError where the folder holds a finished scorer, another fit, or anything else.
    """
    place = Path(folder)
    work = place / WORK
    _claim(place, _described(plan))
    with hold(work):
        found = _fit(plan, place, work, watch)
    if found is not None:
        # In one step: half of a fit's folder could neither go on nor be told from somebody else's.
        done = place / f".{WORK}-{uuid.uuid4().hex}.tmp"
        os.rename(work, done)
        shutil.rmtree(done)
    return found


def _fit(plan: Plan, place: Path, work: Path, watch: Callable[[int], Watch]) -> Fitted | None:
    members: list[Member] = []
    for number in range(plan.request.encoders):
        settings = replace(plan.request.settings, seed=plan.request.settings.seed + number)
        member = train_member(
            lambda seed=settings.seed: open_encoder(plan.request.encoder, plan.task.num_outputs, seed, plan.task.problem).model,
            plan.reader,
            plan.task,
            plan.rows,
            settings,
            work / f"member-{number}",
            watch(number),
        )
        if not member.is_finished:
            return None
        members.append(member)
    scorer, found = _judged(plan, members)
    save_scorer(scorer, place)
    return Fitted(scorer, found)


def refuse_taken(folder: str | os.PathLike[str]) -> None:
    """Raise ValueError for a folder that can be no fit's: a file, a finished scorer, or one with other things in it."""
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise ValueError(f"{place} is a file, so there can be no folder of that name. Name another one.")
    is_begun = (place / WORK / _REQUEST).is_file()
    if (place / SCORER_FILE).is_file() and not is_begun:  # with both, it was killed at the very end and has little left to do
        raise ValueError(f"{place} holds a finished scorer. Name another folder, or delete this one first.")
    if place.is_dir() and not is_begun and not _is_bare(place):
        raise ValueError(f"{place} is in use: it holds other files. Name a folder that is empty or not there yet.")


def _is_bare(place: Path) -> bool:
    """Return whether a folder holds nothing, or what a fit leaves that was killed before it could say what it is."""
    bare = {place / WORK, draft_of(place / WORK / _REQUEST)}
    return all(path in bare for path in place.rglob("*"))


def _judged(plan: Plan, members: Sequence[Member]) -> tuple[TunedScorer, ScorerQuality]:
    """Return the scorer, its spread calibrated on the validation rows, and its quality on the test rows."""
    precision = plan.request.settings.precision

    def outputs(rows: Int[np.ndarray, " row"]) -> list[np.ndarray]:
        ids = tuple(plan.rows.ids[row] for row in rows)
        return [predict(member.model, plan.reader, ids, precision) for member in members]

    std_scale, num_calibration = 1.0, None
    if plan.request.members > 1 and plan.task.kind == "regression":
        num_calibration = len(plan.sides.validation)
    if num_calibration is not None and num_calibration >= _MIN_CALIBRATION:
        guesses = np.concatenate([plan.task.guesses(own) for own in outputs(plan.sides.validation)])
        std_scale = calibrated(combined(plan.task, guesses, 1.0), plan.rows.values[plan.sides.validation])
    make = partial(
        TunedScorer,
        [member.model for member in members],
        plan.reader,
        plan.task,
        std_scale=std_scale,
        precision=precision,
        positive=plan.request.positive,
    )
    truth, known = plan.rows.values[plan.sides.test], plan.rows.values[plan.sides.train]
    found = quality(plan.task, make().combine(outputs(plan.sides.test)), truth, known)
    found = found._replace(num_calibration=num_calibration)
    about = {
        "encoder": plan.request.encoder,
        "settings": asdict(plan.request.settings),
        "members_by": plan.request.members_by,
        "rows": {name: len(rows) for name, rows in plan.sides._asdict().items()},
        "quality": found.to_dict(),
        "histories": [list(member.progress.history) for member in members],
        "seconds": sum(member.progress.seconds for member in members),
    }
    return make(about=about), found


def _check(texts: Sequence[str], values: Float[np.ndarray, " row"], sides: Sides, classes: Sequence[str]) -> None:
    if len(texts) != len(values):
        raise ValueError(f"expected one value for each of {len(texts)} texts, got {len(values)}.")
    if len(texts) < _MIN_ROWS:
        raise ValueError(f"{len(texts)} rows are too few to learn from; at least {_MIN_ROWS} are needed.")
    empty = next((number for number, text in enumerate(texts) if not text.strip()), None)
    if empty is not None:
        raise ValueError(f"text {empty} is empty. Take it out.")
    if not np.isfinite(values).all():
        raise ValueError(f"value {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite. Take its row out.")
    for name, rows in sides._asdict().items():
        if not len(rows):
            raise ValueError(f"no row is left for the {name} side. Give more rows, or another share of held-out ones.")
    known = values[sides.train]
    if np.ptp(known) == 0.0:
        what = f"of class {classes[int(known[0])]!r}" if classes else f"{known[0]:g}"
        raise ValueError(f"all that would be learned from is {what}, so there is nothing to learn. Check the column.")
    if classes:
        missing = [name for place, name in enumerate(classes) if place not in known]
        if missing:
            raise ValueError(
                f"no row of class {missing[0]!r} is on the training side, so it cannot be learned. Give more rows of it, or "
                "take it out."
            )


def _task(known: Float[np.ndarray, " train"], classes: Sequence[str], heads: int) -> Task:
    if classes:
        return Task("classification", tuple(classes), heads=heads)
    return Task("regression", offset=float(known.mean()), scale=float(known.std()), heads=heads)


def _described(plan: Plan) -> dict[str, Any]:
    """Return all that makes a fit the same fit, as JSON has it."""
    data = hashlib.sha256(repr(plan.rows.ids).encode() + plan.rows.values.tobytes())
    for rows in plan.sides:
        data.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes() + b"|")
    return {"request": asdict(plan.request), "task": plan.task.to_dict(), "data": data.hexdigest()}


def _claim(place: Path, described: dict[str, Any]) -> None:
    """Make the folder of a fit, or see that it is this fit's."""
    refuse_taken(place)
    refuse_special(place)
    request = place / WORK / _REQUEST
    if request.is_file():
        try:
            before = json.loads(request.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{request} is damaged ({error}). Delete {place} and tune again.") from None
        if before != json.loads(json.dumps(described)):
            raise ValueError(
                f"{place} holds an unfinished fit of other data or other settings. Give the ones that it began with to go on, "
                "name another folder, or delete this one first."
            )
        return
    request.parent.mkdir(parents=True, exist_ok=True)
    replace_text(request, json.dumps(described, indent=2, sort_keys=True) + "\n")
