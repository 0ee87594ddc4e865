"""A small value network as a plain pytree, for trials; any other function of parameters and observations does as well."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Layers = list[tuple[Float[Array, "_ _"], Float[Array, "_"]]]


def mlp_params(key: Array, sizes: Sequence[int] = (4, 32, 32, 1)) -> Layers:
    """Return normally distributed weights over the root of the number of inputs, and biases of 0, layer by layer."""
    if len(sizes) < 2 or min(sizes) < 1 or sizes[-1] != 1:
        raise ValueError(f"sizes must be at least two positive numbers of which the last is 1, the value, got {tuple(sizes)}.")
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(key, (inputs, outputs)) / jnp.sqrt(float(inputs)), jnp.zeros(outputs))
        for key, inputs, outputs in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def mlp_value(params: Layers, observation: Float[Array, "batch inputs"]) -> Float[Array, " batch"]:
    """Return the value of each observation: tanh between layers, nothing after the last."""
    hidden = observation
    for weight, bias in params[:-1]:
        hidden = jnp.tanh(hidden @ weight + bias)
    weight, bias = params[-1]
    return (hidden @ weight + bias)[:, 0]
