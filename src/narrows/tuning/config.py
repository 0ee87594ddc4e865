"""Configurations: frozen dataclasses that go to JSON and back."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """What the configurations of all methods share: a name and the way to JSON."""

    method: ClassVar[str]
    small_adapter: ClassVar[str] = ""
    """How to keep an adapter's file small, where priming can make it large."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them; a function, which a file cannot hold, becomes the word `callable`."""
        return {field.name: _to_json(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that `to_dict` described.

        Keys that this version does not know are left out with a warning, so that a file of a later version still opens.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = [key for key in values if key not in names]
        if unknown:
            warnings.warn(
                f"{cls.__name__} does not know {', '.join(sorted(unknown))}; left out. The file may be of a later version.",
                stacklevel=2,
            )
        return cls(**{key: _from_json(value) for key, value in values.items() if key in names})


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_to_json(item) for item in value]
    return "callable" if callable(value) else value


def _from_json(value: Any) -> Any:
    """Lists become tuples, which is what frozen fields hold; keys that are numbers become numbers again."""
    if isinstance(value, Mapping):
        return {int(key) if str(key).isdigit() else key: _from_json(item) for key, item in value.items()}
    return tuple(_from_json(item) for item in value) if isinstance(value, (list, tuple)) else value
