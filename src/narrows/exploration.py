"""Behaviour policies: which action is tried while sampling, given the logits of the policy that is being trained."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.operators import masked_log_softmax


class Behaviour(eqx.Module):
    """The policy tempered, then mixed with uniform play: `(1 - epsilon) softmax(logits / temperature) + epsilon / n`.

    Args:
        temperature: 1 samples the policy, larger is flatter; > 0.
        epsilon: share of uniform play over the legal actions in each step, in [0, 1].
    """

    temperature: float = eqx.field(default=1.0, static=True)
    epsilon: float = eqx.field(default=0.0, static=True)

    def __check_init__(self) -> None:
        if not 0.0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}. 1 samples the policy itself.")
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must lie in [0, 1], got {self.epsilon}. It is the share of uniform play.")

    def __call__(self, logits: Float[Array, " action"], mask: Bool[Array, " action"]) -> Float[Array, " action"]:
        """Return the log-probabilities of the behaviour over legal actions, `-inf` elsewhere."""
        log_probs = masked_log_softmax(logits / self.temperature, mask)
        if self.epsilon == 0.0:
            return log_probs
        log_uniform = masked_log_softmax(jnp.zeros_like(logits), mask)
        mixed = jnp.logaddexp(jnp.log1p(-self.epsilon) + log_probs, jnp.log(self.epsilon) + log_uniform)
        # Where nothing is legal both terms are zero, and where an action is illegal both are -inf.
        return jnp.where(mask, mixed, log_probs)


on_policy = Behaviour()
"""Sample the policy itself."""
