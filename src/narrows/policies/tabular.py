"""One row of parameters a state: no generalisation, no approximation error, the policy to test an objective with."""

from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from narrows.envs.base import features
from narrows.policies.base import AbstractPolicy, PolicyOutput
from narrows.policies.layers import check_environment_sizes

MAX_ENTRIES: Final = 20_000_000
"""Beyond this many numbers (80 MB, four times that with Adam's moments and the gradient) a table is the wrong tool."""


class Tabular(AbstractPolicy):
    """Look every head up in a table with one row per state, `num_values ** num_features` rows.

    The row is the mixed-radix number `sum_i features[i] num_values^i`. All tables start at zero, which is the uniform
    policy, unless `init_scale` asks for noise.

    Args:
        num_features, num_values, num_actions: sizes of the environment.
        init_scale: standard deviation of the initial entries, >= 0.
        num_backward_actions: length of the backward action axis for a learned backward policy; None for the uniform one.
        flow_head: whether to hold a table of log-flows.
        child_flow_head: whether to hold a table of the log-flows of the states that actions lead to.
        key: randomness of the initial entries.

    Raises ValueError for sizes below 1, for a negative or non-finite `init_scale`, and for tables of more than 20 million
    entries.

    >>> policy = Tabular(2, 3, 4, key=jax.random.key(0))
    >>> policy.forward_logits.shape
    (9, 4)
    """

    forward_logits: Float[Array, "state action"]
    backward_logits: Float[Array, "state backward_action"] | None
    log_flow: Float[Array, " state"] | None
    child_log_flow: Float[Array, "state action"] | None
    num_values: int = eqx.field(static=True)
    has_backward_head: bool = eqx.field(static=True)
    has_flow_head: bool = eqx.field(static=True)

    def __init__(
        self,
        num_features: int,
        num_values: int,
        num_actions: int,
        init_scale: float = 0.0,
        *,
        num_backward_actions: int | None = None,
        flow_head: bool = False,
        child_flow_head: bool = False,
        key: PRNGKeyArray,
    ) -> None:
        check_environment_sizes(num_features, num_values, num_actions, num_backward_actions)
        if not 0.0 <= init_scale < float("inf"):
            raise ValueError(f"init_scale must be at least 0 and finite, got {init_scale}. 0 is the uniform policy.")
        num_columns = num_actions * (1 + child_flow_head) + (num_backward_actions or 0) + flow_head
        num_rows = _num_rows(num_features, num_values, num_columns)
        forward_key, backward_key, flow_key = jax.random.split(key, 3)
        self.forward_logits = _table(forward_key, (num_rows, num_actions), init_scale)
        self.backward_logits = (
            None if num_backward_actions is None else _table(backward_key, (num_rows, num_backward_actions), init_scale)
        )
        self.log_flow = _table(flow_key, (num_rows,), init_scale) if flow_head else None
        child_key = jax.random.fold_in(flow_key, 1)
        self.child_log_flow = _table(child_key, (num_rows, num_actions), init_scale) if child_flow_head else None
        self.num_values = num_values
        self.has_backward_head = num_backward_actions is not None
        self.has_flow_head = flow_head

    @property
    def has_child_flow_head(self) -> bool:
        """Whether there is a table of the log-flows of the states that actions lead to."""
        return self.child_log_flow is not None

    def start(self) -> tuple[()]:
        """Return no memory: a row depends on the state alone."""
        return ()

    def step(self, carry: tuple[()], observation: PyTree[Array]) -> tuple[PolicyOutput, tuple[()]]:
        """Return the rows of one state."""
        return self._look_up(observation), carry

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        """Return the rows of every state of trajectories."""
        return self._look_up(observations)

    def _look_up(self, observation: PyTree[Array]) -> PolicyOutput:
        row = mixed_radix(features(observation), self.num_values)
        return PolicyOutput(
            forward_logits=self.forward_logits[row],
            backward_logits=None if self.backward_logits is None else self.backward_logits[row],
            log_flow=None if self.log_flow is None else self.log_flow[row],
            child_log_flow=None if self.child_log_flow is None else self.child_log_flow[row],
        )


def mixed_radix(digits: Int[Array, "*time feature"], base: int) -> Int[Array, "*time"]:
    """Return `sum_i digits[..., i] base^i`, the number whose digits these are, least significant first.

    >>> int(mixed_radix(jnp.array([2, 1]), 3))
    5
    """
    weights = jnp.array([base**place for place in range(digits.shape[-1])], jnp.int32)
    return jnp.sum(digits.astype(jnp.int32) * jnp.broadcast_to(weights, digits.shape), axis=-1)


def _num_rows(num_features: int, num_values: int, num_columns: int) -> int:
    num_rows = num_values**num_features
    if num_rows * num_columns > MAX_ENTRIES:
        raise ValueError(
            f"A table of this environment would have {num_values}^{num_features} rows of {num_columns} entries, "
            f"expected at most {MAX_ENTRIES:,} entries in all. Use the MLP, or the Transformer for sequences."
        )
    return num_rows


def _table(key: PRNGKeyArray, shape: tuple[int, ...], scale: float) -> Float[Array, "..."]:
    if scale == 0.0:
        return jnp.zeros(shape, jnp.float32)
    return scale * jax.random.normal(key, shape, jnp.float32)
