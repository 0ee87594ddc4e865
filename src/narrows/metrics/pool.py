"""A pool of samples over a sweep of sampling temperatures, which the diverse top-k metric is taken from."""

from collections.abc import Sequence

import jax
from jaxtyping import PRNGKeyArray

from narrows.envs.base import AbstractEnvironment
from narrows.policies.base import Model
from narrows.trajectories import sample
from narrows.trajectories.behaviour import Behaviour


def temperature_pool(
    key: PRNGKeyArray, model: Model, env: AbstractEnvironment, num: int, multipliers: Sequence[float] = (0.5, 1.0, 2.0)
) -> tuple[str, ...]:
    """Return the distinct objects of `num` samples at each inverse temperature `t` times the policy's own.

    tgm 7.1, step 1: the policy is `softmax(t (q alpha + omega) Q)`. Which multipliers the paper sweeps is not known.

    Raises ValueError for a multiplier that is not positive and finite.
    """
    seen: dict[str, None] = {}
    for index, multiplier in enumerate(multipliers):
        if not 0.0 < multiplier < float("inf"):
            raise ValueError(f"multipliers must be positive and finite, got {multiplier}. 1 samples the policy itself.")
        behaviour = Behaviour(temperature=1.0 / multiplier)
        drawn = sample(jax.random.fold_in(key, index), model, env, num, behaviour=behaviour)
        seen |= dict.fromkeys(env.to_text(drawn.terminal))
    return tuple(seen)
