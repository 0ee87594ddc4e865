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
    states = _repeat(env.reset(), num)
    return Slots(states, _no_moves(env, num), jnp.zeros(num, jnp.int32), jax.random.randint(key, (num,), 0, max_random + 1))


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
    num_random = jax.random.randint(key_opening, (num,), 0, max_random + 1)
    states = jax.tree.map(lambda new, old: jnp.where(_as(is_over, old), new, old), _repeat(env.reset(), num), states)
    moves = jnp.where(is_over[:, None], jnp.asarray(NO_ACTION, moves.dtype), moves)
    return Slots(states, moves, jnp.where(is_over, 0, num_moves), jnp.where(is_over, num_random, slots.num_random)), games


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
    capacity, num_over = games.num_moves.shape[0], jnp.sum(is_over, dtype=jnp.int32)
    order = jnp.cumsum(is_over, dtype=jnp.int32) - 1
    # More games than the ring holds would write a place twice, in an unspecified order.
    is_kept = is_over & (order >= num_over - capacity)
    place = jnp.where(is_kept, (games.position + order) % capacity, capacity)

    def put(ring: Array, new: Array) -> Array:
        return ring.at[place].set(new.astype(ring.dtype), mode="drop")

    return Games(
        put(games.moves, moves),
        put(games.num_moves, num_moves),
        put(games.outcome, outcome),
        jnp.minimum(games.size + num_over, capacity),
        (games.position + num_over) % capacity,
        games.total + num_over,
    )


def _repeat(tree: Any, num: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *jnp.shape(leaf))), tree)


def _as(flags: Bool[Array, " slot"], leaf: Array) -> Bool[Array, "slot *ones"]:
    return flags.reshape(-1, *(1,) * (leaf.ndim - 1))
