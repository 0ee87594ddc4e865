"""Finding every state of an environment by walking it, breadth first."""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.base import CHANCE, AbstractEnvironment, AbstractReversibleEnvironment
from narrows.exact.blocks import in_blocks
from narrows.exact.graph import Graph, state_keys


def enumerate_graph(env: AbstractEnvironment, *, limit: int = 5_000_000) -> Graph:
    """Return every state that can be reached from the initial one, breadth first.

    Args:
        env: the rules; anything small enough can be enumerated.
        limit: most states to find.

    Raises ValueError where there are more states than `limit`, for a state that is not terminal and has no legal action, for
    a chance turn whose outcomes' probabilities do not sum to one, and where moves outnumber the environment's `max_steps`, as
    they do where play can return to a state.
    """
    ids: dict[bytes, int] = {}
    frontier = jax.tree.map(lambda leaf: np.asarray(leaf)[None], env.reset())
    _number(ids, frontier)
    found, facts, edges, depths = [], [], [], []
    while _num_rows(frontier):
        first_id = len(ids) - _num_rows(frontier)
        fresh = []
        for start in range(0, _num_rows(frontier), _CHUNK):
            block = jax.tree.map(lambda leaf, start=start: leaf[start : start + _CHUNK], frontier)
            block_facts, block_edges, new = _expand(env, ids, block, first_id + start)
            facts.append(block_facts)
            edges.append(block_edges)
            fresh.append(new)
            if len(ids) > limit:
                raise ValueError(
                    f"{type(env).__name__} has more than limit = {limit} states. Choose a smaller environment, or raise the "
                    "limit if memory allows: a state takes a few hundred bytes."
                )
        depths.append(np.full(_num_rows(frontier), len(depths)))
        found.append(frontier)
        frontier = _concatenate(fresh)
    return _assemble(env, ids, _concatenate(found), _concatenate(facts), _concatenate(edges), np.concatenate(depths))


class _Facts(NamedTuple):
    """Masks, ends and turns of a batch of states."""

    mask: Any
    is_terminal: Any
    turn: Any


class _Edges(NamedTuple):
    """Legal moves; `child` is filled in once the children have numbers."""

    state: Int[np.ndarray, " edge"]
    action: Int[np.ndarray, " edge"]
    backward_action: Int[np.ndarray, " edge"]
    child: Int[np.ndarray, " edge"]


_CHUNK = 4096


@eqx.filter_jit
def _facts_of(env: AbstractEnvironment, states: Any) -> _Facts:
    return jax.vmap(lambda state: _Facts(env.action_mask(state), env.is_terminal(state), env.turn(state)))(states)


@eqx.filter_jit
def _chance_log_probs(env: AbstractEnvironment, states: Any) -> Float[Array, "state action"]:
    return jax.vmap(env.chance_log_probs)(states)


@eqx.filter_jit
def _step(env: AbstractEnvironment, moves: tuple[Any, Int[Array, " edge"]]) -> tuple[Any, Int[Array, " edge"]]:
    def step(state: Any, action: Int[Array, ""]) -> tuple[Any, Int[Array, ""]]:
        undo = env.backward_action(state, action) if isinstance(env, AbstractReversibleEnvironment) else action * 0
        return env.step(state, action), undo

    return jax.vmap(step)(*moves)


def _expand(env: AbstractEnvironment, ids: dict[bytes, int], states: Any, first_id: int) -> tuple[_Facts, _Edges, Any]:
    """Return the facts of a block of states, their legal moves, and those children that were never seen before."""
    facts = in_blocks(partial(_facts_of, env), states)
    mask = facts.mask & ~facts.is_terminal[:, None]
    is_stuck = ~facts.is_terminal & ~np.any(mask, axis=1)
    if np.any(is_stuck):
        stuck = jax.tree.map(lambda leaf: leaf[np.argmax(is_stuck)].tolist(), states)
        raise ValueError(
            f"the state {stuck} is not terminal and has no legal action. Run check_environment on this environment."
        )
    rows, actions = np.nonzero(mask)
    parents = jax.tree.map(lambda leaf: leaf[rows], states)
    if not rows.size:
        nothing = np.zeros(0, np.int64)
        return facts, _Edges(nothing, nothing, nothing, nothing), parents
    children, undo = in_blocks(partial(_step, env), (parents, actions.astype(np.int32)))
    num_known = len(ids)
    numbers = _number(ids, children)
    # New numbers are given in order of appearance, so sorting by number keeps it.
    unique, first = np.unique(numbers, return_index=True)
    fresh = jax.tree.map(lambda leaf: leaf[first[unique >= num_known]], children)
    return facts, _Edges(first_id + rows, actions, undo.astype(np.int64), numbers), fresh


def _assemble(
    env: AbstractEnvironment,
    ids: dict[bytes, int],
    states: Any,
    facts: _Facts,
    edges: _Edges,
    depths: Int[np.ndarray, " state"],
) -> Graph:
    """Return the graph with its states renumbered by level."""
    level = _levels(depths, edges, env.max_steps)
    order = np.argsort(level, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    children = np.full(facts.mask.shape, -1, np.int64)
    children[rank[edges.state], edges.action] = rank[edges.child]
    backward_actions = np.zeros(facts.mask.shape, np.int64)
    backward_actions[rank[edges.state], edges.action] = edges.backward_action
    states, facts = jax.tree.map(lambda leaf: leaf[order], (states, facts))
    chance_log_probs = None
    is_chance = (facts.turn == CHANCE) & ~facts.is_terminal
    if np.any(is_chance):
        chance_log_probs = np.full(children.shape, -np.inf)
        chance_states = jax.tree.map(lambda leaf: leaf[is_chance], states)
        chance_log_probs[is_chance] = _outcomes(env, chance_states, children[is_chance] >= 0)
    return Graph(
        states=states,
        children=children,
        backward_actions=backward_actions,
        is_terminal=facts.is_terminal,
        num_parents=np.bincount(rank[edges.child], minlength=order.size),
        turn=facts.turn,
        chance_log_probs=chance_log_probs,
        level_starts=np.searchsorted(level[order], np.arange(level.max() + 2)),
        _ids={key: int(number) for key, number in zip(ids, rank, strict=True)},
    )


def _outcomes(
    env: AbstractEnvironment, states: Any, is_legal: Bool[np.ndarray, "state action"]
) -> Float[np.ndarray, "state action"]:
    """Return the log-probabilities of the outcomes of chance states, of sum one to the last digit of float64."""
    with jax.enable_x64(True):
        log_probs = in_blocks(partial(_chance_log_probs, env), states).astype(np.float64)
    total = np.sum(np.exp(log_probs), axis=1, where=is_legal, keepdims=True)
    # Rules that count in float32 sum to one in six digits; more than that is a mistake, not rounding.
    is_wrong = ~(np.abs(total[:, 0] - 1.0) < 1e-5)
    if np.any(is_wrong):
        row = int(np.argmax(is_wrong))
        state = jax.tree.map(lambda leaf: leaf[row].tolist(), states)
        raise ValueError(
            f"the probabilities of the legal outcomes of the chance turn {state} must sum to one, got {total[row, 0]}. Run "
            "check_environment on this environment."
        )
    return np.where(is_legal, log_probs - np.log(total), -np.inf)


def _levels(depths: Int[np.ndarray, " state"], edges: _Edges, max_steps: int) -> Int[np.ndarray, " state"]:
    """Return the longest path from the root to each state; `depths`, the shortest, is raised until no move contradicts."""
    level = depths
    while np.any(level[edges.child] <= level[edges.state]):
        level = level.copy()
        np.maximum.at(level, edges.child, level[edges.state] + 1)
        if level.max() > max_steps:
            raise ValueError(
                f"a path has more than max_steps = {max_steps} moves. If play can return to a state, put the number of moves "
                "made into the state; if not, raise max_steps."
            )
    return level


def _number(ids: dict[bytes, int], states: Any) -> Int[np.ndarray, " row"]:
    """Return the number of each of a batch of states, the next free ones for states never seen before."""
    return np.asarray([ids.setdefault(key, len(ids)) for key in state_keys(states)], np.int64)


def _num_rows(states: Any) -> int:
    return jax.tree.leaves(states)[0].shape[0]


def _concatenate(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
