"""A check of chance turns that anyone calls on their rules, quick enough to run before every training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from narrows.envs.base import CHANCE, AbstractEnvironment
from narrows.envs.contract import ContractError, raise_first, rows_of
from narrows.envs.declarations import check_declarations
from narrows.envs.perturbation import PerturbedState
from narrows.envs.play import play

TOLERANCE = 1e-5
"""The distance from 1 at which probabilities of a chance turn may sum, in the float32 that they come in."""

_MAX_NUMBERS = 2**21
_SHOWN = 24


def check_chance(env: AbstractEnvironment, *, num_trajectories: int = 16, seed: int = 0) -> None:
    """Check the distribution of every chance turn that is met or could have been met next on random legal play.

    In each visited state every legal action is tried, not only the one that was played: a fault after one action
    alone is found as soon as a state is visited in which that action is legal.

    Args:
        env: the rules; those without a chance turn pass.
        num_trajectories: how many are played.
        seed: of the play; the same seed finds the same fault.

    Raises ContractError (a ValueError) with the chance turn, what was asked for and what its probabilities come to.

    >>> from narrows.envs import Sequence, perturbed
    >>> from narrows.noise import Substitution
    >>> rules = Sequence("ACGT", 1, 4)
    >>> check_chance(perturbed(rules, Substitution(rules, rate=0.1)))
    """
    check_declarations(env)
    states, _ = play_with_chance(env, num_trajectories, np.random.default_rng(seed))
    check_chance_around(env, states)


def play_with_chance(env: AbstractEnvironment, num: int, generator: np.random.Generator) -> tuple[Any, Any]:
    """Play as `play` does; where chance has no possible outcome its law is broken, not that of moves."""
    try:
        return play(env, num, generator)
    except ContractError as error:
        if error.law != "legal moves" or int(env.turn(jax.tree.map(jnp.asarray, error.state))) != CHANCE:
            raise
        raise _broken(env, error.state) from None


def check_chance_around(env: AbstractEnvironment, states: Any) -> None:
    """Raise ContractError unless each state and each that a legal action leads to keeps the laws of chance and of moves."""
    if type(env).turn is AbstractEnvironment.turn:
        return
    num = jax.tree.leaves(states)[0].shape[0]
    # A block is as many states as there are probabilities for; the last one is filled up, so that one program does for all.
    size = min(num, max(1, _MAX_NUMBERS // env.num_actions**2))
    judge = jax.jit(jax.vmap(lambda state: _laws_around(env, state)))
    for start in range(0, num, size):
        block = rows_of(states, np.minimum(np.arange(start, start + size), num - 1))
        is_kept, can_move, around = jax.tree.map(np.asarray, judge(block))
        if not is_kept.all():
            row, place = np.argwhere(~is_kept)[0]
            raise _broken(env, rows_of(rows_of(around, row), place))
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), around)
        raise_first(env, {"legal moves": can_move.reshape(-1)}, flat)


def is_chance_kept(env: AbstractEnvironment, state: Any) -> Bool[Array, ""]:
    """Return whether a state is no chance turn, or its legal outcomes have probabilities that sum to 1 and others none."""
    mask, log_probs = env.action_mask(state), env.chance_log_probs(state)
    total = jnp.sum(jnp.where(mask, jnp.exp(log_probs), 0.0))
    is_distribution = (jnp.abs(total - 1.0) < TOLERANCE) & jnp.all(mask | (log_probs == -jnp.inf))
    return (env.turn(state) != CHANCE) | env.is_terminal(state) | is_distribution


def _laws_around(env: AbstractEnvironment, state: Any) -> tuple[Bool[Array, " place"], Bool[Array, " place"], Any]:
    """Return for a state and for what each action leads to whether the laws of chance and of moves hold, and these states."""

    def laws(place: Any) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
        return is_chance_kept(env, place), jnp.any(env.action_mask(place)) != env.is_terminal(place)

    children = jax.vmap(env.step, in_axes=(None, 0))(state, jnp.arange(env.num_actions, dtype=jnp.int32))
    around = jax.tree.map(lambda here, there: jnp.concatenate([here[None], there]), state, children)
    is_met = jnp.append(True, env.action_mask(state))
    is_kept, can_move = jax.vmap(laws)(around)
    return is_kept | ~is_met, can_move | ~is_met, around


def _broken(env: AbstractEnvironment, state: Any) -> ContractError:
    """Return the error that says what is wrong with the distribution of one chance turn."""
    place = jax.tree.map(jnp.asarray, state)
    probs = np.exp(np.asarray(env.chance_log_probs(place), np.float64))
    asked = f"after asking for action {int(state.asked)}, " if isinstance(state, PerturbedState) else ""
    is_wrong = ~np.isfinite(probs)
    is_illegal = ~np.asarray(env.action_mask(place)) & (probs > 0.0)
    if is_wrong.any():
        outcome = int(np.argmax(is_wrong))
        found = f"the probability of outcome {outcome} is {probs[outcome]}"
    elif is_illegal.any():
        outcome = int(np.argmax(is_illegal))
        found = f"outcome {outcome} is not legal and has probability {probs[outcome]:.4g}"
    else:
        shown = ", ".join(f"{value:.4g}" for value in probs[:_SHOWN])
        found = f"probabilities [{shown}{', ...' if len(probs) > _SHOWN else ''}] sum to {probs.sum():.6g}"
    return ContractError(env, "chance", found=asked + found, state=state)
