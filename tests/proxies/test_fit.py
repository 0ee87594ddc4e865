"""Fitting: it learns, it is honest about what it holds out, and it refuses what cannot be learned from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
from tests.rewards.proxies import make_quality
from tests.slowly import slowly

from narrows.data import Space, Table
from narrows.proxies.bagging import draw_bags, train_members
from narrows.proxies.fit import _beats_mean, distance_to_nearest, fit
from narrows.proxies.fitted import encode
from narrows.proxies.models.base import Lesson
from narrows.proxies.models.networks import make_networks
from narrows.proxies.splits import cluster_split
from narrows.storage.pytree import tree_hash

SPACE = Space("rna", "ACGU", 8, 8)
NUM = 240
MAX_EPOCHS = 12


def make_table(scores=None, sequences=None):
    """Pairs of G and C in a row anywhere, and a purine in the third place."""
    if sequences is None:
        rng = np.random.default_rng(0)
        sequences = [*dict.fromkeys("".join(row) for row in rng.choice(list("ACGU"), (NUM + 20, 8)))][:NUM]
    if scores is None:
        pairs = [sum(a in "GC" and b in "GC" for a, b in zip(text, text[1:], strict=False)) for text in sequences]
        scores = 100.0 + 10.0 * np.array(pairs) + 15.0 * np.array([text[2] in "AG" for text in sequences])
    return Table("table.csv", tuple(sequences), np.asarray(scores, float), tuple(range(2, len(sequences) + 2)))


def small_fit(table=None, **settings):
    return fit(table or make_table(), SPACE, **{"models": ["ridge-letters", "ridge-words"], "max_distance": 1, **settings})


SEEN = []
"""What the fit of `fitted` tells while it goes on."""


@pytest.fixture(scope="module")
def fitted():
    return small_fit(progress=SEEN.append)


@pytest.fixture(scope="module")
def plain():
    return small_fit(refit=False)


def test_it_predicts_held_out_clusters_on_the_scale_of_the_scores(fitted):
    quality = fitted.quality
    assert quality.spearman > 0.85
    assert quality.rmse < 0.5 * quality.rmse_of_mean
    fresh = make_table(sequences=["".join(row) for row in np.random.default_rng(9).choice(list("ACGU"), (300, 8))])
    mean, std = fitted.proxy.predict(fresh.sequences)
    assert np.sqrt(np.mean((mean - fresh.scores) ** 2)) < 0.5 * fresh.scores.std()
    assert (std > 0).all()


def test_the_figures_are_those_of_the_arrays(fitted):
    quality, table = fitted.quality, make_table()
    error = np.abs(quality.test_truth - quality.test_mean)
    assert quality.rmse == pytest.approx(np.sqrt(np.mean(error**2)))
    assert quality.coverage_1std == np.mean(error <= quality.test_std)
    assert quality.coverage_2std == np.mean(error <= quality.interval_95 * quality.test_std)
    assert 0.4 <= quality.coverage_1std <= 0.95
    assert quality.num_train + quality.num_test == len(table.sequences)
    assert len(quality.test_truth) == quality.num_test
    assert quality.test_distance.min() >= 2  # beyond max_distance = 1


def untimed(quality):
    compared = tuple(dataclasses.replace(one, seconds=0.0) for one in quality.compared)
    return dataclasses.replace(quality, seconds=0.0, compared=compared).to_dict()


def test_same_seed_same_bits(fitted, plain):
    again, other = small_fit(), small_fit(seed=1, refit=False)
    assert tree_hash(again.proxy) == tree_hash(fitted.proxy)
    assert untimed(again.quality) == untimed(fitted.quality)
    assert tree_hash(other.proxy) != tree_hash(plain.proxy)


def held_out_rows(table, plain):
    split = cluster_split(table.sequences, fraction=0.2, max_distance=1, seed=0)
    np.testing.assert_array_equal(table.scores[split.test], plain.quality.test_truth)
    return split.test


def test_the_held_out_scores_influence_nothing(plain):
    """Without the refit, other truths for the held-out rows give the same proxy, statistics and calibration included."""
    table = make_table()
    scores, rows = table.scores.copy(), held_out_rows(table, plain)
    scores[rows] += 1000.0 * np.random.default_rng(3).normal(size=len(rows))
    changed = small_fit(make_table(scores), refit=False)
    assert tree_hash(changed.proxy) == tree_hash(plain.proxy)
    np.testing.assert_array_equal(changed.quality.test_mean, plain.quality.test_mean)
    assert changed.quality.rmse > 100.0


def test_the_refit_learns_from_every_row_and_keeps_the_figures(fitted, plain):
    np.testing.assert_array_equal(plain.quality.test_mean, fitted.quality.test_mean)
    table = make_table()
    held = [table.sequences[row] for row in held_out_rows(table, plain)]
    np.testing.assert_allclose(plain.proxy.predict(held)[0], plain.quality.test_mean, rtol=1e-6)
    assert not np.allclose(fitted.proxy.predict(held)[0], plain.quality.test_mean, rtol=1e-3)
    assert fitted.proxy.offset == pytest.approx(make_table().scores.mean(), rel=1e-15)
    assert float(fitted.proxy.std_scale) == pytest.approx(fitted.quality.std_scale, rel=1e-6)
    assert (fitted.quality.is_refit, plain.quality.is_refit) == (True, False)
    assert "learned once more from all 240 rows" in fitted.quality.description
    assert "is the one these figures belong to" in plain.quality.description


def test_progress_tells_every_model_and_every_stage(fitted):
    stages = [f"comparing models: {name}" for name in ("mean", "ridge-letters", "ridge-words")]
    assert [one.stage for one in SEEN] == [*stages, "judging on clusters set aside", "learning from every row"]
    assert [(one.done, one.at_most) for one in SEEN] == [(done, 5) for done in range(5)]


def test_the_comparison_is_kept_with_what_was_chosen(fitted):
    compared = fitted.quality.compared
    assert [one.name for one in compared] == ["mean", "ridge-letters", "ridge-words"]
    assert sum(one.share for one in compared) == pytest.approx(1.0)
    assert compared[0].share == 0.0
    kept = max(compared, key=lambda one: one.share)
    assert kept.gain == max(one.gain for one in compared)
    assert 0.6 < kept.coverage_1std < 0.75
    lines = fitted.quality.summary().splitlines()
    assert lines[0].startswith("model")
    assert f"{kept.share:.0%}" in lines[1 + [one.name for one in compared].index(kept.name)]
    assert fitted.quality.beats_mean


def test_intervals_are_honest_about_sequences_that_were_never_seen(plain):
    rng = np.random.default_rng(11)
    table = make_table(sequences=["".join(row) for row in rng.choice(list("ACGU"), (400, 8))])
    mean, std = plain.proxy.predict(table.sequences)
    error = np.abs(mean - table.scores)
    assert 0.5 < np.mean(error <= std) < 0.85
    assert np.mean(error <= plain.quality.interval_95 * std) > 0.85


def test_predictions_of_nothing_seldom_beat_the_mean_and_good_ones_do():
    rng = np.random.default_rng(0)
    lesson = Lesson(np.zeros((100, 8), np.int32), rng.normal(size=100), np.ones(100), np.zeros(100, np.int64), SPACE, 0)
    nothing = np.zeros(100)
    by_chance = [_beats_mean(lesson, 0.2 * rng.normal(size=100), nothing) for _ in range(200)]
    assert np.mean(by_chance) < 0.07
    assert _beats_mean(lesson, 0.5 * lesson.scores + 0.5 * rng.normal(size=100), nothing)
    assert make_quality(beats_mean=False).summary().startswith("Caution: this proxy is no better than the mean")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: 100.0 * s + 1000.0,
        *slowly("fits again; another unit and origin at once guard it quickly", lambda s: 0.01 * s, lambda s: s + 1000.0),
    ],
)
def test_units_of_the_score_change_nothing(plain, change):
    other = small_fit(make_table(change(make_table().scores)), refit=False)
    assert [one.share for one in other.quality.compared] == [one.share for one in plain.quality.compared]
    held = make_table().sequences[:50]
    np.testing.assert_allclose(other.proxy.predict(held)[0], change(plain.proxy.predict(held)[0]), rtol=1e-4)


def test_repeated_measurements_weigh_more_and_their_error_is_told(plain):
    counts = np.ones(NUM, np.int64)
    counts[:40] = 9
    repeated = dataclasses.replace(make_table(), counts=counts, measurement_std=2.5)
    found = small_fit(repeated, refit=False)
    assert found.quality.measurement_std == 2.5
    assert "repeated, differs by 2.5 (std)" in found.quality.summary()
    assert tree_hash(found.proxy) != tree_hash(plain.proxy)


def test_how_far_the_proxy_can_be_trusted_is_found(fitted):
    farthest = np.nanmax(fitted.quality.test_distance)
    assert fitted.quality.trusted_distance is not None
    assert 2 <= fitted.quality.trusted_distance <= farthest + 1
    assert "trusted up to" in fitted.quality.summary()


# --- what cannot be fitted ---


@pytest.mark.parametrize(
    ("table", "settings", "match"),
    [
        (make_table(np.full(NUM, 3.5)), {}, "every score is 3.5, so there is nothing to learn"),
        (make_table(sequences=["ACGUACGU", *make_table().sequences[:18]]), {}, "19 rows are too few"),
        (make_table([1.0, np.nan, *range(NUM - 2)]), {}, "1 scores are not finite; the first is nan in row 3"),
        (make_table([1.0, 2.0, np.inf, *range(NUM - 3)]), {}, "the first is inf in row 4"),
        (make_table(range(30), ["ACGUACGU"] * 30), {"max_distance": None}, "not enough different sequences"),
        (make_table(), {"max_distance": 8}, r"Use a smaller max_distance \(now 8\)"),
        (
            make_table(sequences=["ACGUACGUA", *make_table().sequences[:30]]),
            {},
            r"object 0 \('ACGUACGUA'\): expected a text of 8",
        ),
        (make_table(), {"models": ["forest"]}, "models has no 'forest'. Known: mean, ridge-letters"),
        (make_table(), {"models": ["gp-blosum62"]}, "'gp-blosum62' cannot learn from these rows"),
        (make_table(), {"test_fraction": 1.5}, "fraction must be between 0 and 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_cure(table, settings, match):
    with pytest.raises(ValueError, match=match):
        small_fit(table, **settings)


# --- training ---


def test_bags_draw_from_the_allowed_rows_and_validate_out_of_bag():
    allowed = np.arange(10, 70)
    bags = draw_bags(allowed, 100, 4, np.random.default_rng(0))
    assert bags.train.shape == (4, 100)
    for train, validation, weight in zip(*bags, strict=True):
        real = validation[weight > 0]
        assert set(train) | set(real) == set(allowed)
        assert not set(train) & set(validation)
        assert len(real) == len(set(real))
        assert 0.2 < len(real) / 60 < 0.55  # about 1/e
    assert not np.array_equal(bags.train[0], bags.train[1])
    assert draw_bags(np.arange(20), 100, 4, np.random.default_rng(0)).validation.shape == bags.validation.shape


def test_each_member_keeps_its_best_epoch():
    """Labels of noise: the out-of-bag error soon rises, and what is returned must be as good as the best epoch seen."""
    table = make_table()
    tokens = encode(table.sequences, SPACE)
    targets = np.random.default_rng(0).normal(size=NUM)
    bags = draw_bags(np.arange(NUM), NUM, 3, np.random.default_rng(0))
    seen = []
    members = make_networks(SPACE, 3, jax.random.key(0))
    options = {"max_epochs": MAX_EPOCHS, "patience": MAX_EPOCHS}
    best = train_members(members, tokens, targets, bags, jax.random.key(1), progress=seen.append, **options)
    outputs = np.asarray(jax.vmap(lambda one: jax.vmap(one)(jnp.asarray(tokens)))(best))
    errors = [
        np.average((outputs[k][bags.validation[k]] - targets[bags.validation[k]]) ** 2, weights=bags.weight[k])
        for k in range(3)
    ]
    assert np.mean(errors) < min(one.validation for one in seen)
    assert seen[-1].validation > 1.1 * np.mean(errors)


def test_training_stops_when_nothing_improves():
    table = make_table()
    bags = draw_bags(np.arange(NUM), NUM, 3, np.random.default_rng(0))
    noise, seen = np.random.default_rng(0).normal(size=NUM), []
    options = {"max_epochs": 100, "patience": 5, "progress": seen.append}
    members = make_networks(SPACE, 3, jax.random.key(0))
    train_members(members, encode(table.sequences, SPACE), noise, bags, jax.random.key(1), **options)
    assert seen[-1].done < 60


def test_a_training_that_diverges_is_an_error():
    table = make_table()
    targets = np.full(NUM, np.nan)
    bags = draw_bags(np.arange(NUM), NUM, 3, np.random.default_rng(0))
    members = make_networks(SPACE, 3, jax.random.key(0))
    with pytest.raises(ValueError, match="never gave a finite error"):
        train_members(members, encode(table.sequences, SPACE), targets, bags, jax.random.key(1), max_epochs=5, patience=5)


# --- distances ---


def test_distance_to_nearest_is_that_of_all_pairs(monkeypatch):
    sequences = make_table().sequences
    queries, references = sequences[:30], sequences[30:80]
    expected = [min(Levenshtein.distance(one, other) for other in references) for one in queries]
    np.testing.assert_array_equal(distance_to_nearest(queries, references), expected)
    monkeypatch.setattr("narrows.proxies.fit._MAX_PAIRS", 500)
    some = distance_to_nearest(queries, references)
    assert np.isfinite(some).sum() == 10
    np.testing.assert_array_equal(some[np.isfinite(some)], np.array(expected)[np.isfinite(some)])


def test_of_a_large_table_some_rows_are_compared_on_and_all_are_learned_from(fitted, monkeypatch):
    monkeypatch.setattr("narrows.proxies.fit._MOST_COMPARED", 100)
    large = small_fit()
    assert (large.quality.num_train, large.quality.num_calibration) == (192, 100)
    assert large.proxy.models[0].described()["rows"] == NUM
    assert large.quality.rmse < 0.6 * large.quality.rmse_of_mean
