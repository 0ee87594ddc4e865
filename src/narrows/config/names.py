"""The names that a job may use, by section, and the constructor that each stands for: what the rooms list as `__all__`."""

from collections.abc import Callable, Mapping
from enum import Enum
from types import ModuleType
from typing import Any, Final

from narrows import envs, noise, objectives, policies, proxies, rewards
from narrows.training import exploration

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
    "exploration": _names(exploration),
}
USUAL_NAMES: Final = {"policy": "MLP", "objective": "TrajectoryGeneralMellowmax", "exploration": "FromScratch"}
"""The name that a section has where a job gives none."""
CONTEXT: Final[dict[str, tuple[str, ...]]] = {
    "env": (),
    "noise": ("env",),
    "reward": ("env",),
    "policy": ("sizes", "key"),
    "objective": (),
    "exploration": (),
}
"""Arguments of the constructors that follow from the rest of a job, so that no field gives them."""


SCORE = "Score"
"""The reward that a job names when the score is a function the user gives on the command line."""


class RewardKind(Enum):
    """What guides a run: a function of the user's, a model fitted to measurements, or a score that is known exactly."""

    USER = "user"
    FITTED = "fitted"
    EXACT = "exact"


def reward_kind(name: str) -> RewardKind:
    """Return the kind of a reward that a job may name."""
    if name == SCORE:
        return RewardKind.USER
    return RewardKind.EXACT if proxy_class(name) is None else RewardKind.FITTED


def proxy_class(name: str) -> type[proxies.AbstractProxy] | None:
    """Return the class of the proxy that a job names as its reward, None where the reward is none."""
    made = NAMES["reward"].get(name)
    return made if isinstance(made, type) and issubclass(made, proxies.AbstractProxy) else None
