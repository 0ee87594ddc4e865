"""One training step, composed from rules, policy, reward, objective and optimiser.

State carries what the next step needs, info what a reader wants.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from narrows.envs.base import CHANCE, AbstractEnvironment, AbstractReversibleEnvironment
from narrows.envs.perturbation import AbstractPerturbed
from narrows.envs.turns import turns_of
from narrows.objectives.base import AbstractObjective, Aids, Passes
from narrows.policies.base import AbstractPolicy, Critics, Model, Scaled
from narrows.rewards.base import AbstractReward
from narrows.scorers.host import HostReward
from narrows.training import reference
from narrows.training.descent import Surrogate, descend, descend_in_parts, loss_on
from narrows.training.devices import ITEMS, ITEMS_OVER_TIME, SAME, Devices
from narrows.training.hosted import hosted
from narrows.training.replay import Replay
from narrows.training.state import Given, StepInfo, Trainer, TrainState
from narrows.trajectories import Record, Share, Trajectory, sample, sample_backward, sample_recorded
from narrows.trajectories.behaviour import Behaviour, on_policy


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
    believed: AbstractEnvironment | None = None,
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
        behaviour: exploration while sampling.
        replay: past trajectories to train on beside the fresh ones.
        given: known objects to train on beside the fresh ones.
        believed: what the loss takes the environment for, where nature's laws are not known but learned: the same rules under
            another kernel. Objects are sampled in `env`; by default it is believed as it is.
        surrogate: several steps of the optimiser on each batch, towards what a forward step in the objective's errors asks for;
            None for one step on the loss as it is.
        passes: how often each batch is gone through and in how many parts, one step of the optimiser each; None for what the
            objective says, which is once and as a whole for all but `ProximalPolicy` and `LaggedGeneralMellowmax`.
        devices: what shares each batch, or how many devices of this process; every batch size must be a multiple of their
            number. Objects and numbers are those of one device, up to the order in which sums are taken.

    Raises ValueError if the objective cannot train what it is given: a head that the policy lacks or that would never learn, a
    batch too small, an environment with chance or a second player, or given objects where moves cannot be undone; also for
    more devices than there are, a batch that they cannot share alike, or a host reward across processes.
    """
    believed = env if believed is None else believed
    _check_batch(batch_size, replay, given, objective, env)
    _check_believed(env, believed)
    devices = Devices.first(devices) if isinstance(devices, int) else devices
    if surrogate is not None:
        surrogate.check(objective)
    _check_devices(devices, batch_size, replay, given, reward)

    portions = [batch_size, *(() if replay is None else [replay.batch_size]), *(() if given is None else [given.batch_size])]
    passes = objective.passes if passes is None else passes
    _check_passes(objective, passes, surrogate, sum(portions) // devices.num)

    initial = reference.initial(env, reward)
    of_given = None if given is None else np.asarray(given.log_reward, np.float64)

    def make_model(key: PRNGKeyArray) -> Model:
        network = policy if isinstance(policy, AbstractPolicy) else policy(key)
        _check_heads(network, objective)
        critics = _make_critics(policy, objective, key) if objective.needs_critics else None
        # Copied, because training donates its buffers and the caller may still hold the network.
        return Model(jax.tree.map(jnp.copy, Scaled(network, objective.operator.policy_scale)), jnp.zeros(()), critics)

    def init(key: PRNGKeyArray) -> TrainState:
        key_model, key = jax.random.split(key)
        model = make_model(key_model)
        target = None if objective.target_period is None else jax.tree.map(jnp.copy, model)
        example = jax.eval_shape(lambda key: sample(key, model, env, batch_size), key)
        buffer = None if replay is None else replay.init(example)
        params: Any = model
        # Some optimisers keep the first parameters, and a buffer can be donated once only.
        opt_state = jax.tree.map(jnp.copy, optimizer.init(params))
        first = None if initial is None else reference.stored(initial)
        return TrainState(model, target, opt_state, buffer, key, jnp.zeros((), jnp.int32), first)

    def in_jax(state: TrainState) -> AbstractReward | None:
        """Return the reward less the reference of a state, None for one outside."""
        if isinstance(reward, HostReward):
            return None
        return reward if state.reference is None else reward.centred()

    def draw(state: TrainState) -> tuple[PRNGKeyArray, Trajectory, Record]:
        """Sample fresh trajectories; the key that remains is for the update."""
        key_sample, key = jax.random.split(state.key)
        share = devices.share()
        return key, *sample_recorded(key_sample, state.model, env, batch_size, behaviour=behaviour, share=share)

    def update(
        state: TrainState,
        key: PRNGKeyArray,
        fresh: Trajectory,
        known: Float[Array, " object"] | None,
        record: Record | None = None,
    ) -> tuple[TrainState, StepInfo]:
        """Train on trajectories; `known` are the log-rewards of given objects, and like the others less the reference."""
        key_replay, key_choice, key_walk, key = jax.random.split(key, 4)
        batch, buffer, share = fresh, state.buffer, devices.share()
        if replay is not None and buffer is not None:
            buffer = replay.add(buffer, devices.whole(fresh))
            batch = _concatenate(batch, share.take(replay.sample(key_replay, buffer)))
        if given is not None and known is not None:
            batch = _concatenate(batch, _walk_back(key_choice, key_walk, state.model, env, given, known, share))
        target = state.model if state.target is None else state.target
        # Only an objective that draws takes keys, so that the others' random numbers are what they always were.
        keys = _keys(jax.random.fold_in(key_walk, 1), portions, share) if objective.needs_keys else None
        aids = Aids(record, devices.total, in_jax(state), keys)
        if passes.num_steps > 1:
            descent = descend_in_parts(
                lambda model, aids, part: objective.loss(model, target, believed, part, aids),
                *(optimizer, state.model, state.opt_state, batch, aids, passes),
                *(jax.random.fold_in(key_walk, 2), devices.add),
            )
        else:
            loss_of = loss_on(objective, target, believed, batch)
            if surrogate is not None:
                loss_of = surrogate.loss_on(objective, state.model, target, believed, batch, aids)
            num_steps = 1 if surrogate is None else surrogate.inner_steps
            descent = descend(loss_of, optimizer, state.model, state.opt_state, aids, num_steps, devices.add)
        num_usable = devices.add(jnp.sum(jnp.isfinite(batch.log_reward), dtype=jnp.float32))
        # One non-finite number anywhere would spread to every parameter, so such a step changes nothing.
        # Without a single usable item the optimiser's momentum alone would move the parameters.
        is_finite = descent.is_finite & (num_usable > 0)
        model, opt_state = _select(is_finite, (descent.model, descent.opt_state), (state.model, state.opt_state))
        step = state.step + 1
        renewed = None if state.target is None else _renew(objective.target_period, step, model, state.target)
        state = TrainState(model, renewed, opt_state, buffer, key, step, state.reference)
        return state, StepInfo(descent.loss, fresh.terminal, fresh.log_reward, ~is_finite)

    jax.eval_shape(make_model, jax.random.key(0))  # a policy that does not fit is refused here, not in the first step
    info = StepInfo(loss=SAME, terminal=ITEMS, log_reward=ITEMS, is_skipped=SAME)
    if isinstance(reward, HostReward):
        draw = devices.spread(draw, takes=(SAME,), gives=(SAME, ITEMS, ITEMS_OVER_TIME))
        update = devices.spread(update, takes=(SAME, SAME, ITEMS, SAME, ITEMS_OVER_TIME), gives=(SAME, info))
        return hosted(init, jax.jit(draw), jax.jit(update), reward, of_given)._replace(devices=devices)

    def step(state: TrainState) -> tuple[TrainState, StepInfo]:
        key, fresh, record = draw(state)
        own, taken = in_jax(state), 0.0 if state.reference is None or initial is None else initial
        assert own is not None, "a host reward has a step of its own"
        known = None if of_given is None else jnp.asarray(reference.less(of_given, taken))
        return update(state, key, fresh._replace(log_reward=own(fresh.terminal)), known, record)

    return Trainer(init, devices.spread(step, takes=(SAME,), gives=(SAME, info)), is_pure=True, devices=devices)


def _check_batch(
    batch_size: int, replay: Replay | None, given: Given | None, objective: AbstractObjective, env: AbstractEnvironment
) -> None:
    name = f"{type(env.inner).__name__} in noise" if isinstance(env, AbstractPerturbed) else type(env).__name__
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
    if objective.is_on_policy and (replay is not None or given is not None):
        what = "past objects" if replay is not None else "given objects"
        raise ValueError(
            f"{type(objective).__name__} learns from what its own policy has just sampled, and {what} would teach it wrong. "
            "Leave [replay] and given objects out, or choose another objective."
        )
    if not objective.accounts_for(env):
        turns, advice = _unaccounted(turns_of(env))
        raise ValueError(f"{name} has {turns}, which {type(objective).__name__} as set here does not account for. {advice}")


def _unaccounted(turns: frozenset[int]) -> tuple[str, str]:
    """Return in words what other turns than player 0's there are, and which objectives take them."""
    for_chance = 'ExpectedDetailedBalance with actions="visited" takes chance turns'
    for_two = "AdversarialTrajectoryBalance takes two players"
    if CHANCE not in turns:
        return "a second player", f"{for_two}."
    if turns <= {0, CHANCE}:
        return "chance turns", f"{for_chance}."
    return "chance turns and a second player", f"{for_chance}, {for_two} without chance."


def _check_passes(objective: AbstractObjective, passes: Passes, surrogate: Surrogate | None, num_here: int) -> None:
    num_parts = passes.minibatches
    if min(passes) < 1:
        raise ValueError(f"epochs and minibatches must be at least 1, got {passes.epochs} and {passes.minibatches}.")
    if surrogate is not None and passes.num_steps > 1:
        raise ValueError("a surrogate takes several steps on each batch itself. Leave passes out, or the surrogate.")
    if num_here % num_parts:
        raise ValueError(
            f"{type(objective).__name__} goes through each batch in {num_parts} parts, which {num_here} trajectories (on each "
            "device) do not share alike. Make batch_size a multiple, or set minibatches."
        )
    if num_here // num_parts < objective.min_batch_size:
        raise ValueError(
            f"{type(objective).__name__} compares trajectories with one another and needs {objective.min_batch_size} in each "
            f"of the {num_parts} parts of a batch, got {num_here // num_parts}. Raise batch_size, or set fewer minibatches."
        )


def _check_believed(env: AbstractEnvironment, believed: AbstractEnvironment) -> None:
    if jax.eval_shape(env.reset) != jax.eval_shape(believed.reset) or env.num_actions != believed.num_actions:
        raise ValueError(
            f"believed must have the states and actions of env, got {type(believed).__name__} and {type(env).__name__}. "
            "Give the same rules under another kernel."
        )


def _check_devices(
    devices: Devices, batch_size: int, replay: Replay | None, given: Given | None, reward: AbstractReward | HostReward
) -> None:
    devices.check_shares("batch_size", batch_size)
    if replay is not None:
        devices.check_shares("batch_size of replay", replay.batch_size)
    if given is not None:
        devices.check_shares("batch_size of given objects", given.batch_size)
    if devices.has_others and isinstance(reward, HostReward):
        raise ValueError("a score outside JAX is called by one process, so it cannot train across several. Use one process.")


def _check_heads(network: AbstractPolicy, objective: AbstractObjective) -> None:
    name = type(objective).__name__
    if objective.needs_flow and not network.has_flow_head:
        raise ValueError(f"{name} needs a policy with a flow head. Construct the policy with flow_head=True.")
    if objective.needs_child_flow and not network.has_child_flow_head:
        raise ValueError(f"{name} needs a policy with a child-flow head. Construct the policy with child_flow_head=True.")
    if network.has_backward_head and not objective.trains_backward:
        raise ValueError(f"{name} as set here never trains a backward policy. Use the uniform one or another objective.")


def _make_critics(
    policy: AbstractPolicy | Callable[[PRNGKeyArray], AbstractPolicy], objective: AbstractObjective, key: PRNGKeyArray
) -> Critics:
    if isinstance(policy, AbstractPolicy):
        raise ValueError(
            f"{type(objective).__name__} learns from critics, networks like the policy with weights of their own. Give a "
            "function that makes a policy from a key."
        )
    first, second = (policy(jax.random.fold_in(key, number)) for number in (1, 2))
    return Critics((first, second), jnp.log(jnp.asarray(1.0 / objective.operator.omega, jnp.float32)))


def _walk_back(
    key_choice: PRNGKeyArray,
    key_walk: PRNGKeyArray,
    model: Model,
    env: AbstractEnvironment,
    given: Given,
    known: Float[Array, " object"],
    share: Share,
) -> Trajectory:
    assert isinstance(env, AbstractReversibleEnvironment), "_check_batch has refused anything else"
    index = share.take(jax.random.randint(key_choice, (given.batch_size,), 0, known.shape[0]))
    terminal = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], given.terminal)
    return sample_backward(key_walk, model, env, terminal, known[index], share=share)


def _keys(key: PRNGKeyArray, portions: list[int], share: Share) -> Key[Array, " batch"]:
    """Return a key for each item of a share of a batch, the one that it has in the whole batch."""
    parts = [share.take(jax.random.split(jax.random.fold_in(key, place), num)) for place, num in enumerate(portions)]
    return jnp.concatenate(parts)


def _concatenate(first: Trajectory, second: Trajectory) -> Trajectory:
    return jax.tree.map(lambda one, two: jnp.concatenate([one, two]), first, second)


def _select(condition: Bool[Array, ""], yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda one, two: jnp.where(condition, one, two), yes, no)


def _renew(period: int | None, step: Int[Array, ""], model: Model, target: Model) -> Model:
    assert period is not None, "an objective with a target copy has a target_period"
    return _select(step % period == 0, model, target)
