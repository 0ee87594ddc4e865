"""The states one move away from those of trajectories: the log-flow of each, or the reward where a game ends there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.chance import known_log_reward
from narrows.policies.base import AbstractPolicy
from narrows.rewards.base import AbstractReward
from narrows.trajectories import Path
from narrows.trajectories.evaluate import evaluate


class Children(NamedTuple):
    """Every legal move along a batch of games, by the state it leads to; other rows hold finite numbers without meaning.

    `head` is the flow head's, seen from whoever moves next, `sign` is 1 where that is player 0 and -1 where it is player 1.
    `known` is player 0's log-reward where the state is the end of the game or forced moves lead there, which `is_known` says.
    """

    head: Float[Array, "time batch action"]
    sign: Float[Array, "time batch action"]
    known: Float[Array, "time batch action"]
    is_known: Bool[Array, "time batch action"]
    is_legal: Bool[Array, "time batch action"]

    @property
    def values(self) -> Float[Array, "time batch action"]:
        """Player 0's log-flow, the negative of player 1's."""
        return jnp.where(self.is_known, self.known, self.sign * self.head)

    def values_of_waiting(self, sign: Float[Array, "time batch"]) -> Float[Array, "time batch action"]:
        """Return the log-flow of whoever waits while the move is made, where flows of the players are not tied together.

        Args:
            sign: 1 where player 0 makes the move, -1 where player 1 does.
        """
        return jnp.where(self.is_known, -sign[..., None] * self.known, self.head)


def children_along(env: AbstractEnvironment, policy: AbstractPolicy, path: Path, reward: AbstractReward | None) -> Children:
    """Return the states one move away along a batch of trajectories.

    Raises ValueError for a policy with memory, whose branches would each need one, for one without a flow head, and where no
    reward can be had inside a compiled step.
    """
    if policy.has_memory:
        raise ValueError("this objective looks at every move's state and needs a policy without memory, such as the MLP.")
    if not policy.has_flow_head:
        raise ValueError("this objective needs a policy with a flow head. Construct the policy with flow_head=True.")
    if reward is None:
        raise ValueError(
            "this objective asks for the reward of every game that ends one move away and needs one in JAX, such as "
            "GameResult. Use a reward that a job can name, or an objective that reads the rewards of whole games."
        )
    actions = jnp.broadcast_to(jnp.arange(env.num_actions, dtype=jnp.int32), path.action_mask.shape)
    before = jax.tree.map(lambda leaf: leaf[:-1], path.states)
    is_legal = path.action_mask & path.is_valid[..., None]
    known, is_known = known_log_reward(env, reward, before, actions, is_legal)

    def look(state: Any, action: Array) -> tuple[Any, Array]:
        child = env.step(state, action)
        return env.observe(child), env.turn(child)

    observations, turn = jax.vmap(jax.vmap(jax.vmap(look, in_axes=(None, 0))))(before, actions)
    time, batch, num_actions = is_legal.shape
    flat = jax.tree.map(lambda leaf: leaf.reshape(time, batch * num_actions, *leaf.shape[3:]), observations)
    head = evaluate(policy, flat, (is_legal & ~is_known).reshape(time, -1)).log_flow
    assert head is not None, "a policy with has_flow_head returns log_flow"
    return Children(head.reshape(is_legal.shape), jnp.where(turn == 0, 1.0, -1.0), known, is_known, is_legal)
