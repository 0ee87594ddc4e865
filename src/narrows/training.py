"""The training loop: whole chunks of steps in one compiled program, and everything else between them.

State carries what the next step needs, info what a reader wants.
"""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.buffers import BufferState, Replay
from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment
from narrows.exploration import Behaviour, on_policy
from narrows.objectives.base import AbstractObjective
from narrows.policies.base import AbstractPolicy, Model, Scaled
from narrows.rewards.base import AbstractReward
from narrows.rewards.host import HostReward
from narrows.trajectories import Trajectory, sample, sample_backward


class TrainState(NamedTuple):
    """Everything the next step depends on, and nothing else: restoring it continues bit for bit."""

    model: Model
    target: Model | None
    opt_state: Any
    buffer: BufferState | None
    key: PRNGKeyArray
    step: Int[Array, ""]


class StepInfo(NamedTuple):
    """What one step leaves for a reader: its loss and the objects it sampled.

    `is_skipped` marks a step that changed no parameter: its loss, gradient or update was not finite, or nothing in its batch
    had a finite reward.
    """

    loss: Float[Array, "*chunk"]
    terminal: Any
    log_reward: Float[Array, "*chunk batch"]
    is_skipped: Bool[Array, "*chunk"]


class Trainer(NamedTuple):
    """A pair of functions and whether `step` is a pure one that may be compiled into a chunk."""

    init: Callable[[PRNGKeyArray], TrainState]
    step: Callable[[TrainState], tuple[TrainState, StepInfo]]
    is_pure: bool


class Given(NamedTuple):
    """Known objects to train from: `batch_size` of them a step, walked back to the root by the backward policy.

    `log_reward` is what the reward says of them, with its inverse temperature in it.
    """

    terminal: Any
    log_reward: Float[Array, " object"]
    batch_size: int


class Chunk(NamedTuple):
    """What happened between two looks: `num_steps` steps up to and including step `last_step` (counted from 1).

    `state` is good until the observer returns: its buffers are then given to the next chunk. `loss` is the mean over the steps
    that trained, NaN if none did.
    """

    last_step: int
    num_steps: int
    state: TrainState
    info: StepInfo
    seconds: float

    @property
    def loss(self) -> float:
        losses = np.asarray(self.info.loss)[~np.asarray(self.info.is_skipped)]
        return float(losses.mean()) if losses.size else float("nan")


Row = dict[str, int | float]
"""A row of the history: columns by name."""


@runtime_checkable
class Observer(Protocol):
    """Reads a chunk between dispatches and returns columns for the history."""

    def __call__(self, chunk: Chunk) -> Row: ...


History = list[Row]


def adam(
    learning_rate: float = 1e-3,
    log_z_learning_rate: float = 1e-1,
    weight_decay: float = 0.0,
    clip: float = 10.0,
    decay_steps: int | None = None,
) -> optax.GradientTransformation:
    """Return AdamW for the policy and a faster Adam for `log_z`, which moves by whole units.

    Args:
        learning_rate: of the policy, > 0.
        log_z_learning_rate: of `log_z`, > 0.
        weight_decay: decoupled decay of the policy's parameters, >= 0.
        clip: largest global norm of the policy's gradient, > 0; `inf` for no limit.
        decay_steps: steps over which both rates fall to zero along a cosine; None keeps them constant.
    """
    for name, value in (("learning_rate", learning_rate), ("log_z_learning_rate", log_z_learning_rate)):
        if not 0.0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite, got {value}.")
    if not clip > 0.0:
        raise ValueError(f"clip must be positive, got {clip}. Write inf for no limit.")
    if not 0.0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay must be at least 0 and finite, got {weight_decay}.")
    if decay_steps is not None and decay_steps < 1:
        raise ValueError(f"decay_steps must be at least 1, got {decay_steps}. The number of training steps is usual.")
    rate, log_z_rate = (_decayed(value, decay_steps) for value in (learning_rate, log_z_learning_rate))
    policy = optax.chain(optax.clip_by_global_norm(clip), optax.adamw(rate, weight_decay=weight_decay))
    return optax.partition({"policy": policy, "log_z": optax.adam(log_z_rate)}, _labels)


def trainer(
    env: AbstractEnvironment,
    policy: AbstractPolicy | Callable[[PRNGKeyArray], AbstractPolicy],
    reward: AbstractReward | HostReward,
    objective: AbstractObjective,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int = 16,
    behaviour: Behaviour = on_policy,
    replay: Replay | None = None,
    given: Given | None = None,
) -> Trainer:
    """Compose rules, policy, reward, objective and optimiser into a training step.

    Args:
        env: the rules.
        policy: the network, or a function that makes one from a key; its outputs are the objective's values Q, and it acts
            by their softmax at the objective's scale `q alpha + omega`.
        reward: terminal states to log-rewards; a `HostReward` is called between two compiled halves of the step.
        objective: the loss.
        optimizer: any optax transformation over a `Model`; `adam` is the usual one.
        batch_size: fresh trajectories a step.
        behaviour: exploration while sampling.
        replay: past trajectories to train on beside the fresh ones.
        given: known objects to train on beside the fresh ones.

    Raises ValueError if the objective cannot train what it is given: a head that the policy lacks or that would never learn, a
    batch too small, an environment with chance or a second player, or given objects where moves cannot be undone.
    """
    _check_batch(batch_size, replay, given, objective, env)

    def make_model(key: PRNGKeyArray) -> Model:
        network = policy if isinstance(policy, AbstractPolicy) else policy(key)
        _check_heads(network, objective)
        # Copied, because training donates its buffers and the caller may still hold the network.
        return Model(jax.tree.map(jnp.copy, Scaled(network, objective.operator.policy_scale)), jnp.zeros(()))

    def init(key: PRNGKeyArray) -> TrainState:
        key_model, key = jax.random.split(key)
        model = make_model(key_model)
        target = None if objective.target_period is None else jax.tree.map(jnp.copy, model)
        example = jax.eval_shape(lambda key: sample(key, model, env, batch_size), key)
        buffer = None if replay is None else replay.init(example)
        params: Any = model
        # Some optimisers keep the first parameters, and a buffer can be donated once only.
        opt_state = jax.tree.map(jnp.copy, optimizer.init(params))
        return TrainState(model, target, opt_state, buffer, key, jnp.zeros((), jnp.int32))

    def draw(state: TrainState) -> tuple[PRNGKeyArray, Trajectory]:
        """Sample fresh trajectories; the key that remains is for the update."""
        key_sample, key = jax.random.split(state.key)
        return key, sample(key_sample, state.model, env, batch_size, behaviour=behaviour)

    def update(state: TrainState, key: PRNGKeyArray, fresh: Trajectory) -> tuple[TrainState, StepInfo]:
        key_replay, key_choice, key_walk, key = jax.random.split(key, 4)
        batch, buffer = fresh, state.buffer
        if replay is not None and buffer is not None:
            buffer = replay.add(buffer, fresh)
            batch = _concatenate(batch, replay.sample(key_replay, buffer))
        if given is not None:
            batch = _concatenate(batch, _walk_back(key_choice, key_walk, state.model, env, given))
        target = state.model if state.target is None else state.target
        loss, gradient = jax.value_and_grad(objective.loss)(state.model, target, env, batch)
        params: Any = state.model  # any pytree to optax, whose annotations name a few containers only
        updates, opt_state = optimizer.update(gradient, state.opt_state, params)
        model = optax.apply_updates(params, updates)
        # One non-finite number anywhere would spread to every parameter, so such a step changes nothing.
        is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient)) & jnp.isfinite(optax.tree.norm(updates))
        # Without a single usable item the optimiser's momentum alone would move the parameters.
        is_finite &= jnp.any(jnp.isfinite(batch.log_reward))
        model, opt_state = _select(is_finite, (model, opt_state), (state.model, state.opt_state))
        step = state.step + 1
        target = None if state.target is None else _renew(objective.target_period, step, model, state.target)
        state = TrainState(model, target, opt_state, buffer, key, step)
        return state, StepInfo(loss, fresh.terminal, fresh.log_reward, ~is_finite)

    jax.eval_shape(make_model, jax.random.key(0))  # a policy that does not fit is refused here, not in the first step
    if isinstance(reward, HostReward):
        compiled_draw, compiled_update = jax.jit(draw), jax.jit(update)

        def host_step(state: TrainState) -> tuple[TrainState, StepInfo]:
            key, fresh = compiled_draw(state)
            log_reward = jnp.asarray(reward(fresh.terminal), jnp.float32)
            return compiled_update(state, key, fresh._replace(log_reward=log_reward))

        return Trainer(init, host_step, is_pure=False)

    def step(state: TrainState) -> tuple[TrainState, StepInfo]:
        key, fresh = draw(state)
        return update(state, key, fresh._replace(log_reward=reward(fresh.terminal)))

    return Trainer(init, step, is_pure=True)


def run(
    trainer: Trainer,
    state: TrainState,
    num_steps: int,
    *,
    every: int = 100,
    observers: Sequence[Observer] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[TrainState, History]:
    """Train until step `num_steps`, in compiled chunks of `every` steps that end at its multiples.

    Args:
        trainer: what `trainer` returned.
        state: where to start, `trainer.init(key)` or a restored one; its buffers are donated.
        num_steps: the step to stop at, counted from the very beginning, so that a resumed run is told the same number.
        every: steps a chunk, >= 1.
        observers: called after each chunk; the columns they return make a row of the history.
        should_stop: asked after each chunk; True ends training there.

    Returns the last state and the history, a row a chunk, `step` and `loss` always among its columns.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}.")
    advance = _compiled_chunk(trainer.step) if trainer.is_pure else _python_chunk(trainer.step)
    history: History = []
    while (done := int(state.step)) < num_steps and not should_stop():
        length = min(every - done % every, num_steps - done)
        began = time.perf_counter()
        state, info = jax.block_until_ready(advance(state, length))
        chunk = Chunk(done + length, length, state, jax.device_get(info), time.perf_counter() - began)
        row: Row = {"step": chunk.last_step, "loss": chunk.loss}
        for observe in observers:
            row.update(observe(chunk))
        history.append(row)
    return state, history


def _decayed(rate: float, decay_steps: int | None) -> float | optax.Schedule:
    return rate if decay_steps is None else optax.cosine_decay_schedule(rate, decay_steps)


@functools.lru_cache(maxsize=8)  # a trainer that is run again, as in a notebook, does not compile again
def _compiled_chunk(step: Callable) -> Callable[[TrainState, int], tuple[TrainState, StepInfo]]:
    def chunk(state: TrainState, length: int) -> tuple[TrainState, StepInfo]:
        return jax.lax.scan(lambda carry, _: step(carry), state, length=length)

    return jax.jit(chunk, static_argnums=1, donate_argnums=0)


def _python_chunk(step: Callable) -> Callable[[TrainState, int], tuple[TrainState, StepInfo]]:
    def chunk(state: TrainState, length: int) -> tuple[TrainState, StepInfo]:
        infos = []
        for _ in range(length):
            state, info = step(state)
            infos.append(jax.device_get(info))
        return state, jax.tree.map(lambda *leaves: np.stack(leaves), *infos)

    return chunk


def _check_batch(
    batch_size: int, replay: Replay | None, given: Given | None, objective: AbstractObjective, env: AbstractEnvironment
) -> None:
    name = type(env).__name__
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    total = batch_size + (0 if replay is None else replay.batch_size) + (0 if given is None else given.batch_size)
    if total < objective.min_batch_size:
        raise ValueError(
            f"{type(objective).__name__} compares trajectories with one another and needs {objective.min_batch_size} a step, "
            f"got {total}. Raise batch_size."
        )
    if given is not None and not isinstance(env, AbstractReversibleEnvironment):
        raise ValueError(f"training from given objects needs an environment that can step back, got {name}.")
    if type(env).turn is not AbstractEnvironment.turn:
        raise ValueError(f"{name} has chance turns or two players, which {type(objective).__name__} does not account for.")


def _check_heads(network: AbstractPolicy, objective: AbstractObjective) -> None:
    name = type(objective).__name__
    if objective.needs_flow and not network.has_flow_head:
        raise ValueError(f"{name} needs a policy with a flow head. Construct the policy with flow_head=True.")
    if network.has_backward_head and not objective.trains_backward:
        raise ValueError(f"{name} as set here never trains a backward policy. Use the uniform one or another objective.")


def _walk_back(
    key_choice: PRNGKeyArray, key_walk: PRNGKeyArray, model: Model, env: AbstractEnvironment, given: Given
) -> Trajectory:
    assert isinstance(env, AbstractReversibleEnvironment), "_check_batch has refused anything else"
    index = jax.random.randint(key_choice, (given.batch_size,), 0, given.log_reward.shape[0])
    terminal = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], given.terminal)
    return sample_backward(key_walk, model, env, terminal, jnp.asarray(given.log_reward)[index])


def _concatenate(first: Trajectory, second: Trajectory) -> Trajectory:
    return jax.tree.map(lambda one, two: jnp.concatenate([one, two]), first, second)


def _select(condition: Bool[Array, ""], yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda one, two: jnp.where(condition, one, two), yes, no)


def _renew(period: int | None, step: Int[Array, ""], model: Model, target: Model) -> Model:
    assert period is not None, "an objective with a target copy has a target_period"
    return _select(step % period == 0, model, target)


def _labels(model: Model) -> Model:
    """Return which of `adam`'s two rates each parameter has, in the shape of a model."""
    return eqx.tree_at(
        lambda tree: tree.log_z, jax.tree.map(lambda _: "policy", model), "log_z", is_leaf=lambda leaf: isinstance(leaf, str)
    )


def objects_of(info: StepInfo, env: AbstractEnvironment) -> Iterable[str]:
    """Return the texts of a chunk's sampled objects, step by step."""
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), info.terminal)
    return env.to_text(flat)
