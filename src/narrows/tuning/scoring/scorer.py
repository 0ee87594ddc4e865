"""A tuned encoder as a score: a folder of safetensors, JSON and a tokenizer's files, and what reads it."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, Self

import numpy as np
import pydantic
import torch
from jaxtyping import Float
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from narrows.tuning.base import TunedModel
from narrows.tuning.files import save_merged
from narrows.tuning.folders import refuse_special, replace_text
from narrows.tuning.scoring.encoder import quiet
from narrows.tuning.scoring.outputs import Precision, predict
from narrows.tuning.scoring.reading import Reader
from narrows.tuning.scoring.task import Prediction, Task, combined

SCORER_FILE: Final = "scorer.json"
_FORMAT: Final = 1
_MEMBER: Final = "member-"
_READ_SUFFIXES: Final = (".json", ".txt", ".model", ".bpe", ".vocab", ".jinja")
"""Of files that a tokenizer may be read from."""


class _ReaderFields(pydantic.BaseModel, extra="forbid"):
    max_length: int = pydantic.Field(ge=1)
    is_spaced: bool


class _Fields(pydantic.BaseModel, extra="forbid"):
    """The contents of `scorer.json`."""

    format: Literal[1]
    task: dict[str, Any]
    members: int = pydantic.Field(ge=1, le=1000)
    reader: _ReaderFields
    std_scale: float = pydantic.Field(ge=0.0, allow_inf_nan=False)
    precision: Precision
    positive: str | None
    sha256: dict[str, str]
    about: dict[str, Any]

    @pydantic.model_validator(mode="after")
    def _names_each_member(self) -> Self:
        """Refuse names that lead out of the folder, and members whose weights could be any."""
        for name in self.sha256:
            if PurePosixPath(name).is_absolute() or "\\" in name or {"..", ""} & set(name.split("/")):
                raise ValueError(f"it names {name!r}, which is no file of the folder")
        for number in range(self.members):
            if f"{_MEMBER}{number}/model.safetensors" not in self.sha256:
                raise ValueError(f"it has no hash of member {number}")
        return self


class TunedScorer:
    """Scores texts with one or several tuned encoders; `TunedScorer.load` opens the folder that `narrows tune` wrote.

    Args:
        members: tuned encoders, in evaluation mode.
        reader: of their texts.
        task: what their heads are for.
        std_scale: factor on the spread of the members.
        precision: of the computation.
        positive: the class whose probability is the score; the last one by default. Of no use for scores.
        about: what is known of the scorer: how it was made and how good it is.
        identity: a hash of all that decides a score.
    """

    def __init__(
        self,
        members: Sequence[PreTrainedModel],
        reader: Reader,
        task: Task,
        *,
        std_scale: float = 1.0,
        precision: Precision = "fp32",
        positive: str | None = None,
        about: Mapping[str, Any] | None = None,
        identity: str | None = None,
    ) -> None:
        if not members:
            raise ValueError("a scorer needs at least one member, got none.")
        if positive is not None and positive not in task.classes:
            raise ValueError(f"there is no class {positive!r}. There are: {', '.join(task.classes) or 'none, for scores'}.")
        self.members = tuple(members)
        self.reader = reader
        self.task = task
        self.std_scale = std_scale
        self.precision: Precision = precision
        self.positive = positive if positive is not None or not task.classes else task.classes[-1]
        self.about = dict(about or {})
        self.identity = identity

    def __call__(self, texts: Sequence[str]) -> Prediction:
        """Return mean and standard deviation for each text; see `Prediction`."""
        if isinstance(texts, str):
            raise ValueError("expected a list of texts, got one text. Put it in brackets.")
        if not len(texts):
            empty = np.zeros((0, len(self.task.classes)) if self.task.classes else 0)
            return Prediction(empty, empty.copy())
        ids = self.reader.read(texts).ids
        return self.combine([predict(member, self.reader, ids, self.precision) for member in self.members])

    def combine(self, logits: Sequence[Float[np.ndarray, "row output"]]) -> Prediction:
        """Return what the outputs of the members' heads come to."""
        guesses = np.concatenate([self.task.guesses(own) for own in logits])
        return combined(self.task, guesses, self.std_scale)

    def score(self, texts: Sequence[str]) -> Prediction:
        """Return one number a text with its standard deviation: the score, or the probability of the positive class."""
        found = self(texts)
        if not self.task.classes:
            return found
        assert self.positive is not None
        place = self.task.classes.index(self.positive)
        return Prediction(found.mean[:, place], found.std[:, place])

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "cpu") -> Self:
        """Open a scorer's folder; ValueError, saying what is wrong, where it is none or was changed."""
        place = Path(folder)
        refuse_special(place)
        fields = _read(place)
        try:
            task = Task.from_dict(fields.task)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(_damaged(place / SCORER_FILE, error)) from error
        for name, known in fields.sha256.items():
            if not (place / name).is_file() or _hash(place / name) != known:
                raise ValueError(
                    f"{place / name} is not the file that was written. Tune again, or take the folder from a copy."
                )
        members = []
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
            for number in range(fields.members):
                model = AutoModelForSequenceClassification.from_pretrained(
                    place / f"{_MEMBER}{number}", use_safetensors=True, local_files_only=True, trust_remote_code=False
                )
                members.append(model.to(torch.device(device)).train(False))
        return cls(
            members,
            Reader(tokenizer, fields.reader.max_length, fields.reader.is_spaced),
            task,
            std_scale=fields.std_scale,
            precision=fields.precision,
            positive=fields.positive,
            about=fields.about,
            identity=_identity(place, fields.sha256),
        )


def is_scorer(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like a scorer's."""
    return (Path(folder) / SCORER_FILE).is_file()


def save_scorer(scorer: TunedScorer, folder: str | os.PathLike[str]) -> None:
    """Write a scorer whose members are tuned models, merged; what makes the folder a scorer's is written last."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with quiet():
        written = scorer.reader.tokenizer.save_pretrained(place)
    for number, member in enumerate(scorer.members):
        _save_member(member, place / f"{_MEMBER}{number}", scorer.task)
    names = [
        f"{_MEMBER}{number}/{name}" for number in range(len(scorer.members)) for name in ("config.json", "model.safetensors")
    ]
    names += sorted({Path(name).name for name in written if Path(name).is_file()})
    fields = {
        "format": _FORMAT,
        "task": scorer.task.to_dict(),
        "members": len(scorer.members),
        "reader": {"max_length": scorer.reader.max_length, "is_spaced": scorer.reader.is_spaced},
        "std_scale": scorer.std_scale,
        "precision": scorer.precision,
        "positive": scorer.positive,
        "sha256": {name: _hash(place / name) for name in names},
        "about": scorer.about,
    }
    replace_text(place / SCORER_FILE, json.dumps({**fields, "checksum": _checksum(fields)}, indent=2, sort_keys=True) + "\n")


def _save_member(member: TunedModel, folder: Path, task: Task) -> None:
    if task.classes and task.heads == 1:
        member.config.id2label = dict(enumerate(task.classes))
        member.config.label2id = {name: place for place, name in enumerate(task.classes)}
    with quiet():
        save_merged(member, folder)


def _read(place: Path) -> _Fields:
    path = place / SCORER_FILE
    if not path.is_file():
        raise ValueError(f"{place} holds no {SCORER_FILE}, so it is no scorer. `narrows tune` writes one.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = content.pop("checksum", None) if isinstance(content, dict) else None
        found = _Fields.model_validate(content)
        if known not in (None, _checksum(content)):
            raise ValueError("it was changed since it was written")
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(_damaged(path, error)) from error


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _damaged(path: Path, error: Exception) -> str:
    first = error.errors()[0] if isinstance(error, pydantic.ValidationError) else None
    why = error if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{path} is damaged ({why}). Tune again, or take the folder from a copy."


def _identity(place: Path, hashes: Mapping[str, str]) -> str:
    """Return a hash of all that decides a score, a tokenizer's files that an older version did not list among it."""
    known = {SCORER_FILE, *hashes}
    unlisted = [path for path in sorted(place.iterdir()) if path.suffix in _READ_SUFFIXES and path.name not in known]
    own = _hash(place / SCORER_FILE)
    if not unlisted:
        return own
    return hashlib.sha256("".join([own, *(f"{path.name} {_hash(path)}" for path in unlisted)]).encode()).hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
