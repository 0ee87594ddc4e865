import jax
import jax.numpy as jnp
import numpy as np
import pytest

from narrows.policies.layers import Heads, linear


@pytest.mark.parametrize("num_in", [16, 400])
def test_outputs_have_the_variance_of_the_gain_whatever_the_width(num_in):
    layer = linear(num_in, 500, 2.0, jax.random.key(0))
    assert layer.weight.shape == (500, num_in)
    inputs = np.random.default_rng(0).normal(size=(200, num_in))
    outputs = inputs @ np.asarray(layer.weight).T
    assert abs(outputs.std() - 2.0) < 0.1
    assert not np.any(layer.bias)


def test_no_two_heads_start_alike():
    heads = Heads(8, 3, 3, True, jax.random.key(0))
    output = heads(jnp.ones(8))
    assert output.backward_logits is not None and output.log_flow is not None
    assert not np.allclose(output.forward_logits, output.backward_logits)
    assert output.log_flow.shape == ()
