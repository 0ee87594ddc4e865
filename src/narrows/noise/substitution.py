"""The plainest noise: now and then another move takes place than the one asked for."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.base import AbstractEnvironment
from narrows.envs.perturbation import AbstractKernel
from narrows.noise.kinds import same_kind, same_kind_matrix


class Substitution(AbstractKernel):
    """With probability `rate` the action is replaced by a uniform draw among the legal ones of its kind, itself included.

    Of its kind are those that end the object if it does, and else those that do not: a substituted letter is another
    letter, and the end of a sequence is never missed (eflow 4.1 and 4.2).

    Args:
        env: the rules that are perturbed.
        rate: probability of a draw, in [0, 1]; of n actions of a kind each other one takes place with probability `rate / n`.

    Raises ValueError for a rate out of range.
    """

    env: AbstractEnvironment
    rate: float = eqx.field(static=True)

    def __init__(self, env: AbstractEnvironment, rate: float = 0.1) -> None:
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"rate must lie in [0, 1], got {rate}. It is the share of actions that are drawn anew.")
        self.env = env
        self.rate = rate

    def log_probs(self, state: Any, action: Int[Array, ""]) -> Float[Array, " action"]:
        is_asked = jnp.arange(self.env.num_actions) == action
        return self._log_probs(same_kind(self.env, state, action), is_asked)

    def all_log_probs(self, state: Any) -> Float[Array, "asked action"]:
        return self._log_probs(same_kind_matrix(self.env, state), jnp.eye(self.env.num_actions, dtype=bool))

    def _log_probs(
        self, is_same_kind: Bool[Array, "*asked action"], is_asked: Bool[Array, "*asked action"]
    ) -> Float[Array, "*asked action"]:
        # Two logarithms for each action asked for, not one for each pair: that is most of what this costs.
        drawn = self.rate / jnp.maximum(jnp.sum(is_same_kind, axis=-1, keepdims=True), 1)
        others = jnp.where(is_same_kind, jnp.log(drawn), -jnp.inf)
        return jnp.where(is_asked, jnp.log(1.0 - self.rate + drawn), others)
