"""What a run does: tasks, wrong proxies, seeds, the methods that are compared, and the grid that each is tuned on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks._laws import tgm_name
from benchmarks._robustness import tasks
from benchmarks._robustness.proxies import ENTRIES, Lesson
from benchmarks._robustness.training import Recipe
from narrows.objectives import (
    DiscreteSAC,
    LaggedGeneralMellowmax,
    MunchausenDQN,
    ProximalPolicy,
    SoftQ,
    TrajectoryGeneralMellowmax,
)
from narrows.objectives.base import AbstractObjective

OMEGA, ALPHA = 1.0, 1.0
QS = (0.25, 0.5, 0.75, 1.0)
RANDOM = "random search"
GFLOWNET = "GFlowNet"
LAG = 0.9
LAGGED, VALUED = "lagged TGM", "GFlowNet with values"
_PERIOD = 5


@dataclass(frozen=True)
class Method:
    """A way to train."""

    name: str  # what rows and tables call it
    objective: AbstractObjective  # its loss
    q: float | None = None  # of a TGM in its published form; None for the others
    twin: str = GFLOWNET  # the GFlowNet that its controls are trained as: what it has beside its operator, they have too

    def temperature_factor(self, stop: int) -> float:
        """How many times the exponent beta a GFlowNet needs to be as sharp as this one after so many batches.

        That of its logits where the reference is its own (tgm 6.4). A lagged one has made `stop` exact steps at most.
        """
        if isinstance(self.objective, LaggedGeneralMellowmax):
            return OMEGA * (1.0 - self.objective.q**stop)
        return OMEGA + (self.q or 0.0) * ALPHA


_GFLOWNET = Method(GFLOWNET, TrajectoryGeneralMellowmax(OMEGA, 0.0, 0.0))
TGMS = tuple(Method(tgm_name(q), TrajectoryGeneralMellowmax(OMEGA, ALPHA, q), q) for q in QS)
METHODS = (
    _GFLOWNET,
    *TGMS,
    Method("soft Q-learning", SoftQ()),
    # The published periods, 100 and 500 steps, are longer than what a value takes to get from the end to the root here.
    Method("Munchausen DQN", MunchausenDQN(target_period=_PERIOD)),
    # Where the temperature is tuned the reward does not matter; held fixed, beta is its inverse, as for all others.
    Method("discrete SAC", DiscreteSAC(temperature=1.0, tunes_temperature=False, target_period=_PERIOD)),
    Method("PPO", ProximalPolicy()),
    Method(VALUED, LaggedGeneralMellowmax(OMEGA, 0.0)),
    Method(LAGGED, LaggedGeneralMellowmax(OMEGA, LAG), twin=VALUED),
)
TWINS = tuple(dict.fromkeys(method.twin for method in METHODS))


def controlled_by(twin: str) -> tuple[str, ...]:
    """Return the names of what has controls that are trained as this GFlowNet."""
    return tuple(method.name for method in METHODS if method.twin == twin and method.name in {*map(tgm_name, QS), LAGGED})


def named(name: str) -> Method:
    """Return the method of a name."""
    return next(method for method in METHODS if method.name == name)


class Level(NamedTuple):
    """How wrong a proxy is made, and how it is used."""

    size: int  # objects that it learns from
    entry: str  # how the ensemble enters the reward

    def __str__(self) -> str:
        return f"{self.size} {self.entry}"


LEVELS = (*(Level(size, ENTRIES[0]) for size in (50, 200, 1000)), *(Level(200, entry) for entry in ENTRIES[1:]))


@dataclass(frozen=True)
class Plan:
    """What one run measures."""

    # names of `tasks.NAMES`. The long Ehrlich function is not among the full run's: its proxies learn next to nothing, and it
    # takes as long as the others together.
    tasks: tuple[str, ...] = tuple(name for name in tasks.NAMES if name != "ehrlich/long")
    levels: tuple[Level, ...] = LEVELS  # of wrongness
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)  # a seed decides what was measured, the proxy, and the policy's start
    # of the trainings that choose a learning rate, at `tuning_level`; they are reported nowhere
    tuning_seeds: tuple[int, ...] = (100, 101)
    tuning_level: Level = Level(200, "mean")
    # betas, rates: the grid. The exponent and the stop are chosen for each seed by how the others fared, the rate by the tuning
    # seeds.
    betas: tuple[float, ...] = (3.0, 10.0, 30.0)
    rates: tuple[float, ...] = (2e-4, 5e-4, 2e-3)
    # further exponents of the GFlowNet, for its entropy as a function of the exponent alone
    wider: tuple[float, ...] = (100.0,)
    # recipe, lesson: of policies and proxies
    recipe: Recipe = field(default_factory=Recipe)
    lesson: Lesson = field(default_factory=Lesson)
    num_chosen: int = 24  # k, the length of a shortlist
    num_visited: int = 200  # samples of a GFlowNet that proxies are judged on as well

    def of_family(self, family: str) -> tuple[str, ...]:
        """Return the tasks of a family."""
        return tuple(name for name in self.tasks if name.split("/")[0] == family)


class Place(NamedTuple):
    """Where a job finds what it needs and leaves what it found."""

    tables: Path
    results: Path


FULL = Plan()
QUICK = Plan(
    tasks=("tfbind8/SIX6", "ehrlich/short"),
    levels=(Level(50, "mean"), Level(200, "mean")),
    seeds=(0, 1),
    tuning_seeds=(),
    betas=(2.0, 8.0),
    rates=(3e-3,),
    wider=(),
    recipe=Recipe(stops=(10, 30), num_samples=512),
    lesson=Lesson(pool=1000, num_steps=200, num_fresh=300, members=3),
    num_visited=50,
)
