"""Every trajectory of a small environment as one batch, and how to compile losses over it quickly."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tests.reference.brute_force import Walk, actions_array, all_walks, stack

from narrows.envs.base import AbstractEnvironment
from narrows.exact import Graph, enumerate_graph
from narrows.trajectories import Trajectory


@dataclass(frozen=True, eq=False)
class Case:
    """An environment with random rewards: its graph, every walk, and the walks as a float64 batch.

    `log_reward` follows `graph.terminals`, the batch's follows the walks.
    """

    env: Any
    graph: Graph
    log_reward: np.ndarray
    walks: list[Walk]
    batch: Trajectory


@functools.cache
def case_of(env: AbstractEnvironment) -> Case:
    """Return the case of an environment, made once."""
    graph, walks = enumerate_graph(env), all_walks(env)
    by_state = np.random.default_rng(0).normal(size=graph.num_states)
    terminal = stack([walk.terminal for walk in walks])
    log_reward = by_state[graph.index(terminal)]
    with jax.enable_x64(True):
        batch = Trajectory(jax.tree.map(jnp.asarray, terminal), jnp.asarray(actions_array(env, walks)), jnp.asarray(log_reward))
    return Case(env, graph, by_state[graph.terminals], walks, batch)


def compile_quickly(function: Callable) -> Callable:
    """Compile a function without the optimisations that a few calls never pay back."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def quick_jit(function: Callable) -> Callable:
    """Compile a function quickly; it returns NumPy arrays."""
    compiled = compile_quickly(function)
    return lambda *args: jax.tree.map(np.asarray, compiled(*args))
