"""Games played side by side on the device: a slot whose game has ended begins the next one at once.

No evaluation of the network is spent on finished games, and what is stored of a game is the list of its moves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, PRNGKeyArray

from narrows.envs.base import NO_ACTION
from narrows.envs.game import AbstractGame
from narrows.trajectories.behaviour import Behaviour
from narrows.trajectories.draw import draw

Logits: TypeAlias = Callable[[Any], Float[Array, "slot action"]]
"""From a batch of positions to the logits of the moves, legal or not."""


class Slots(NamedTuple):
    """Games in progress: their states, their moves so far, and how many of the first moves are random whatever the policy."""

    states: Any
    moves: Int[Array, "slot time"]
    num_moves: Int[Array, " slot"]
    num_random: Int[Array, " slot"]


class Games(NamedTuple):
    """Finished games in a ring: their moves with `NO_ACTION` after the end, their numbers of moves, and outcomes for player 0.

    `size` of the slots of the ring have been written, `position` is written next and `total` is how many games there were.
    """

    moves: Int[Array, "game time"]
    num_moves: Int[Array, " game"]
    outcome: Int8[Array, " game"]
    size: Int[Array, ""]
    position: Int[Array, ""]
    total: Int[Array, ""]


def empty_games(env: AbstractGame, capacity: int) -> Games:
    """Return a ring with room for `capacity` games."""
    zero = jnp.zeros((), jnp.int32)
    moves = _no_moves(env, capacity)
    return Games(moves, jnp.zeros(capacity, jnp.int32), jnp.zeros(capacity, jnp.int8), zero, zero, zero)


def begin(env: AbstractGame, key: PRNGKeyArray, num: int, max_random: int) -> Slots:
    """Return `num` games at their start, the first 0 to `max_random` moves of each to be random."""
    states, num_moves, num_random = begin_games(env, key, num, max_random)
    return Slots(states, _no_moves(env, num), num_moves, num_random)


def begin_games(env: AbstractGame, key: PRNGKeyArray, num: int, max_random: int) -> tuple[Any, Array, Array]:
    """Return the states of `num` games at their start, their numbers of moves, and of how many moves each is to be random."""
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *jnp.shape(leaf))), env.reset())
    return states, jnp.zeros(num, jnp.int32), jax.random.randint(key, (num,), 0, max_random + 1)


def play_move(
    env: AbstractGame,
    logits_of: Logits | None,
    behaviour: Behaviour,
    max_random: int,
    key: PRNGKeyArray,
    slots: Slots,
    games: Games,
) -> tuple[Slots, Games]:
    """Play one move in every slot; finished games go into the ring, and their slots begin new ones.

    Args:
        env: the game.
        logits_of: who plays both sides; None plays at random.
        behaviour: exploration.
        max_random: of a new game the first 0 to `max_random` moves, uniformly so many, are random ones that do not end it.
        key: consumed.
        slots: games in progress.
        games: the ring.
    """
    num = slots.num_moves.shape[0]
    key_move, key_opening = jax.random.split(key)
    mask = jax.vmap(env.action_mask)(slots.states)
    weights = mask.astype(jnp.float32)
    if logits_of is not None:
        weights = jax.vmap(behaviour)(logits_of(slots.states), mask)
    if logits_of is not None and max_random:  # which moves end a game is not asked where no move is random
        at_random = jax.vmap(lambda state, mask: _random_weights(env, state, mask))(slots.states, mask)
        weights = jnp.where((slots.num_moves < slots.num_random)[:, None], at_random, weights)
    actions = jax.vmap(draw)(weights, jax.random.uniform(key_move, (num,)))
    states = jax.vmap(env.step)(slots.states, actions)
    is_now = jnp.arange(env.max_steps) == slots.num_moves[:, None]
    moves = jnp.where(is_now, actions[:, None].astype(slots.moves.dtype), slots.moves)
    num_moves = slots.num_moves + 1
    is_over = jax.vmap(env.is_terminal)(states)
    games = _store(games, moves, num_moves, jax.vmap(env.outcome)(states), is_over)
    fresh = begin(env, key_opening, num, max_random)
    return choose_rows(is_over, fresh, Slots(states, moves, num_moves, slots.num_random)), games


def _no_moves(env: AbstractGame, num: int) -> Int[Array, "game time"]:
    """Return the moves of so many games before the first, in as few bytes as the game's actions take."""
    kind = jnp.int8 if env.num_actions <= 128 else jnp.int16
    return jnp.full((num, env.max_steps), NO_ACTION, kind)


def _random_weights(env: AbstractGame, state: Any, mask: Bool[Array, " action"]) -> Float[Array, " action"]:
    """Return equal weights for the moves after which play goes on or, where there are none, for all.

    Where every move counts, most random games of Connect-4 are over in 21 moves, and the positions of the last third of the
    board are hardly ever seen.
    """
    after = jax.vmap(env.step, in_axes=(None, 0))(state, jnp.arange(env.num_actions, dtype=jnp.int32))
    goes_on = mask & ~jax.vmap(env.is_terminal)(after)
    return jnp.where(jnp.any(goes_on), goes_on, mask).astype(jnp.float32)


def _store(
    games: Games,
    moves: Int[Array, "slot time"],
    num_moves: Int[Array, " slot"],
    outcome: Int[Array, " slot"],
    is_over: Bool[Array, " slot"],
) -> Games:
    ring, rows = (games.moves, games.num_moves, games.outcome), (moves, num_moves, outcome)
    (moves, num_moves, outcome), size, position = put_rows(ring, rows, is_over, games.size, games.position)
    return Games(moves, num_moves, outcome, size, position, games.total + jnp.sum(is_over, dtype=jnp.int32))


def put_rows(
    ring: Any, rows: Any, flags: Bool[Array, " row"], size: Int[Array, ""], position: Int[Array, ""]
) -> tuple[Any, Int[Array, ""], Int[Array, ""]]:
    """Return a ring with the flagged rows put where it is written next, how much of it is written, and where it goes on.

    Args:
        ring: a tree of arrays with as many rows as the ring holds.
        rows: the same tree, of any number of rows.
        flags: which rows to put.
        size: rows of the ring that have been written.
        position: the row that is written next.
    """
    capacity, num = jax.tree.leaves(ring)[0].shape[0], jnp.sum(flags, dtype=jnp.int32)
    order = jnp.cumsum(flags, dtype=jnp.int32) - 1
    # More rows than the ring holds would write a place twice, in an unspecified order.
    is_kept = flags & (order >= num - capacity)
    place = jnp.where(is_kept, (position + order) % capacity, capacity)
    ring = jax.tree.map(lambda old, new: old.at[place].set(new.astype(old.dtype), mode="drop"), ring, rows)
    return ring, jnp.minimum(size + num, capacity), (position + num) % capacity


def choose_rows(flags: Bool[Array, " row"], yes: Any, no: Any) -> Any:
    """Return the rows of one tree of arrays where the flag is set, else those of another."""
    return jax.tree.map(lambda one, other: jax.vmap(jnp.where)(flags, one, other), yes, no)
