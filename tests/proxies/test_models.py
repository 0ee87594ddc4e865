"""Models of a table against slow formulas, finite differences and what is known of made tables."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from narrows.data import Space
from narrows.proxies.comparison import draw_folds, gain, learn, out_of_fold, predict, shares_of
from narrows.proxies.features import Letters, Words, describe_all
from narrows.proxies.fitted import encode
from narrows.proxies.models.base import Lesson
from narrows.proxies.models.gaussian_process import Strengths, _Parts, find_strengths, regress
from narrows.proxies.models.learners import LEARNERS
from narrows.proxies.models.trees import boost
from narrows.proxies.warps import Identity, Logarithm, candidates, read_warp

SPACE = Space("dna", "ACGT", 5, 5)
BY_NAME = {learner.name: learner for learner in LEARNERS}


def lesson(num=60, seed=0, noise=0.1):
    """Letters that add up, and a bonus for two together."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 4, (num, 5)).astype(np.int32)
    weights = np.random.default_rng(99).normal(size=(5, 4))
    scores = weights[np.arange(5), tokens].sum(axis=1) + 1.5 * (tokens[:, 0] == tokens[:, 1])
    scores = (scores + noise * rng.normal(size=num) - 0.5) / 2.0
    return Lesson(tokens, scores, np.ones(num), np.zeros(num, np.int64), SPACE, 0)


def strengths(warp=None):
    return Strengths(np.log(np.full(5, 0.2)), np.log(0.5), np.log(np.linspace(0.3, 0.9, 5)), np.log(0.05), warp or Identity())


# --- Gaussian processes ---


def test_predictions_are_those_of_the_formula_in_loops():
    given, features, at = lesson(20), Letters(4, (0, 1, 2, 3, 4)), strengths()
    given = dataclasses.replace(given, noise=np.where(np.arange(20) < 5, 0.5, 1.0))
    model = regress(features, given, at, is_local=True)
    rows = describe_all(features, given.tokens)
    centre = rows.mean(axis=0)
    other = lesson(8, seed=5)
    asked = describe_all(features, other.tokens)

    def kernel(one, two):
        total, exponent = 0.0, 0.0
        for group in range(5):
            part = features.groups == group
            total += np.exp(at.linear[group]) * ((one - centre)[part] @ (two - centre)[part])
            exponent += np.exp(at.near[group]) * ((one - two)[part] ** 2).sum()
        return total + np.exp(at.local - 0.5 * exponent)

    matrix = np.array([[kernel(one, two) for two in rows] for one in rows]) + np.diag(np.exp(at.noise) * given.noise + 1e-6)
    inverse = np.linalg.inv(matrix)
    offset = inverse.sum(axis=0) @ given.scores / inverse.sum()
    cross = np.array([[kernel(one, two) for two in rows] for one in asked])
    own = np.array([kernel(one, one) for one in asked])
    mean, std = predict(model, other.tokens)
    np.testing.assert_allclose(mean, offset + cross @ inverse @ (given.scores - offset), atol=1e-4)
    variance = own - np.einsum("ij,jk,ik->i", cross, inverse, cross) + np.exp(at.noise)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=2e-3)


def test_room_for_more_rows_changes_nothing():
    given, features = lesson(30), Letters(4, (0, 1, 2, 3, 4))
    plain, roomy = (regress(features, given, strengths(), True, num) for num in (None, 50))
    assert roomy.anchors.shape == (50, 20)
    for one, other in zip(predict(plain, lesson(9, seed=3).tokens), predict(roomy, lesson(9, seed=3).tokens), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("is_local", [True, False])
def test_strengths_are_at_the_top_of_the_posterior(is_local):
    """Away from what was found, in any direction, the log posterior that `ascend` reports is lower."""
    given = lesson(40)
    parts = _Parts.of(Letters(4, (0, 1, 2, 3, 4)), given, is_local)
    best, reached = parts.ascend(given.scores, Identity())
    again, same = parts.ascend(given.scores, Identity())
    assert same == reached
    np.testing.assert_array_equal(best.linear, again.linear)
    shared, less = parts.ascend(given.scores, Identity(), is_shared=True)
    assert less <= reached + 1e-6
    assert len(shared.linear) == 5


def test_what_a_place_is_worth_is_found():
    """A place that changes nothing weighs less than those that do."""
    given = lesson(120)
    scores = given.scores - 0.0
    still = np.random.default_rng(1).permutation(given.tokens[:, 4])
    tokens = np.column_stack([given.tokens[:, :4], still])
    found = find_strengths(
        Letters(4, (0, 1, 2, 3, 4)),
        dataclasses.replace(given, tokens=tokens.astype(np.int32), scores=scores),
        is_local=False,
        is_warped=False,
    )
    assert found.linear[4] < found.linear[:4].min()


def test_far_from_what_was_seen_it_is_less_sure():
    space = Space("dna", "ACGT", 8, 8)
    rng = np.random.default_rng(0)
    tokens = np.column_stack([rng.integers(0, 4, (50, 4)), np.zeros((50, 4), int)]).astype(np.int32)
    given = Lesson(tokens, rng.normal(size=50), np.ones(50), np.zeros(50, np.int64), space, 0)
    features = Letters(4, tuple(range(8)))
    eight = Strengths(np.full(8, -3.0), 0.0, np.full(8, -1.0), np.log(0.1), Identity())
    model = regress(features, given, eight, is_local=True)
    near, far = tokens[:10].copy(), tokens[:10].copy()
    far[:, 4:] = 2
    assert (predict(model, far)[1] > 1.2 * predict(model, near)[1]).all()


# --- scales of scores ---


def test_logarithms_are_undone_and_their_slope_is_that_of_differences():
    warp = Logarithm(-1.0, 0.05, float(np.log(3.0)))
    scores = np.array([-0.9, 0.0, 2.0])
    values, log_slope = warp.there(scores)
    np.testing.assert_allclose(warp.undo(jnp.asarray(values, jnp.float32)), scores, rtol=1e-5)
    step = 1e-6
    slope = (warp.there(scores + step)[0] - values) / step
    np.testing.assert_allclose(log_slope, np.log(slope), atol=1e-4)
    assert np.isfinite(warp.there(np.array([-5.0]))[0]).all()
    # Beyond the highest score the way back goes on straight, with the slope that it has there.
    beyond = np.asarray(warp.undo(jnp.log(3.0) + jnp.array([0.0, 0.5, 1.0, 9.0], jnp.float32)))
    np.testing.assert_allclose(beyond, 2.0 + 3.0 * np.array([0.0, 0.5, 1.0, 9.0]), rtol=1e-5)
    for one in candidates(scores):
        assert read_warp(one.described()) == one
    with pytest.raises(ValueError, match="no scale"):
        read_warp({"kind": "in logs", "zero": 0.0, "least": -1.0, "top": 1.0})


def test_scores_that_span_decades_are_seen_in_logarithms():
    given = lesson(150, noise=0.02)
    features = Letters(4, (0, 1, 2, 3, 4))
    decades = np.exp(3.0 * given.scores)
    decades = dataclasses.replace(given, scores=(decades - decades.mean()) / decades.std())
    assert isinstance(find_strengths(features, decades, is_local=True, is_warped=True).warp, Logarithm)
    assert isinstance(find_strengths(features, given, is_local=True, is_warped=True).warp, Identity)


# --- trees ---


def test_trees_are_those_of_scikit_learn():
    from sklearn.ensemble import GradientBoostingRegressor

    given, features = lesson(50), Letters(4, (0, 1, 2, 3, 4))
    model = boost(features, given)
    rng = np.random.default_rng(0)
    numbers = describe_all(features, given.tokens).astype(np.float32)
    asked = describe_all(features, lesson(20, seed=7).tokens).astype(np.float32)
    expected = []
    for _ in range(4):
        bag = rng.integers(0, 50, 50)
        learner = GradientBoostingRegressor(
            n_estimators=120, learning_rate=0.08, max_depth=3, min_samples_leaf=3, max_features="sqrt",
            random_state=int(rng.integers(2**31)),
        )  # fmt: skip
        expected.append(learner.fit(numbers[bag], given.scores[bag]).predict(asked))
    found = np.asarray(model.members(jnp.asarray(lesson(20, seed=7).tokens)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


# --- comparing ---


def test_bounds_are_learned_from_as_bounds():
    """Half of the scores are only known to be at least something: Tobit comes nearer to the truth than values would."""
    given = lesson(150, noise=0.05)
    limit = np.median(given.scores)
    cut = np.minimum(given.scores, limit)
    bounds = (given.scores > limit).astype(np.int64)
    ridge = BY_NAME["ridge-letters"]
    prepared = ridge.prepare(given)
    fresh = lesson(200, seed=4, noise=0.0)
    errors = {}
    for name, some in (("value", np.zeros_like(bounds)), ("bound", bounds)):
        model = learn(ridge, dataclasses.replace(given, scores=cut, bounds=some), prepared, 150)
        errors[name] = np.sqrt(np.mean((predict(model, fresh.tokens)[0] - fresh.scores) ** 2))
    assert errors["bound"] < 0.75 * errors["value"]


def test_no_fold_learns_from_itself():
    """Scores of a fold that are changed change nothing of what is said of that fold, once the strengths are found."""
    given = lesson(60)
    folds = draw_folds(np.arange(60), 0)
    assert np.bincount(folds).tolist() == [12] * 5
    ridge = BY_NAME["ridge-letters"]
    fixed = dataclasses.replace(ridge, prepare=lambda _: ridge.prepare(given))
    plain = out_of_fold(fixed, given, folds)
    other = dataclasses.replace(given, scores=given.scores + 100.0 * (folds == 2))
    changed = out_of_fold(fixed, other, folds)
    np.testing.assert_array_equal(plain.mean[folds == 2], changed.mean[folds == 2])
    assert not np.allclose(plain.mean[folds != 2], changed.mean[folds != 2])


def test_whole_clusters_are_dealt_to_folds():
    clusters = np.repeat(np.arange(12), [9, 1, 1, 1, 3, 2, 2, 5, 4, 1, 6, 5])
    folds = draw_folds(clusters, 3)
    assert all(len(set(folds[clusters == cluster])) == 1 for cluster in range(12))
    assert np.bincount(folds, minlength=5).min() >= 5


def test_the_best_at_the_top_is_kept_and_an_average_where_it_is_better():
    given = lesson(200)
    folds = draw_folds(np.arange(200), 0)
    rng = np.random.default_rng(0)

    def said(mean):
        return dataclasses.replace(constant, mean=mean)

    constant = out_of_fold(BY_NAME["mean"], given, folds)
    good, poor = said(given.scores + 0.1 * rng.normal(size=200)), said(rng.normal(size=200))
    shares, mean = shares_of([constant, poor, good], given, folds)
    assert shares[2] > 0.8
    assert gain(mean, given.scores) >= gain(good.mean, given.scores)
    halves = [said(given.scores + noise) for noise in rng.normal(size=(2, 200))]
    both, averaged = shares_of([constant, *halves], given, folds)
    assert (both[1:] > 0.2).all()
    assert gain(averaged, given.scores) > max(gain(one.mean, given.scores) for one in halves)
    assert both.sum() == pytest.approx(1.0)


def test_gain_is_what_the_top_would_have_scored():
    scores = np.arange(20.0)
    assert gain(scores, scores) == np.mean([19.0, 18.5, 17.5, 15.5])
    assert gain(np.zeros(20), scores) == scores.mean()
    assert gain(-scores, scores) < 3.0


@pytest.mark.parametrize(
    "name", [learner.name for learner in LEARNERS if learner.name not in ("mean", "networks", "gp-blosum62")]
)
def test_every_model_beats_the_mean_of_a_simple_table(name):
    given, learner = lesson(120), BY_NAME[name]
    assert learner.suits(given)
    found = out_of_fold(learner, given, draw_folds(np.arange(120), 0))
    worth = 0.9 if "composition" in name or "words" in name else 0.75
    assert np.mean((found.mean - given.scores) ** 2) < worth * given.scores.var()
    assert (found.std > 0).all()
    assert np.isfinite(found.std).all()


def test_models_of_places_need_one_length():
    texts = ["ACGT", "ACG", "GTGTA"] * 10
    mixed = Lesson(
        encode(texts, Space("dna", "ACGT", 3, 5)), np.arange(30.0), np.ones(30), np.zeros(30, np.int64),
        Space("dna", "ACGT", 3, 5), 0,
    )  # fmt: skip
    suited = [learner.name for learner in LEARNERS if learner.suits(mixed)]
    assert suited == ["mean", "ridge-composition", "ridge-words", "gp-words", "trees"]
    assert isinstance(BY_NAME["trees"].prepare(mixed), Words)
