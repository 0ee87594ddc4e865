"""Ratings against closed forms, a general optimiser and simulated tournaments."""

import math

import numpy as np
import pytest
import scipy.optimize

from narrows.games.elo import DEVIATION, MEAN, Encounters, rate, ratings, score_interval, wilson


def table(num, results):
    """Tables of points and games from `{(i, j): (points of i, games)}`."""
    points, games = np.zeros((2, num, num))
    for (one, other), (scored, played) in results.items():
        points[one, other], points[other, one] = scored, played - scored
        games[one, other] = games[other, one] = played
    return points, games


def expected_score(difference):
    """The expected score of who is rated higher by so many points."""
    return 1 / (1 + 10 ** (-difference / 400))


def slow_optimum(points, games, deviation):
    """The same maximum by a general optimiser on the formula as it is written."""

    def minus(found):
        total = -np.sum((found - MEAN) ** 2) / (2 * deviation**2)
        for one in range(len(found)):
            for other in range(len(found)):
                if one != other:
                    total += points[one, other] * math.log(expected_score(found[one] - found[other]))
        return -total

    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
    return scipy.optimize.minimize(minus, np.full(len(points), MEAN), method="Nelder-Mead", options=options).x


@pytest.mark.parametrize("score", [0.5, 0.75, 0.9])
def test_two_players_differ_by_the_logarithm_of_the_odds(score):
    found = ratings(*table(2, {(0, 1): (400 * score, 400)}), deviation=1e6)
    assert found[0] - found[1] == pytest.approx(400 * math.log10(score / (1 - score)), abs=1e-4)
    assert found.mean() == pytest.approx(1500, abs=1e-9)
    weak = ratings(*table(2, {(0, 1): (400 * score, 400)}))
    assert weak[0] - weak[1] == pytest.approx(found[0] - found[1], abs=0.5), "the prior is weak"


def test_four_players_have_the_ratings_that_a_general_optimiser_finds():
    points, games = table(4, {(0, 1): (13.5, 20), (0, 2): (18, 20), (1, 2): (11, 16), (2, 3): (9, 10), (0, 3): (7, 7)})
    for deviation in (DEVIATION, 200.0):
        found = ratings(points, games, deviation=deviation)
        np.testing.assert_allclose(found, slow_optimum(points, games, deviation), atol=1e-3)
        assert found.mean() == pytest.approx(1500, abs=1e-9)


def test_who_wins_everything_has_a_finite_rating_that_grows_with_the_games():
    few, many = (ratings(*table(3, {(0, 1): (n, n), (0, 2): (n, n), (1, 2): (n / 2, n)})) for n in (10, 10_000))
    assert np.isfinite(many).all()
    assert many[0] - many[1] > few[0] - few[1] > 300
    assert few[1] == pytest.approx(few[2], abs=1e-6)


def test_a_batch_of_tables_is_rated_as_each_alone():
    generator = np.random.default_rng(0)
    points = generator.integers(0, 9, size=(5, 3, 3)).astype(float)
    points = points * (1 - np.eye(3))
    games = points + np.swapaxes(points, 1, 2)
    alone = [ratings(one, all_games) for one, all_games in zip(points, games, strict=True)]
    np.testing.assert_allclose(ratings(points, games), alone, atol=1e-6)


def test_tables_that_do_not_fit_are_refused():
    points, games = table(2, {(0, 1): (3, 4)})
    with pytest.raises(ValueError, match=r"points\[i, j\] \+ points\[j, i\] = games"):
        ratings(points, games + 1)
    with pytest.raises(ValueError, match="deviation must be positive"):
        ratings(points, games, deviation=0)


def test_ratings_of_openings_are_those_of_the_whole_and_their_intervals_hold_the_truth():
    """95 of 100 intervals should; three standard deviations of a binomial distribution are allowed."""
    truth = np.asarray([1620.0, 1500.0, 1380.0])
    first, second = np.asarray([0, 0, 1]), np.asarray([1, 2, 2])
    chances = [expected_score(float(truth[one] - truth[other])) for one, other in zip(first, second, strict=True)]
    generator, hits, rounds = np.random.default_rng(3), 0, 60
    for seed in range(rounds):
        points = generator.binomial(2, np.asarray(chances)[:, None], size=(3, 80)).astype(float)
        encounters = Encounters(first, second, points, 2)
        found = rate(encounters, 3, seed=seed, draws=200)
        whole = table(3, {(0, 1): (points[0].sum(), 160), (0, 2): (points[1].sum(), 160), (1, 2): (points[2].sum(), 160)})
        np.testing.assert_allclose(found.rating, ratings(*whole), atol=1e-6)
        hits += int(np.sum((found.low <= truth) & (truth <= found.high)))
    share = hits / (3 * rounds)
    assert abs(share - 0.95) < 3 * math.sqrt(0.95 * 0.05 / rounds)


def test_the_bootstrap_is_seeded():
    points = np.random.default_rng(0).integers(0, 3, size=(1, 30)).astype(float)
    encounters = Encounters(np.asarray([0]), np.asarray([1]), points, 2)
    one, same, other = (rate(encounters, 2, seed=seed, draws=50) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.low, same.low)
    assert (one.low != other.low).any()
    np.testing.assert_array_equal(one.rating, other.rating)


@pytest.mark.parametrize(("score", "num"), [(0.5, 10), (0.0, 20), (1.0, 7), (0.83, 400)])
def test_wilsons_ends_are_where_the_score_is_just_compatible(score, num):
    interval = wilson(score, num)
    for end in interval:
        # `|score - p| = z sqrt(p (1 - p) / n)` has at most two roots: these.
        assert (score - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / num, abs=1e-12)
    assert 0 <= interval.low <= score <= interval.high <= 1
    assert interval.high > interval.low


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_intervals_of_scores_hold_the_truth_whether_games_of_an_opening_are_alike_or_not(alike):
    generator, rounds, truth = np.random.default_rng(5), 400, 0.7
    hits = 0
    for _ in range(rounds):
        one, other = generator.random((2, 50)) < truth
        other = np.where(generator.random(50) < alike, one, other)
        interval = score_interval(one.astype(float) + other, 2)
        hits += interval.low <= truth <= interval.high
    assert hits / rounds > 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


def test_games_that_are_alike_count_less():
    points = np.asarray([2.0, 0.0] * 20)
    assert np.ptp(score_interval(points, 2)) > 1.3 * np.ptp(wilson(0.5, 80))
    assert np.ptp(score_interval(np.ones(40), 2)) == pytest.approx(np.ptp(wilson(0.5, 80)))
    assert score_interval(np.full(40, 2.0), 2).low == pytest.approx(wilson(1.0, 80).low)
    assert score_interval(np.asarray([2.0]), 2).high == 1.0
    with pytest.raises(ValueError, match="at least one game"):
        wilson(0.5, 0)
