"""Variants of one object: every object keeps part of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from narrows.envs.base import NO_ACTION, AbstractEnvironment, AbstractReversibleEnvironment
from narrows.training.exploration.base import AbstractExploration, Plan, Scene, check_share, only_first, without
from narrows.trajectories import sample_backward


class Variants(AbstractExploration):
    """Keep part of one object in every object: `narrows run job.toml --like OBJECT --keep 0.7`.

    Each step of a way to the object is kept with probability `keep`, but never all of them; the policy draws the others.

    Args:
        parent: the object, by its text.
        keep: share of its steps to keep, in [0, 1).
        share: part of each batch that is made so, in (0, 1]; the others are drawn from scratch.
    """

    parent: str = eqx.field(static=True)
    keep: float = eqx.field(default=0.7, static=True)
    share: float = eqx.field(default=1.0, static=True)

    def __check_init__(self) -> None:
        if not 0.0 <= self.keep < 1.0:
            raise ValueError(f"keep must lie in [0, 1), got {self.keep}. It is the share of the parent that stays.")
        check_share(self.share)

    def check(self, env: AbstractEnvironment) -> None:
        if not isinstance(env, AbstractReversibleEnvironment):
            raise ValueError(f"the way to an object is found by going back, which {type(env).__name__} does not allow.")
        env.from_text([self.parent])

    def plan(self, key: PRNGKeyArray, scene: Scene) -> Plan:
        assert isinstance(scene.env, AbstractReversibleEnvironment), "check has refused anything else"
        parents = scene.env.from_text([self.parent] * scene.num)
        key_walk, key_mask = jax.random.split(key)
        actions = sample_backward(key_walk, scene.model, scene.env, parents, jnp.zeros(scene.num)).actions
        is_redrawn = without(key_mask, actions, jnp.full(scene.num, 1.0 - self.keep), jnp.zeros(scene.num, bool))
        return Plan(only_first(jnp.where(is_redrawn, NO_ACTION, actions), self.share))
