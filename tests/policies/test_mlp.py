import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.policies import MLP, Sizes
from narrows.policies.mlp import sum_of_rows

FEATURES, VALUES, HIDDEN = 6, 5, 8
rows = jax.random.normal(jax.random.key(0), (FEATURES, VALUES, HIDDEN))


def one_hot_product(rows, values):
    return jnp.einsum("fv,fvh->h", jax.nn.one_hot(values, rows.shape[1]), rows)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(0, VALUES - 1), min_size=FEATURES, max_size=FEATURES))
def test_the_sum_of_rows_is_the_matrix_times_the_one_hot_vector(values):
    values = jnp.array(values)
    np.testing.assert_allclose(jax.jit(sum_of_rows)(rows, values), one_hot_product(rows, values), atol=1e-5)


def test_its_gradient_is_that_of_the_product_also_for_a_batch():
    values = jax.random.randint(jax.random.key(1), (7, FEATURES), 0, VALUES)
    weights = jax.random.normal(jax.random.key(2), (7, HIDDEN))

    def gradient(function):
        return jax.grad(lambda it: jnp.sum(weights * jnp.tanh(jax.vmap(function, in_axes=(None, 0))(it, values))))(rows)

    np.testing.assert_allclose(gradient(sum_of_rows), gradient(one_hot_product), atol=1e-5)


@pytest.mark.parametrize(("activation", "reference"), [("relu", lambda x: np.maximum(x, 0)), ("tanh", np.tanh)])
def test_the_network_is_what_numpy_says(activation, reference):
    policy = MLP(Sizes(3, 4, 5, flow_head=True), hidden=6, depth=3, activation=activation, key=jax.random.key(0))
    policy = eqx.tree_at(lambda it: it.bias, policy, jnp.arange(6, dtype=jnp.float32))
    values = [1, 3, 0]
    hidden = reference(np.arange(6) + sum(np.asarray(policy.rows)[place, value] for place, value in enumerate(values)))
    for layer in policy.layers:
        hidden = reference(hidden @ np.asarray(layer.weight) + np.asarray(layer.bias))
    output, _ = policy.step(policy.start(), jnp.array(values))
    np.testing.assert_allclose(output.forward_logits, hidden @ np.asarray(policy.heads.forward.weight), rtol=1e-4)
    assert len(policy.layers) == 2


def test_the_variance_of_the_trunk_does_not_depend_on_the_number_of_features():
    for num_features in (2, 200):
        policy = MLP(Sizes(num_features, 7, 2), hidden=512, key=jax.random.key(0))
        values = jax.random.randint(jax.random.key(1), (64, num_features), 0, 7)
        first = jax.vmap(sum_of_rows, in_axes=(None, 0))(policy.rows, values)
        assert abs(7 * float(jnp.mean(jnp.square(jax.nn.relu(first)))) - 1.0) < 0.1


def test_it_learns_a_function_of_two_features():
    """The sum of the two digits modulo 3, which no sum of functions of each digit is."""
    policy = MLP(Sizes(2, 3, 3), hidden=32, key=jax.random.key(0))
    digits = jnp.array([[a, b] for a in range(3) for b in range(3)])
    optimizer = optax.adam(1e-2)

    def loss_of(model):
        logits = model.unroll(digits).forward_logits
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, digits.sum(axis=1) % 3))

    def update(training, _):
        policy, state = training
        updates, state = optimizer.update(eqx.filter_grad(loss_of)(policy), state)
        return (eqx.apply_updates(policy, updates), state), None

    training = (policy, optimizer.init(eqx.filter(policy, eqx.is_array)))
    policy, _ = jax.jit(lambda it: jax.lax.scan(update, it, length=100)[0])(training)
    np.testing.assert_array_equal(jnp.argmax(policy.unroll(digits).forward_logits, axis=-1), digits.sum(axis=1) % 3)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"hidden": 0}, "hidden must be a whole number of at least 1, got 0. .* try 256"),
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ({"depth": True}, "depth must be a whole number of at least 1, got True"),
        ({"precision": "f16"}, 'precision must be one of "f32", "bf16", got \'f16\''),
        ({"activation": "sigmoid"}, 'activation must be one of "relu", "gelu", "silu", "tanh", got \'sigmoid\''),
    ],
)
def test_impossible_settings_are_refused(given_settings, message):
    with pytest.raises(ValueError, match=message):
        MLP(Sizes(2, 2, 2), **given_settings, key=jax.random.key(0))
