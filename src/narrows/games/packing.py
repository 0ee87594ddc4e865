"""Finished games packed into a batch of positions: every row is a real move, no row stands after the end of a game."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from narrows.envs.base import NO_ACTION
from narrows.envs.game import AbstractGame
from narrows.games.slots import Games


class Packed(NamedTuple):
    """Some games, whole or from some move on to their end, and their positions one after another.

    Attributes:
        states: the positions, in each of which a move follows; rows that are not `is_row` have some position without meaning.
        actions: the moves.
        game: which of the games a row belongs to.
        time: the number of moves before it.
        is_row: which rows are in use.
        outcome: of each game, for player 0.
        is_game: which of the games are in the batch.
        num_moves: of each game.
        start: the first of a game's moves that has a row.
    """

    states: Any
    actions: Int[Array, " row"]
    game: Int[Array, " row"]
    time: Int[Array, " row"]
    is_row: Bool[Array, " row"]
    outcome: Int[Array, " game"]
    is_game: Bool[Array, " game"]
    num_moves: Int[Array, " game"]
    start: Int[Array, " game"]

    def per_game(self, rows: Array, max_steps: int) -> Array:
        """Return numbers of rows as a table `[game, time]`, zero where a game has no such move."""
        table = jnp.zeros((self.is_game.shape[0], max_steps, *rows.shape[1:]), rows.dtype)
        game = jnp.where(self.is_row, self.game, self.is_game.shape[0])
        return table.at[game, self.time].set(rows, mode="drop")


def pack(
    env: AbstractGame,
    key: PRNGKeyArray,
    games: Games,
    num_rows: int,
    num_games: int,
    *,
    use_symmetries: bool,
    prefers_late: bool = False,
) -> Packed:
    """Draw games uniformly with replacement and pack as many as `num_rows` positions hold.

    Args:
        env: the game.
        key: consumed.
        games: the ring to draw from; from an empty one no row is in use.
        num_rows: positions of the batch, at least `env.max_steps`.
        num_games: games drawn at most; those that do not fit any more are left out.
        use_symmetries: replace each game by one that is the same up to a symmetry of the rules.
        prefers_late: leave out each game's first moves, up to one drawn uniformly, so that a position is the likelier to be in
            the batch the more moves were made before it. Few positions can arise early, and many games have them; late ones
            are each their own.
    """
    key_game, key_symmetry, key_start = jax.random.split(key, 3)
    drawn = jax.random.randint(key_game, (num_games,), 0, jnp.maximum(games.size, 1))
    moves, num_moves = games.moves[drawn].astype(jnp.int32), games.num_moves[drawn]
    if use_symmetries:
        table = jnp.asarray(env.action_symmetries, jnp.int32)
        symmetry = jax.random.randint(key_symmetry, (num_games,), 0, table.shape[0])
        moves = jnp.where(moves == NO_ACTION, NO_ACTION, table[symmetry[:, None], jnp.maximum(moves, 0)])
    start = jnp.zeros_like(num_moves)
    if prefers_late:
        uniform = jax.random.uniform(key_start, (num_games,))
        start = jnp.minimum(jnp.floor(uniform * num_moves).astype(jnp.int32), jnp.maximum(num_moves - 1, 0))
    ends = jnp.cumsum(num_moves - start, dtype=jnp.int32)
    is_game = (ends <= num_rows) & (games.size > 0)
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    game = jnp.minimum(jnp.searchsorted(ends, rows, side="right"), num_games - 1).astype(jnp.int32)
    time = jnp.clip(rows - (ends - num_moves)[game], 0, env.max_steps - 1)
    states = jax.vmap(env.states_along)(moves)
    states = jax.tree.map(lambda leaf: leaf[game, time], states)
    return Packed(
        states=states,
        actions=jnp.maximum(moves[game, time], 0),
        game=game,
        time=time,
        is_row=is_game[game] & (rows < ends[-1]),
        outcome=games.outcome[drawn].astype(jnp.int32),
        is_game=is_game,
        num_moves=num_moves,
        start=start,
    )
