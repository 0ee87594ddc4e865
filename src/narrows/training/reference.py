"""The reference of a run: the number taken off every log-reward, in double precision, before single precision gets hold of it.

An offset that all scores share asks for nothing: nothing is discounted and every trajectory ends in one object, so that every
objective's values, and `log_z`, move by the offset, and its policies stay. But what training computes in single precision
knows a score near 1e6 to a sixteenth only, and values that begin at zero would have the whole offset to learn.
"""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, UInt32

from narrows.envs.base import AbstractEnvironment
from narrows.envs.game import AbstractGame
from narrows.rewards.base import AbstractReward
from narrows.scorers.host import HostReward
from narrows.storage import checkpoint
from narrows.training.state import TrainState

UNKNOWN = math.nan
"""The reference of a run that has not seen a finite score yet."""


def initial(env: AbstractEnvironment, reward: AbstractReward | HostReward) -> float | None:
    """Return the reference that a run begins with, None for one that takes nothing off.

    A reward in JAX says its own; that of a score outside is known when the first batch is. In a game zero is the draw, half-way
    between the players, and stays where it is.
    """
    if isinstance(reward, HostReward):
        return None if isinstance(env, AbstractGame) else UNKNOWN
    return reward.reference or None


def stored(value: float) -> UInt32[Array, "2"]:
    """Return a reference as a state keeps it: the bits of a double, which JAX in single precision would round."""
    return jnp.asarray(np.array([value], np.float64).view(np.uint32))


def number(reference: UInt32[Array, "2"] | None) -> float:
    """Return the reference of a state, zero for one that takes nothing off; it may be `UNKNOWN`."""
    return 0.0 if reference is None else float(np.array(reference, np.uint32).view(np.float64)[0])


def found_in(*log_rewards: Float[np.ndarray, " object"]) -> float:
    """Return the lower median of the first of some arrays with a number that single precision can hold, else `UNKNOWN`."""
    for values in log_rewards:
        usable = np.sort(values[np.isfinite(less(values, 0.0))])
        if usable.size:
            return float(usable[(usable.size - 1) // 2])
    return UNKNOWN


def less(log_reward: Num[np.ndarray, "*any"], reference: float) -> Float[np.ndarray, "*any"]:
    """Return log-rewards less a reference as float32, infinite where they are too large for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (np.asarray(log_reward, np.float64) - reference).astype(np.float32)


def restore(path: str | Path, like: TrainState) -> tuple[TrainState, checkpoint.Manifest]:
    """Return the state in a checkpoint and its manifest; `like` is `jax.eval_shape(trainer.init, key)`.

    A run from before there were references goes on without one. Raises ValueError as `checkpoint.restore` does.
    """
    if like.reference is not None:
        names = {leaf.name for leaf in checkpoint.read_manifest(path).leaves.arrays}
        like = like if ".reference" in names else like._replace(reference=None)
    state: Any
    state, manifest = checkpoint.restore(path, like)
    return state, manifest


def placed_like(value: float, before: UInt32[Array, "2"]) -> UInt32[Array, "2"]:
    """Return a reference on the devices of another one, so that the next step is compiled already."""
    return jax.device_put(stored(value), before.sharding)
