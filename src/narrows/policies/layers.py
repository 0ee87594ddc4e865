"""What the networks share: initialised layers, the heads that sit on a trunk, and the checks of their sizes."""

from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from narrows.policies.base import PolicyOutput

HEAD_GAIN: Final = 0.01
"""The standard deviation of a head's first outputs for a trunk of unit variance: the first policy is uniform over the legal
actions to about one per cent. Exactly zero would give the trunk no gradient in the first step.
"""

Activation: TypeAlias = Literal["relu", "gelu", "silu", "tanh"]

_ACTIVATIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def activate(name: Activation, hidden: Float[Array, " width"]) -> Float[Array, " width"]:
    """Return the named activation of a vector."""
    return _ACTIVATIONS[name](hidden)


def linear(num_in: int, num_out: int, gain: float, key: PRNGKeyArray) -> eqx.nn.Linear:
    """Return a linear layer with weights `Normal(0, gain^2 / num_in)` and zero bias, in float32.

    An input of unit variance gives outputs of variance `gain^2`, whatever the width.
    """
    # Only the shape of Equinox's own initial layer is used: its draw would be compiled and thrown away.
    layer = eqx.filter_eval_shape(eqx.nn.Linear, num_in, num_out, dtype=jnp.float32, key=key)
    weight = jax.random.normal(key, (num_out, num_in), jnp.float32) * (gain / num_in**0.5)
    return eqx.tree_at(lambda it: (it.weight, it.bias), layer, (weight, jnp.zeros(num_out, jnp.float32)))


class Heads(eqx.Module):
    """Linear heads on one trunk: forward logits, and backward logits and log-flow where asked for."""

    forward: eqx.nn.Linear
    backward: eqx.nn.Linear | None
    flow: eqx.nn.Linear | None

    def __init__(
        self, width: int, num_actions: int, num_backward_actions: int | None, flow_head: bool, key: PRNGKeyArray
    ) -> None:
        forward_key, backward_key, flow_key = jax.random.split(key, 3)
        self.forward = linear(width, num_actions, HEAD_GAIN, forward_key)
        self.backward = None if num_backward_actions is None else linear(width, num_backward_actions, HEAD_GAIN, backward_key)
        self.flow = linear(width, 1, HEAD_GAIN, flow_key) if flow_head else None

    def __call__(self, hidden: Float[Array, " width"]) -> PolicyOutput:
        """Return every head for the trunk's output of one state."""
        return PolicyOutput(
            forward_logits=self.forward(hidden),
            backward_logits=None if self.backward is None else self.backward(hidden),
            log_flow=None if self.flow is None else self.flow(hidden)[0],
        )


def check_environment_sizes(num_features: int, num_values: int, num_actions: int, num_backward_actions: int | None) -> None:
    """Raise ValueError unless the sizes that an environment gives to its policy can be those of one."""
    check_at_least("num_features", num_features, 1, "It is the environment's number of integers in an observation.")
    check_at_least("num_values", num_values, 1, "It is how many values a feature of the environment can take.")
    check_at_least("num_actions", num_actions, 1, "It is the length of the environment's action axis.")
    if num_backward_actions is not None:
        hint = "Leave it out (None) for the uniform backward policy."
        check_at_least("num_backward_actions", num_backward_actions, 1, hint)


def check_at_least(name: str, value: int, minimum: int, hint: str) -> None:
    """Raise ValueError with a hint unless `value` is a whole number of at least `minimum`.

    >>> check_at_least("depth", 0, 1, "The published network has 2.")
    Traceback (most recent call last):
    ...
    ValueError: depth must be a whole number of at least 1, got 0. The published network has 2.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}. {hint}")


def check_activation(name: str) -> None:
    """Raise ValueError that lists the known activations unless `name` is one of them."""
    check_choice("activation", name, get_args(Activation))


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError that lists the choices unless `value` is one of them.

    >>> check_choice("norm", "layer", ("pre", "post"))
    Traceback (most recent call last):
    ...
    ValueError: norm must be one of "pre", "post", got 'layer'.
    """
    if value not in choices:
        known = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be one of {known}, got {value!r}.")
