"""Conservative search: parts of the best objects drawn again, less where the proxy is unsure."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from narrows.envs.base import NO_ACTION
from narrows.training.exploration.base import AbstractExploration, Plan, Scene, check_share, only_first, without
from narrows.training.replay import draw_by_rank


class Conservative(AbstractExploration):
    """Draw letters of the best objects again, fewer where the proxy is unsure (delta-CS; Kim et al. 2024, arXiv:2410.04461).

    Parents are drawn from `[replay]` by rank. Each step of a parent is drawn again with probability `delta` less `caution`
    times the standard deviation of its score, in units of the parents' mean one; one step at least. The published search
    takes whole batches so; here a part of each is drawn from scratch, so that no object is out of reach.

    Args:
        delta: share of the steps to draw again where the proxy is sure, in (0, 1]. Published: 0.5 for RNA and DNA, 0.05 for
            proteins.
        caution: how much lower that share is at the parents' mean standard deviation, >= 0; by default, as published, by one
            step of the longest object.
        share: part of each batch that is drawn so, in (0, 1]; the others are drawn from scratch.
    """

    delta: float = eqx.field(default=0.5, static=True)
    caution: float | None = eqx.field(default=None, static=True)
    share: float = eqx.field(default=0.5, static=True)

    def __check_init__(self) -> None:
        if not 0.0 < self.delta <= 1.0:
            raise ValueError(f"delta must lie in (0, 1], got {self.delta}. It is a share of the steps of an object.")
        if self.caution is not None and not 0.0 <= self.caution < float("inf"):
            raise ValueError(f"caution must be at least 0 and finite, got {self.caution}.")
        check_share(self.share)

    @property
    def needs_replay(self) -> bool:
        return True

    @property
    def needs_deviation(self) -> bool:
        return True

    def plan(self, key: PRNGKeyArray, scene: Scene) -> Plan:
        assert scene.past is not None and scene.deviation is not None, "the trainer has refused anything else"
        key_parent, key_mask = jax.random.split(key)
        index = draw_by_rank(key_parent, scene.past, scene.num)
        parents = jax.tree.map(lambda leaf: leaf[index], scene.past.trajectories)
        deviation = scene.deviation(parents.terminal)
        relative = deviation / jnp.maximum(jnp.mean(deviation), jnp.finfo(deviation.dtype).tiny)
        caution = 1.0 / scene.env.max_steps if self.caution is None else self.caution
        rate = jnp.clip(self.delta - caution * relative, 0.0, 1.0)
        is_redrawn = without(key_mask, parents.actions, rate, jnp.zeros(scene.num, bool))
        return Plan(only_first(jnp.where(is_redrawn, NO_ACTION, parents.actions), self.share))
