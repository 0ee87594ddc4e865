"""Trajectories drawn from a policy, forwards from the root and backwards from finished objects."""

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from narrows.envs.base import CHANCE, NO_ACTION, AbstractEnvironment, AbstractReversibleEnvironment
from narrows.envs.perturbation import AbstractPerturbed
from narrows.policies.base import Model, PolicyOutput, Residuals
from narrows.trajectories.behaviour import Behaviour, on_policy
from narrows.trajectories.draw import draw

CACHE_STEP = 32
"""Steps by which a cache grows: a step costs as much as its cache is long, and each length is one more loop to compile."""


class Trajectory(NamedTuple):
    """A batch of complete trajectories, or one of them inside `jax.vmap`.

    `terminal` is the finished object's state, `actions` what led there from the root with `NO_ACTION` after the end, and
    `log_reward` is NaN until a reward has been asked: items without a finite one never train.
    """

    terminal: Any
    actions: Int[Array, "*batch time"]
    log_reward: Float[Array, "*batch"]


class SamplerCache(NamedTuple):
    """The policy's outputs and residuals while a batch was sampled, `[time, batch, ...]`; rows after the end are free.

    In an `AbstractPerturbed` environment there is one row for a player's turn and the chance turn after it. As long as the
    parameters are the same, a loss reads it instead of running the policy a second time.
    """

    output: PolicyOutput
    residuals: Residuals


class Redrawn(NamedTuple):
    """A batch of trajectories parts of which were kept, and the behaviour's log-probability of every step.

    `log_probs` are zero after the end and at chance turns; `is_drawn` tells the steps that the behaviour has chosen from those
    that were kept, so that `sum(log_probs * is_drawn)` is the log-probability of the redrawing, given what was kept.
    """

    trajectory: Trajectory
    log_probs: Float[Array, "batch time"]
    is_drawn: Bool[Array, "batch time"]


class Share(NamedTuple):
    """Which of `num` equal parts of a batch is meant.

    A part has the random numbers that are its own in the whole batch, so that an item is the same object however many parts
    there are.
    """

    number: int | Int[Array, ""] = 0
    num: int = 1

    def take(self, whole: Any, axis: int = 0) -> Any:
        """Return this part of a tree whose leaves have the items of the whole batch along an axis."""
        if self.num == 1:
            return whole

        def part(leaf: Array) -> Array:
            size = leaf.shape[axis] // self.num
            return jax.lax.dynamic_slice_in_dim(leaf, self.number * size, size, axis)

        return jax.tree.map(part, whole)


_ALL: Final = Share()


def sample(
    key: PRNGKeyArray, model: Model, env: AbstractEnvironment, num: int, *, behaviour: Behaviour = on_policy
) -> Trajectory:
    """Sample `num` trajectories; the loop stops as soon as the last of them has ended. `log_reward` is NaN.

    At a `CHANCE` turn the outcome is drawn from the environment's own probabilities, whatever the policy.
    """
    return _sample(_uniforms(key, env, num, _ALL), model, env, behaviour, None, keeps_cache=False)[0]


def sample_with_cache(
    key: PRNGKeyArray,
    model: Model,
    env: AbstractEnvironment,
    num: int,
    *,
    behaviour: Behaviour = on_policy,
    share: Share = _ALL,
) -> tuple[Trajectory, SamplerCache]:
    """Sample as `sample` does, the same trajectories, and keep what the policy computed on the way.

    With a `share` the result is that part of the `num` trajectories.
    """
    trajectory, cache, _ = _sample(_uniforms(key, env, num, share), model, env, behaviour, None, keeps_cache=True)
    return trajectory, cache


def redraw(
    key: PRNGKeyArray,
    model: Model,
    env: AbstractEnvironment,
    kept: Int[Array, "batch time"],
    *,
    behaviour: Behaviour = on_policy,
) -> Redrawn:
    """Draw parts of finished objects again: each step is the one that is kept where it is legal, and else the behaviour's.

    Whatever is kept, a trajectory is complete and legal: what the steps before have made illegal is drawn, and so is all that
    an object longer than the kept one needs. Chance is never kept. `log_reward` is NaN.

    Args:
        key: of what is drawn.
        model: its policy draws.
        env: the rules.
        kept: actions of trajectories of the environment, `NO_ACTION` where they are to be drawn: behind a step to cut back to,
            or under a mask.
        behaviour: exploration while drawing.
    """
    num = kept.shape[0]
    trajectory, _, notes = _sample(_uniforms(key, env, num, _ALL), model, env, behaviour, kept, keeps_cache=False)
    return Redrawn(trajectory, *notes)


def redraw_with_cache(
    key: PRNGKeyArray,
    model: Model,
    env: AbstractEnvironment,
    kept: Int[Array, "batch time"],
    *,
    behaviour: Behaviour = on_policy,
    share: Share = _ALL,
) -> tuple[Redrawn, SamplerCache]:
    """Redraw as `redraw` does and keep what the policy computed; with a `share` that part of the batch, `kept` being whole."""
    uniforms = _uniforms(key, env, kept.shape[0], share)
    trajectory, cache, notes = _sample(uniforms, model, env, behaviour, share.take(kept), keeps_cache=True)
    return Redrawn(trajectory, *notes), cache


def _uniforms(key: PRNGKeyArray, env: AbstractEnvironment, num: int, share: Share) -> Float[Array, "time batch"]:
    """Return a number for every action, drawn in one go: a generator inside the loop costs more than a small policy."""
    return share.take(jax.random.uniform(key, (env.max_steps, num)), axis=1)


def _sample(
    uniforms: Float[Array, "time batch"],
    model: Model,
    env: AbstractEnvironment,
    behaviour: Behaviour,
    kept: Int[Array, "batch time"] | None,
    *,
    keeps_cache: bool,
) -> tuple[Trajectory, Any, Any]:
    """Return trajectories, the policy's cache, and of a redrawing (`kept`) what `Redrawn` says of each step, else None."""
    policy, num = model.policy, uniforms.shape[1]
    # Whose turn it is decides below; rules that leave `turn` as it is need not be asked.
    may_have_chance = type(env).turn is not AbstractEnvironment.turn
    # Where players and chance alternate, chance turns need no policy: one pass of the loop is a turn of each.
    turns_a_pass = 2 if isinstance(env, AbstractPerturbed) else 1

    def choose(
        state: Any, mask: Bool[Array, " action"], weights: Float[Array, " action"], uniform: Float[Array, ""], wanted: Any
    ) -> tuple[Int[Array, ""], Any]:
        """Return the action of a turn, and of a redrawing its log-probability and whether it was drawn."""
        action = draw(weights, uniform)
        if wanted is None:
            return action, None
        is_ours = (env.turn(state) != CHANCE) & ~env.is_terminal(state)
        is_kept = is_ours & (wanted != NO_ACTION) & mask[jnp.maximum(wanted, 0)]
        action = jnp.where(is_kept, wanted, action)
        log_prob = jnp.log(weights[action]) - jnp.log(jnp.sum(weights))
        return action, (jnp.where(is_ours, log_prob, 0.0), is_ours & ~is_kept)

    def move(state: Any, action: Int[Array, ""]) -> tuple[Any, Int[Array, ""]]:
        is_over = env.is_terminal(state)
        state = jax.tree.map(lambda old, new: jnp.where(is_over, old, new), state, env.step(state, action))
        return state, jnp.where(is_over, NO_ACTION, action)

    def advance(
        uniform: Float[Array, " turn"], wanted: Int[Array, ""] | None, state: Any, carry: Any
    ) -> tuple[Any, Any, Int[Array, " turn"], Any]:
        if keeps_cache:
            output, carry, residuals = policy.step_with_residuals(carry, env.observe(state))
            cache = SamplerCache(output, residuals)
        else:
            output, carry = policy.step(carry, env.observe(state))
            cache = None
        mask = env.action_mask(state)
        weights = behaviour(output.forward_logits, mask)
        if may_have_chance and turns_a_pass == 1:
            weights = jnp.where(env.turn(state) == CHANCE, jnp.exp(env.chance_log_probs(state)), weights)
        action, note = choose(state, mask, weights, uniform[0], wanted)
        state, *actions = move(state, action)
        if turns_a_pass == 2:
            state, came = move(state, draw(jnp.exp(env.chance_log_probs(state)), uniform[1]))
            actions.append(came)
        return state, carry, jnp.stack(actions), (cache, note)

    def body(loop: tuple) -> tuple:
        number, states, carries, actions, caches = loop
        states, carries, chosen, cache = jax.vmap(advance, in_axes=(1, 0, 0, 0), out_axes=(0, 0, 1, 0))(
            uniforms[number], None if asked is None else asked[number], states, carries
        )
        caches = jax.tree.map(lambda rows, row: rows.at[number].set(row), caches, cache)
        return number + 1, states, carries, actions.at[number].set(chosen), caches

    uniforms = uniforms.reshape(-1, turns_a_pass, num)
    num_passes = uniforms.shape[0]
    # Where players and chance alternate, every other action is a player's.
    asked = None if kept is None else kept.T[::turns_a_pass]

    def start() -> tuple:
        states, carries = _repeat(env.reset(), num), _repeat(policy.start(), num)
        first = None if asked is None else asked[0]
        cache = jax.eval_shape(jax.vmap(advance, in_axes=(1, 0, 0, 0)), uniforms[0], first, states, carries)[3]
        caches = jax.tree.map(lambda leaf: jnp.zeros((num_passes, *leaf.shape), leaf.dtype), cache)
        actions = jnp.full((num_passes, turns_a_pass, num), NO_ACTION, jnp.int32)
        return jnp.zeros((), jnp.int32), states, carries, actions, caches

    def run_until(limit: int, loop: tuple) -> tuple:
        def is_running(loop: tuple) -> Bool[Array, ""]:
            number, states, *_ = loop
            return (number < limit) & ~jnp.all(jax.vmap(env.is_terminal)(states))

        number, states, carries, *rest = loop
        return jax.lax.while_loop(is_running, body, (number, states, policy.grow_cache(carries, limit), *rest))

    loop = start()
    for limit in _limits(num_passes) if policy.has_growing_memory else [num_passes]:
        loop = run_until(limit, loop)
    _, states, _, actions, (cache, notes) = loop
    # A chance turn is nobody's, so that nothing is noted there.
    spread = jax.tree.map(lambda rows: _every_turn(rows, turns_a_pass).T, notes)
    return Trajectory(states, actions.reshape(-1, num).T, jnp.full((num,), jnp.nan)), cache, spread


def _every_turn(rows: Shaped[Array, "pass batch"], turns_a_pass: int) -> Shaped[Array, "time batch"]:
    """Return a row a turn from those of the passes, zero at every turn but the first of a pass."""
    blank = jnp.zeros((rows.shape[0], turns_a_pass - 1, rows.shape[1]), rows.dtype)
    return jnp.concatenate([rows[:, None], blank], axis=1).reshape(-1, rows.shape[1])


def _limits(num_steps: int) -> list[int]:
    """Return the steps at which a cache grows: about every `CACHE_STEP`, and the last one at the end."""
    num = max(1, round(num_steps / CACHE_STEP))
    return [-(-num_steps * part // num) for part in range(1, num + 1)]


def sample_backward(
    key: PRNGKeyArray,
    model: Model,
    env: AbstractReversibleEnvironment,
    terminal: Any,
    log_reward: Float[Array, " batch"],
    *,
    share: Share = _ALL,
) -> Trajectory:
    """Sample one trajectory that ends in each of a batch of terminal states, by the model's backward policy.

    With a `share`, terminal states and log-rewards are that part of a whole batch.
    A learned backward policy must be without memory, since it is read from the end; ValueError otherwise.
    """
    policy = model.policy
    is_learned = policy.has_backward_head and env.num_backward_actions > 1
    if is_learned and policy.has_memory:
        raise ValueError(
            "a policy with memory cannot be read backwards. Use the uniform backward policy or one without memory."
        )

    def retreat(uniform: Float[Array, ""], state: Any) -> tuple[Any, Int[Array, ""]]:
        mask = env.backward_mask(state)
        logits = jnp.zeros(env.num_backward_actions)
        if is_learned:
            output, _ = policy.step(policy.start(), env.observe(state))
            assert output.backward_logits is not None, "a policy with has_backward_head returns backward_logits"
            logits = output.backward_logits
        choice = draw(on_policy(logits, mask), uniform)
        is_root = ~jnp.any(mask)
        action = jnp.where(is_root, NO_ACTION, env.forward_action(state, choice))
        parent = jax.tree.map(lambda old, new: jnp.where(is_root, old, new), state, env.backward_step(state, choice))
        return parent, action

    def body(time: Int[Array, ""], loop: tuple) -> tuple:
        states, actions = loop
        states, chosen = jax.vmap(retreat)(uniforms[time], states)
        return states, actions.at[time].set(chosen)

    num = log_reward.shape[0]
    uniforms = _uniforms(key, env, num * share.num, share)
    reversed_actions = jnp.full((env.max_steps, num), NO_ACTION, jnp.int32)
    _, reversed_actions = jax.lax.fori_loop(0, env.max_steps, body, (terminal, reversed_actions))
    return Trajectory(terminal, jax.vmap(_reverse)(reversed_actions.T), log_reward)


def _reverse(actions: Int[Array, " time"]) -> Int[Array, " time"]:
    num_valid = jnp.sum(actions != NO_ACTION)
    index = num_valid - 1 - jnp.arange(actions.shape[0])
    return jnp.where(index >= 0, actions[jnp.maximum(index, 0)], NO_ACTION)


def _repeat(tree: Any, num: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *jnp.shape(leaf))), tree)
