"""The schema of a job's tables, which is that of the constructors. Unknown names and fields answer with the known ones."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_origin, get_type_hints

import pydantic

from narrows.config.names import CONTEXT, NAMES, OLD_NAMES
from narrows.printing import did_you_mean, name_some, printable, quote
from narrows.sizes import check_sizes

Section = Mapping[str, Any]


class JobError(ValueError):
    """A job file that cannot be used; the message says where, what was expected, what came and what to do."""


def build_or_explain(section: str, make: Callable[..., Any], settings: Section) -> Any:
    """Return what a constructor makes of checked settings; what it refuses is a JobError that names the section."""
    try:
        return make(**settings)
    except (ValueError, OSError) as error:
        raise JobError(f"[{section}] {error}") from error
    except (MemoryError, OverflowError) as error:
        sizes = ", ".join(f"{name} = {value}" for name, value in settings.items() if type(value) is int)
        cure = f"Lower {sizes}." if sizes else "Lower the sizes in [env]."
        raise JobError(f"[{section}] is too large for this machine ({error}). {cure}") from error


def resolve_named(
    section: str,
    table: Section,
    *,
    extra: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
) -> Section:
    """Return a table that names a class, its fields checked against that class's constructor.

    Args:
        section: what the table is called, for messages.
        table: what the job says.
        extra: fields of the table that are no parameters.
        also: names that are known without a constructor.
    """
    name, names = table.get("name"), NAMES[section]
    if not isinstance(name, str) or name not in names:
        known = [known for known in (*names, *also) if known not in OLD_NAMES]
        came = "it has no name." if name is None else f"unknown name {quote(name)}.{did_you_mean(name, known)}"
        raise JobError(f"[{section}] {came} Known: {', '.join(known)}. `narrows list {section}` explains them.")
    rest = {key: value for key, value in table.items() if key != "name"}
    return {"name": name, **validate_fields(section, rest, names[name], CONTEXT[section], extra, name)}


def validate_fields(
    section: str,
    table: Section,
    constructor: Callable[..., Any],
    context: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
    name: str | None = None,
) -> Section:
    """Return a table with the defaults of a constructor's signature filled in, after checking names and types.

    Args:
        section: what the table is called, for messages.
        table: what the job says, without its name.
        constructor: whose parameters the fields are.
        context: parameters of the constructor that the job does not give.
        extra: fields of the table that are no parameters, for messages.
        name: what the table calls the constructor, where it has a name.
    """
    about = f"`narrows list {section if name is None else f'{section}.{name}'}` explains them"
    parameters = {name: p for name, p in inspect.signature(constructor).parameters.items() if name not in context}
    _refuse_unknown(section, table, {*parameters, *extra}, about)
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = get_type_hints(function)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if p.default is p.empty else p.default) for name, p in parameters.items()
    }
    schema = pydantic.create_model(f"[{section}]", __config__=pydantic.ConfigDict(extra="forbid", strict=True), **fields)
    try:
        checked = schema(**{name: _as_hinted(value, hints.get(name)) for name, value in table.items()})
    except pydantic.ValidationError as error:
        problems = "; ".join(dict.fromkeys(map(_problem, _by_field(error.errors()))))
        raise JobError(f"[{section}] {problems}. Fields: {', '.join(parameters)}; {about}.") from None
    values = {name: getattr(checked, name) for name in parameters}
    try:
        check_sizes(function, values)
    except ValueError as error:
        raise JobError(f"[{section}] {error}") from None
    return values


def _as_hinted(value: Any, hint: Any) -> Any:
    """Return a value with an array as the tuple that a hint asks for; TOML has no tuples."""
    return tuple(value) if isinstance(value, list) and get_origin(hint) is tuple else value


def _by_field(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """Return errors with those of one field, which tries several types, as one that wants any of them."""
    found: dict[str, dict[str, Any]] = {}
    for item in errors:
        first = found.setdefault(str(item["loc"][0]), {**item, "loc": item["loc"][:1]})
        if first["msg"] != item["msg"]:
            first["msg"] = f"{first['msg']} or {item['msg'].removeprefix('Input should be ')}"
    return list(found.values())


def _problem(item: Any) -> str:
    name = printable(".".join(str(part) for part in item["loc"]))
    if item["type"] == "missing":
        return f"{name} is missing"
    return f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, got {quote(item['input'])}"


def _refuse_unknown(section: str, table: Section, known: set[str], about: str) -> None:
    """Raise JobError naming the fields of a table that nobody knows, and the known ones."""
    unknown = sorted(set(table) - known)
    if unknown:
        guess = did_you_mean(unknown[0], known)
        listed = ", ".join(sorted(known)) or "none"
        raise JobError(f"[{section}] unknown fields [{name_some(unknown)}].{guess} Known: {listed}; {about}.")
