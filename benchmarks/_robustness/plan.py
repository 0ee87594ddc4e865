"""What a run does: tasks, kinds of wrong proxies, seeds, and the grid that every method is tuned on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks._robustness import tasks
from benchmarks._robustness.proxies import ENTRIES, Lesson
from benchmarks._robustness.training import Recipe


class Level(NamedTuple):
    """How wrong a proxy is made, and how it is used.

    Attributes:
        size: objects that it learns from.
        entry: how the ensemble enters the reward.
    """

    size: int
    entry: str

    def __str__(self) -> str:
        return f"{self.size} {self.entry}"


LEVELS = (*(Level(size, ENTRIES[0]) for size in (50, 200, 1000)), *(Level(200, entry) for entry in ENTRIES[1:]))


@dataclass(frozen=True)
class Plan:
    """What one run measures.

    Args:
        tasks: names of `tasks.NAMES`. The long Ehrlich function is not among the full run's: its proxies learn next to nothing,
            and it takes as long as the others together.
        levels: of wrongness.
        seeds: a seed decides what was measured, the proxy, and the policy's start.
        tuning_seeds: of the trainings that choose a learning rate, at `tuning_level`; they are reported nowhere.
        betas, rates: the grid. The exponent and the stop are chosen for each seed by how the others fared, the rate by the
            tuning seeds.
        wider: further exponents of the GFlowNet, for its entropy as a function of the exponent alone.
        recipe, lesson: of policies and proxies.
        num_chosen: k, the length of a shortlist.
        num_visited: samples of a GFlowNet that proxies are judged on as well.
    """

    tasks: tuple[str, ...] = tuple(name for name in tasks.NAMES if name != "ehrlich/long")
    levels: tuple[Level, ...] = LEVELS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tuning_seeds: tuple[int, ...] = (100, 101)
    tuning_level: Level = Level(200, "mean")
    betas: tuple[float, ...] = (3.0, 10.0, 30.0)
    rates: tuple[float, ...] = (2e-4, 5e-4, 2e-3)
    wider: tuple[float, ...] = (100.0,)
    recipe: Recipe = field(default_factory=Recipe)
    lesson: Lesson = field(default_factory=Lesson)
    num_chosen: int = 24
    num_visited: int = 200

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
