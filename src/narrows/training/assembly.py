"""One training step, composed from rules, policy, reward, objective and optimiser.

State carries what the next step needs, info what a reader wants.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment
from narrows.objectives.base import AbstractObjective, LossContext, Passes
from narrows.policies.base import AbstractPolicy, Critics, Model, Scaled
from narrows.rewards.base import AbstractReward
from narrows.scorers.host import HostReward
from narrows.training import reference
from narrows.training.checks import (
    check_batch,
    check_devices,
    check_exploration,
    check_heads,
    check_learned_env,
    check_passes,
)
from narrows.training.descent import Descender, Descent, Surrogate
from narrows.training.devices import ITEMS, ITEMS_OVER_TIME, SAME, Devices
from narrows.training.exploration import AbstractExploration, FromScratch, Plan, Scene
from narrows.training.hosted import hosted
from narrows.training.replay import BufferState, Replay
from narrows.training.state import Given, StepInfo, Trainer, TrainState
from narrows.trajectories import (
    Redrawn,
    SamplerCache,
    Trajectory,
    redraw_with_cache,
    sample,
    sample_backward,
    sample_with_cache,
)
from narrows.trajectories.behaviour import Behaviour, on_policy

MakePolicy = Callable[[PRNGKeyArray], AbstractPolicy]
Origin = tuple[Plan, Redrawn] | None
"""What fresh trajectories keep of earlier ones and how they were drawn, None for those from scratch."""
FROM_SCRATCH: Final = FromScratch()


def trainer(
    env: AbstractEnvironment,
    policy: AbstractPolicy | MakePolicy,
    reward: AbstractReward | HostReward,
    objective: AbstractObjective,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int = 16,
    behaviour: Behaviour = on_policy,
    exploration: AbstractExploration = FROM_SCRATCH,
    replay: Replay | None = None,
    given: Given | None = None,
    learned_env: AbstractEnvironment | None = None,
    surrogate: Surrogate | None = None,
    passes: Passes | None = None,
    devices: Devices | int = 1,
) -> Trainer:
    """Compose rules, policy, reward, objective and optimiser into a training step.

    Args:
        env: the rules.
        policy: the network, or a function that makes one from a key; its outputs are the objective's values Q, and it acts
            by their softmax at the objective's scale `q alpha + omega`. Critics are made by the function, too.
        reward: terminal states to log-rewards; a `HostReward` is called between two compiled halves of the step.
        objective: the loss.
        optimizer: any optax transformation over a `Model`; `adam` is the usual one.
        batch_size: fresh trajectories a step.
        behaviour: how actions are drawn while sampling.
        exploration: which parts of earlier objects a batch keeps; none of them by default.
        replay: past trajectories to train on beside the fresh ones.
        given: known objects to train on beside the fresh ones.
        learned_env: the environment that the loss computes with, where the kernel of `env` is not known but learned: the same
            rules under another kernel. Objects are sampled in `env`, which is also the default.
        surrogate: several steps of the optimiser on each batch, towards what a forward step in the objective's errors asks for;
            None for one step on the loss as it is.
        passes: how often each batch is gone through and in how many parts, one step of the optimiser each; None for what the
            objective says, which is once and as a whole for all but `ProximalPolicy` and `LaggedGeneralMellowmax`.
        devices: what shares each batch, or how many devices of this process; every batch size must be a multiple of their
            number. Objects and numbers are those of one device, up to the order in which sums are taken.

    Raises ValueError if the objective cannot train what it is given: a head that the policy lacks or that would never learn, a
    batch too small, an environment with chance or a second player, given objects where moves cannot be undone, or an
    exploration without what it draws from; also for more devices than there are, a batch that they cannot share alike, or a
    host reward across processes.
    """
    devices = Devices.first(devices) if isinstance(devices, int) else devices
    passes = objective.needs.passes if passes is None else passes
    learned_env = env if learned_env is None else learned_env
    check_batch(batch_size, replay, given, objective, env)
    check_exploration(exploration, replay, objective, env, reward)
    check_learned_env(env, learned_env)
    if surrogate is not None:
        surrogate.check(objective)
    check_devices(devices, batch_size, replay, given, reward)
    parts = _Parts(
        env,
        learned_env,
        policy,
        reward,
        reference.initial(env, reward),
        objective,
        optimizer,
        batch_size,
        behaviour,
        exploration,
        replay,
        given,
        surrogate,
        passes,
        devices,
    )
    check_passes(objective, passes, surrogate, sum(parts.portions) // devices.num)
    jax.eval_shape(parts.make_model, jax.random.key(0))  # a policy that does not fit is refused here, not in the first step
    info = StepInfo(loss=SAME, terminal=ITEMS, log_reward=ITEMS, is_skipped=SAME)
    if isinstance(reward, HostReward):
        draw = devices.shard_map(parts.draw, in_specs=(SAME,), out_specs=(SAME, ITEMS, ITEMS, ITEMS_OVER_TIME))
        specs = (SAME, SAME, ITEMS, ITEMS, SAME, ITEMS_OVER_TIME)
        update = devices.shard_map(parts.update, in_specs=specs, out_specs=(SAME, info))
        return hosted(parts.init, jax.jit(draw), jax.jit(update), reward, parts.given_log_reward)._replace(devices=devices)
    step = devices.shard_map(parts.step, in_specs=(SAME,), out_specs=(SAME, info))
    return Trainer(parts.init, step, is_pure=True, devices=devices)


@dataclass(frozen=True, eq=False)  # told apart by identity, so that its methods are too
class _Parts:
    """The arguments of `trainer`, checked, and the functions that a step is made of; `initial` is the run's reference."""

    env: AbstractEnvironment
    learned_env: AbstractEnvironment
    policy: AbstractPolicy | MakePolicy
    reward: AbstractReward | HostReward
    initial: float | None
    objective: AbstractObjective
    optimizer: optax.GradientTransformation
    batch_size: int
    behaviour: Behaviour
    exploration: AbstractExploration
    replay: Replay | None
    given: Given | None
    surrogate: Surrogate | None
    passes: Passes
    devices: Devices

    @property
    def portions(self) -> list[int]:
        """Trajectories of each kind in a batch: fresh ones, past ones, those of given objects."""
        others = [part.batch_size for part in (self.replay, self.given) if part is not None]
        return [self.batch_size, *others]

    @property
    def given_log_reward(self) -> Float[np.ndarray, " object"] | None:
        return None if self.given is None else np.asarray(self.given.log_reward, np.float64)

    def make_model(self, key: PRNGKeyArray) -> Model:
        """Return the model with its first parameters; ValueError for a policy that the objective cannot train."""
        network = self.policy if isinstance(self.policy, AbstractPolicy) else self.policy(key)
        check_heads(network, self.objective)
        critics = _make_critics(self.policy, self.objective, key) if self.objective.needs.critics else None
        # Copied, because training donates its buffers and the caller may still hold the network.
        copy = jax.tree.map(jnp.copy, Scaled(network, self.objective.operator.policy_scale))
        return Model(copy, jnp.zeros(()), critics)

    def init(self, key: PRNGKeyArray) -> TrainState:
        """Return the first state."""
        key_model, key = jax.random.split(key)
        model = self.make_model(key_model)
        target = None if self.objective.needs.target_period is None else jax.tree.map(jnp.copy, model)
        example = jax.eval_shape(lambda key: sample(key, model, self.env, self.batch_size), key)
        buffer = None if self.replay is None else self.replay.init(example)
        params: Any = model
        # Some optimisers keep the first parameters, and a buffer can be donated once only.
        opt_state = jax.tree.map(jnp.copy, self.optimizer.init(params))
        first = None if self.initial is None else reference.stored(self.initial)
        memory = self.exploration.init(example)
        return TrainState(model, target, opt_state, buffer, key, jnp.zeros((), jnp.int32), first, memory)

    def draw(self, state: TrainState) -> tuple[PRNGKeyArray, Trajectory, Origin, SamplerCache]:
        """Sample fresh trajectories; the key that remains is for the update."""
        key_sample, key = jax.random.split(state.key)
        share, how = self.devices.share(), {"behaviour": self.behaviour}
        plan = self.exploration.plan(jax.random.fold_in(key_sample, 1), self._scene(state))
        if plan is None:
            fresh, cache = sample_with_cache(key_sample, state.model, self.env, self.batch_size, **how, share=share)
            return key, fresh, None, cache
        drawn, cache = redraw_with_cache(key_sample, state.model, self.env, plan.kept, **how, share=share)
        return key, drawn.trajectory, (share.take(plan), drawn), cache

    def update(
        self,
        state: TrainState,
        key: PRNGKeyArray,
        fresh: Trajectory,
        origin: Origin,
        known: Float[Array, " object"] | None,
        cache: SamplerCache | None = None,
    ) -> tuple[TrainState, StepInfo]:
        """Train on trajectories; `known` are the log-rewards of given objects, and like the others less the reference."""
        *batch_keys, key_walk, key = jax.random.split(key, 4)
        batch, buffer = self._batch(state, [*batch_keys, key_walk], fresh, known)
        memory = self._remember(state, jax.random.fold_in(key_walk, 3), fresh, origin)
        descent = self._descend(state, key_walk, batch, cache)
        num_usable = self.devices.add(jnp.sum(jnp.isfinite(batch.log_reward), dtype=jnp.float32))
        # One non-finite number anywhere would spread to every parameter, so such a step changes nothing.
        # Without a single usable item the optimiser's momentum alone would move the parameters.
        is_finite = descent.is_finite & (num_usable > 0)
        model, opt_state = _select(is_finite, (descent.model, descent.opt_state), (state.model, state.opt_state))
        step, target, period = state.step + 1, state.target, self.objective.needs.target_period
        if target is not None and period is not None:
            target = _select(step % period == 0, model, target)
        state = TrainState(model, target, opt_state, buffer, key, step, state.reference, memory)
        return state, StepInfo(descent.loss, fresh.terminal, fresh.log_reward, ~is_finite)

    def step(self, state: TrainState) -> tuple[TrainState, StepInfo]:
        """Sample, score in JAX and train."""
        key, fresh, origin, cache = self.draw(state)
        reward, of_given = self._reward(state), self.given_log_reward
        assert reward is not None, "a host reward has a step of its own"
        taken = 0.0 if state.reference is None or self.initial is None else self.initial
        known = None if of_given is None else jnp.asarray(reference.less(of_given, taken))
        return self.update(state, key, fresh._replace(log_reward=reward(fresh.terminal)), origin, known, cache)

    def _scene(self, state: TrainState) -> Scene:
        reward = self._reward(state)
        deviation = None if reward is None else reward.deviation
        return Scene(self.env, state.model, self.behaviour, state.buffer, state.exploration, deviation, self.batch_size)

    def _remember(self, state: TrainState, key: PRNGKeyArray, fresh: Trajectory, origin: Origin) -> Any:
        """Return the exploration's memory after a batch, the same on every device."""
        if origin is None:
            return state.exploration
        plan, drawn = self.devices.all_gather((origin[0], origin[1]._replace(trajectory=fresh)))
        return self.exploration.learn(key, self._scene(state), plan, drawn)

    def _reward(self, state: TrainState) -> AbstractReward | None:
        """Return the reward less the reference of a state, None for one outside JAX."""
        if isinstance(self.reward, HostReward):
            return None
        return self.reward if state.reference is None else self.reward.centred()

    def _batch(
        self, state: TrainState, keys: list[PRNGKeyArray], fresh: Trajectory, known: Float[Array, " object"] | None
    ) -> tuple[Trajectory, BufferState | None]:
        """Return fresh trajectories, past ones and those of given objects, and the buffer with the fresh ones added."""
        key_replay, key_choice, key_walk = keys
        batch, buffer, share = fresh, state.buffer, self.devices.share()
        if self.replay is not None and buffer is not None:
            buffer = self.replay.add(buffer, self.devices.all_gather(fresh))
            batch = _concatenate(batch, share.take(self.replay.sample(key_replay, buffer)))
        if self.given is not None and known is not None:
            assert isinstance(self.env, AbstractReversibleEnvironment), "check_batch has refused anything else"
            index = share.take(jax.random.randint(key_choice, (self.given.batch_size,), 0, known.shape[0]))
            terminal = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], self.given.terminal)
            walked = sample_backward(key_walk, state.model, self.env, terminal, known[index], share=share)
            batch = _concatenate(batch, walked)
            if self.replay is not None and buffer is not None and self.replay.keep == "best":
                buffer = self.replay.add(buffer, self.devices.all_gather(walked))
        return batch, buffer

    def _descend(self, state: TrainState, key: PRNGKeyArray, batch: Trajectory, cache: SamplerCache | None) -> Descent:
        """Take the optimiser's steps on a batch."""
        objective, env, surrogate = self.objective, self.learned_env, self.surrogate
        descender = Descender(self.optimizer, self.devices.add)
        target = state.model if state.target is None else state.target
        # Only an objective that draws takes keys, so that the others' random numbers are what they always were.
        keys = self._keys(jax.random.fold_in(key, 1)) if objective.needs.keys else None
        context = LossContext(cache, self.devices.total, self._reward(state), keys)
        start = (state.model, state.opt_state, context)

        def loss_of(model: Model, context: LossContext, part: Trajectory = batch) -> Float[Array, ""]:
            return objective.loss(model, target, env, part, context)

        if self.passes.num_steps > 1:
            return descender.in_parts(loss_of, *start, batch, self.passes, jax.random.fold_in(key, 2))
        if surrogate is None:
            return descender.once(loss_of, *start)
        return descender.repeat(
            surrogate.loss_on(objective, state.model, target, env, batch, context), *start, surrogate.inner_steps
        )

    def _keys(self, key: PRNGKeyArray) -> Key[Array, " batch"]:
        """Return a key for each item of this device's share of a batch, the one that it has in the whole batch."""
        keys = [jax.random.split(jax.random.fold_in(key, place), num) for place, num in enumerate(self.portions)]
        return jnp.concatenate([self.devices.share().take(part) for part in keys])


def _make_critics(policy: AbstractPolicy | MakePolicy, objective: AbstractObjective, key: PRNGKeyArray) -> Critics:
    if isinstance(policy, AbstractPolicy):
        raise ValueError(
            f"{type(objective).__name__} learns from critics, networks like the policy with weights of their own. Give a "
            "function that makes a policy from a key."
        )
    first, second = (policy(jax.random.fold_in(key, number)) for number in (1, 2))
    return Critics((first, second), jnp.log(jnp.asarray(1.0 / objective.operator.omega, jnp.float32)))


def _concatenate(first: Trajectory, second: Trajectory) -> Trajectory:
    return jax.tree.map(lambda one, two: jnp.concatenate([one, two]), first, second)


def _select(condition: Bool[Array, ""], yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda one, two: jnp.where(condition, one, two), yes, no)
