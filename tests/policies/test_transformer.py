import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.policies.cases import START, make_loud, prefixes
from tests.reference.decoder import forward_logits

from narrows.envs import Hypergrid
from narrows.policies import Sizes, Transformer, sizes_of
from narrows.policies.attention import attend, causal_mask
from narrows.policies.base import scan_unroll
from narrows.policies.transformer import sinusoids


@eqx.filter_jit
def unrolled(policy, observations):
    return policy.unroll(observations)


@eqx.filter_jit
def scanned(policy, observations):
    return scan_unroll(policy, observations)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_it_is_the_decoder_of_the_reference(norm):
    policy = Transformer(Sizes(5, 4, 3), layers=2, width=12, heads=3, feed_forward=20, norm=norm, key=jax.random.key(0))
    # Biases and scales that matter, heads that are not small.
    leaves, structure = jax.tree.flatten(policy)
    rng = np.random.default_rng(1)
    policy = jax.tree.unflatten(structure, [leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])
    tokens = [2, 0, 1, 1, 0]
    expected = forward_logits(policy, [START, *tokens])
    assert np.std(expected) > 0.1
    observations = prefixes(tokens, 6)
    for run in (unrolled, scanned):
        np.testing.assert_allclose(run(policy, observations).forward_logits, expected, atol=2e-5)


def test_long_sequences_of_a_large_alphabet_agree_in_both_ways():
    policy = Transformer(Sizes(60, 257, 256), layers=3, key=jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (60,), 0, 256).tolist()
    observations = prefixes(tokens, 62, 60, 256)
    left = unrolled(policy, observations).forward_logits
    right = scanned(policy, observations).forward_logits
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_the_cache_holds_each_position_once_and_nothing_ahead():
    policy, observations = make_loud("transformer-pre"), prefixes([1, 2])
    carries = jax.jit(lambda it: jax.lax.scan(lambda c, o: (policy.step(c, o)[1],) * 2, policy.start(), it)[1])(observations)
    is_written = np.abs(np.asarray(carries[1].keys)).sum(axis=(1, 2)) > 0
    expected = [[place <= min(time, 2) for place in range(6)] for time in range(is_written.shape[0])]
    np.testing.assert_array_equal(is_written, expected)


def test_step_and_unroll_have_the_same_gradient():
    policy, observations = make_loud("transformer-pre"), prefixes([1, 0, 2, 1])

    def gradient(run):
        loss = lambda it: jnp.sum(jnp.tanh(run(it, observations).forward_logits))  # noqa: E731
        return jax.tree.leaves(eqx.filter_jit(eqx.filter_grad(loss))(policy))

    for first, second in zip(gradient(Transformer.unroll), gradient(scan_unroll), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4, rtol=1e-3)


@pytest.mark.slow("150 steps; the reference's decoder, and the gradient of both ways, guard what it can learn")
def test_it_learns_to_look_back():
    """The first letter again at every later step: unlearnable from the newest letter and its position alone."""
    length = 6
    policy = Transformer(Sizes(length, 4, 3), layers=1, width=16, heads=2, feed_forward=16, key=jax.random.key(0))
    optimizer = optax.adam(1e-2)

    def batch_of(key):
        tokens = jax.random.randint(key, (32, length), 0, 3)
        last = jnp.concatenate([jnp.full((32, 1), 3), tokens[:, :-1]], axis=1)
        return tokens, last

    def logits_of(model, last):
        def one(newest):
            seen = prefixes([0] * length, length, length)
            return model.unroll(seen._replace(last=newest)).forward_logits

        return jax.vmap(one)(last)

    def loss_of(model, key):
        tokens, last = batch_of(key)
        target = jnp.broadcast_to(tokens[:, :1], (32, length - 1))
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits_of(model, last)[:, 1:], target))

    def update(training, key):
        policy, state = training
        updates, state = optimizer.update(eqx.filter_grad(loss_of)(policy, key), state)
        return (eqx.apply_updates(policy, updates), state), None

    keys = jax.random.split(jax.random.key(1), 150)
    policy, _ = jax.jit(lambda training: jax.lax.scan(update, training, keys)[0])(
        (policy, optimizer.init(eqx.filter(policy, eqx.is_array)))
    )
    tokens, last = batch_of(jax.random.key(2))
    guesses = jnp.argmax(logits_of(policy, last)[:, 1:], axis=-1)
    assert float(jnp.mean(guesses == tokens[:, :1])) > 0.97


def test_attention_is_the_softmax_of_the_allowed_scores():
    query, keys, values = (jax.random.normal(jax.random.key(it), (2, 4, 3)) * 20 for it in range(3))
    mask = causal_mask(jnp.arange(4)[:, None])
    scores = jnp.where(mask, jnp.einsum("htd,hsd->hts", query, keys), -jnp.inf)
    expected = jnp.einsum("hts,hsd->htd", jax.nn.softmax(scores), values)
    np.testing.assert_allclose(attend(query, keys, values, mask), expected, rtol=1e-4, atol=1e-4)


def test_positions_start_as_sinusoids():
    table = np.asarray(sinusoids(9, 6))
    for place in (0, 1, 8):
        angles = [place / 10_000 ** (2 * pair / 6) for pair in range(3)]
        np.testing.assert_allclose(table[place], [*np.sin(angles), *np.cos(angles)], atol=1e-6)
    assert sinusoids(4, 5).shape == (4, 5)


@pytest.mark.parametrize("method", ["step", "unroll"])
def test_bare_features_are_refused_with_the_policies_that_fit(method):
    env = Hypergrid(2, 4)
    policy = Transformer(sizes_of(env), layers=1, width=8, heads=1, key=jax.random.key(0))
    observation = env.observe(env.reset())
    with pytest.raises(ValueError, match="Transformer reads .* Prefix.* Use the MLP, or Tabular"):
        if method == "step":
            policy.step(policy.start(), observation)
        else:
            policy.unroll(observation[None])


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"layers": 0}, "layers must be a whole number of at least 1, got 0"),
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
        ({"heads": 0}, "heads must be a whole number of at least 1, got 0"),
        ({"feed_forward": -1}, "feed_forward must be a whole number of at least 1, got -1"),
        ({"head_width": 0}, "head_width must be a whole number of at least 1, got 0"),
        ({"width": 30, "heads": 8}, "heads must divide width, got heads 8 and width 30. .* give head_width"),
        ({"norm": "layer"}, 'norm must be one of "pre", "post", got \'layer\''),
        ({"activation": "swish"}, "activation must be one of"),
    ],
)
def test_impossible_settings_are_refused(given_settings, message):
    with pytest.raises(ValueError, match=message):
        Transformer(Sizes(4, 4, 4), **given_settings, key=jax.random.key(0))
