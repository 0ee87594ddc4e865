"""How likely the policies of one or more runs are to make their candidates."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from narrows.commands.adversary import TrainedRun
from narrows.config import SCORE, Job, JobError, build, build_env
from narrows.metrics.likelihood import is_tree, log_likelihood
from narrows.runs import RunFolder


def log_likelihoods(folders: Sequence[RunFolder], jobs: Sequence[Job], objects: Sequence[str]) -> Float[np.ndarray, " object"]:
    """Return the log-probability of each object under the newest checkpoints of runs; of several, under their even mixture.

    Raises JobError where it cannot be told: under noise, and where an object can be made in several ways.
    """
    env = build_env(jobs[0])
    if jobs[0].noise is not None:
        raise JobError("by = sampler needs to know how likely an object is, which noise hides. Use --by expected.")
    if not is_tree(env):
        raise JobError(
            f"by = sampler needs to know how likely an object is, and objects of {type(env).__name__} can be made in several "
            "ways. Use --by mean."
        )
    terminal = env.from_text(objects)
    # The score is not asked: the policy alone speaks.
    parts = [build(job, _unasked if job.reward["name"] == SCORE else None) for job in jobs]
    each = [
        log_likelihood(TrainedRun(folder, job, part).model, env, terminal)
        for folder, job, part in zip(folders, jobs, parts, strict=True)
    ]
    return np.logaddexp.reduce(np.stack(each), axis=0) - np.log(len(each))


def _unasked(objects: Sequence[str]) -> np.ndarray:
    raise AssertionError(f"the score of {len(objects)} objects was asked for, though nothing is trained.")
