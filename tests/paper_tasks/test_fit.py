"""Fitting a published proxy: what one epoch does, which epoch is kept, on what scale its scores are; and its files."""

import dataclasses
import hashlib
import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from benchmarks._paper.tasks import fit as module
from benchmarks._paper.tasks.encoder import make_encoder, raw_scores
from benchmarks._paper.tasks.files import load, save
from benchmarks._paper.tasks.fit import EpochDone, fit_published
from benchmarks._paper.tasks.stand_ins import stand_in
from tests.paper_tasks.small import SMALL_AMP, SMALL_UTR, random_texts

from narrows.envs.sequence import SequenceState
from narrows.proxies.files import MANIFEST
from narrows.rewards import AbstractReward
from narrows.storage.pytree import tree_hash

# --- fitting ---


@pytest.fixture(scope="module")
def fitted():
    made = stand_in(SMALL_AMP, 1000, seed=1)
    seen: list[EpochDone] = []
    task = dataclasses.replace(SMALL_AMP, max_epochs=12, patience=3)
    return made, fit_published(task, made.data.sequences, made.data.targets, jax.random.key(0), progress=seen.append), seen


def test_the_loss_falls_on_the_stand_in_and_progress_tells_it(fitted):
    made, (reward, report), seen = fitted
    labels = made.data.targets
    constant = -np.mean(labels) * np.log(np.mean(labels)) - np.mean(1 - labels) * np.log(np.mean(1 - labels))
    assert report.train_losses[-1] < 0.8 * report.train_losses[0]
    assert min(report.validation_losses) < 0.9 * constant, "better than knowing the share of each class"
    assert report.accuracy is not None and report.accuracy > 0.7 and report.spearman is not None and report.spearman > 0.4
    assert [epoch.done for epoch in seen] == list(range(1, len(report.train_losses) + 1))
    assert [epoch.validation_loss for epoch in seen] == list(report.validation_losses)
    assert report.num_train + report.num_validation == report.num_rows == 1000
    assert report.num_validation == 200
    assert isinstance(reward, AbstractReward)


def test_early_stopping_keeps_the_best_epoch_and_waits_as_long_as_it_should(fitted):
    _, (_, report), _ = fitted
    best = int(np.argmin(report.validation_losses)) + 1
    assert report.best_epoch == best
    assert len(report.validation_losses) == min(12, best + 3 + 1)


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
    made, (reward, report), _ = fitted
    rows = split_of(1000, 0.2, jax.random.key(0))
    env = SMALL_AMP.environment()
    held = env.from_text([made.data.sequences[row] for row in rows])
    raw = np.asarray(raw_scores(reward.encoder, held.tokens, held.length), np.float64)
    np.testing.assert_allclose([report.score_mean, report.score_std], [raw.mean(), raw.std()], rtol=1e-5)
    np.testing.assert_allclose([report.score_min, report.score_max], [raw.min(), raw.max()], rtol=1e-5)
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
    assert report.accuracy == pytest.approx(np.mean((raw > 0) == labels))


def test_a_regression_learns_standardised_targets():
    """The same data on another scale lead to the same proxy, for raw scores are of standardised targets."""
    made = stand_in(SMALL_UTR, 60, seed=3)
    task = dataclasses.replace(SMALL_UTR, max_epochs=2)
    plain = fit_published(task, made.data.sequences, made.data.targets, jax.random.key(0))
    scaled = fit_published(task, made.data.sequences, 512.0 * made.data.targets, jax.random.key(0))
    assert scaled.report.target_std == pytest.approx(512.0 * plain.report.target_std)
    assert tree_hash(plain.reward.encoder) == tree_hash(scaled.reward.encoder)
    assert plain.report.accuracy is None
    assert plain.report.validation_losses[0] < 3.0, "targets of unit variance"


def adamw(leaf, gradient, moments, step, rate=1e-2, decay=1e-6):
    """Return a parameter after one step of AdamW (Loshchilov and Hutter 2019) and its moments, float64."""
    first, second = 0.9 * moments[0] + 0.1 * gradient, 0.999 * moments[1] + 0.001 * gradient**2
    change = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return leaf - rate * (change + decay * leaf), (first, second)


def test_one_epoch_is_adamw_on_batches_that_hold_every_row_once():
    """A second way: gradients of weighted losses over all rows, and the optimiser's formula, step by step."""
    made = stand_in(SMALL_UTR, 50, seed=5)
    states = SMALL_UTR.environment().from_text(made.data.sequences)
    targets = (made.data.targets - made.data.targets.mean()) / made.data.targets.std()
    rows = module._Rows(states.tokens, states.length, jnp.asarray(targets, jnp.float32))
    train, held = (module._Rows(*(leaf[side] for leaf in rows)) for side in (slice(0, 40), slice(40, 50)))
    encoder = make_encoder(SMALL_UTR, jax.random.key(1))
    recipe = module._Recipe("regression", 32, 1e-2, 1e-6)
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, y: (s[:5], y[:5]), "5 sequences are too few"),
        (lambda s, y: (s, y[:-1]), r"one target for each of 20 sequences, got an array of shape \(19,\)"),
        (lambda s, y: (s, np.where(np.arange(20) == 3, 0.5, y)), "target 3 is 0.5; the targets of AMP must be 0 or 1"),
        (lambda s, y: (s, np.where(np.arange(20) == 4, np.nan, y)), "target 4 is nan"),
        (lambda s, y: (s, np.ones(20)), "every target is 1, so there is nothing to learn"),
        (lambda s, y: (["AB", *s[1:]], y), "letter 'B' at position 2"),
        (lambda s, y: (["A" * 10, *s[1:]], y), r"object 0 .*expected a text of 1 to 9 letters"),
    ],
)
def test_data_that_cannot_be_learned_from_are_named(change, message):
    sequences, targets = change(random_texts(SMALL_AMP, 20), (np.arange(20) % 2).astype(float))
    with pytest.raises(ValueError, match=message):
        fit_published(SMALL_AMP, sequences, targets, jax.random.key(0))


# --- as a reward ---


def test_it_is_fused_into_a_compiled_loop(fitted):
    made, (reward, _), _ = fitted
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
    made, (reward, report), _ = fitted
    assert save(reward, report, tmp_path / "proxy") == tmp_path / "proxy"
    again = load(tmp_path / "proxy")
    assert again.report == report
    assert again.reward.task == reward.task
    assert tree_hash(again.reward) == tree_hash(reward)
    env = SMALL_AMP.environment()
    states = env.from_text(made.data.sequences[:6])
    np.testing.assert_array_equal(again.reward(states), reward(states))
    assert len(list((tmp_path / "proxy").iterdir())) == 2
    # An older proxy is replaced, and its weights go.
    save(eqx.tree_at(lambda it: it.mean, reward, jnp.asarray(9.0, jnp.float32)), report, tmp_path / "proxy")
    assert float(load(tmp_path / "proxy").reward.mean) == 9.0
    assert len(list((tmp_path / "proxy").iterdir())) == 2


def break_manifest(change):
    def apply(folder):
        path = folder / MANIFEST
        manifest = json.loads(path.read_text())
        del manifest["checksum"]  # as of a folder that was made so
        change(manifest)
        path.write_text(json.dumps(manifest))

    return apply


def weights_of(folder):
    return next(folder.glob("weights-*.safetensors"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "is no proxy: .*manifest.json is missing. Make one with `fit_published`"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "not JSON"),
        (break_manifest(lambda m: m.update(format="narrows-proxy")), "no manifest of a proxy of this kind"),
        (break_manifest(lambda m: m.update(version=2)), "has version 2 and this Narrows reads 1"),
        (break_manifest(lambda m: m.pop("report")), r"fields \['report'\] are missing or unknown"),
        (break_manifest(lambda m: m["report"].update(seconds="long")), "the report's seconds is 'long'"),
        (break_manifest(lambda m: m["report"].update(best_epoch=99)), "best_epoch is 99"),
        (break_manifest(lambda m: m["task"].update(embed="8")), "the task's embed is '8', expected int"),
        (break_manifest(lambda m: m["task"].pop("embed")), r"the task lacks \['embed'\]"),
        (break_manifest(lambda m: m["task"].update(heads=0)), "manifest.json: heads must be a whole number"),
        (
            break_manifest(lambda m: m["task"].update(embed=10)),
            r"leaf \.encoder\.tokens is float32\[23, 8\], expected float32\[23",
        ),
        (break_manifest(lambda m: m.update(weights_sha256="f" * 64)), "is missing, though manifest.json names it"),
        (lambda folder: weights_of(folder).write_bytes(b"\0" * 64), "is damaged: its SHA-256"),
    ],
)
def test_damaged_folders_are_refused(fitted, tmp_path, damage, message):
    _, (reward, report), _ = fitted
    folder = save(reward, report, tmp_path / "proxy")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_weights_that_do_not_fit_the_manifest_are_named(fitted, tmp_path):
    _, (reward, report), _ = fitted
    folder = save(reward, report, tmp_path / "proxy")
    stored = safetensors.numpy.load(weights_of(folder).read_bytes())
    del stored[".std"]
    payload = safetensors.numpy.save({**stored, "more": np.zeros(1, np.float32)})
    sha256 = hashlib.sha256(payload).hexdigest()
    (folder / f"weights-{sha256[:16]}.safetensors").write_bytes(payload)
    break_manifest(lambda m: m.update(weights_sha256=sha256))(folder)
    with pytest.raises(ValueError, match="leaf .std is missing; leaf more is not one of this proxy's"):
        load(folder)


def test_a_report_with_losses_that_are_not_finite_survives_json(fitted):
    report = dataclasses.replace(
        fitted[1].report, train_losses=(math.inf, 1.0), validation_losses=(math.nan, 2.0), best_epoch=2
    )
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    again = type(report).from_dict(plain)
    assert again.validation_losses[1] == 2.0 and math.isnan(again.validation_losses[0])
    assert "kept" in again.summary() and "accuracy" in again.summary()
