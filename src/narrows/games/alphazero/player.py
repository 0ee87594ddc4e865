"""A player that searches before it moves."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from narrows.envs.game import AbstractGame
from narrows.games.alphazero.tree_search import Kind, SearchResult, SearchSettings, check_searchable, search
from narrows.games.rules import ROWS, in_rows
from narrows.policies.base import AbstractPolicy

_NODES = 1 << 18
"""Positions in the trees of one call, or memory would run out with many simulations."""


class SearchPlayer:
    """A network that searches: it plays the best move, without noise.

    Args:
        env: the game.
        policy: a network with a flow head, AlphaZero's or that of an adversarial flow network.
        num_simulations: positions looked at before a move, beside the one to move in.
        scale: log-flow of a won position: 1 for AlphaZero, the log-reward of a win for a flow network.
        kind: see `SearchSettings`; PUCT breaks ties at random, Gumbel search has no randomness.
        c_puct: see `SearchSettings`.
        name: how tables call it.
    """

    def __init__(
        self,
        env: AbstractGame,
        policy: AbstractPolicy,
        num_simulations: int,
        *,
        scale: float = 1.0,
        kind: Kind = "gumbel",
        c_puct: float = 1.0,
        name: str = "search",
    ) -> None:
        check_searchable(policy)
        if not 0.0 < scale < float("inf"):
            raise ValueError(f"scale must be positive and finite, got {scale}. It is the log-flow of a won position.")
        self.env = env
        self.policy = policy
        self.settings = SearchSettings(num_simulations, kind, c_puct)
        self.scale = scale
        self.name = name

    def look(self, states: Any, generator: np.random.Generator) -> SearchResult:
        """Return what the search finds in each of a batch of positions, on the host."""
        room = min(ROWS, max(16, 1 << ((_NODES // (self.settings.num_simulations + 1)).bit_length() - 1)))
        key, parts = jax.random.key(int(generator.integers(2**31))), itertools.count()

        def look(rows: Any) -> SearchResult:
            scale, key_part = jnp.asarray(self.scale, jnp.float32), jax.random.fold_in(key, next(parts))
            return _search(self.env, self.policy, self.settings, scale, key_part, rows)

        return in_rows(look, states, room)

    def choose(self, states: Any, generator: np.random.Generator) -> Int[np.ndarray, " game"]:
        return np.asarray(self.look(states, generator).action)


@eqx.filter_jit
def _search(
    env: AbstractGame, policy: AbstractPolicy, settings: SearchSettings, scale: Array, key: PRNGKeyArray, states: Any
) -> SearchResult:
    num = jax.tree.leaves(states)[0].shape[0]
    return search(env, policy, settings, scale, key, states, jnp.zeros(num, bool))
