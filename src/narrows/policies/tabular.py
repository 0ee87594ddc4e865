"""One row of parameters a state: no generalisation, no approximation error, the policy to test an objective with."""

from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from narrows.envs.base import features
from narrows.policies.base import AbstractNetwork, PolicyOutput
from narrows.policies.sizes import Sizes

MAX_ENTRIES: Final = 20_000_000
"""Beyond this many numbers (80 MB, four times that with Adam's moments and the gradient) a table is the wrong tool."""


class Tabular(AbstractNetwork):
    """A table for every head with one row per state, `num_values ** num_features` rows.

    The row is the mixed-radix number `sum_i features[i] num_values^i`. All tables start at zero, which is the uniform
    policy, unless `init_scale` asks for noise.

    Args:
        sizes: of the environment and the objective, such as `objective.sizes(env)`.
        init_scale: standard deviation of the initial entries, >= 0.
        key: randomness of the initial entries.

    Raises ValueError for sizes below 1, for a negative or non-finite `init_scale`, and for tables of more than 20 million
    entries.

    >>> policy = Tabular(Sizes(2, 3, 4), key=jax.random.key(0))
    >>> policy.forward_logits.shape
    (9, 4)
    """

    forward_logits: Float[Array, "state action"]
    backward_logits: Float[Array, "state backward_action"] | None
    log_flow: Float[Array, " state"] | None
    child_log_flow: Float[Array, "state action"] | None
    sizes: Sizes = eqx.field(static=True)

    def __init__(self, sizes: Sizes, init_scale: float = 0.0, *, key: PRNGKeyArray) -> None:
        if not 0.0 <= init_scale < float("inf"):
            raise ValueError(f"init_scale must be at least 0 and finite, got {init_scale}. 0 is the uniform policy.")
        num_rows, num_backward = _num_rows(sizes), sizes.num_backward_actions
        forward_key, backward_key, flow_key = jax.random.split(key, 3)

        def table(key: PRNGKeyArray, *shape: int) -> Float[Array, "..."]:
            if init_scale == 0.0:
                return jnp.zeros((num_rows, *shape), jnp.float32)
            return init_scale * jax.random.normal(key, (num_rows, *shape), jnp.float32)

        self.forward_logits = table(forward_key, sizes.num_actions)
        self.backward_logits = None if num_backward is None else table(backward_key, num_backward)
        self.log_flow = table(flow_key) if sizes.flow_head else None
        child_key = jax.random.fold_in(flow_key, 1)
        self.child_log_flow = table(child_key, sizes.num_actions) if sizes.child_flow_head else None
        self.sizes = sizes

    def start(self) -> tuple[()]:
        return ()

    def step(self, carry: tuple[()], observation: PyTree[Array]) -> tuple[PolicyOutput, tuple[()]]:
        return self._look_up(observation), carry

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        return self._look_up(observations)

    def _look_up(self, observation: PyTree[Array]) -> PolicyOutput:
        row = mixed_radix(features(observation), self.sizes.num_values)
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


def _num_rows(sizes: Sizes) -> int:
    num_columns = sizes.num_actions * (1 + sizes.child_flow_head) + (sizes.num_backward_actions or 0) + sizes.flow_head
    num_rows = sizes.num_values**sizes.num_features
    if num_rows * num_columns > MAX_ENTRIES:
        raise ValueError(
            f"A table of this environment would have {sizes.num_values}^{sizes.num_features} rows of {num_columns} entries, "
            f"expected at most {MAX_ENTRIES:,} entries in all. Use the MLP, or the Transformer for sequences."
        )
    return num_rows
