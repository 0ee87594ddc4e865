"""Games played with search, side by side, and the positions to learn from, which are known once a game has ended."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, PRNGKeyArray

from narrows.envs.base import features
from narrows.envs.game import AbstractGame
from narrows.games.alphazero.settings import AlphaZero
from narrows.games.alphazero.tree_search import search
from narrows.games.slots import begin_games, choose_rows, put_rows
from narrows.policies.base import AbstractPolicy


class Seen(NamedTuple):
    """Positions as a network sees them, the legal moves, the search's policy, and 1 if player 0 is to move, else -1."""

    features: Int[Array, "*place feature"]
    mask: Bool[Array, "*place action"]
    policy: Float[Array, "*place action"]
    side: Int8[Array, "*place"]


class SearchSlots(NamedTuple):
    """Games in progress, all that has been seen in them, and how many of the first moves are random."""

    states: Any
    seen: Seen
    num_moves: Int[Array, " slot"]
    num_random: Int[Array, " slot"]


class Examples(NamedTuple):
    """Positions of finished games in a ring, each with the outcome for its player to move.

    `size` places of the ring have been written, `position` is written next and `total` is how many games there were.
    """

    seen: Seen
    outcome: Int8[Array, " example"]
    size: Int[Array, ""]
    position: Int[Array, ""]
    total: Int[Array, ""]


class Batch(NamedTuple):
    """Positions to learn from."""

    features: Int[Array, "row feature"]
    mask: Bool[Array, "row action"]
    policy: Float[Array, "row action"]
    outcome: Float[Array, " row"]


def empty_examples(env: AbstractGame, capacity: int) -> Examples:
    """Return a ring with room for `capacity` positions."""
    zero = jnp.zeros((), jnp.int32)
    return Examples(_unseen(env, (capacity,)), jnp.zeros(capacity, jnp.int8), zero, zero, zero)


def begin(env: AbstractGame, key: PRNGKeyArray, num: int, max_random: int) -> SearchSlots:
    """Return `num` games at their start, the first 0 to `max_random` moves of each to be random."""
    states, num_moves, num_random = begin_games(env, key, num, max_random)
    return SearchSlots(states, _unseen(env, (num, env.max_steps)), num_moves, num_random)


def play_move(
    env: AbstractGame,
    policy: AbstractPolicy,
    settings: AlphaZero,
    key: PRNGKeyArray,
    slots: SearchSlots,
    examples: Examples,
) -> tuple[SearchSlots, Examples]:
    """Search and play one move in every slot; the positions of finished games go into the ring, and new games begin."""
    num = slots.num_moves.shape[0]
    key_search, key_random, key_opening = jax.random.split(key, 3)
    limit = env.max_steps if settings.exploration_plies is None else settings.exploration_plies
    explores = slots.num_moves < limit
    found = search(env, policy, settings.search, settings.scale, key_search, slots.states, explores)
    mask = jax.vmap(env.action_mask)(slots.states)
    is_random = slots.num_moves < slots.num_random
    anything = jax.random.categorical(key_random, jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)
    actions = jnp.where(is_random, anything, found.action)
    learned = found.policy
    if settings.greedy_targets:
        learned = jnp.where(explores[:, None], learned, jax.nn.one_hot(found.action, env.num_actions))
    side = jnp.where(jax.vmap(env.turn)(slots.states) == 0, 1, -1)
    now = Seen(features(jax.vmap(env.observe)(slots.states)), mask, learned, side)
    game = jnp.arange(num)
    seen = jax.tree.map(lambda all, new: all.at[game, slots.num_moves].set(new.astype(all.dtype)), slots.seen, now)
    states = jax.vmap(env.step)(slots.states, actions)
    num_moves, is_over = slots.num_moves + 1, jax.vmap(env.is_terminal)(states)
    time = jnp.arange(env.max_steps)
    is_learned = is_over[:, None] & (time < num_moves[:, None]) & (time >= slots.num_random[:, None])
    examples = _store(examples, seen, jax.vmap(env.outcome)(states), is_learned, jnp.sum(is_over, dtype=jnp.int32))
    fresh = begin_games(env, key_opening, num, settings.max_random)
    states, num_moves, num_random = choose_rows(is_over, fresh, (states, num_moves, slots.num_random))
    # What has been seen in the game before is overwritten move by move, and is not read until it is.
    return SearchSlots(states, seen, num_moves, num_random), examples


def draw_batch(env: AbstractGame, key: PRNGKeyArray, examples: Examples, num: int, *, use_symmetries: bool) -> Batch:
    """Draw positions uniformly with replacement from a ring that is not empty, each maybe turned or mirrored."""
    key_row, key_symmetry = jax.random.split(key)
    rows = jax.random.randint(key_row, (num,), 0, jnp.maximum(examples.size, 1))
    seen, outcome = jax.tree.map(lambda leaf: leaf[rows], (examples.seen, examples.outcome))
    batch = Batch(seen.features.astype(jnp.int32), seen.mask, seen.policy, outcome.astype(jnp.float32))
    if not use_symmetries:
        return batch
    # An action takes the place that the table names, so what stands at a place is found by the table's inverse.
    inverse = jnp.argsort(jnp.asarray(env.action_symmetries, jnp.int32), axis=1)
    of_features = jnp.asarray(env.feature_symmetries, jnp.int32)
    symmetry = jax.random.randint(key_symmetry, (num,), 0, inverse.shape[0])

    def turned(values: Array, table: Int[Array, "symmetry place"]) -> Array:
        return jnp.take_along_axis(values, table[symmetry], axis=1)

    return Batch(turned(batch.features, of_features), turned(batch.mask, inverse), turned(batch.policy, inverse), batch.outcome)


def _unseen(env: AbstractGame, shape: tuple[int, ...]) -> Seen:
    kind = jnp.int8 if env.num_values <= 128 else jnp.int32
    return Seen(
        jnp.zeros((*shape, env.num_features), kind),
        jnp.zeros((*shape, env.num_actions), bool),
        jnp.zeros((*shape, env.num_actions), jnp.float32),
        jnp.zeros(shape, jnp.int8),
    )


def _store(
    examples: Examples,
    seen: Seen,
    outcome: Int[Array, " slot"],
    is_learned: Bool[Array, "slot time"],
    num_over: Int[Array, ""],
) -> Examples:
    ring, rows = (examples.seen, examples.outcome), (seen, seen.side * outcome[:, None])
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)
    (seen, outcome), size, position = put_rows(ring, rows, is_learned.reshape(-1), examples.size, examples.position)
    return Examples(seen, outcome, size, position, examples.total + num_over)
