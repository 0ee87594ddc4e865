"""Narrow a combinatorial set too large to list to a small, diverse shortlist that holds up when the score is wrong.

Importing this package loads neither JAX nor PyTorch: its rooms are imported when they are asked for. `narrows.commands` has
what a user does, one function each; the other rooms have the parts.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = (
    "commands config data envs exact games metrics noise objectives operators outcomes policies proxies report rewards runs "
    "scorers selection storage training trajectories tuning vi"
)

__all__ = _ROOMS.split()  # pyright: ignore[reportUnsupportedDunderAll]  # modules, which no statement here imports


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"narrows.{name}")
    raise AttributeError(f"module 'narrows' has no attribute {name!r}. It has: {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
