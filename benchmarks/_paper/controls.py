"""The two controls of tgm 6.4 for the TGM whose q was chosen: a GFlowNet of its temperature, and one of its entropy."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks._laws import matching_beta
from benchmarks._paper.plan import CONTROLS, GFN, TGMS, Plan, Size, temperature_factor
from benchmarks._paper.trainings import TASKS, Outcome, Setting, Tuned, trained
from benchmarks._robustness.methods import ENTROPY, TEMPERATURE
from benchmarks.rows import Row


class Control(NamedTuple):
    """A GFlowNet that stands beside a TGM, and the exponent that it was given for it."""

    beta: float
    outcome: Outcome


def control_job(plan: Plan, folder: Path, size: Size, name: str, ours: Tuned, plain: Tuned, seed: int) -> dict[str, Control]:
    """Return the controls of a TGM on one of the seeds that are reported, by what they match.

    Args:
        plan, folder, size: as for every training.
        name: of the TGM.
        ours: what it came to.
        plain: what the GFlowNet came to; the controls learn at its rate.
        seed: one of the plan's.
    """
    place = plan.seeds.index(seed)

    def gflownet(beta: float) -> Control:
        return Control(beta, trained(plan, folder, size, GFN, Setting(beta, plain.best.rate), seed))

    wanted = ours.found[place].entropy
    even = gflownet(ours.best.beta * temperature_factor(TGMS[name]))
    known = [even, Control(plain.best.beta, plain.found[place])]
    # What the exponent does to the entropy is learned from all GFlowNets, and from the one that needs no training: without a
    # reward it has the uniform law.
    elsewhere = [(setting.beta, outcome.entropy) for setting, outcome in plain.grid.items()]
    curve = [(0.0, uniform_entropy(size)), *elsewhere]
    for _ in range(plan.control_rounds):
        points = [*curve, *((one.beta, one.outcome.entropy) for one in known)]
        known.append(gflownet(matching_beta(points, wanted)))
    return {TEMPERATURE: even, ENTROPY: min(known, key=lambda one: abs(one.outcome.entropy - wanted))}


def closed_gaps(differences: Sequence[Row]) -> str:
    """Return the sentence that says which controls are not behind on every seed."""
    of_controls = [row for row in differences if any(name in row.case for name in CONTROLS)]
    closed = [row.case.split("/")[-1] for row in of_controls if (row.value if row.low is None else row.low) <= 0.0]
    if not closed:
        return "Every control is behind on every seed."
    return f"Not ahead on every seed, so that a control closes the gap: {'; '.join(closed)}."


def uniform_entropy(size: Size) -> float:
    """Return the logarithm of how many objects a task has."""
    task = TASKS[size.name]
    lengths = np.arange(task.min_length, task.max_length + 1)
    return float(np.logaddexp.reduce(lengths * np.log(len(task.environment().alphabet))))
