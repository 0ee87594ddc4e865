"""The worst case where states are too many to list: means over sampled trajectories (tgm 4).

With a model's own reference, `d = softmax(alpha Q)` of the values Q that the model has learned, the worst change of a
step's reward is known wherever the model can be asked, so that its expectation is an ordinary mean over what the model samples.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from narrows.envs.base import CHANCE, AbstractEnvironment
from narrows.envs.turns import turns_of
from narrows.exact.blocks import in_blocks
from narrows.metrics.likelihood import follow_to, is_tree, log_prob_of
from narrows.operators import GeneralMellowmax, masked_log_softmax
from narrows.policies.base import Model
from narrows.trajectories import Path, follow, gather, sample

_BATCH = 256
"""Trajectories sampled at once: logits of every step are held for so many."""


class Mean(NamedTuple):
    """The mean of independent draws and its standard error."""

    value: float
    standard_error: float


class SampledWorstCase(NamedTuple):
    """Estimates of what `exact.worst_case` computes, in units of the log-reward.

    Attributes:
        values: expected log-reward under the worst change of the step rewards, for each operator.
        mean_reward: expected log-reward as it was trained on.
        num: trajectories; all operators have the same ones.
        terminal: the objects that were sampled.
    """

    values: tuple[Mean, ...]
    mean_reward: Mean
    num: int
    terminal: Any


class ObjectChanges(NamedTuple):
    """The worst change of objects' rewards for each operator, and the objects' log-probabilities."""

    changes: Float[np.ndarray, "operator object"]
    log_probs: Float[np.ndarray, " object"]


def sampled_worst_case(
    key: PRNGKeyArray,
    model: Model,
    env: AbstractEnvironment,
    reward: Callable[[Any], Any],
    operators: Sequence[GeneralMellowmax],
    *,
    policy_scale: float,
    num: int = 4096,
    dag_correction: bool = True,
) -> SampledWorstCase:
    """Estimate the worst case of a model over the uncertainty sets of operators, its own values being the reference's.

    The mean over trajectories of `log R(x) - (1/omega) sum_t (log pi - q log d - log P_B)`, without bias; chance's turns add
    nothing to the sum.

    Args:
        key: randomness.
        model: the policy, whose logits are `policy_scale` times its values Q.
        env: the rules, of one player.
        reward: a batch of terminal states to log-rewards.
        operators: each chooses a set.
        policy_scale: of the operator that the model was trained with.
        num: trajectories, at least 2, rounded up to whole batches of 256.
        dag_correction: count the backward policy where states have several parents.

    Raises ValueError for two players and for log-rewards that are not finite.
    """
    if num < 2 or not operators:
        raise ValueError(f"expected at least 2 trajectories and one operator, got {num} and {len(operators)}.")
    rewards, changes, ends = [], [], []
    # Where chance moves a state stands for its histories, and there is no backward policy to count.
    counts_backward = dag_correction and CHANCE not in turns_of(env)
    for part in jax.random.split(key, -(-num // _BATCH)):
        terminal, change, has_other = _draw(part, model, env, tuple(operators), policy_scale, counts_backward)
        if bool(has_other):
            raise ValueError(f"{type(env).__name__} has two players; the worst case is that of one whose reward is wrong.")
        rewards.append(np.asarray(reward(terminal), np.float64))
        changes.append(np.asarray(change, np.float64))
        ends.append(terminal)
    log_reward = np.concatenate(rewards)
    if not np.all(np.isfinite(log_reward)):
        num_missing = int(np.sum(~np.isfinite(log_reward)))
        raise ValueError(f"{num_missing} of {len(log_reward)} sampled objects have no finite reward. Mend the score first.")
    values = tuple(_mean(log_reward + change) for change in np.concatenate(changes, axis=1))
    everything = jax.tree.map(lambda *leaves: np.concatenate(leaves), *ends)
    return SampledWorstCase(values, _mean(log_reward), len(log_reward), everything)


def object_changes(
    model: Model, env: AbstractEnvironment, terminal: Any, operators: Sequence[GeneralMellowmax], *, policy_scale: float
) -> ObjectChanges:
    """Return the worst change of given objects' rewards in a tree: the sum over the one trajectory that makes each.

    Args:
        model: the policy, whose logits are `policy_scale` times its values Q; these make the reference.
        env: rules in which every state has one parent.
        terminal: a batch of terminal states.
        operators: each chooses a set.
        policy_scale: of the operator that the model was trained with.

    Raises ValueError where objects have several trajectories.
    """
    if not is_tree(env):
        raise ValueError(
            f"objects of {type(env).__name__} can be made in several ways, whose number is not known without listing all "
            "states. Their worst case is known where states can be listed."
        )
    log_probs, changes = in_blocks(partial(_along, model, env, tuple(operators), policy_scale), terminal)
    return ObjectChanges(changes.T.astype(np.float64), log_probs.astype(np.float64))


@eqx.filter_jit
def _draw(
    key: PRNGKeyArray,
    model: Model,
    env: AbstractEnvironment,
    operators: tuple[GeneralMellowmax, ...],
    policy_scale: float,
    counts_backward: bool,
) -> tuple[Any, Float[Array, "operator batch"], Bool[Array, ""]]:
    """Return sampled objects, the sum of the worst changes on the way to each, and whether a second player had a turn."""
    drawn = sample(key, model, env, _BATCH)
    path = follow(model, env, drawn.actions)
    changes = jnp.stack([jnp.sum(_changes(one, path, policy_scale, counts_backward), axis=0) for one in operators])
    return drawn.terminal, changes, jnp.any(path.is_valid & (path.turn != 0) & (path.turn != CHANCE))


@eqx.filter_jit
def _along(
    model: Model,
    env: AbstractEnvironment,
    operators: tuple[GeneralMellowmax, ...],
    policy_scale: float,
    terminal: Any,
) -> tuple[Float[Array, " row"], Float[Array, "row operator"]]:
    path = follow_to(model, env, terminal)
    changes = [jnp.sum(_changes(one, path, policy_scale, counts_backward=False), axis=0) for one in operators]
    return log_prob_of(path), jnp.stack(changes, axis=1)


def _changes(operator: GeneralMellowmax, path: Path, policy_scale: float, counts_backward: bool) -> Float[Array, "time *batch"]:
    """Return `-(1/omega) (log pi - q log d - log P_B)` of each of the player's steps, 0 elsewhere (tgm 4.2)."""
    ratio = gather(masked_log_softmax(path.forward_logits, path.action_mask), path.actions)
    if operator.q > 0.0:
        reference_logits = (operator.alpha / policy_scale) * path.forward_logits
        # Each is gathered before the subtraction: at an illegal action it would be -inf minus -inf.
        ratio = ratio - operator.q * gather(masked_log_softmax(reference_logits, path.action_mask), path.actions)
    if counts_backward:
        ratio = ratio - path.log_pb
    return jnp.where(path.is_valid & (path.turn != CHANCE), -ratio, 0.0) / operator.omega


def _mean(draws: Float[np.ndarray, " draw"]) -> Mean:
    return Mean(float(np.mean(draws)), float(np.std(draws, ddof=1) / np.sqrt(len(draws))))
