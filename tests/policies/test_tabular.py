import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from narrows.policies import Sizes, Tabular
from narrows.policies.tabular import mixed_radix


def test_every_state_has_a_row_of_its_own():
    states = jnp.array(list(itertools.product(range(3), repeat=4)), jnp.int8)
    assert sorted(jax.vmap(mixed_radix, in_axes=(0, None))(states, 3).tolist()) == list(range(81))


def test_heads_are_the_rows_of_the_state():
    policy = Tabular(Sizes(2, 3, 4, num_backward_actions=2, flow_head=True), init_scale=1.0, key=jax.random.key(0))
    output, carry = policy.step(policy.start(), jnp.array([2, 1]))
    row = 2 + 1 * 3
    assert carry == ()
    np.testing.assert_array_equal(output.forward_logits, np.asarray(policy.forward_logits)[row])
    np.testing.assert_array_equal(output.backward_logits, np.asarray(policy.backward_logits)[row])
    np.testing.assert_array_equal(output.log_flow, np.asarray(policy.log_flow)[row])


def test_tables_start_at_zero_unless_noise_is_asked_for():
    silent = Tabular(Sizes(3, 5, 4, num_backward_actions=3, flow_head=True), key=jax.random.key(0))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(eqx.filter(silent, eqx.is_array)))
    noisy = Tabular(Sizes(5, 10, 10), init_scale=0.3, key=jax.random.key(0))
    assert abs(float(jnp.std(noisy.forward_logits)) - 0.3) < 0.003


def test_gradient_reaches_the_visited_row_alone():
    policy = Tabular(Sizes(2, 3, 4), key=jax.random.key(0))
    gradient = eqx.filter_grad(lambda it: it.unroll(jnp.array([[0, 2], [0, 2]])).forward_logits[:, 1].sum())(policy)
    expected = np.zeros((9, 4), np.float32)
    expected[6, 1] = 2.0
    np.testing.assert_array_equal(gradient.forward_logits, expected)


def test_a_table_beyond_memory_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match=r"21\^60 rows of 22 entries, expected at most 20,000,000 .* Use the MLP"):
        Tabular(Sizes(60, 21, 21, flow_head=True), key=jax.random.key(0))
    with pytest.raises(ValueError, match="at most 20,000,000"):
        Tabular(Sizes(1, 10_000_001, 2), key=jax.random.key(0))
    assert Tabular(Sizes(1, 1_000_000, 2), key=jax.random.key(0)).forward_logits.shape == (1_000_000, 2)


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match="init_scale must be at least 0 and finite"):
        Tabular(Sizes(2, 2, 2), init_scale=scale, key=jax.random.key(0))
