"""Fitting a published proxy: what one epoch does, which epoch is kept, on what scale its scores are; and its files."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks._paper.tasks import fit as module
from benchmarks._paper.tasks.fit import fit_published, load, make_encoder, raw_scores, save
from benchmarks._paper.tasks.stand_ins import stand_in
from tests.paper_tasks.small import SMALL_AMP, SMALL_UTR

from narrows.envs.sequence import SequenceState
from narrows.rewards import AbstractReward
from narrows.storage.pytree import tree_hash

# --- fitting ---


@pytest.fixture(scope="module")
def fitted():
    made = stand_in(SMALL_AMP, 200, seed=1)
    task = dataclasses.replace(SMALL_AMP, layers=1, max_epochs=12, patience=3)
    return made, fit_published(task, made.data.sequences, made.data.targets, jax.random.key(0))


@pytest.mark.slow("learns from a thousand rows; one epoch against AdamW by hand guards the training")
def test_the_loss_falls_on_the_stand_in():
    made = stand_in(SMALL_AMP, 1000, seed=1)
    task = dataclasses.replace(SMALL_AMP, max_epochs=12, patience=3)
    reward, report = fit_published(task, made.data.sequences, made.data.targets, jax.random.key(0))
    labels = made.data.targets
    constant = -np.mean(labels) * np.log(np.mean(labels)) - np.mean(1 - labels) * np.log(np.mean(1 - labels))
    assert report.train_losses[-1] < 0.8 * report.train_losses[0]
    assert min(report.validation_losses) < 0.9 * constant, "better than knowing the share of each class"
    assert report.spearman is not None and report.spearman > 0.4
    assert len(report.train_losses) == len(report.validation_losses)
    assert isinstance(reward, AbstractReward)


def test_early_stopping_keeps_the_best_epoch_and_waits_as_long_as_it_should(fitted):
    _, (_, report) = fitted
    best = int(np.argmin(report.validation_losses)) + 1
    assert report.best_epoch == best
    assert len(report.validation_losses) == min(12, best + 3 + 1)


@pytest.mark.slow("fits twice; early stopping and the scale of the scores guard the choice of the epoch")
def test_the_parameters_of_the_best_epoch_are_the_ones_returned():
    """A learning rate that ruins the network after a while: what comes back is what was best, not what was last."""
    made = stand_in(SMALL_UTR, 60, seed=3)
    task = dataclasses.replace(SMALL_UTR, learning_rate=0.3, max_epochs=9, patience=8)
    reward, report = fit_published(task, made.data.sequences, made.data.targets, jax.random.key(1))
    assert report.best_epoch < 9
    shorter = dataclasses.replace(task, max_epochs=report.best_epoch)
    again, short_report = fit_published(shorter, made.data.sequences, made.data.targets, jax.random.key(1))
    assert short_report.validation_losses == report.validation_losses[: report.best_epoch]
    assert tree_hash((reward.encoder, reward.mean, reward.std)) == tree_hash((again.encoder, again.mean, again.std))


def split_of(num, fraction, key):
    """The rows that judge: the first of a random order drawn with the first of the fit's three keys."""
    return np.sort(np.asarray(jax.random.permutation(jax.random.split(key, 3)[0], num))[: round(fraction * num)])


def test_t10_the_scale_is_that_of_the_raw_scores_of_the_validation_sequences(fitted):
    made, (reward, report) = fitted
    rows = split_of(200, 0.2, jax.random.key(0))
    env = SMALL_AMP.environment()
    held = env.from_text([made.data.sequences[row] for row in rows])
    raw = np.asarray(raw_scores(reward.encoder, held.tokens, held.length), np.float64)
    np.testing.assert_allclose([report.score_mean, report.score_std], [raw.mean(), raw.std()], rtol=1e-5)
    assert report.score_max == pytest.approx(raw.max(), rel=1e-5)
    phi = np.asarray(reward(held))
    np.testing.assert_allclose([phi.mean(), phi.std()], [0.0, 1.0], atol=1e-5)
    assert report.highest_reward == pytest.approx(math.exp(phi.max()), rel=1e-4)
    # The other way to standardise, from the objects themselves, gives the same reward.
    everything = env.from_text(made.data.sequences)
    scores = np.asarray(raw_scores(reward.encoder, everything.tokens, everything.length), np.float64)
    np.testing.assert_allclose((scores - raw.mean()) / raw.std(), reward(everything), atol=1e-4)
    # The validation loss belongs to the same rows and the same parameters.
    labels = made.data.targets[rows]
    loss = np.mean(np.log1p(np.exp(raw)) - labels * raw)
    assert report.validation_losses[report.best_epoch - 1] == pytest.approx(loss, rel=1e-4)


@pytest.mark.slow("fits twice; one epoch against AdamW by hand guards the loss")
def test_a_regression_learns_standardised_targets():
    """The same data on another scale lead to the same proxy, for raw scores are of standardised targets."""
    made = stand_in(SMALL_UTR, 60, seed=3)
    task = dataclasses.replace(SMALL_UTR, max_epochs=2)
    plain = fit_published(task, made.data.sequences, made.data.targets, jax.random.key(0))
    scaled = fit_published(task, made.data.sequences, 512.0 * made.data.targets, jax.random.key(0))
    assert tree_hash(plain.reward.encoder) == tree_hash(scaled.reward.encoder)
    assert plain.report.validation_losses[0] < 3.0, "targets of unit variance"


def adamw(leaf, gradient, moments, step, rate=1e-2, decay=1e-6):
    """Return a parameter after one step of AdamW (Loshchilov and Hutter 2019) and its moments, float64."""
    first, second = 0.9 * moments[0] + 0.1 * gradient, 0.999 * moments[1] + 0.001 * gradient**2
    change = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return leaf - rate * (change + decay * leaf), (first, second)


@pytest.mark.slow("compiles an epoch and its gradients; losses, scale and early stopping of a whole fit guard the loop")
def test_one_epoch_is_adamw_on_batches_that_hold_every_row_once():
    """A second way: gradients of weighted losses over all rows, and the optimiser's formula, step by step."""
    made = stand_in(SMALL_UTR, 50, seed=5)
    states = SMALL_UTR.environment().from_text(made.data.sequences)
    targets = (made.data.targets - made.data.targets.mean()) / made.data.targets.std()
    rows = module.Rows(states.tokens, states.length, jnp.asarray(targets, jnp.float32))
    train, held = (module.Rows(*(leaf[side] for leaf in rows)) for side in (slice(0, 40), slice(40, 50)))
    encoder = make_encoder(SMALL_UTR, jax.random.key(1))
    recipe = module.Recipe("regression", 32, 1e-2, 1e-6)
    state, loss, scores, held_loss = module.run_epoch(recipe, module.start(recipe, encoder), jax.random.key(7), train, held)

    @jax.jit
    def graded(encoder, weight):
        return jax.value_and_grad(lambda it: weight @ (it(train.tokens, train.lengths) - train.targets) ** 2)(encoder)

    order = np.asarray(jax.random.permutation(jax.random.key(7), 40))
    leaves, structure = jax.tree.flatten(encoder)
    moments, total = [(0.0, 0.0)] * len(leaves), 0.0
    for step, part in enumerate((order[:32], order[32:]), start=1):
        value, gradient = graded(jax.tree.unflatten(structure, leaves), jnp.zeros(40).at[part].set(1.0 / len(part)))
        total += float(value) * len(part)
        pairs = [
            adamw(np.asarray(leaf, np.float64), np.asarray(slope, np.float64), moment, step)
            for leaf, slope, moment in zip(leaves, jax.tree.leaves(gradient), moments, strict=True)
        ]
        leaves, moments = [jnp.asarray(leaf, jnp.float32) for leaf, _ in pairs], [moment for _, moment in pairs]
    assert float(loss) == pytest.approx(total / 40, rel=1e-4)
    assert float(held_loss) == pytest.approx(np.mean((np.asarray(scores) - np.asarray(held.targets)) ** 2), rel=1e-4)
    expected = jax.tree.unflatten(structure, leaves)
    np.testing.assert_allclose(scores, raw_scores(expected, held.tokens, held.lengths), atol=1e-3)
    # A bias of the keys moves no weight of attention: its gradient is rounding, and AdamW makes whole steps of it.
    without = [
        eqx.tree_at(lambda it: [block.project.bias for block in it.blocks], it, [0.0, 0.0]) for it in (state.encoder, expected)
    ]
    for one, two in zip(*map(jax.tree.leaves, without), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4)


# --- as a reward ---


def test_it_is_fused_into_a_compiled_loop(fitted):
    made, (reward, _) = fitted
    env = SMALL_AMP.environment()
    states = env.from_text(made.data.sequences[:6])

    @jax.jit
    def summed(states: SequenceState):
        return jax.lax.scan(lambda total, _: (total + reward(states), None), jnp.zeros(6), None, length=3)[0]

    scores = reward(states)
    assert scores.dtype == jnp.float32 and scores.shape == (6,)
    np.testing.assert_allclose(summed(states), 3.0 * scores, rtol=1e-4, atol=1e-5)


# --- files ---


def test_a_saved_proxy_comes_back_bit_for_bit(fitted, tmp_path):
    made, (reward, report) = fitted
    save(module.Fitted(reward, report), tmp_path / "proxy")
    again = load(tmp_path / "proxy")
    assert again.task == reward.task and tree_hash(again) == tree_hash(reward)
    env = SMALL_AMP.environment()
    states = env.from_text(made.data.sequences[:6])
    np.testing.assert_array_equal(again(states), reward(states))
    assert len(list((tmp_path / "proxy").iterdir())) == 2
    # An older proxy is replaced, and its weights go.
    moved = eqx.tree_at(lambda it: it.mean, reward, jnp.asarray(9.0, jnp.float32))
    save(module.Fitted(moved, report), tmp_path / "proxy")
    assert float(load(tmp_path / "proxy").mean) == 9.0
    assert len(list((tmp_path / "proxy").iterdir())) == 2
