"""Learn a kernel from transitions by cross-entropy, and say how well it predicts transitions it never saw."""

from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from narrows.envs.base import AbstractEnvironment
from narrows.envs.perturbation import AbstractKernel
from narrows.noise.dataset import BLOCK, Transitions, cross_entropy
from narrows.noise.descent import train_correction
from narrows.noise.kinds import same_kind
from narrows.noise.learned import Frequencies
from narrows.noise.substitution import Substitution

Learned: TypeAlias = Literal["table", "network"]

MIN_TRANSITIONS = 20
"""Transitions below which there is nothing to hold out."""


class KernelQuality(NamedTuple):
    """The quality of kernels on held-out transitions: mean cross-entropies in nats, lower is better.

    Transitions in which only one action could take place predict themselves and are not counted.

    Attributes:
        num_fitted: transitions that the kernel judged here was fitted to.
        num_held_out: transitions that it is judged on.
        cross_entropy: of the fitted kernel.
        as_asked: of everything coming as asked: 0 if it did, infinite if once it did not.
        substitution: of `Substitution` with the rate that the fitted transitions show.
        truth: of the true kernel, where it was given; the fitted one can hardly be better than this.
    """

    num_fitted: int
    num_held_out: int
    cross_entropy: float
    as_asked: float
    substitution: float
    truth: float | None


class KernelFit(NamedTuple):
    kernel: AbstractKernel
    quality: KernelQuality


def fit_kernel(
    env: AbstractEnvironment,
    states: Any,
    actions: Int[Array, " transition"] | Int[np.ndarray, " transition"],
    outcomes: Int[Array, " transition"] | Int[np.ndarray, " transition"],
    *,
    model: Learned = "table",
    smoothing: float = 0.5,
    held_out: float = 0.2,
    hidden: int = 64,
    max_epochs: int = 100,
    seed: int = 0,
    truth: AbstractKernel | None = None,
) -> KernelFit:
    """Learn what becomes of actions from what became of some, by cross-entropy (eflow 2.6).

    Outcomes are legal and of the same kind as what was asked for: the object ends after either or after neither. A `table`
    counts how often each action came of each, whatever the state: the least cross-entropy in closed form where an action's
    kind is the same wherever it is legal, as for sequences. A `network` starts from the table and corrects it by the state;
    it is kept as it was when transitions set aside for that were predicted best.

    Args:
        env: the rules that are perturbed.
        states: a batch of states of `env`.
        actions: what was asked for in each, `[transition]`.
        outcomes: what took place in each, `[transition]`.
        model: `table` or `network`.
        smoothing: counts that each pair of actions has before any transition, > 0; an action never asked for has only these.
        held_out: share of the transitions to judge on, in (0, 1). The table is then counted once more over all of them.
        hidden: width of the network.
        max_epochs: passes of the network over the data, at most.
        seed: split, initial weights and minibatches. The same seed gives the same bits on one machine.
        truth: the true kernel, to be judged on the same transitions.

    Raises ValueError naming the first transition that no such kernel can explain, and for too few of them.
    """
    if model not in get_args(Learned):
        raise ValueError(f"model must be one of {', '.join(get_args(Learned))}, got {model!r}.")
    _check_settings(smoothing, held_out, hidden, max_epochs)
    everything = Transitions(*jax.tree.map(np.asarray, (states, actions, outcomes)))
    informative = _informative(env, everything)
    order = np.random.default_rng(seed).permutation(informative)
    num_held_out = min(max(round(held_out * len(order)), 1), len(order) - 2)
    held, fitted = _take(everything, order[:num_held_out]), _take(everything, order[num_held_out:])
    counted = _count(env, fitted, smoothing)
    kernel: AbstractKernel = counted
    if model == "network":
        kernel = train_correction(counted, fitted, hidden, max_epochs, jax.random.key(seed))
    quality = KernelQuality(
        num_fitted=len(order) - num_held_out,
        num_held_out=num_held_out,
        cross_entropy=cross_entropy(kernel, held),
        as_asked=0.0 if np.array_equal(held.asked, held.came) else float("inf"),
        substitution=cross_entropy(Substitution(env, _substitution_rate(env, fitted)), held),
        truth=None if truth is None else cross_entropy(truth, held),
    )
    if model == "table":
        kernel = _count(env, _take(everything, informative), smoothing)
    return KernelFit(kernel, quality)


def _check_settings(smoothing: float, held_out: float, hidden: int, max_epochs: int) -> None:
    if not 0.0 < smoothing < float("inf"):
        raise ValueError(f"smoothing must be positive and finite, got {smoothing}. What was not seen yet is not impossible.")
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"held_out must lie between 0 and 1, got {held_out}. It is the share of transitions to judge on.")
    for name, value in (("hidden", hidden), ("max_epochs", max_epochs)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")


def _take(transitions: Transitions, rows: Int[np.ndarray, " row"]) -> Transitions:
    return jax.tree.map(lambda leaf: leaf[rows], transitions)


def _informative(env: AbstractEnvironment, transitions: Transitions) -> Int[np.ndarray, " row"]:
    """Return the transitions in which more than one action could take place, after refusing those that cannot be."""
    asked, came = transitions.asked, transitions.came
    sizes = {len(leaf) for leaf in jax.tree.leaves(transitions)}
    if asked.ndim != 1 or came.ndim != 1 or len(sizes) != 1:
        raise ValueError(
            f"expected one state, action and outcome a transition, got {sorted(sizes)} of them and actions of shape "
            f"{asked.shape} and {came.shape}. Give the three the same first axis."
        )
    for name, values in (("actions", asked), ("outcomes", came)):
        is_wrong = (values < 0) | (values >= env.num_actions)
        if not np.issubdtype(values.dtype, np.integer) or is_wrong.any():
            first = int(np.argmax(is_wrong))
            raise ValueError(f"{name} must be integers from 0 to {env.num_actions - 1}; number {first} is {values[first]}.")
    num_same_kind, is_legal, is_possible = map(np.asarray, _facts(env, transitions))
    if not is_possible.all():
        row = int(np.argmin(is_possible))
        if not is_legal[row]:
            raise ValueError(f"transition {row}: action {asked[row]} is not legal in its state. Check states and actions.")
        raise ValueError(
            f"transition {row}: asked for action {asked[row]}, action {came[row]} took place. Expected a legal action that "
            "ends the object if the one asked for does, and else one that does not. Correct it or leave it out."
        )
    informative = np.flatnonzero(num_same_kind > 1)
    if len(informative) < MIN_TRANSITIONS:
        raise ValueError(
            f"{len(informative)} transitions in which more than one action could take place are too few to learn from; at "
            f"least {MIN_TRANSITIONS} are needed."
        )
    return informative


@eqx.filter_jit
def _facts(env: AbstractEnvironment, transitions: Transitions) -> tuple[Array, Array, Array]:
    """Return for each transition how many actions could take place, and whether what was asked and what came are legal."""

    def facts(transition: Transitions) -> tuple[Array, Array, Array]:
        is_same_kind = same_kind(env, transition.states, transition.asked)
        return jnp.sum(is_same_kind), env.action_mask(transition.states)[transition.asked], is_same_kind[transition.came]

    num_same_kind, is_legal, is_same_kind = jax.lax.map(facts, transitions, batch_size=BLOCK)
    return num_same_kind, is_legal, is_legal & is_same_kind


def _count(env: AbstractEnvironment, transitions: Transitions, smoothing: float) -> Frequencies:
    counts = np.full((env.num_actions, env.num_actions), smoothing)
    np.add.at(counts, (np.asarray(transitions.asked), np.asarray(transitions.came)), 1.0)
    return Frequencies(env, jnp.asarray(np.log(counts), jnp.float32))


def _substitution_rate(env: AbstractEnvironment, transitions: Transitions) -> float:
    """Return the rate at which as many actions would be replaced by others as were, counting half a one more.

    The half keeps a rate of nothing for kernels known to be without noise: no other is called impossible by it.
    """
    num_same_kind = np.asarray(_facts(env, transitions)[0])
    num_replaced = float(np.sum(np.asarray(transitions.asked != transitions.came))) + 0.5
    return min(num_replaced / float(np.sum((num_same_kind - 1) / num_same_kind)), 1.0)
