"""The measured objects that a run trains on beside those that it samples."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from narrows.config import Job, JobError, Parts
from narrows.data import Table
from narrows.envs import AbstractEnvironment
from narrows.envs import Sequence as Sequences
from narrows.scorers import HostReward
from narrows.search import Space
from narrows.training import Given


def given_objects(job: Job, parts: Parts, table: Table | None) -> dict[str, Given]:
    """Return what a trainer takes of the measured objects, nothing where the job trains on none; JobError without any."""
    if job.train.given_per_step == 0:
        return {}
    if table is None:
        raise JobError("[train] given_per_step needs measurements to train from. Add a [data] table or set it to 0.")
    held = _made_by(parts.env, table.sequences)
    if not held.any():
        raise JobError(
            "[train] given_per_step needs measured objects that [env] makes, and it makes none of those in [data]. Change the "
            "lengths or letters of [env], or set it to 0."
        )
    states = parts.env.from_text([text for text, is_held in zip(table.sequences, held.tolist(), strict=True) if is_held])
    # The sampler learns one law, so measured objects count with the proxy's score; a slow score is not asked again.
    log_reward = parts.beta * table.scores[held] if isinstance(parts.reward, HostReward) else parts.reward.in_double(states)
    return {"given": Given(states, log_reward, job.train.given_per_step)}


def _made_by(env: AbstractEnvironment, objects: Sequence[str]) -> Bool[np.ndarray, " object"]:
    """Return which objects have the letters and a length that an environment makes."""
    if not isinstance(env, Sequences):
        return np.ones(len(objects), bool)
    return Space(env.alphabet, env.min_length, env.max_length).holds(objects)
