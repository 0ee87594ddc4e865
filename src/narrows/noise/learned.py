"""Kernels with parameters: a table of how often each action came of each, and a network that reads the state too."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.envs.base import AbstractEnvironment, Prefix, features
from narrows.envs.perturbation import AbstractKernel
from narrows.noise.kinds import same_kind, same_kind_matrix
from narrows.operators import masked_log_softmax
from narrows.policies.layers import HEAD_GAIN, Affine


class Frequencies(AbstractKernel):
    """A number for each pair of actions: `P(came | state, asked)` is softmax over legal actions of the same kind as `asked`.

    Args:
        env: the rules that are perturbed.
        logits: `[action, action]`, a row for each action asked for; logarithms of counts, say.
    """

    env: AbstractEnvironment
    logits: Float[Array, "asked action"]

    def log_probs(self, state: Any, action: Int[Array, ""]) -> Float[Array, " action"]:
        return masked_log_softmax(self.logits[action], same_kind(self.env, state, action))

    def all_log_probs(self, state: Any) -> Float[Array, "asked action"]:
        return masked_log_softmax(self.logits, same_kind_matrix(self.env, state))


class Correction(eqx.Module):
    """A small network's addition to the logits of `Frequencies`: two hidden layers on the state and the action asked for."""

    first: Affine
    asked: Float[Array, "asked hidden"]
    second: Affine
    head: Affine

    def __init__(self, env: AbstractEnvironment, hidden: int, key: PRNGKeyArray) -> None:
        first_key, asked_key, second_key, head_key = jax.random.split(key, 4)
        num_inputs = jax.eval_shape(lambda: inputs_of(env, env.reset())).shape[0]
        # One in `num_values` inputs is a one, so this gain gives the tokens' part of the first layer unit variance.
        self.first = Affine(num_inputs, hidden, env.num_values**0.5, first_key)
        self.asked = jax.random.normal(asked_key, (env.num_actions, hidden), jnp.float32)
        self.second = Affine(hidden, hidden, 2.0**0.5, second_key)
        self.head = Affine(hidden, env.num_actions + 1, HEAD_GAIN, head_key)

    def __call__(self, inputs: Float[Array, "*batch input"], asked: Int[Array, "*asked"]) -> Float[Array, "*asked action"]:
        """Return what is added to the logits for each action asked for; inputs are one state's or as many as these."""
        hidden = jax.nn.gelu(self.first(inputs) + self.asked[asked])
        logits = self.head(jax.nn.gelu(self.second(hidden)))
        # The last output is the action asked for's own: how often things come as asked is learned for all actions at once.
        is_asked = jax.nn.one_hot(asked, logits.shape[-1] - 1, dtype=jnp.float32)
        return logits[..., :-1] + logits[..., -1:] * is_asked


class Corrected(AbstractKernel):
    """A kernel that depends on the state: softmax, over actions of the same kind, of fixed logits and a network's correction.

    Args:
        base: logits that do not depend on the state.
        correction: the network.
    """

    base: Frequencies
    correction: Correction

    def log_probs(self, state: Any, action: Int[Array, ""]) -> Float[Array, " action"]:
        env = self.base.env
        return masked_log_softmax(self.logits(inputs_of(env, state), action), same_kind(env, state, action))

    def all_log_probs(self, state: Any) -> Float[Array, "asked action"]:
        env = self.base.env
        actions = jnp.arange(env.num_actions, dtype=jnp.int32)
        return masked_log_softmax(self.logits(inputs_of(env, state), actions), same_kind_matrix(env, state))

    def logits(self, inputs: Float[Array, "*batch input"], asked: Int[Array, "*asked"]) -> Float[Array, "*asked action"]:
        """Return the logits for each action asked for; inputs are one state's or as many as these."""
        return self.base.logits[asked] + self.correction(inputs, asked)


def inputs_of(env: AbstractEnvironment, state: Any) -> Float[Array, " input"]:
    """Return the state as one-hot integers; of a sequence also its newest token and its length, which noise often hangs on."""
    observation = env.observe(state)
    parts = [jax.nn.one_hot(features(observation), env.num_values, dtype=jnp.float32).reshape(-1)]
    if isinstance(observation, Prefix):
        # As loud as all tokens together, or they would be learned last.
        loudness = env.num_features**0.5
        parts.append(loudness * jax.nn.one_hot(observation.last, env.num_values, dtype=jnp.float32))
        parts.append(loudness * jax.nn.one_hot(observation.position, env.num_features + 1, dtype=jnp.float32))
    return jnp.concatenate(parts)
