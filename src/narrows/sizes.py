"""Bounds of the integers that a user gives, so that a slip of the hand is a sentence and no crash.

A bound stands in the annotation of the parameter; `int` alone means `MOST`. What keeps to the bounds may still need more
memory than there is, which depends on the machine and is looked at where a run begins.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

MOST = 1_000_000
"""Of what takes room: units, items, letters, rows. Products of three of them are still counted in 64 bits."""


class Within(NamedTuple):
    """The least and the largest value of an integer; None as the least leaves it to whoever takes the number."""

    least: int | None
    most: int


Count: TypeAlias = Annotated[int, Within(None, 2**31 - 1)]
"""Of what happens one after the other or is bounded by memory alone: steps, epochs, edits, what a ring keeps."""
Few: TypeAlias = Annotated[int, Within(None, 1000)]
"""Of what is built one by one: layers, blocks, networks."""
Port: TypeAlias = Annotated[int, Within(0, 65_535)]
"""Of an address on this machine; 0 is a free one."""
Seed: TypeAlias = Annotated[int, Within(0, 2**32 - 1)]
"""Of random numbers: what every generator takes."""

_PLAIN = Within(None, MOST)


def check_sizes(function: Callable[..., Any], values: Mapping[str, Any], shown: Callable[[str], str] = str) -> None:
    """Raise ValueError naming the first integer that is beyond the bound in a function's annotation.

    Args:
        function: whose parameters the values are for.
        values: by the name of the parameter; what is no integer is let through.
        shown: how a name is written for whoever gave the value.

    >>> def wait(steps: Count, layers: Few = 2) -> None: ...
    >>> check_sizes(wait, {"steps": 10**9, "layers": 2000})
    Traceback (most recent call last):
    ValueError: layers must be at most 1,000, got 2,000.
    """
    hints = get_type_hints(function, include_extras=True)
    for name, value in values.items():
        within = next(_bounds(hints.get(name)), _PLAIN)
        for number in value if isinstance(value, tuple | list) else (value,):
            if not isinstance(number, int):
                continue
            if number > within.most:
                raise ValueError(f"{shown(name)} must be at most {within.most:,}, got {number:,}.")
            if within.least is not None and number < within.least:
                raise ValueError(f"{shown(name)} must be at least {within.least:,}, got {number:,}.")
            if number < -within.most:
                raise ValueError(f"{shown(name)} must be at least {-within.most:,}, got {number:,}.")


def _bounds(hint: Any) -> Iterator[Within]:
    """Yield the bounds in an annotation, such as in `Count | None`."""
    if get_origin(hint) is Annotated:
        yield from (extra for extra in hint.__metadata__ if isinstance(extra, Within))
    for part in get_args(hint):
        yield from _bounds(part)
