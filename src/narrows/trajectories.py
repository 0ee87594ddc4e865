"""From rules and a policy to trajectories, and from trajectories back to what a loss reads.

A trajectory is kept as its actions; states are replayed where they are needed. This is the one place that batches rules
(`jax.vmap`) and the one place that pads (`NO_ACTION` after the end).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.envs.base import CHANCE, AbstractEnvironment, AbstractReversibleEnvironment
from narrows.exploration import Behaviour, on_policy
from narrows.operators import masked_log_softmax
from narrows.policies.base import Model

NO_ACTION = -1


class Trajectory(NamedTuple):
    """A batch of complete trajectories, or one of them inside `jax.vmap`.

    `terminal` is the finished object's state, `actions` what led there from the root with `NO_ACTION` after the end, and
    `log_reward` is NaN until a reward has been asked: items without a finite one never train.
    """

    terminal: Any
    actions: Int[Array, "*batch time"]
    log_reward: Float[Array, "*batch"]


class Path(NamedTuple):
    """What a model says along one trajectory. Rows after the end hold finite values; `is_valid` tells them apart."""

    forward_logits: Float[Array, "time action"]
    action_mask: Bool[Array, "time action"]
    actions: Int[Array, " time"]
    log_pb: Float[Array, " time"]
    log_flow: Float[Array, " time"] | None
    turn: Int[Array, " time"]
    is_valid: Bool[Array, " time"]


class Scores(NamedTuple):
    """Per-step quantities of one trajectory, zero after its end."""

    log_pf: Float[Array, " time"]
    log_pb: Float[Array, " time"]
    log_flow: Float[Array, " time"] | None
    num_legal: Int[Array, " time"]
    turn: Int[Array, " time"]
    is_valid: Bool[Array, " time"]


def sample(
    key: PRNGKeyArray,
    model: Model,
    env: AbstractEnvironment,
    num: int,
    *,
    behaviour: Behaviour = on_policy,
) -> Trajectory:
    """Sample `num` trajectories; the loop stops as soon as the last of them has ended. `log_reward` is NaN.

    At a `CHANCE` turn the outcome is drawn from the environment's own probabilities, whatever the policy.
    """
    policy = model.policy

    def advance(noise: Float[Array, " action"], state: Any, carry: Any) -> tuple[Any, Any, Int[Array, ""]]:
        output, carry = policy.step(carry, env.observe(state))
        log_probs = behaviour(output.forward_logits, env.action_mask(state))
        log_probs = jnp.where(env.turn(state) == CHANCE, env.chance_log_probs(state), log_probs)
        action = jnp.argmax(log_probs + noise).astype(jnp.int32)
        is_over = env.is_terminal(state)
        state = jax.tree.map(lambda old, new: jnp.where(is_over, old, new), state, env.step(state, action))
        return state, carry, jnp.where(is_over, NO_ACTION, action)

    def is_running(loop: tuple) -> Bool[Array, ""]:
        time, states, _, _ = loop
        return (time < env.max_steps) & ~jnp.all(jax.vmap(env.is_terminal)(states))

    def body(loop: tuple) -> tuple:
        time, states, carries, actions = loop
        noise = jax.random.gumbel(jax.random.fold_in(key, time), (num, env.num_actions))
        states, carries, chosen = jax.vmap(advance)(noise, states, carries)
        return time + 1, states, carries, actions.at[time].set(chosen)

    actions = jnp.full((env.max_steps, num), NO_ACTION, jnp.int32)
    start = (jnp.zeros((), jnp.int32), _repeat(env.reset(), num), _repeat(policy.start(), num), actions)
    _, states, _, actions = jax.lax.while_loop(is_running, body, start)
    return Trajectory(states, actions.T, jnp.full((num,), jnp.nan))


def sample_backward(
    key: PRNGKeyArray, model: Model, env: AbstractReversibleEnvironment, terminal: Any, log_reward: Float[Array, " batch"]
) -> Trajectory:
    """Sample one trajectory that ends in each of a batch of terminal states, by the model's backward policy.

    A learned backward policy must be without memory, since it is read from the end; ValueError otherwise.
    """
    policy = model.policy
    is_learned = policy.has_backward_head and env.num_backward_actions > 1
    if is_learned and jax.tree.leaves(policy.start()):
        raise ValueError(
            "a policy with memory cannot be read backwards. Use the uniform backward policy or one without memory."
        )

    def retreat(noise: Float[Array, " backward_action"], state: Any) -> tuple[Any, Int[Array, ""]]:
        mask = env.backward_mask(state)
        logits = jnp.zeros(env.num_backward_actions)
        if is_learned:
            logits = _present(policy.step(policy.start(), env.observe(state))[0].backward_logits)
        choice = jnp.argmax(masked_log_softmax(logits, mask) + noise).astype(jnp.int32)
        is_root = ~jnp.any(mask)
        action = jnp.where(is_root, NO_ACTION, env.forward_action(state, choice))
        parent = jax.tree.map(lambda old, new: jnp.where(is_root, old, new), state, env.backward_step(state, choice))
        return parent, action

    def body(time: Int[Array, ""], loop: tuple) -> tuple:
        states, actions = loop
        noise = jax.random.gumbel(jax.random.fold_in(key, time), (num, env.num_backward_actions))
        states, chosen = jax.vmap(retreat)(noise, states)
        return states, actions.at[time].set(chosen)

    num = log_reward.shape[0]
    reversed_actions = jnp.full((env.max_steps, num), NO_ACTION, jnp.int32)
    _, reversed_actions = jax.lax.fori_loop(0, env.max_steps, body, (terminal, reversed_actions))
    return Trajectory(terminal, jax.vmap(_reverse)(reversed_actions.T), log_reward)


def follow(model: Model, env: AbstractEnvironment, actions: Int[Array, " time"]) -> Path:
    """Replay one trajectory's actions and return what the model says along it."""
    policy = model.policy
    # In a tree every state has one parent and log P_B is zero.
    graph = env if isinstance(env, AbstractReversibleEnvironment) and env.num_backward_actions > 1 else None

    def advance(state: Any, action: Int[Array, ""]) -> tuple[Any, tuple]:
        stepped = env.step(state, jnp.maximum(action, 0))
        successor = jax.tree.map(lambda old, new: jnp.where(action == NO_ACTION, old, new), state, stepped)
        backward = None if graph is None else (graph.backward_mask(successor), graph.backward_action(state, action))
        return successor, (env.observe(state), env.action_mask(state), env.turn(state), backward)

    last, (observations, mask, turn, backward) = jax.lax.scan(advance, env.reset(), actions)
    is_learned = graph is not None and policy.has_backward_head
    if is_learned:  # the backward heads of the successors are needed too, the last state's among them
        end = env.observe(last)
        observations = jax.tree.map(lambda leaf, final: jnp.concatenate([leaf, final[None]]), observations, end)
    output = policy.unroll(observations)
    log_pb = jnp.zeros(actions.shape)
    is_valid = actions != NO_ACTION
    if backward is not None:
        backward_mask, backward_actions = backward
        logits = _present(output.backward_logits)[1:] if is_learned else jnp.zeros(backward_mask.shape)
        log_pb = jnp.where(is_valid, gather(masked_log_softmax(logits, backward_mask), backward_actions), 0.0)
    time = actions.shape[0]
    log_flow = None if output.log_flow is None else output.log_flow[:time]
    return Path(output.forward_logits[:time], mask, actions, log_pb, log_flow, turn, is_valid)


def score(model: Model, env: AbstractEnvironment, trajectory: Trajectory) -> Scores:
    """Return the per-step quantities of one trajectory under a model."""
    path = follow(model, env, trajectory.actions)
    log_pf = jnp.where(path.is_valid, gather(masked_log_softmax(path.forward_logits, path.action_mask), path.actions), 0.0)
    num_legal = jnp.where(path.is_valid, jnp.sum(path.action_mask, axis=-1), 0)
    log_flow = None if path.log_flow is None else jnp.where(path.is_valid, path.log_flow, 0.0)
    return Scores(log_pf, path.log_pb, log_flow, num_legal, path.turn, path.is_valid)


def gather(values: Float[Array, "time action"], actions: Int[Array, " time"]) -> Float[Array, " time"]:
    """Return each row's entry at its action; rows at `NO_ACTION` give their first entry, to be selected away."""
    return jnp.take_along_axis(values, jnp.maximum(actions, 0)[:, None], axis=-1)[:, 0]


def _reverse(actions: Int[Array, " time"]) -> Int[Array, " time"]:
    num_valid = jnp.sum(actions != NO_ACTION)
    index = num_valid - 1 - jnp.arange(actions.shape[0])
    return jnp.where(index >= 0, actions[jnp.maximum(index, 0)], NO_ACTION)


def _repeat(tree: Any, num: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *jnp.shape(leaf))), tree)


def _present(backward_logits: Float[Array, "*time backward_action"] | None) -> Float[Array, "*time backward_action"]:
    assert backward_logits is not None, "a policy with has_backward_head returns backward_logits"
    return backward_logits
