"""Configurations: frozen dataclasses that go to JSON and back."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self


class GradientBound(NamedTuple):
    """A bound on the error of an entry of a gradient, in fp32.

    A bias's gradient is a sum over tokens that may cancel to next to nothing while the errors in it do not, so a share of a
    tensor's own size alone bounds nothing.

    Attributes:
        of_tensor: share of the largest entry of its tensor.
        of_model: share of the largest entry of all, which counts where it is more.
    """

    of_tensor: float
    of_model: float

    def __str__(self) -> str:
        return (
            f"an entry of a gradient is off by at most {self.of_tensor:.0%} of its tensor's largest, or {self.of_model:.1%} of "
            "the model's where that is more"
        )

    def allowed(self, tensor: float, model: float) -> float:
        """Return the bound where the largest entries of a tensor and of the whole gradient are known."""
        return max(self.of_tensor * tensor, self.of_model * model)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """The configuration of a method; frozen, with a name and a way to JSON.

    Attributes:
        modules_to_save: names of the head's modules; None for everything outside the encoder.
        keep_base_copy: keep the values before training of all that is trained, for `unload` and `disable_adapter`.
        ffn_pairs: names (up, down) of the linears of feed-forwards, instead of looking for them.
    """

    method: ClassVar[str]
    small_adapter: ClassVar[str] = ""
    """Advice that keeps an adapter's file small, where priming can make it large."""

    modules_to_save: Sequence[str] | None = None
    keep_base_copy: bool = False
    ffn_pairs: Sequence[tuple[str, str]] | None = None

    @property
    def gradient_bound(self) -> GradientBound | None:
        """The bound on the error of gradients; None where they are exact up to rounding."""
        return None

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


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    """Raise ValueError where a setting is none of the known values."""
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, got {value!r}.")


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_to_json(item) for item in value]
    return "callable" if callable(value) else value


def _from_json(value: Any) -> Any:
    """Return lists as tuples, which is what frozen fields hold, and keys that are numbers as numbers again."""
    if isinstance(value, Mapping):
        return {int(key) if str(key).isdigit() else key: _from_json(item) for key, item in value.items()}
    return tuple(_from_json(item) for item in value) if isinstance(value, (list, tuple)) else value
