"""Log-flows at chance turns: of the states that outcomes lead to, and which of those are finished objects."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.base import CHANCE, NO_ACTION, AbstractEnvironment
from narrows.envs.perturbation import AbstractPerturbed, PerturbedState
from narrows.operators import masked_logsumexp
from narrows.rewards.base import AbstractReward
from narrows.trajectories import Path, per_step

CHUNK: Final = 256
"""Objects scored at a time, at least: as many as there are in a few portions, without room for all that there could be."""

PORTIONS: Final = 16


class ChanceTurns(NamedTuple):
    """Chance turns along a batch of trajectories, a row each; of an environment that is not `AbstractPerturbed`, every turn.

    `env`, `reward` and `states` are of the rules that outcomes act by, in an `AbstractPerturbed` environment the inner ones.
    `head` is the policy's log-flow of each outcome's state, `is_end` says that what came is a finished object.
    """

    env: AbstractEnvironment
    reward: Callable[[Any], Float[Array, " batch"]] | None
    states: Any
    log_probs: Float[Array, "turn batch action"]
    head: Float[Array, "turn batch action"]
    came: Int[Array, "turn batch"]
    log_pb: Float[Array, "turn batch"]
    is_end: Bool[Array, "turn batch"]
    log_reward: Float[Array, " batch"]

    def log_flow(
        self, outcomes: Int[Array, "turn batch outcome"], *, of_any_action: bool = False
    ) -> Float[Array, "turn batch outcome"]:
        """Return the log-flows of the states that some outcomes lead to: of what was asked for, or of any legal action.

        A finished object's is its log-reward, never predicted (eflow 2.6), as is that of a state from which forced
        moves lead to one. Only where the reward cannot be had inside a compiled step, the head stands in for the objects that
        the trajectory did not end in.
        """
        known, is_known = self.known(outcomes, of_any_action=of_any_action)
        return jnp.where(is_known, known, jnp.take_along_axis(self.head, outcomes, axis=-1))

    def known(
        self, outcomes: Int[Array, "turn batch outcome"], *, of_any_action: bool = False
    ) -> tuple[Float[Array, "turn batch outcome"], Bool[Array, "turn batch outcome"]]:
        """Return those of the log-flows of `log_flow` that are log-rewards, zero elsewhere, and which they are."""
        known, is_known = jnp.zeros(outcomes.shape), jnp.zeros(outcomes.shape, bool)
        if self.reward is not None:
            is_possible = per_step(self.env.action_mask)(self.states) if of_any_action else self.log_probs > -jnp.inf
            is_possible = jnp.take_along_axis(is_possible, outcomes, axis=-1)
            known, is_known = known_log_reward(self.env, self.reward, self.states, outcomes, is_possible)
        is_own = (outcomes == self.came[..., None]) & self.is_end[..., None]
        return jnp.where(is_own, self.log_reward[:, None], known), is_known | is_own

    def expected(self, flows: Float[Array, "turn batch action"]) -> Float[Array, "turn batch"]:
        """Return `log sum_o P(o) F(s_o)` (eflow eq. 2.2) of the log-flows of all outcomes' states."""
        return masked_logsumexp(self.log_probs + flows, self.log_probs > -jnp.inf)

    @property
    def all_outcomes(self) -> Int[Array, "turn batch action"]:
        """Return every outcome of each turn, in order."""
        return jnp.broadcast_to(jnp.arange(self.head.shape[-1], dtype=jnp.int32), self.head.shape)


def chance_turns(
    env: AbstractEnvironment, path: Path, reward: AbstractReward | None, log_reward: Float[Array, " batch"]
) -> ChanceTurns:
    """Return the chance turns along trajectories; ValueError for a policy without a child-flow head."""
    if path.child_log_flow is None:
        raise ValueError(
            "this objective needs a policy with a child-flow head. Construct the policy with child_flow_head=True."
        )
    # A finished object's row repeats to the end, so the state after the last time is the trajectory's end as well.
    before, after = (jax.tree.map(lambda leaf, part=part: leaf[part], path.states) for part in (slice(-1), slice(1, None)))
    rows = slice(1, None, 2) if isinstance(env, AbstractPerturbed) else slice(None)
    states, after, mask, head, came, log_pb, is_valid, turn = jax.tree.map(
        lambda leaf: leaf[rows],
        (before, after, path.action_mask, path.child_log_flow, path.actions, path.log_pb, path.is_valid, path.turn),
    )
    is_chance = (turn == CHANCE) & is_valid
    # Elsewhere every legal action stands alike; only its own entry is read.
    log_probs = jnp.where(is_chance[..., None], per_step(env.chance_log_probs)(states), jnp.where(mask, 0.0, -jnp.inf))
    log_probs = jnp.where(is_valid[..., None], log_probs, 0.0)
    is_end = per_step(env.is_terminal)(after) & is_valid
    turns = (log_probs, head, jnp.maximum(came, 0), log_pb, is_end, log_reward)
    if isinstance(env, AbstractPerturbed):
        return ChanceTurns(env.inner, None if reward is None else _of_inner(reward), states.inner, *turns)
    return ChanceTurns(env, reward, states, *turns)


def known_log_reward(
    env: AbstractEnvironment,
    reward: Callable[[Any], Float[Array, " batch"]],
    states: Any,
    outcomes: Int[Array, "turn batch outcome"],
    is_possible: Bool[Array, "turn batch outcome"],
) -> tuple[Float[Array, "turn batch outcome"], Bool[Array, "turn batch outcome"]]:
    """Return the log-rewards of those outcomes' states that are finished objects or must become one, and which they are.

    The reward is asked for these alone, in portions; an object whose log-reward is not finite counts as unknown.
    """
    shape, num_outcomes = outcomes.shape, outcomes.shape[-1]
    flat, size = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states), outcomes.size
    outcomes = outcomes.reshape(-1)

    def became(index: Int[Array, ""]) -> tuple[Any, Bool[Array, ""]]:
        state = jax.tree.map(lambda leaf: leaf[index // num_outcomes], flat)
        return forced_terminal(env, env.step(state, outcomes[index]))

    is_known = jax.vmap(lambda index: became(index)[1])(jnp.arange(size)) & is_possible.reshape(-1)
    chunk = min(max(CHUNK, -(-size // PORTIONS)), size)
    padded = -(-size // chunk) * chunk
    places = jnp.nonzero(is_known, size=padded, fill_value=size)[0].reshape(-1, chunk)

    def score(number: Int[Array, ""], values: Float[Array, " row"]) -> Float[Array, " row"]:
        objects = jax.vmap(lambda index: became(index)[0])(jnp.minimum(places[number], size - 1))
        return values.at[places[number]].set(reward(objects), mode="drop")

    num_chunks = -(-jnp.sum(is_known, dtype=jnp.int32) // chunk)
    values = jax.lax.stop_gradient(jax.lax.fori_loop(0, num_chunks, score, jnp.zeros(size)))
    is_finite = jnp.isfinite(values)
    return jnp.where(is_finite, values, 0.0).reshape(shape), (is_known & is_finite).reshape(shape)


def forced_terminal(env: AbstractEnvironment, state: Any) -> tuple[Any, Bool[Array, ""]]:
    """Return the finished object that a state is or must become by its one legal move, and whether there is one.

    The move is a forced one however an action turns out: an outcome is always a legal move.
    """
    mask = env.action_mask(state)
    moved = env.step(state, jnp.argmax(mask).astype(jnp.int32))
    state = jax.tree.map(lambda old, new: jnp.where(jnp.sum(mask) == 1, new, old), state, moved)
    return state, env.is_terminal(state)


def _of_inner(reward: AbstractReward) -> Callable[[Any], Float[Array, " batch"]]:
    """Return a perturbed environment's reward as one of the inner environment's states."""

    def score(states: Any) -> Float[Array, " batch"]:
        num = jax.tree.leaves(states)[0].shape[0]
        return reward(PerturbedState(states, jnp.full(num, NO_ACTION, jnp.int32)))

    return score
