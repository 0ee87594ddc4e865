"""The network a proxy is made of: a small convolutional net over letters, for objects of any length up to a maximum."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

CHANNELS = 32
FIRST_WINDOW = 5
WINDOW = 3
NUM_RESIDUAL = 2
POSITION_UNITS = 16
HIDDEN = 64


class Network(eqx.Module):
    """Score one sequence: windows of letters, pooled over positions, beside a sum of one learned row a position and letter.

        h_0 = gelu(C_0 * x),   h_k = h_{k-1} + gelu(C_k * h_{k-1}),   k = 1, 2       (* slides along the sequence)
        score = o . gelu(H [sum_i h_i / sqrt(n), max_i h_i, sum_i P[i, x_i]])

    The pooled part sees a motif wherever it lies, the rows `P` see what matters at one place only; neither reads padding, so
    the score does not depend on how much of it there is.

    Args:
        num_letters: letters of the alphabet; token `num_letters` is padding.
        max_length: longest sequence.
        key: randomness of the initial weights.
    """

    first: eqx.nn.Linear
    residual: tuple[eqx.nn.Linear, ...]
    positions: Float[Array, "length letter unit"]
    hidden: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, num_letters: int, max_length: int, *, key: PRNGKeyArray) -> None:
        first_key, positions_key, hidden_key, head_key, *keys = jax.random.split(key, 4 + NUM_RESIDUAL)
        # A window holds FIRST_WINDOW ones among its inputs, so that is the fan-in.
        self.first = _linear(FIRST_WINDOW * num_letters, CHANNELS, (2.0 / FIRST_WINDOW) ** 0.5, first_key)
        fan_in = WINDOW * CHANNELS
        self.residual = tuple(_linear(fan_in, CHANNELS, (2.0 / fan_in) ** 0.5, one_key) for one_key in keys)
        shape = (max_length, num_letters, POSITION_UNITS)
        self.positions = jax.random.normal(positions_key, shape, jnp.float32) * max_length**-0.5
        num_features = 2 * CHANNELS + POSITION_UNITS
        self.hidden = _linear(num_features, HIDDEN, (2.0 / num_features) ** 0.5, hidden_key)
        self.head = _linear(HIDDEN, 1, HIDDEN**-0.5, head_key)

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, ""]:
        """Return the standardised score of one sequence; tokens beyond `max_length` must be padding."""
        num_letters = self.positions.shape[1]
        letters = jax.nn.one_hot(tokens, num_letters, dtype=jnp.float32)
        is_letter = (tokens < num_letters)[:, None]
        states = jnp.where(is_letter, _slide(self.first, letters, FIRST_WINDOW), 0.0)
        for layer in self.residual:
            states = states + jnp.where(is_letter, _slide(layer, states, WINDOW), 0.0)
        count = jnp.maximum(jnp.sum(is_letter), 1)
        highest = jnp.max(jnp.where(is_letter, states, -jnp.inf), axis=0, initial=-jnp.inf)
        highest = jnp.where(jnp.any(is_letter), highest, 0.0)  # an empty sequence has no highest
        here = min(len(tokens), self.positions.shape[0])
        placed = jnp.tensordot(letters[:here], self.positions[:here], axes=2)
        features = jnp.concatenate([jnp.sum(states, axis=0) / jnp.sqrt(count), highest, placed])
        return self.head(jax.nn.gelu(self.hidden(features)))[0]


def _slide(layer: eqx.nn.Linear, inputs: Float[Array, "length channel"], window: int) -> Float[Array, "length unit"]:
    """Return `gelu` of a linear layer on the window around every position, zeros beyond the ends.

    Written as a matrix product: a vmapped convolution becomes a grouped one, which is many times slower on a CPU.
    """
    before = window // 2
    padded = jnp.pad(inputs, ((before, window - 1 - before), (0, 0)))
    windows = jnp.concatenate([padded[shift : shift + len(inputs)] for shift in range(window)], axis=-1)
    return jax.nn.gelu(jax.vmap(layer)(windows))


def _linear(num_in: int, num_out: int, std: float, key: PRNGKeyArray) -> eqx.nn.Linear:
    layer = eqx.nn.Linear(num_in, num_out, dtype=jnp.float32, key=key)
    weight = jax.random.normal(key, (num_out, num_in), jnp.float32) * std
    return eqx.tree_at(lambda it: (it.weight, it.bias), layer, (weight, jnp.zeros(num_out, jnp.float32)))
