"""The exact distribution of a model's samples: its policy read at every state of a graph."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.base import AbstractEnvironment
from narrows.envs.perturbation import AbstractPerturbed
from narrows.exact.blocks import in_blocks, pad
from narrows.exact.graph import Graph, with_chance
from narrows.exact.noise import noise_free_graph
from narrows.exact.solution import terminal_distribution
from narrows.policies.base import AbstractPolicy, Model

_PATH_BLOCK = 512
_SMALL_PATH_BLOCK = 64


def model_distribution(model: Model, env: AbstractEnvironment, graph: Graph) -> Float[np.ndarray, " terminal"]:
    """Return the log-probability that `sample(key, model, env, ...)` ends in each of `graph.terminals`.

    A policy without memory is read state by state. One with memory is read along the paths, which must be unique but for what
    was asked for in a perturbed environment, since that is not shown to a policy.

    Raises ValueError for a policy with memory on a graph whose states have several parents.
    """
    return terminal_distribution(graph, model_log_policy(model, env, graph))


def model_log_policy(model: Model, env: AbstractEnvironment, graph: Graph) -> Float[np.ndarray, "state action"]:
    """Return the model's log-probability of each action, the environment's in `CHANCE` states, `-inf` where illegal."""
    mask = graph.children >= 0
    # A forced move has probability one whatever the policy, so its state is read only on the way to others.
    is_read = (np.sum(mask, axis=1) > 1) & ~graph.is_chance
    logits = np.zeros(mask.shape)
    if model.policy.has_memory and isinstance(env, AbstractPerturbed):
        quiet = noise_free_graph(graph)
        read = np.zeros((quiet.ids.size, mask.shape[1]))
        _read_along_paths(model.policy, env.inner, quiet.graph, is_read[quiet.ids], read)
        logits[quiet.ids] = read
    elif model.policy.has_memory:
        _read_along_paths(model.policy, env, graph, is_read, logits)
    elif np.any(is_read):
        logits[is_read] = in_blocks(partial(_forward_logits, model.policy, env), graph.rows(np.flatnonzero(is_read)))
    logits = np.where(mask, logits, -np.inf)
    return with_chance(graph, np.where(mask, logits - _log_normaliser(logits), -np.inf))


def model_log_backward(model: Model, env: AbstractEnvironment, graph: Graph) -> Float[np.ndarray, "state action"]:
    """Return the learned `log P_B` of each action's move, 0 where the action is illegal, for `solve(log_backward=...)`.

    Raises ValueError for a policy without a backward head or with memory.
    """
    policy = model.policy
    if not policy.has_backward_head or jax.tree.leaves(policy.start()):
        raise ValueError("expected a policy with a backward head and without memory. The default of solve is the uniform one.")
    states, actions = np.nonzero(graph.children >= 0)
    children = graph.children[states, actions]
    heads = in_blocks(partial(_backward_logits, policy, env), graph.states).astype(np.float64)
    logits = np.full(heads.shape, -np.inf)
    undo = (children, graph.backward_actions[states, actions])
    logits[undo] = heads[undo]
    log_backward = np.zeros(graph.children.shape)
    log_backward[states, actions] = (logits - _log_normaliser(logits))[undo]
    return log_backward


def _log_normaliser(logits: Float[np.ndarray, "row action"]) -> Float[np.ndarray, "row 1"]:
    """Return `log sum exp` of each row, 0 where a row has no finite entry."""
    total = np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return np.where(np.isfinite(total), total, 0.0)


def _read_along_paths(
    policy: AbstractPolicy,
    env: AbstractEnvironment,
    graph: Graph,
    is_read: Bool[np.ndarray, " state"],
    logits: Float[np.ndarray, "state action"],
) -> None:
    """Write the policy's logits at the states to be read, depth first in blocks, so that few memories are held at once."""
    if np.any(graph.num_parents[~graph.is_terminal] > 1):
        raise ValueError(
            "a policy with memory has no distribution by states on a graph whose states have several parents. Use one without."
        )
    is_visited = _with_ancestors(graph, is_read)
    root_memory = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (1, *np.shape(leaf))), policy.start())
    todo = [(np.zeros(1, np.int64), np.zeros(1, np.int64), root_memory)] if is_visited[0] else []
    while todo:
        ids, rows, memory = todo.pop()
        size = _PATH_BLOCK if ids.size > _PATH_BLOCK // 2 else _SMALL_PATH_BLOCK
        if ids.size > size:
            todo.append((ids[size:], rows[size:], memory))
        block = ids[:size]
        outputs, after = _advance(policy, env, pad(graph.rows(block), size), memory, pad(rows[:size], size))
        logits[block] = np.asarray(outputs)[: block.size]
        parents, actions = np.nonzero(_is_true(is_visited, graph.children[block]))
        if parents.size:
            todo.append((graph.children[block][parents, actions], parents, after))


def _with_ancestors(graph: Graph, is_read: Bool[np.ndarray, " state"]) -> Bool[np.ndarray, " state"]:
    is_visited = is_read.copy()
    for level in reversed(list(graph.levels())):
        is_visited[level] |= np.any(_is_true(is_visited, graph.children[level]), axis=1)
    return is_visited


def _is_true(flags: Bool[np.ndarray, " state"], ids: Int[np.ndarray, "row action"]) -> Bool[np.ndarray, "row action"]:
    return flags[ids] & (ids >= 0)


@eqx.filter_jit
def _forward_logits(policy: AbstractPolicy, env: AbstractEnvironment, states: Any) -> Float[Array, "row action"]:
    return jax.vmap(lambda state: policy.step(policy.start(), env.observe(state))[0].forward_logits)(states)


@eqx.filter_jit
def _backward_logits(policy: AbstractPolicy, env: AbstractEnvironment, states: Any) -> Float[Array, "row backward_action"]:
    def logits(state: Any) -> Float[Array, " backward_action"]:
        backward_logits = policy.step(policy.start(), env.observe(state))[0].backward_logits
        assert backward_logits is not None, "a policy with has_backward_head returns backward_logits"
        return backward_logits

    return jax.vmap(logits)(states)


@eqx.filter_jit
def _advance(
    policy: AbstractPolicy, env: AbstractEnvironment, states: Any, memory: Any, rows: Int[Array, " row"]
) -> tuple[Float[Array, "row action"], Any]:
    """Return the logits at a block of states and the memories after them; `rows` says whose memory comes before each."""

    def advance(state: Any, row: Int[Array, ""]) -> tuple[Float[Array, " action"], Any]:
        output, after = policy.step(jax.tree.map(lambda leaf: leaf[row], memory), env.observe(state))
        return output.forward_logits, after

    return jax.vmap(advance)(states, rows)
