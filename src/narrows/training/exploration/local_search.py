"""Local search: the last steps of an object taken back and drawn again, and the better one is gone on with."""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.envs.base import NO_ACTION, AbstractReversibleEnvironment
from narrows.sizes import Count
from narrows.training.exploration.base import AbstractExploration, Plan, Scene, turns_a_step
from narrows.trajectories import Redrawn, Trajectory, log_probs_along, redraw, sample_backward

Acceptance = Literal["better", "metropolis"]


class Chains(NamedTuple):
    """The objects that the search stands at, an item each of a batch, and the round that comes next, 0 for a new start."""

    at: Trajectory
    round: Int[Array, ""]


class LocalSearch(AbstractExploration):
    """Take the last steps of each object back and draw them again, several times over (Kim et al. 2023, arXiv:2310.02710).

    A batch drawn from scratch begins a search of each of its objects. In every later step some last steps of each object are
    taken back by the backward policy, as many as a draw from 1 to `back` says beside the end, and drawn again by the behaviour;
    the new object takes the place of the old one where it is accepted. All of them are trained on. After `rounds` steps the
    next batch is drawn from scratch.

    Args:
        back: most steps to take back, >= 1; by default half of those of the longest object.
        rounds: steps of a search, >= 1. Published: 7.
        accept: `better` goes on with an object whose score is at least as high; `metropolis` accepts by Metropolis and
            Hastings' rule, under which the search has the target distribution for its own, whatever the policy.
    """

    back: Count | None = eqx.field(default=None, static=True)
    rounds: Count = eqx.field(default=7, static=True)
    accept: Acceptance = eqx.field(default="better", static=True)

    def __check_init__(self) -> None:
        if self.rounds < 1 or (self.back is not None and self.back < 1):
            raise ValueError(f"back and rounds must be at least 1, got {self.back} and {self.rounds}.")

    @property
    def weighs_policy(self) -> bool:
        return self.accept == "metropolis"

    def init(self, example: Trajectory) -> Chains:
        at = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
        at = at._replace(actions=jnp.full_like(at.actions, NO_ACTION), log_reward=jnp.full_like(at.log_reward, -jnp.inf))
        return Chains(at, jnp.zeros((), jnp.int32))

    def plan(self, key: PRNGKeyArray, scene: Scene) -> Plan:
        key_walk, key_depth, key_back = jax.random.split(key, 3)
        at, is_start = scene.memory.at, scene.memory.round == 0
        if isinstance(scene.env, AbstractReversibleEnvironment):
            walked = sample_backward(key_walk, scene.model, scene.env, at.terminal, at.log_reward)
            at = at._replace(actions=jnp.where(is_start, at.actions, walked.actions))
        unit = turns_a_step(scene.env)
        num_back = jnp.floor(jax.random.uniform(key_depth, (scene.num,)) * self._most_back(at, scene)).astype(jnp.int32) + 1
        depth = _num_steps(at, unit) - 1 - num_back
        is_kept = (jnp.arange(at.actions.shape[1]) < depth[:, None] * unit) & ~is_start
        kept = jnp.where(is_kept, at.actions, NO_ACTION)
        at = at._replace(log_reward=jnp.where(is_start, -jnp.inf, at.log_reward))
        if self.accept == "better":
            return Plan(kept, at)
        again = redraw(key_back, scene.model, scene.env, at.actions, behaviour=scene.behaviour)
        return Plan(kept, at, self._log_drawn(scene, Redrawn(at, again.log_probs, again.is_drawn), kept))

    def learn(self, key: PRNGKeyArray, scene: Scene, plan: Plan, drawn: Redrawn) -> Chains:
        assert plan.parents is not None, "as `plan` above has it"
        new, old = drawn.trajectory, plan.parents
        is_better = new.log_reward >= old.log_reward
        if self.accept == "metropolis":
            assert plan.log_back is not None, "as `plan` above has it"
            log_ratio = new.log_reward + plan.log_back - old.log_reward - self._log_drawn(scene, drawn, plan.kept)
            is_accepted = jnp.log(jax.random.uniform(key, log_ratio.shape)) < log_ratio
            is_better = jnp.where(jnp.isneginf(old.log_reward), is_better, is_accepted)
        is_better &= jnp.isfinite(new.log_reward)

        def chosen(one: Array, other: Array) -> Array:
            return jnp.where(is_better.reshape(-1, *[1] * (one.ndim - 1)), one, other)

        return Chains(jax.tree.map(chosen, new, old), (scene.memory.round + 1) % (self.rounds + 1))

    def _most_back(self, at: Trajectory, scene: Scene) -> Int[Array, " batch"]:
        most = scene.env.max_steps // turns_a_step(scene.env)
        most = max(1, (most - 1) // 2) if self.back is None else self.back
        return jnp.clip(_num_steps(at, turns_a_step(scene.env)) - 1, 1, most)

    def _log_drawn(self, scene: Scene, drawn: Redrawn, kept: Int[Array, "batch time"]) -> Float[Array, " batch"]:
        """Return the log-probability of all that leads to a trajectory from the object that it was not drawn from.

        That is of the steps behind those that are kept, less how likely the other way is: that from this object just those are
        taken back. Minus infinity for the latter where they are more than are taken back at all, or none.
        """
        trajectory = drawn.trajectory
        is_behind = (trajectory.actions != NO_ACTION) & (kept == NO_ACTION)
        log_pb = log_probs_along(scene.model, scene.env, trajectory).log_pb
        most = self._most_back(trajectory, scene)
        num_back = jnp.sum(is_behind, axis=1) - 1
        # An object of no step but the end has none to take back, and is drawn again as a whole.
        has_none = _num_steps(trajectory, turns_a_step(scene.env)) == 1
        is_possible = has_none | ((num_back >= 1) & (num_back <= most))
        log_taken = jnp.sum(jnp.where(is_behind, log_pb, 0.0), axis=1) - jnp.log(most)
        log_taken = jnp.where(is_possible, log_taken, -jnp.inf)
        return jnp.sum(jnp.where(is_behind, drawn.log_probs, 0.0), axis=1) - log_taken


def _num_steps(trajectory: Trajectory, unit: int) -> Int[Array, " batch"]:
    return jnp.sum(trajectory.actions != NO_ACTION, axis=1) // unit
