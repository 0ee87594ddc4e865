"""The candidates of a shortlist: distinct objects with the run and the step that first saw them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int

from narrows.storage.archive import Archive


class Run(NamedTuple):
    """A run by name, and its seed where one is known."""

    name: str
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """`n` objects; object `i` was first seen by `runs[run_index[i]]` at `steps[i]`.

    `run_index` and `steps` are int64 of shape `[n]`; a step below 0 is not known.
    """

    objects: tuple[str, ...]
    runs: tuple[Run, ...]
    run_index: np.ndarray
    steps: np.ndarray

    def __post_init__(self) -> None:
        lengths = {"objects": len(self.objects), "run_index": len(self.run_index), "steps": len(self.steps)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected one run and one step an object, got {lengths}.")
        if len(self.run_index) and not 0 <= self.run_index.min() <= self.run_index.max() < len(self.runs):
            raise ValueError(f"run_index must lie in 0..{len(self.runs) - 1}, the positions in runs.")


@dataclass(frozen=True, eq=False)
class ScoredCandidates:
    """Candidates and what is known of their scores, asked for when it is needed.

    Args:
        candidates: `n` of them.
        score: from the places of some candidates to their mean scores and standard deviations, NaN where one is not known.
        num_passed_over: objects of the runs that scored too low to be among them.
        conflicts: says that some came with several scores; None where none did.
        searched: says how many are there that no sampler saw; None where there are none.
    """

    candidates: Candidates
    score: Callable[[Int[np.ndarray, " some"]], tuple[np.ndarray, np.ndarray]]
    num_passed_over: int = 0
    conflicts: str | None = None
    searched: str | None = None

    @classmethod
    def of(cls, candidates: Candidates, mean: np.ndarray, std: np.ndarray) -> Self:
        """Return candidates whose scores are known, shape `[n]`."""
        return cls(candidates, lambda places: (mean[places], std[places]))

    @property
    def num(self) -> int:
        return len(self.candidates.objects)

    @cached_property
    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        return self.score(np.arange(self.num))

    @property
    def mean(self) -> Float[np.ndarray, " n"]:
        """The mean score of every candidate."""
        return self._all[0]

    @property
    def std(self) -> Float[np.ndarray, " n"]:
        """The standard deviation of every candidate, NaN where it is not known."""
        return self._all[1]

    def _at(self, places: Int[np.ndarray, " some"]) -> tuple[np.ndarray, np.ndarray]:
        if "_all" not in vars(self):
            return self.score(places)
        mean, std = self._all
        return mean[places], std[places]

    def at(self, places: Int[np.ndarray, " some"]) -> "ScoredCandidates":
        """Return the candidates at some places, in that order."""
        found = self.candidates
        objects = tuple(found.objects[place] for place in places.tolist())
        part = Candidates(objects, found.runs, found.run_index[places], found.steps[places])
        return replace(self, candidates=part, score=lambda some: self._at(places[some]))

    def refuse(self, is_wrong: np.ndarray, values: np.ndarray, expected: str, cure: str = "") -> None:
        """Raise ValueError naming the first candidate whose value is wrong, and how many are."""
        if is_wrong.any():
            index = int(np.flatnonzero(is_wrong)[0])
            raise ValueError(
                f"{expected}: got {values[index]} for candidate {index} ({self.candidates.objects[index]!r}), "
                f"{int(is_wrong.sum())} such candidates in all. {cure}".rstrip()
            )


def candidates_from_archive(archive: Archive, run: Run) -> Candidates:
    """Return every object of an archive, best log-reward first."""
    objects, _, steps = archive.entries()
    return Candidates(objects, (run,), np.zeros(len(objects), np.int64), steps)


def candidates_from_objects(objects: Sequence[str]) -> Candidates:
    """Return objects that came from nowhere in particular, in their order."""
    num = len(objects)
    return Candidates(tuple(objects), (Run(""),), np.zeros(num, np.int64), np.full(num, -1, np.int64))


def merge_candidates(parts: Sequence[Candidates]) -> Candidates:
    """Return the distinct objects of several runs; one that is in many keeps its first run and there its first step.

    >>> first = Candidates(("ACGU", "GGGG"), (Run("a", seed=0),), np.array([0, 0]), np.array([7, 2]))
    >>> second = Candidates(("CCCC", "ACGU"), (Run("b", seed=1),), np.array([0, 0]), np.array([1, 3]))
    >>> merged = merge_candidates([first, second])
    >>> merged.objects, merged.run_index.tolist(), merged.steps.tolist()
    (('ACGU', 'GGGG', 'CCCC'), [0, 0, 1], [7, 2, 1])
    """
    if not parts:
        raise ValueError("expected the candidates of at least one run, got none.")
    runs = tuple(run for part in parts for run in part.runs)
    objects = [name for part in parts for name in part.objects]
    offsets = np.cumsum([0, *(len(part.runs) for part in parts)])
    run_index = np.concatenate([part.run_index + offset for part, offset in zip(parts, offsets[:-1], strict=True)])
    steps = np.concatenate([part.steps for part in parts])
    first: dict[str, int] = {}
    for position in np.lexsort((steps, run_index)).tolist():
        first.setdefault(objects[position], position)
    chosen = sorted(first.values())
    return Candidates(tuple(objects[i] for i in chosen), runs, run_index[chosen], steps[chosen])
