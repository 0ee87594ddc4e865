"""Steepest ascent by single edits, from one start after another."""

import numpy as np

from narrows.search.edits import num_edits, single_edits
from narrows.search.problem import Asked, Found, Problem

_MOST_TOGETHER = 32
"""Starts that climb side by side at most: enough for large batches."""
_STEPS = 10
"""Steps that a climb may take within the budget, about: fewer starts go side by side where the best would not arrive else."""


def hill_climb(problem: Problem, budget: int, seed: int = 0) -> Found:
    """Climb from the starts in their order, by the best single edit each time, until nothing improves.

    A step weighs all substitutions of a letter, and where the length is free all insertions and deletions; of equal ones the
    first in the order of `single_edits` is taken. A path that meets another one ends there. Nothing is drawn by chance, so
    that the seed has no say.

    Args:
        problem: what is searched; without starts nothing is.
        budget: the most distinct objects whose score is asked.
        seed: without use here.

    >>> from narrows.search.space import Space
    >>> count = lambda texts: np.array([float(text.count("C")) for text in texts])
    >>> hill_climb(Problem(count, Space("AC", 2, 2), ("AA",), np.zeros(1)), 10).objects
    ('CA', 'AC', 'CC')
    """
    asked, space, visited = Asked(problem, budget), problem.space, set[str]()
    together = min(_MOST_TOGETHER, max(1, budget // (_STEPS * num_edits(space))))
    for first in range(0, len(problem.starts), together):
        texts = list(problem.starts[first : first + together])
        while True:
            texts = [text for text in dict.fromkeys(texts) if text not in visited]
            if not texts or asked.is_spent:
                break
            visited.update(texts)
            edited, origin = single_edits(space.read(texts), space)
            scores = asked(space.write(edited))
            # The best edit of each, the first of several: sorted by origin, then from the best down, then as they came.
            order = np.lexsort((-scores, origin))
            best = order[np.searchsorted(origin[order], np.unique(origin))]
            better = scores[best] > asked(texts)[origin[best]]
            texts = space.write(edited[best[better]])
    return asked.found()
