"""The published biological tasks: their numbers, tgm T10 on their environments, and the encoder against plain loops."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks._paper.tasks.data import AMP, GFP, UTR
from benchmarks._paper.tasks.fit import Encoder, make_encoder, raw_scores, token_array
from tests.paper_tasks.small import SMALL_AMP, random_texts
from tests.reference.encoder import score

from narrows.envs import Sequence

TASKS = pytest.mark.parametrize("task", [UTR, AMP, GFP], ids=lambda task: task.name)


def loud(encoder, seed=1):
    """Return an encoder whose biases and scales matter."""
    leaves, structure = jax.tree.flatten(encoder)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(structure, [leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])


# --- tgm T10: the environments ---


def legal(task, length, is_done):
    """The rules of tgm 5.1 in words: letters below the longest length, the end from the shortest on, nothing when done."""
    letters = [not is_done and length < task.max_length] * len(task.alphabet)
    return [*letters, not is_done and length >= task.min_length]


@TASKS
def test_t10_the_masks_at_both_ends_of_the_lengths_and_after_the_end(task):
    env = task.environment()
    mask, step = jax.jit(env.action_mask), jax.jit(env.step)
    assert (env.num_actions, env.max_steps) == (len(task.alphabet) + 1, task.max_length + 1)
    state = env.reset()
    for length in range(task.max_length + 1):
        assert int(state.length) == length
        assert mask(state).tolist() == legal(task, length, is_done=False)
        if legal(task, length, is_done=False)[-1]:
            ended = step(state, jnp.asarray(env.num_tokens))
            assert bool(ended.is_done) and int(ended.length) == length, "the end does not count as length"
            assert not mask(ended).any() and mask(ended).tolist() == legal(task, length, is_done=True)
        state = step(state, jnp.asarray(length % env.num_tokens))


def test_the_published_numbers_are_those_of_the_specification():
    assert [(task.embed, task.layers, task.heads) for task in (AMP, GFP, UTR)] == [(64, 4, 8), (128, 3, 8), (64, 4, 8)]
    assert [(task.batch, task.learning_rate) for task in (AMP, GFP, UTR)] == [(256, 1e-4), (128, 1e-5), (128, 1e-4)]
    assert [len(task.alphabet) + 3 for task in (AMP, GFP, UTR)] == [23, 23, 7]
    assert [(task.min_length, task.max_length) for task in (AMP, GFP, UTR)] == [(14, 60), (237, 237), (50, 50)]
    for task in (AMP, GFP, UTR):
        assert (task.weight_decay, task.max_epochs, task.patience, task.validation_fraction) == (1e-6, 250, 5, 0.2)
    assert dataclasses.replace(AMP, min_length=12).environment() == Sequence(AMP.alphabet, 12, 60)
    assert (AMP.readable.min_length, GFP.readable.min_length) == (1, 237)


# --- the encoder ---


def closed_form(num_letters, embed, layers, heads):
    inner = heads * embed
    block = 3 * (embed * inner + inner) + (inner * embed + embed) + 2 * (embed * embed + embed) + 2 * 2 * embed
    readout = (embed * 4 * embed + 4 * embed) + (16 * embed * embed + 4 * embed) + (4 * embed + 1)
    return (num_letters + 3) * embed + layers * block + readout


@pytest.mark.parametrize("task", [UTR, AMP, GFP, SMALL_AMP], ids=["UTR", "AMP", "GFP", "small"])
def test_the_number_of_parameters_is_the_closed_form(task):
    encoder = jax.eval_shape(lambda: make_encoder(task, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(encoder)) == closed_form(
        len(task.alphabet), task.embed, task.layers, task.heads
    )


def test_token_arrays_are_the_published_ones():
    env = SMALL_AMP.environment()
    states = env.from_text(["ACDEF", "YYYYYYYYY"])
    letters = "ACDEFGHIKLMNPQRSTVWY"
    expected = [[0, *(3 + letters.index(letter) for letter in "ACDEF"), 2, 1, 1, 1, 1], [0, *[22] * 9, 2]]
    assert token_array(states.tokens, states.length).tolist() == expected


@pytest.mark.slow("compares with loops; padding, order, length and the number of parameters guard what is read")
def test_the_encoder_is_that_of_the_loops_which_know_no_padding():
    encoder = loud(Encoder(20, embed=8, layers=2, heads=3, key=jax.random.key(0)))
    objects = random_texts(SMALL_AMP, 12)
    states = SMALL_AMP.environment().from_text(objects)
    expected = [score(encoder, text, SMALL_AMP.alphabet) for text in objects]
    assert np.std(expected) > 0.1 and len({len(text) for text in objects}) > 3
    np.testing.assert_allclose(raw_scores(encoder, states.tokens, states.length), expected, rtol=1e-4, atol=1e-4)


def test_t10_extra_padding_and_what_stands_in_it_change_nothing():
    encoder = loud(Encoder(20, embed=8, layers=2, heads=3, key=jax.random.key(0)))
    states = SMALL_AMP.environment().from_text(random_texts(SMALL_AMP, 12))
    expected = raw_scores(encoder, states.tokens, states.length)
    for fill in (20, 0):  # padding, and letters that lie beyond the end
        wider = jnp.pad(states.tokens, ((0, 0), (0, 6)), constant_values=fill)
        beyond = jnp.arange(wider.shape[1]) >= states.length[:, None]
        np.testing.assert_allclose(
            raw_scores(encoder, jnp.where(beyond, fill, wider), states.length), expected, rtol=1e-5, atol=1e-5
        )
    summed = lambda table: eqx.tree_at(lambda it: it.tokens, encoder, table)(states.tokens, states.length).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(summed))
    rows = np.abs(np.asarray(gradient(encoder.tokens))).sum(axis=1)
    assert rows[1] == 0.0 and rows[0] > 0.0 and rows[2] > 0.0, "the padding's vector is never read"


def test_letters_their_order_and_the_length_all_count():
    encoder = Encoder(4, embed=8, layers=1, heads=2, key=jax.random.key(2))
    env = Sequence("ACGT", 1, 8)
    states = env.from_text(["ACGT", "TGCA", "ACG", "ACGA", "A", "AA"])
    assert len(np.unique(np.asarray(raw_scores(encoder, states.tokens, states.length)).round(5))) == 6


@pytest.mark.slow("compiles the encoder three times; the loops guard its scores")
def test_large_batches_are_evaluated_in_parts_with_the_same_result(monkeypatch):
    encoder = make_encoder(SMALL_AMP, jax.random.key(0))
    assert encoder.rows_at_once(237) == 2**26 // (2 * 239**2)
    states = SMALL_AMP.environment().from_text(random_texts(SMALL_AMP, 23))
    at_once = raw_scores(encoder, states.tokens, states.length)[:22]
    monkeypatch.setattr("benchmarks._paper.tasks.fit._MAX_SCORES", 5 * 2 * 11**2)
    assert encoder.rows_at_once(9) == 5
    # Another number of rows, so that nothing compiled before is used again.
    in_parts = jax.jit(lambda tokens, lengths: raw_scores(encoder, tokens, lengths))
    rows = (states.tokens[:22], states.length[:22])
    np.testing.assert_allclose(in_parts(*rows), at_once, rtol=1e-5, atol=1e-5)
    assert "i32[5,5,9]" in str(jax.make_jaxpr(in_parts)(*rows)), "five parts of five rows"


@pytest.mark.slow("draws the largest encoder; the number of parameters guards its sizes")
def test_initial_weights_have_the_published_variance():
    encoder = make_encoder(GFP, jax.random.key(0))
    block = encoder.blocks[1]
    for layer, scale in [
        *((it, 2 / 3) for it in (block.project, block.merge, block.up, block.down)),
        (encoder.readout[1], 1.0),
    ]:
        fan_in = layer.weight.shape[0]
        assert float(layer.weight.std()) == pytest.approx(math.sqrt(scale / fan_in), rel=0.05)
        assert float(jnp.abs(layer.weight).max()) <= 2.0 * math.sqrt(scale / fan_in) / 0.8796 + 1e-6
        assert not layer.bias.any()
    assert float(jnp.abs(encoder.tokens).max()) <= 2.0
