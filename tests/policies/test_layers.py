import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from narrows.policies.layers import Affine, Heads, recall
from narrows.policies.sizes import Sizes


@pytest.mark.parametrize("num_in", [16, 400])
def test_outputs_have_the_variance_of_the_gain_whatever_the_width(num_in):
    layer = Affine(num_in, 500, 2.0, jax.random.key(0))
    assert layer.weight.shape == (num_in, 500)
    inputs = np.random.default_rng(0).normal(size=(200, num_in))
    outputs = inputs @ np.asarray(layer.weight)
    assert abs(outputs.std() - 2.0) < 0.1
    assert not np.any(layer.bias)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (4, 5, 6)])
def test_an_affine_map_and_its_gradient_are_those_of_plain_differentiation(shape):
    layer, inputs = Affine(6, 3, 1.0, jax.random.key(0)), jax.random.normal(jax.random.key(1), shape)
    layer = eqx.tree_at(lambda it: it.bias, layer, jnp.arange(3.0))

    def of(weight, bias, inputs, product):
        return jnp.sum(jnp.sin(product(weight, bias, inputs)))

    def ours(weight, bias, inputs):
        return eqx.tree_at(lambda it: (it.weight, it.bias), layer, (weight, bias))(inputs)

    def plain(weight, bias, inputs):
        return jnp.einsum("...i,io->...o", inputs, weight) + bias

    arguments = layer.weight, layer.bias, inputs
    np.testing.assert_allclose(ours(*arguments), plain(*arguments), atol=1e-6)
    found, expected = (jax.grad(of, argnums=(0, 1, 2))(*arguments, product) for product in (ours, plain))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_bf16_rounds_the_factors_and_nothing_else():
    exact, rounded = (Affine(64, 32, 1.0, jax.random.key(0), precision) for precision in ("f32", "bf16"))
    inputs = jax.random.normal(jax.random.key(1), (40, 64))
    by_hand = np.asarray(inputs.astype(jnp.bfloat16), np.float64) @ np.asarray(exact.weight.astype(jnp.bfloat16), np.float64)
    assert rounded(inputs).dtype == jnp.float32
    np.testing.assert_allclose(rounded(inputs), by_hand, atol=1e-4)
    assert np.max(np.abs(rounded(inputs) - exact(inputs))) > 1e-3  # it does round
    slope = eqx.filter_grad(lambda layer: jnp.sum(layer(inputs) ** 2))
    assert slope(rounded).weight.dtype == jnp.float32
    np.testing.assert_allclose(slope(rounded).weight, slope(exact).weight, rtol=0.05, atol=1.0)


def test_what_is_recalled_has_the_gradient_of_what_was_computed():
    layer, inputs = Affine(6, 3, 1.0, jax.random.key(0)), jax.random.normal(jax.random.key(1), (5, 6))

    def loss(layer, inputs, value):
        return jnp.sum(jnp.sin(recall(layer, value, inputs)))

    value = layer(inputs)
    computed, recalled = (jax.grad(loss, argnums=(0, 1))(layer, inputs, given) for given in (None, value))
    assert jax.tree.all(jax.tree.map(lambda one, other: np.allclose(one, other, atol=1e-6), computed, recalled))
    assert loss(layer, inputs, 0.0 * value) == 0.0  # the value is taken as given, not computed again


def test_no_two_heads_start_alike():
    heads = Heads(8, Sizes(2, 2, 3, num_backward_actions=3, flow_head=True), jax.random.key(0))
    output = heads(jnp.ones(8))
    assert output.backward_logits is not None and output.log_flow is not None
    assert not np.allclose(output.forward_logits, output.backward_logits)
    assert output.log_flow.shape == ()
