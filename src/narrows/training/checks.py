"""Checks before anything is compiled that the parts of a training step fit together."""

import jax

from narrows.envs.base import CHANCE, AbstractEnvironment, AbstractReversibleEnvironment
from narrows.envs.perturbation import AbstractPerturbed
from narrows.envs.turns import turns_of
from narrows.objectives.base import AbstractObjective, Passes
from narrows.policies.base import AbstractPolicy
from narrows.rewards.base import AbstractReward
from narrows.scorers.host import HostReward
from narrows.training.descent import Surrogate
from narrows.training.devices import Devices
from narrows.training.exploration import AbstractExploration, FromScratch
from narrows.training.replay import Replay
from narrows.training.state import Given


def check_batch(
    batch_size: int, replay: Replay | None, given: Given | None, objective: AbstractObjective, env: AbstractEnvironment
) -> None:
    """Raise ValueError for a batch too small or of a kind that the objective cannot learn from."""
    name = f"{type(env.inner).__name__} in noise" if isinstance(env, AbstractPerturbed) else type(env).__name__
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    total = batch_size + sum(part.batch_size for part in (replay, given) if part is not None)
    least = objective.needs.min_batch_size
    if total < least:
        raise ValueError(
            f"{type(objective).__name__} compares trajectories with one another and needs {least} a step, "
            f"got {total}. Raise batch_size."
        )
    if given is not None and not isinstance(env, AbstractReversibleEnvironment):
        raise ValueError(f"training from given objects needs an environment that can step back, got {name}.")
    if objective.needs.on_policy and (replay is not None or given is not None):
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


def check_exploration(
    exploration: AbstractExploration,
    replay: Replay | None,
    objective: AbstractObjective,
    env: AbstractEnvironment,
    reward: AbstractReward | HostReward,
) -> None:
    """Raise ValueError for an exploration that keeps parts of objects where that is not possible or would teach wrong."""
    name = type(exploration).__name__
    if isinstance(exploration, FromScratch):
        return
    if objective.needs.on_policy:
        raise ValueError(
            f"{type(objective).__name__} learns from what its own policy has just sampled, and objects that {name} keeps parts "
            "of would teach it wrong. Leave the exploration's name out, or choose another objective."
        )
    if 1 in turns_of(env):
        raise ValueError(f"{name} keeps parts of good objects, and what is good for one player of {type(env).__name__} is not.")
    exploration.check(env)
    if exploration.weighs_policy and CHANCE in turns_of(env):
        raise ValueError(
            f"{name} as set here weighs how likely it is to make an object, in which noise has a part. Leave one of them out."
        )
    if exploration.needs_replay and replay is None:
        raise ValueError(f'{name} takes its parents from past objects. Add [replay], with keep = "best" for the best of all.')
    if exploration.needs_deviation and isinstance(reward, HostReward):
        raise ValueError(
            f"{name} asks a fitted proxy how unsure it is, and a score of your own is not asked while sampling. Fit a proxy, "
            "or take LocalSearch or Recombination."
        )


def check_passes(objective: AbstractObjective, passes: Passes, surrogate: Surrogate | None, num_here: int) -> None:
    """Raise ValueError for passes that the batch or the objective does not allow."""
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
    least = objective.needs.min_batch_size
    if num_here // num_parts < least:
        raise ValueError(
            f"{type(objective).__name__} compares trajectories with one another and needs {least} in each "
            f"of the {num_parts} parts of a batch, got {num_here // num_parts}. Raise batch_size, or set fewer minibatches."
        )


def check_learned_env(env: AbstractEnvironment, learned_env: AbstractEnvironment) -> None:
    """Raise ValueError unless the environment of the loss has the states and actions of the sampled one."""
    if jax.eval_shape(env.reset) != jax.eval_shape(learned_env.reset) or env.num_actions != learned_env.num_actions:
        raise ValueError(
            f"learned_env must have the states and actions of env, got {type(learned_env).__name__} and {type(env).__name__}. "
            "Give the same rules under another kernel."
        )


def check_devices(
    devices: Devices, batch_size: int, replay: Replay | None, given: Given | None, reward: AbstractReward | HostReward
) -> None:
    """Raise ValueError for batches that devices cannot share alike, and for a host reward across processes."""
    devices.check_shares("batch_size", batch_size)
    if replay is not None:
        devices.check_shares("batch_size of replay", replay.batch_size)
    if given is not None:
        devices.check_shares("batch_size of given objects", given.batch_size)
    if devices.has_others and isinstance(reward, HostReward):
        raise ValueError("a score outside JAX is called by one process, so it cannot train across several. Use one process.")


def check_heads(network: AbstractPolicy, objective: AbstractObjective) -> None:
    """Raise ValueError for a head that the policy lacks or that would never learn."""
    name = type(objective).__name__
    if objective.needs.flow and not network.has_flow_head:
        raise ValueError(f"{name} needs a policy with a flow head. Construct the policy with flow_head=True.")
    if objective.needs.child_flow and not network.has_child_flow_head:
        raise ValueError(f"{name} needs a policy with a child-flow head. Construct the policy with child_flow_head=True.")
    if network.has_backward_head and not objective.needs.trains_backward:
        raise ValueError(f"{name} as set here never trains a backward policy. Use the uniform one or another objective.")
