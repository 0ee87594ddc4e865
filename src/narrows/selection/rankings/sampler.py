"""Rank by how likely the trained sampler is to make an object."""

from collections.abc import Sequence

import numpy as np

from narrows.selection.guide import Guide
from narrows.selection.rankings.base import AbstractOwnRanking, RankedRun, RankingTask
from narrows.selection.rows import Shortlist


class Sampler(AbstractOwnRanking):
    """Rank by the log-probability, in nats, under the policies of the newest checkpoints; of several, under their even mixture.

    A single object that a proxy is wrong about leads the proxy's list, and does not lead the sampler's, which has learned from
    many (`docs/robustness_results.md`): worth a try where the proxy is poor and training was short.
    """

    name = "sampler"
    noun = "log-probability"
    meaning = (
        "By how likely the trained sampler is to make an object. It has learned from many scores, which smooths over single "
        "ones that are wrong."
    )

    def label(self, guide: Guide, kappa: float) -> str:
        return "probability under the sampler"

    def title(self, guide: Guide) -> str:
        return "how likely the sampler itself is to make them"

    def rank(self, task: RankingTask) -> Shortlist:
        run, objects = task.runs[0], task.scored.candidates.objects
        if run.is_noisy:
            raise ValueError("by = sampler needs to know how likely an object is, which noise hides. Use --by expected.")
        if not run.is_tree:
            raise ValueError(
                f"by = sampler needs to know how likely an object is, and objects of {run.env_name} can be made in several "
                "ways. Use --by mean."
            )
        untrained = [run.missing_model for run in task.runs if run.missing_model is not None]
        if untrained:
            cure = "Wait for the next checkpoint, or `narrows resume` the run, or use --by mean."
            raise ValueError(f"there is no trained sampler to rank by: {'; '.join(untrained)}. {cure}")
        return task.choose(task.scored, mixed_log_likelihoods(task.runs, objects))


def mixed_log_likelihoods(runs: Sequence[RankedRun], objects: Sequence[str]) -> np.ndarray:
    """Return the log-probability of each object under the even mixture of the policies of some runs, shape `[object]`."""
    each = [run.log_likelihoods(objects) for run in runs]
    return np.logaddexp.reduce(np.stack(each), axis=0) - np.log(len(each))
