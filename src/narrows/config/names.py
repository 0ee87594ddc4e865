"""The names that a job may use, by section, and the constructor that each stands for: what the rooms list as `__all__`."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from narrows import envs, noise, objectives, policies, proxies, rewards

Names = Mapping[str, Callable[..., Any]]


def _names(*rooms: ModuleType) -> Names:
    return {name: getattr(room, name) for room in rooms for name in room.__all__}


OLD_NAMES: Final = {"Outcome": rewards.GameResult}
"""Names of rewards in jobs of earlier releases; they are read, and shown to nobody."""
NAMES: Final[dict[str, Names]] = {
    "env": _names(envs),
    "noise": _names(noise),
    "reward": {**_names(rewards, proxies), **OLD_NAMES},
    "policy": _names(policies),
    "objective": _names(objectives),
}
