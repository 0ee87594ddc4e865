"""What a job leaves to be found: a temperature as sharp as its list needs, and how far to go from the data."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from narrows.config import Job, JobError, RewardKind, build, build_env, quality_of_proxy
from narrows.config.settings import AUTO
from narrows.envs import Sequence as Sequences
from narrows.outcomes.scoring import scores_of_texts
from narrows.rewards import AbstractReward, UnwrapPerturbed
from narrows.search import Space, find_temperature

_ROOM = 100
"""Objects for each row of the list over which a sampler spreads: enough to choose rows from that are far apart."""


def with_temperature(job: Job) -> Job:
    """Return the job with what it leaves to be found: `[near] limit = "auto"` and `[reward] beta = "auto"`.

    The limit is the distance up to which the proxy's fit found it to be better than the mean, none where that is not known. The
    inverse temperature is the one at which the policy of the job's objective, as greedy in a step as `(omega + q alpha) beta`
    is (tgm 6.4), has the entropy of a uniform choice among 100 objects for each row of the list.

    Raises JobError for a reward that is the user's own, and for objects that are no sequences.
    """
    job = _with_limit(job)
    if job.reward["beta"] != AUTO:
        return job
    env = build_env(job)
    if job.reward_kind is RewardKind.USER or not isinstance(env, Sequences):
        raise JobError('[reward] beta = "auto" needs a reward of sequences that is no function of your own. Give a number.')
    reward = build(replace(job, reward={**job.reward, "beta": 1.0})).reward
    reward = reward.reward if isinstance(reward, UnwrapPerturbed) else reward
    assert isinstance(reward, AbstractReward), "a score of the user's was refused"
    centred = reward.centred()

    def score(texts: Sequence[str]) -> np.ndarray:
        return scores_of_texts(centred, env, texts)

    space = Space(env.alphabet, env.min_length, env.max_length)
    found = find_temperature(score, space, _ROOM * job.shortlist.k, job.seed)
    greed = job.objective.get("omega", 1.0) + job.objective.get("q", 0.0) * job.objective.get("alpha", 0.0)
    return replace(job, reward={**job.reward, "beta": float(f"{found.beta / greed:.4g}")})


def _with_limit(job: Job) -> Job:
    if job.near is None or job.near.limit != AUTO:
        return job
    quality = quality_of_proxy(job)
    limit = None if quality is None else quality.trusted_distance
    return replace(job, near=replace(job.near, limit=limit) if limit is not None or job.near.penalty else None)
