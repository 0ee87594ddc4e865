"""From what a policy drew to a shortlist, in the same way for every method, and what that shortlist is worth."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks._robustness.proxies import Measured, Scale
from benchmarks._robustness.tasks import Task
from narrows.distance import EDITS
from narrows.selection import choose_diverse

LIKELIEST, GREEDY, DRAWN = "likeliest", "greedy", "in order"
RULES = (LIKELIEST, GREEDY, DRAWN)
"""By the sampler's own probability, by the proxy's score, or in the order in which objects were drawn.

All keep a least distance. The first is what methods are tuned and compared by.
"""


class Sampled(NamedTuple):
    """What is known of drawn objects: the proxy's standardised score, and the log-probability of being drawn."""

    phi: Float[np.ndarray, " sample"]
    log_prob: Float[np.ndarray, " sample"]


class Worth(NamedTuple):
    """What a shortlist is worth, scores in standard deviations of the truth above its mean over random objects."""

    mean: float  # true score; a place that could not be filled counts as the worst random object
    best: float  # true score of the best one
    proxy: float  # what the proxy says of them on average, in its own standard deviations over random objects
    diversity: float  # mean edits between two of them; 0 below two
    novelty: float  # mean edits to the nearest object that the proxy learned from
    feasible: float  # how many of them can exist
    kept: float  # how many there are


def shortlists(task: Task, scale: Scale, measured: Measured, texts: Sequence[str], drawn: Sampled, k: int) -> dict[str, Worth]:
    """Return what each choice among drawn objects is worth."""
    # A sampler to which all objects are alike, random search, leaves the choice to the proxy.
    likeliest = np.empty(len(texts))
    likeliest[np.lexsort((drawn.phi, drawn.log_prob))] = np.arange(len(texts))
    order = {LIKELIEST: likeliest, GREEDY: drawn.phi, DRAWN: -np.arange(len(texts), dtype=np.float64)}
    return {rule: _worth(task, scale, measured, texts, drawn.phi, order[rule], k) for rule in RULES}


def _worth(
    task: Task,
    scale: Scale,
    measured: Measured,
    texts: Sequence[str],
    phi: Float[np.ndarray, " sample"],
    order: Float[np.ndarray, " sample"],
    k: int,
) -> Worth:
    kept = choose_diverse(texts, order, k=k, min_distance=task.min_distance).kept
    chosen = [texts[int(place)] for place in kept]
    scores = (task.truth(chosen) - scale.mean) / scale.std
    # Were it worth 0, one that collapses would look better than one that fills its list with what scores below that.
    empty = (k - len(kept)) * (scale.least - scale.mean) / scale.std
    return Worth(
        float(np.sum(scores) + empty) / k,
        float(np.max(scores)),
        float(np.mean(phi[kept])),
        EDITS.mean(chosen) if len(chosen) > 1 else 0.0,
        float(np.mean(EDITS.nearest(chosen, measured.texts).distance)),
        float(np.sum(task.is_feasible(chosen))),
        float(len(chosen)),
    )
