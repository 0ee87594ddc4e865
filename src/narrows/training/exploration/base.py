"""The contract of explorations: what of earlier objects is kept in a step, and what is remembered of what came of it."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.envs.base import NO_ACTION, AbstractEnvironment
from narrows.envs.perturbation import AbstractPerturbed
from narrows.policies.base import Model
from narrows.training.replay import BufferState
from narrows.trajectories import Redrawn, Trajectory
from narrows.trajectories.behaviour import Behaviour


class Scene(NamedTuple):
    """What a plan may look at.

    Attributes:
        env: the rules.
        model: of this step.
        behaviour: what will draw.
        past: the replay buffer, None in a run without one; a buffer that is still empty has no step to keep.
        memory: what the exploration itself remembers.
        deviation: terminal states to the standard deviation of the log-reward, None where the reward is not known to JAX.
        num: trajectories of the batch.
    """

    env: AbstractEnvironment
    model: Model
    behaviour: Behaviour
    past: BufferState | None
    memory: Any
    deviation: Callable[[Any], Float[Array, " batch"]] | None
    num: int


class Plan(NamedTuple):
    """What of earlier objects a batch keeps.

    `kept` is that of `trajectories.redraw`. An exploration that judges what comes adds the `parents`, an item each, and the
    log-probability `log_back` of drawing the parent again instead, up to what is the same both ways.
    """

    kept: Int[Array, "batch time"]
    parents: Trajectory | None = None
    log_back: Float[Array, " batch"] | None = None


class AbstractExploration(eqx.Module):
    """What a training step samples; immutable settings, whose memory is part of the state of training."""

    @property
    def needs_replay(self) -> bool:
        """Whether the objects that it draws parts of again come out of the replay buffer."""
        return False

    @property
    def needs_deviation(self) -> bool:
        """Whether it asks how unsure the reward is of an object."""
        return False

    @property
    def weighs_policy(self) -> bool:
        """Whether it weighs how likely the policy was to draw an object, which chance turns would have a part in."""
        return False

    def check(self, env: AbstractEnvironment) -> None:
        """Raise ValueError for an environment that it cannot be used in."""

    def init(self, example: Trajectory) -> Any:
        """Return the first memory, None for an exploration without one; `example` has the shapes of a batch."""
        return None

    @abstractmethod
    def plan(self, key: PRNGKeyArray, scene: Scene) -> Plan | None:
        """Return what a batch keeps; None, always, for an exploration that keeps nothing."""

    def learn(self, key: PRNGKeyArray, scene: Scene, plan: Plan, drawn: Redrawn) -> Any:
        """Return the memory after a batch whose log-rewards are known, NaN or infinite where an object has none."""
        return scene.memory


def turns_a_step(env: AbstractEnvironment) -> int:
    """Return how many actions of a trajectory belong together: under noise, one that is asked for and what came."""
    return 2 if isinstance(env, AbstractPerturbed) else 1


def only_first(kept: Int[Array, "batch time"], share: float) -> Int[Array, "batch time"]:
    """Return what is kept with all but the first items of a batch, `share` of it, drawn from scratch."""
    is_redrawn = jnp.arange(kept.shape[0]) < round(share * kept.shape[0])
    return jnp.where(is_redrawn[:, None], kept, NO_ACTION)


def without(
    key: PRNGKeyArray, actions: Int[Array, "batch time"], rate: Float[Array, " batch"], is_new: Bool[Array, " batch"]
) -> Bool[Array, "batch time"]:
    """Return which steps to draw again: each with a probability, and one at least unless the object is new anyway.

    Args:
        key: of the choice.
        actions: of the objects; the end, as their last step, follows from the rest and is not counted as the one.
        rate: of each object, in [0, 1].
        is_new: of each object.
    """
    key_each, key_one = jax.random.split(key)
    time = jnp.arange(actions.shape[1])
    is_step = actions != NO_ACTION
    chosen = is_step & (jax.random.uniform(key_each, actions.shape) < rate[:, None])
    num = jnp.maximum(jnp.sum(is_step, axis=1) - 1, 1)
    one = jnp.floor(jax.random.uniform(key_one, num.shape) * num).astype(jnp.int32)
    is_unchanged = ~is_new & ~jnp.any(chosen & (time < num[:, None]), axis=1)
    return chosen | (is_unchanged[:, None] & (time == one[:, None]))


def check_share(share: float) -> None:
    """Raise ValueError unless a share of the batch lies in (0, 1]."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share must lie in (0, 1], got {share}. It is the part of each batch that keeps something.")
