"""Random legal play, forwards and backwards: the states on which the contract is checked."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment
from narrows.envs.contract import raise_first, rows_of


class _Game(NamedTuple):
    """The forward or the backward rules of play, and the laws that a position and the whole game answer to."""

    mask: Callable[[Any], Bool[Array, " action"]]
    step: Callable[[Any, Int[Array, ""]], Any]
    has_ended: Callable[[Any], Bool[Array, ""]]
    position_law: str
    length_law: str


def play(env: AbstractEnvironment, num: int, generator: np.random.Generator) -> tuple[Any, Any]:
    """Return the distinct states on random trajectories and the terminal one of each."""
    game = _Game(env.action_mask, env.step, env.is_terminal, "legal moves", "termination")
    start = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], num, axis=0), env.reset())
    return _walk(env, game, start, generator)


def play_backwards(env: AbstractReversibleEnvironment, ends: Any, generator: np.random.Generator) -> Any:
    """Return the distinct states on random backward trajectories from `ends`."""
    root = env.reset()
    game = _Game(env.backward_mask, env.backward_step, lambda state: is_same(state, root), "root", "backward termination")
    return _walk(env, game, ends, generator)[0]


def _walk(env: AbstractEnvironment, game: _Game, states: Any, generator: np.random.Generator) -> tuple[Any, Any]:
    """Play from a batch of states to the end; raise ContractError where a position or the length of play is against a law."""
    num, num_candidates = jax.tree.leaves(states)[0].shape[0], 8
    lingers = np.arange(num) % 2 == 0
    advance = jax.jit(jax.vmap(lambda *arguments: _random_move(game, *arguments)))
    visited = []
    for remaining in range(env.max_steps, -1, -1):
        visited.append(jax.tree.map(np.asarray, states))
        can_move, ended, states = advance(states, lingers, generator.random((num, num_candidates), np.float32))
        raise_first(env, {game.position_law: np.asarray(can_move != ended)}, visited[-1])
        if ended.all():
            break
        if not remaining:
            raise_first(env, {game.length_law: np.asarray(ended)}, visited[-1])
    return distinct(concatenate(visited)), visited[-1]


def _random_move(
    game: _Game, state: Any, lingers: Bool[Array, ""], uniforms: Array
) -> tuple[Bool[Array, ""], Bool[Array, ""], Any]:
    """Return whether a move is legal, whether play has ended, and the next state.

    Of some random legal actions the first is played or, by one who lingers, the first that does not end play.
    """
    ended, ranks = game.has_ended(state), jnp.cumsum(game.mask(state))
    # A uniform number just below 1 may round up to the number of legal actions.
    picks = jnp.minimum(jnp.floor(uniforms * ranks[-1]), ranks[-1] - 1)
    actions = jnp.argmax(ranks > picks[:, None], axis=-1).astype(jnp.int32)
    children = jax.vmap(game.step, in_axes=(None, 0))(state, actions)
    goes_on = ~jax.vmap(game.has_ended)(children)
    choice = jnp.where(lingers, jnp.argmax(goes_on), 0)
    return ranks[-1] > 0, ended, jax.tree.map(lambda old, new: jnp.where(ended, old, new[choice]), state, children)


def is_same(first: Any, second: Any) -> Bool[Array, ""]:
    """Return whether two states agree in every number."""
    return jnp.all(jnp.asarray(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.all(a == b), first, second)), bool))


def concatenate(batches: list[Any]) -> Any:
    """Return one batch of states, on the host, from several."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


def distinct(states: Any) -> Any:
    """Return the different states among `states`, in the order of their first appearance."""
    leaves = [np.ascontiguousarray(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(states)]
    keys = np.concatenate([leaf.view(np.uint8).reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    return rows_of(states, np.sort(first))
