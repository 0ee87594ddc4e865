"""Building blocks of the networks: initialised layers, the heads that sit on a trunk, and checks of names."""

import functools
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from narrows.policies.base import PolicyOutput
from narrows.policies.sizes import Sizes

HEAD_GAIN: Final = 0.01
"""The standard deviation of a head's first outputs for a trunk of unit variance: the first policy is uniform over the legal
actions to about one per cent. Exactly zero would give the trunk no gradient in the first step.
"""

Activation: TypeAlias = Literal["relu", "gelu", "silu", "tanh"]

Precision: TypeAlias = Literal["f32", "bf16"]
"""The format that factors of a matrix product are rounded to; sums, parameters and all else stay float32. Recent server CPUs
and every accelerator multiply bfloat16 faster, 1.4 to 1.9 times on a CPU with AVX512-BF16 (`benchmarks speed`).
"""

_ACTIVATIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def activate(name: Activation, hidden: Float[Array, "*time width"]) -> Float[Array, "*time width"]:
    """Return the named activation of each number."""
    return _ACTIVATIONS[name](hidden)


class Affine(eqx.Module):
    """An affine map of the last axis, with parameters and outputs in float32.

    The weight stands as `[in, out]`: rows of inputs times this matrix is the product that CPUs have the fastest path for, by a
    quarter for the few rows of a sampling step.
    """

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]
    precision: Precision = eqx.field(static=True)

    def __init__(self, num_in: int, num_out: int, gain: float, key: PRNGKeyArray, precision: Precision = "f32") -> None:
        """Draw weights `Normal(0, gain^2 / num_in)`: an input of unit variance gives outputs of variance `gain^2`."""
        self.weight = jax.random.normal(key, (num_in, num_out), jnp.float32) * (gain / num_in**0.5)
        self.bias = jnp.zeros(num_out, jnp.float32)
        self.precision = precision

    def __call__(self, inputs: Float[Array, "*time in"]) -> Float[Array, "*time out"]:
        outputs: Array = jnp.asarray(_product(self.precision, inputs.reshape(-1, inputs.shape[-1]), self.weight))
        return (outputs + self.bias[None]).reshape(*inputs.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(precision: Precision, inputs: Float[Array, "row in"], weight: Float[Array, "in out"]) -> Float[Array, "row out"]:
    """Return a product of matrices.

    Its gradient is written out because differentiation would make the weight's as a transposed matrix and turn it round: twice
    the time on a CPU.
    """
    return _rounded_product(precision, inputs, weight)


def _product_kept(precision: Precision, inputs: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return _rounded_product(precision, inputs, weight), (inputs, weight)


def _product_gradient(precision: Precision, kept: tuple[Array, Array], d_outputs: Array) -> tuple[Array, Array]:
    inputs, weight = kept
    # The transposed matrix is laid out first: XLA's fast path on a CPU takes no transposed left factor.
    flipped = jax.lax.optimization_barrier(inputs.T)
    return _rounded_product(precision, d_outputs, weight.T), _rounded_product(precision, flipped, d_outputs)


_product.defvjp(_product_kept, _product_gradient)


def _rounded_product(precision: Precision, left: Array, right: Array) -> Array:
    if precision == "f32":
        return left @ right
    left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    return jnp.matmul(left, right, preferred_element_type=jnp.float32)


def recall(function: Callable[..., Array], value: Array | None, *arguments: Any) -> Array:
    """Return `value`, which `function(*arguments)` gave before, with that function's gradient; None to compute it.

    For a function that is linear in each argument the gradient does not take its value, so nothing is computed twice. A module
    is differentiated in its parameters too. Call it on whole batches: under `jax.vmap` the gradient of a shared argument
    would be made once for every row and then summed.
    """
    return function(*arguments) if value is None else _recall((function, arguments), value)


@eqx.filter_custom_vjp
def _recall(call: Any, value: Array) -> Array:
    return value


@_recall.def_fwd
def _recall_value(perturbed: Any, call: Any, value: Array) -> tuple[Array, None]:
    return value, None


@_recall.def_bwd
def _recall_gradient(residuals: None, d_value: Array, perturbed: Any, call: Any, value: Array) -> Any:
    return eqx.filter_vjp(lambda call: call[0](*call[1]), call)[1](d_value)[0]


class Heads(eqx.Module):
    """Linear heads on one trunk: forward logits, and backward logits and log-flows where asked for."""

    forward: Affine
    backward: Affine | None
    flow: Affine | None
    child_flow: Affine | None

    def __init__(self, width: int, sizes: Sizes, key: PRNGKeyArray, precision: Precision = "f32") -> None:
        forward_key, backward_key, flow_key = jax.random.split(key, 3)

        def head(num_out: int, key: PRNGKeyArray) -> Affine:
            return Affine(width, num_out, HEAD_GAIN, key, precision)

        num_backward = sizes.num_backward_actions
        self.forward = head(sizes.num_actions, forward_key)
        self.backward = None if num_backward is None else head(num_backward, backward_key)
        self.flow = head(1, flow_key) if sizes.flow_head else None
        self.child_flow = head(sizes.num_actions, jax.random.fold_in(flow_key, 1)) if sizes.child_flow_head else None

    def __call__(self, hidden: Float[Array, "*time width"]) -> PolicyOutput:
        """Return every head for the trunk's output, of one state or of several."""
        return PolicyOutput(
            forward_logits=self.forward(hidden),
            backward_logits=None if self.backward is None else self.backward(hidden),
            log_flow=None if self.flow is None else self.flow(hidden)[..., 0],
            child_log_flow=None if self.child_flow is None else self.child_flow(hidden),
        )


def check_activation(name: str) -> None:
    """Raise ValueError that lists the known activations unless `name` is one of them."""
    check_choice("activation", name, get_args(Activation))


def check_precision(name: str) -> None:
    """Raise ValueError that lists the known precisions unless `name` is one of them."""
    check_choice("precision", name, get_args(Precision))


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
