"""Rank by the mean score over an object and all that is a letter away from it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from narrows.alphabet import reverse_complements
from narrows.search import Score, Space, distinct, num_edits, substitutions
from narrows.selection.digits import rounded
from narrows.selection.guide import Guide
from narrows.selection.rankings.base import AbstractOwnRanking, RankingTask
from narrows.selection.rows import Shortlist

_ASKED = 1 << 17
"""Neighbours whose score is asked: of all candidates, or of those with the best means that have so many."""
_ROWS_TOGETHER = 1 << 20


class Neighbourhood(AbstractOwnRanking):
    """Rank by the mean score over all substitutions of a letter, and the object itself.

    Where there are many neighbours, candidates with the best means are ranked, and more of them if these do not fill the list.
    """

    name = "neighbourhood"
    noun = "mean over its neighbourhood"
    meaning = (
        "By the mean score over an object and all others that differ from it in one letter: a single object that the score is "
        "wrong about has neighbours that do not agree with it. With both strands read as one, over these too."
    )

    def label(self, guide: Guide, kappa: float) -> str:
        return f"{guide.mean} over all single substitutions"

    def title(self, guide: Guide) -> str:
        return f"{guide.mean} over all single substitutions"

    def rank(self, task: RankingTask) -> Shortlist:
        run, scored = task.runs[0], task.scored
        if run.letters is None:
            raise ValueError(
                f"by = neighbourhood replaces letters, and the objects are those of {run.env_name}. Use --by mean."
            )
        if run.is_user_score:
            raise ValueError("by = neighbourhood would ask your score for every neighbour of every candidate. Use --by mean.")
        objects = scored.candidates.objects
        lengths = [len(text) for text in objects]
        space = Space(run.letters, min(lengths), max(1, *lengths))
        is_measured = np.array([text in task.measured for text in objects], bool)
        order = np.argsort(-scored.mean, kind="stable")
        order = order[~is_measured[order]]
        edits = num_edits(Space(run.letters, space.max_length, space.max_length))
        size = len(order) if space.num_objects <= _ASKED else max(task.k, _ASKED // edits)
        values, num = np.zeros(len(objects)), 0
        while True:
            new = order[num:size]
            texts = [objects[place] for place in new.tolist()]
            values[new] = neighbourhood_means(run.predict, texts, space, both_strands=task.both_strands)
            num = min(size, len(order))
            # Measured ones come along so that they are counted as left out; what ranks them is never read.
            ranked = np.concatenate([np.sort(order[:num]), np.flatnonzero(is_measured)])
            chosen = task.choose(scored.at(ranked), rounded(values[ranked]))
            if len(chosen.rows) == task.k or num == len(order):
                return chosen
            size *= 4


def neighbourhood_means(
    predict: Score, objects: Sequence[str], space: Space, *, both_strands: bool
) -> Float[np.ndarray, " object"]:
    """Return the mean score over each object and its single substitutions, each distinct text asked for once.

    Args:
        predict: the scores of any texts.
        objects: texts of the space.
        space: which texts there are.
        both_strands: a text scores the mean of itself and its reverse complement.
    """
    if not objects:
        return np.zeros(0)
    known: dict[str, float] = {}
    means, together = [], max(1, _ROWS_TOGETHER // num_edits(Space(space.alphabet, space.max_length, space.max_length)))
    for start in range(0, len(objects), together):
        rows = space.read(objects[start : start + together])
        edited, origin = substitutions(rows, space)
        unique, place = distinct(np.concatenate([rows, edited]))
        texts = space.write(unique)
        others = reverse_complements(texts, space.alphabet) if both_strands else texts
        new = [text for text in dict.fromkeys([*texts, *others]) if text not in known]
        known.update(zip(new, predict(new).tolist() if new else [], strict=True))
        scores = np.array([(known[text] + known[other]) / 2 for text, other in zip(texts, others, strict=True)])[place]
        totals = scores[: len(rows)] + np.bincount(origin, scores[len(rows) :], len(rows))
        means.append(totals / (1 + np.bincount(origin, minlength=len(rows))))
    return np.concatenate(means)
