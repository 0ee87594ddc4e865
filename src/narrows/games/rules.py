"""The rules of a game asked about many positions at once, compiled, with answers on the host."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.game import AbstractGame

ROWS = 4096
"""Positions that are looked at in one call; fewer are filled up, so that no number of them compiles anew twice."""


class Look(NamedTuple):
    """The legal moves of positions, whether they are over, the outcome for player 0, and whose turn it is."""

    mask: Bool[Array, "*position action"]
    is_over: Bool[Array, "*position"]
    outcome: Int[Array, "*position"]
    turn: Int[Array, "*position"]


@eqx.filter_jit
def look(env: AbstractGame, states: Any) -> Look:
    """Return what the rules say of a batch of positions."""
    return jax.vmap(lambda state: Look(env.action_mask(state), env.is_terminal(state), env.outcome(state), env.turn(state)))(
        states
    )


@eqx.filter_jit
def moved(env: AbstractGame, states: Any, actions: Any) -> Any:
    """Return the positions after one move in each of a batch."""
    return jax.vmap(env.step)(states, jnp.asarray(actions, jnp.int32))


def in_rows(function: Callable[[Any], Any], states: Any, most: int = ROWS) -> Any:
    """Return a function of a batch, on the host, computed `most` positions at a time, a power of two.

    Batches are filled up to a power of two, so that a tournament with fewer and fewer games compiles a few programs only.
    """
    num = jax.tree.leaves(states)[0].shape[0]
    parts = []
    for start in range(0, max(num, 1), most):
        part = jax.tree.map(lambda leaf, start=start: np.asarray(leaf)[start : start + most], states)
        size = jax.tree.leaves(part)[0].shape[0]
        room = max(16, 1 << (size - 1).bit_length()) if size else 16
        padded = jax.tree.map(lambda leaf, room=room: np.resize(leaf, (room, *leaf.shape[1:])), part)
        parts.append(jax.tree.map(lambda leaf, size=size: np.asarray(leaf)[:size], function(padded)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def legal_moves(env: AbstractGame, states: Any) -> Bool[np.ndarray, "position action"]:
    """Return the legal moves of a batch of positions."""
    return in_rows(lambda rows: look(env, rows), states).mask


def batch_of(state: Any) -> Any:
    """Return a batch of one position."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)
