"""A model's outputs along trajectories: the quantities that every loss is made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from narrows.envs.base import NO_ACTION, AbstractEnvironment, AbstractReversibleEnvironment
from narrows.envs.perturbation import AbstractPerturbed
from narrows.operators import masked_log_softmax
from narrows.policies.base import AbstractPolicy, Model, PolicyOutput
from narrows.trajectories.evaluate import evaluate
from narrows.trajectories.sampling import SamplerCache, Trajectory


class Path(NamedTuple):
    """A model's outputs along trajectories. Rows after the end hold finite values; `is_valid` tells them apart.

    `follow` returns a batch of them with time first and batch second, as they were sampled; a loss maps over axis 1. Its
    `states` have one time more than the rest, the end; what is asked of single steps reads `before` and needs no end.
    """

    states: Any
    forward_logits: Float[Array, "time *batch action"]
    action_mask: Bool[Array, "time *batch action"]
    actions: Int[Array, "time *batch"]
    log_pb: Float[Array, "time *batch"]
    log_flow: Float[Array, "time *batch"] | None
    child_log_flow: Float[Array, "time *batch action"] | None
    turn: Int[Array, "time *batch"]
    is_valid: Bool[Array, "time *batch"]

    @property
    def before(self) -> Any:
        """The state before each step."""
        return jax.tree.map(lambda leaf: leaf[: self.turn.shape[0]], self.states)

    @property
    def log_pi(self) -> Float[Array, "time *batch"]:
        """The policy's log-probability of each action that was taken."""
        return gather(masked_log_softmax(self.forward_logits, self.action_mask), self.actions)

    @property
    def is_last(self) -> Bool[Array, "time *batch"]:
        """Which step ends its trajectory."""
        return self.is_valid & ~shift_back(self.is_valid)

    @property
    def mask_or_all(self) -> Bool[Array, "time *batch action"]:
        """The legal actions, and all of them after the end, where logarithms then stay finite."""
        return self.action_mask | ~self.is_valid[..., None]


class PathScores(NamedTuple):
    """Per-step quantities of a batch of trajectories, zero after their ends."""

    log_pf: Float[Array, "batch time"]
    log_pb: Float[Array, "batch time"]
    log_flow: Float[Array, "batch time"] | None
    num_legal: Int[Array, "batch time"]
    turn: Int[Array, "batch time"]
    is_valid: Bool[Array, "batch time"]


def follow(
    model: Model, env: AbstractEnvironment, actions: Int[Array, "batch time"], cache: SamplerCache | None = None
) -> Path:
    """Replay the actions of a batch of trajectories and return the model's outputs along them.

    Args:
        model: the model.
        env: the rules.
        actions: of complete trajectories.
        cache: what `sample_with_cache` kept of the first trajectories of the batch under this very model, which then is not
            run on them again; gradients are the same.
    """
    num_cached = 0 if cache is None else cache.output.forward_logits.shape[1]
    if cache is None or num_cached == actions.shape[0]:
        return _follow(model, env, actions, cache)
    recorded, rest = _follow(model, env, actions[:num_cached], cache), _follow(model, env, actions[num_cached:], None)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), recorded, rest)


def log_probs_along(model: Model, env: AbstractEnvironment, batch: Trajectory) -> PathScores:
    """Return the per-step quantities of a batch of trajectories under a model."""
    path = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), follow(model, env, batch.actions))
    log_pf = jnp.where(path.is_valid, path.log_pi, 0.0)
    num_legal = jnp.where(path.is_valid, jnp.sum(path.action_mask, axis=-1), 0)
    log_flow = None if path.log_flow is None else jnp.where(path.is_valid, path.log_flow, 0.0)
    return PathScores(log_pf, path.log_pb, log_flow, num_legal, path.turn, path.is_valid)


def gather(values: Float[Array, "*time action"], actions: Int[Array, "*time"]) -> Float[Array, "*time"]:
    """Return each row's entry at its action; rows at `NO_ACTION` give their first entry, to be selected away."""
    return jnp.take_along_axis(values, jnp.maximum(actions, 0)[..., None], axis=-1)[..., 0]


def shift_back(numbers: Shaped[Array, "time *any"]) -> Shaped[Array, "time *any"]:
    """Return each time's number of the next time, zero at the last."""
    return jnp.concatenate([numbers[1:], jnp.zeros_like(numbers[:1])])


def _follow(model: Model, env: AbstractEnvironment, actions: Int[Array, "batch time"], cache: SamplerCache | None) -> Path:
    # In a tree every state has one parent and log P_B is zero.
    graph = env if isinstance(env, AbstractReversibleEnvironment) and env.num_backward_actions > 1 else None
    states = jax.vmap(env.states_along, out_axes=1)(actions)
    before, after = (jax.tree.map(lambda leaf, part=part: leaf[part], states) for part in (slice(-1), slice(1, None)))
    actions = actions.T
    is_valid = actions != NO_ACTION
    is_learned = graph is not None and model.policy.has_backward_head
    observations = per_step(env.observe)(states)
    run = _evaluate_asked if isinstance(env, AbstractPerturbed) else evaluate
    output, backward_logits = _heads(run, model.policy, observations, is_valid, cache, is_learned)
    log_pb = jnp.zeros(actions.shape)
    if graph is not None:
        mask = per_step(graph.backward_mask)(after)
        log_probs = masked_log_softmax(jnp.zeros(mask.shape) if backward_logits is None else backward_logits, mask)
        log_pb = jnp.where(is_valid, gather(log_probs, per_step(graph.backward_action)(before, actions)), 0.0)
    mask, turn = per_step(env.action_mask)(before), per_step(env.turn)(before)
    heads = (output.forward_logits, mask, actions, log_pb, output.log_flow, output.child_log_flow)
    return Path(states, *heads, turn, is_valid)


def _evaluate_asked(
    policy: AbstractPolicy, observations: Any, is_needed: Bool[Array, "time batch"], cache: SamplerCache | None
) -> PolicyOutput:
    """Return what `evaluate` does where players and chance alternate: at a chance turn a policy sees what it saw before it."""
    asked, is_asked = jax.tree.map(lambda leaf: leaf[::2], (observations, is_needed))
    output = evaluate(policy, asked, is_asked, cache)
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0)[: is_needed.shape[0]], output)


def _heads(
    run: Callable[..., PolicyOutput],
    policy: AbstractPolicy,
    observations: Any,
    is_valid: Bool[Array, "time batch"],
    cache: SamplerCache | None,
    is_learned: bool,
) -> tuple[PolicyOutput, Float[Array, "time batch backward_action"] | None]:
    """Return every head before each step, and the backward logits after it where a backward policy is learned."""
    before = jax.tree.map(lambda leaf: leaf[:-1], observations)
    if not is_learned:
        return run(policy, before, is_valid, cache), None
    if policy.has_memory:  # the last state comes after all that led to it
        is_needed = jnp.concatenate([jnp.ones_like(is_valid[:1]), is_valid])
        output = run(policy, observations, is_needed, None)
        return jax.tree.map(lambda leaf: leaf[:-1], output), _backward_logits(output)[1:]
    output = run(policy, before, is_valid, cache)
    last = run(policy, jax.tree.map(lambda leaf: leaf[-1:], observations), jnp.ones_like(is_valid[:1]), None)
    following = jnp.concatenate([_backward_logits(output)[1:], _backward_logits(last)])
    is_last = is_valid & ~shift_back(is_valid)
    return output, jnp.where(is_last[..., None], _backward_logits(last), following)


def _backward_logits(output: PolicyOutput) -> Float[Array, "time batch backward_action"]:
    assert output.backward_logits is not None, "a policy with has_backward_head returns backward_logits"
    return output.backward_logits


def per_step(function: Callable) -> Callable:
    """Map a function of one state over time and batch."""
    return jax.vmap(jax.vmap(function))
