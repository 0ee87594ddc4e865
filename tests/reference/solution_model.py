"""Models that are the exact solution of a graph, or random, as float64 tables: what every objective is judged with."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment, features
from narrows.exact import Graph, Solution
from narrows.operators import GeneralMellowmax
from narrows.policies import Tabular, sizes_of
from narrows.policies.base import Model
from narrows.policies.tabular import mixed_radix


def random_model(
    env: AbstractEnvironment, seed: int, *, backward: bool = False, child_flow: bool = False, scale: float = 1.0
) -> Model:
    """Return tables of normal numbers, flow head included; float64 where JAX has 64 bits."""
    rng = np.random.default_rng(seed)
    sizes = sizes_of(
        env,
        learned_backward=backward and isinstance(env, AbstractReversibleEnvironment),
        flow_head=True,
        child_flow_head=child_flow,
    )
    empty = Tabular(sizes, key=jax.random.key(0))
    policy = jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape)), empty)
    return Model(policy, jnp.asarray(scale * rng.normal()))


def solution_model(
    env: AbstractEnvironment, graph: Graph, solution: Solution, operator: GeneralMellowmax, *, like: Model, shift: bool = True
) -> Model:
    """Return the model that solves the graph: policy, values and `log_z`; the backward head is `like`'s.

    What the solution leaves open stays `like`'s random numbers: logits of illegal actions, rows that are no state, and, with
    `shift`, a constant added to all the logits of a state.
    """
    policy = table(like)
    inner = np.flatnonzero(~graph.is_terminal)
    rows = table_rows(env, graph, inner)
    logits, log_flow = np.array(policy.forward_logits), np.array(policy.log_flow)
    q_values = operator.policy_scale * solution.q_values[inner] + (logits[rows, :1] if shift else 0.0)
    logits[rows] = np.where(graph.children[inner] >= 0, q_values, logits[rows])
    log_flow[rows] = solution.values[inner]
    solved = eqx.tree_at(
        lambda table: (table.forward_logits, table.log_flow), policy, (jnp.asarray(logits), jnp.asarray(log_flow))
    )
    return Model(solved, jnp.asarray(operator.omega * solution.root_value))


def table(model: Model) -> Tabular:
    """Return the tables of a model that consists of them."""
    assert isinstance(model.policy, Tabular)
    return model.policy


def table_rows(env: AbstractEnvironment, graph: Graph, ids: np.ndarray) -> np.ndarray:
    """Return the row of a `Tabular` policy that holds each of the states."""
    return np.asarray(jax.vmap(lambda state: mixed_radix(features(env.observe(state)), env.num_values))(graph.rows(ids)))
