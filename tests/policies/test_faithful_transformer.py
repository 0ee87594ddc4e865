"""The published causal transformer: plain loops, a scan of steps, the published sizes, and nothing ahead."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.policies.cases import NUM_ACTIONS, NUM_BACKWARD, NUM_FEATURES, NUM_VALUES, START, prefixes
from tests.reference.decoder import affine, attention, feed_forward, normalise
from tests.reference.encoder import position

from narrows.envs import Hypergrid
from narrows.policies import FaithfulTransformer, Sizes
from narrows.policies.base import scan_unroll

SIZES = {"layers": 2, "width": 8, "heads": 3, "feed_forward": 12, "head_hidden": 10}


@eqx.filter_jit
def unroll(policy, observations):
    return policy.unroll(observations)


@eqx.filter_jit  # leaf by leaf it would compile dozens of small programs
def fresh(sizes, **given):
    return FaithfulTransformer(sizes, **given, key=jax.random.key(0))


def make(**changed):
    """Return a small network whose biases and scales matter and whose heads are not small."""
    heads = Sizes(NUM_FEATURES, NUM_VALUES, NUM_ACTIONS, NUM_BACKWARD, flow_head=True, child_flow_head=True)
    policy = fresh(heads, **SIZES | changed)
    leaves, structure = jax.tree.flatten(policy)
    rng = np.random.default_rng(1)
    return jax.tree.unflatten(structure, [leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])


def in_loops(policy, tokens):
    """The logits after each prefix, one token at a time in float64."""
    table = np.asarray(policy.tokens, np.float64)
    hidden = [table[token] + position(place, table.shape[1]) for place, token in enumerate(tokens)]
    for block in policy.blocks:
        pairs = zip(hidden, attention(block, hidden), strict=True)
        hidden = [normalise(block.attention_norm, vector + update) for vector, update in pairs]
        hidden = [normalise(block.feed_forward_norm, vector + feed_forward(block, vector)) for vector in hidden]
    for layer in policy.hidden:
        hidden = [np.maximum(affine(layer, vector), 0.0) for vector in hidden]
    return np.stack([affine(policy.heads.forward, vector) for vector in hidden])


def test_unroll_and_scanned_steps_are_the_loops():
    policy, tokens = make(), [2, 0, 1, 1, 0]
    observations = prefixes(tokens, 6)
    expected = in_loops(policy, [START, *tokens])
    assert np.std(expected) > 0.1
    outputs = [unroll(policy, observations), jax.jit(lambda it: scan_unroll(policy, it))(observations)]
    for output in outputs:
        np.testing.assert_allclose(output.forward_logits, expected, atol=5e-5)
    for one, two in zip(*map(jax.tree.leaves, outputs), strict=True):
        np.testing.assert_allclose(one, two, atol=5e-5)
    assert len(jax.tree.leaves(outputs[0])) == 4


def test_what_comes_later_changes_nothing_before_it():
    policy = make()
    one, two = (unroll(policy, prefixes(tokens, 6)).forward_logits for tokens in ([2, 0, 1, 1, 0], [2, 0, 0, 2, 2]))
    np.testing.assert_allclose(one[:3], two[:3], atol=1e-6)
    assert np.abs(np.asarray(one[3:] - two[3:])).max() > 1e-3


def test_residuals_and_a_smaller_cache_give_the_same():
    policy, tokens = make(), [2, 0, 1, 1, 0]
    observations = prefixes(tokens, 6)

    def kept(carry, observation):
        output, carry, residuals = policy.step_with_residuals(carry, observation)
        return carry, (output, residuals)

    start = policy.grow_cache(policy.start(), 6)
    assert start[0].keys.shape == (3, 8, 6) and policy.has_growing_memory
    assert policy.grow_cache(policy.start(), 4)[0].keys.shape == (3, 8, 4)
    _, (stepped, residuals) = jax.lax.scan(kept, start, observations)
    again = eqx.filter_jit(lambda: policy.unroll_from_residuals(observations, residuals))()
    np.testing.assert_allclose(again.forward_logits, unroll(policy, observations).forward_logits, atol=5e-5)
    np.testing.assert_allclose(stepped.forward_logits, again.forward_logits, atol=5e-5)


def test_the_published_sizes_and_positions_that_are_no_parameters():
    policy = jax.eval_shape(lambda: FaithfulTransformer(Sizes(60, 21, 21), key=jax.random.key(0)))
    block = 3 * (64 * 512 + 512) + (512 * 64 + 64) + 2 * (64 * 64 + 64) + 2 * 2 * 64
    head = (64 * 256 + 256) + (256 * 256 + 256) + (256 * 21 + 21)
    assert sum(leaf.size for leaf in jax.tree.leaves(policy)) == 21 * 64 + 3 * block + head
    new = fresh(Sizes(NUM_FEATURES, NUM_VALUES, NUM_ACTIONS), **SIZES)
    assert not (new.has_backward_head or new.has_flow_head or new.has_child_flow_head)
    logits = unroll(new, prefixes([2, 0, 1, 1, 0], 6)).forward_logits
    assert float(jnp.abs(logits).max()) < 0.1, "the first policy is nearly uniform"


def test_bad_sizes_and_observations_say_what_to_do():
    with pytest.raises(
        ValueError, match="heads must be a whole number of at least 1, got 0. The published network has 3 layers, width 64"
    ):
        make(heads=0)
    with pytest.raises(ValueError, match='precision must be one of "f32", "bf16"'):
        make(precision="f64")
    env = Hypergrid(2, 4)
    policy = make()
    with pytest.raises(ValueError, match="from a Prefix, which sequence environments observe"):
        policy.step(policy.start(), env.observe(env.reset()))
