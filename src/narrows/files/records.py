"""Records: JSON that is written with a checksum, and read back by one reader that turns any damage into a sentence."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from narrows.files.plain import read_text
from narrows.printing import printable, quote

_CHECKSUM = "checksum"


class Record(pydantic.BaseModel):
    """A schema of what a record holds: nothing but its fields, each of its type."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


AnyRecord = TypeVar("AnyRecord", bound=Record)


def record_text(content: Mapping[str, Any], *, indent: int | None = 2) -> str:
    """Return the text of a record: JSON with a checksum of all the rest in it; on one line where `indent` is None."""
    return json.dumps({**content, _CHECKSUM: checksum(content)}, indent=indent) + "\n"


def checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON values, however they are laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_record(path: str | os.PathLike[str], schema: type[AnyRecord], cure: str) -> AnyRecord:
    """Return a record that was written by `record_text`, or before there were checksums.

    Args:
        path: the file.
        schema: what it holds.
        cure: a sentence that says what to do about a damaged one.

    Raises ValueError naming the file, what was expected, what came and the cure.
    """
    return parse_record(read_text(path), str(path), schema, cure)


def parse_record(text: str, place: str, schema: type[AnyRecord], cure: str) -> AnyRecord:
    """Return what `read_record` does, of a text that was found at a place."""
    return validate_content(parse_content(text, place, cure), place, schema, cure)


def validate_content(content: Mapping[str, Any], place: str, schema: type[AnyRecord], cure: str) -> AnyRecord:
    """Return the record that JSON values make; ValueError names the place, the field, what came and the cure."""
    try:
        return schema.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        came = "it is missing" if first["type"] == "missing" else f"got {quote(first['input'])}"
        said = first["msg"].removeprefix("Value error, ")
        reason = f"{said[:1].lower()}{said[1:]}"
        raise ValueError(f"{place}: {quote(field)}: {reason}, {came}. {cure}") from None


def parse_content(text: str, place: str, cure: str) -> dict[str, Any]:
    """Return what a record holds before any schema is asked, its checksum verified and taken away.

    Raises ValueError naming the place and the cure for what is no JSON object, and for one that was changed.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON ({printable(error)}). {cure}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{place}: expected a JSON object, got {quote(content)}. {cure}")
    known = content.pop(_CHECKSUM, None)
    if known is not None and known != checksum(content):
        raise ValueError(f"{place} was changed since it was written: its checksum is not that of its content. {cure}")
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found
