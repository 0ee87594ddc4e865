"""Behaviour policies: which action is tried while sampling, given the logits of the policy that is being trained."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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
        """Return the probabilities of the behaviour up to one common factor: zero for every illegal action.

        The factor is left in because whoever draws needs no normalised ones.
        """
        best = jnp.max(jnp.where(mask, logits, jnp.finfo(logits.dtype).min))
        weights = jnp.where(mask, jnp.exp((logits - best) / self.temperature), 0.0)
        if self.epsilon == 0.0:
            return weights
        num_legal = jnp.maximum(jnp.sum(mask), 1)
        total = jnp.maximum(jnp.sum(weights), jnp.finfo(weights.dtype).tiny)
        return (1.0 - self.epsilon) * weights / total + self.epsilon * mask / num_legal


on_policy = Behaviour()
"""Sample the policy itself."""
