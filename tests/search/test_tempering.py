"""The temperature at which a sampler spreads over a wanted number of objects, against spaces that can be listed."""

import numpy as np
import pytest

from narrows.search import Space, find_temperature, tempering


def entropy(scores, beta):
    weights = np.exp(beta * (scores - scores.max()))
    shares = weights / weights.sum()
    return -np.sum(shares * np.log(np.maximum(shares, 1e-300)))


def counts(texts):
    return np.array([3.0 * text.count("G") + text.count("CA") - 0.1 * len(text) for text in texts])


@pytest.mark.parametrize("space", [Space("ACGU", 6, 6), Space("ACG", 3, 7)], ids=["one length", "several"])
@pytest.mark.parametrize("num", [20.0, 300.0])
def test_listed_and_cooled_agree_with_the_sum_over_all_objects(space, num, monkeypatch):
    scores = counts(space.write(space.listed()))
    exact = find_temperature(counts, space, num)
    assert entropy(scores, exact.beta) == pytest.approx(np.log(num), abs=1e-6)
    monkeypatch.setattr(tempering, "_MOST_LISTED", 0)
    cooled = find_temperature(counts, space, num, seed=1)
    assert entropy(scores, cooled.beta) == pytest.approx(np.log(num), abs=0.35)
    assert find_temperature(counts, space, num, seed=1) == cooled


def test_units_of_the_score_change_only_those_of_the_temperature():
    space = Space("ACGU", 6, 6)
    plain = find_temperature(counts, space, 50.0)
    scaled = find_temperature(lambda texts: 100.0 * counts(texts) + 1000.0, space, 50.0)
    assert 100.0 * scaled.beta == pytest.approx(plain.beta, rel=1e-6)


def test_what_must_not_be_made_counts_for_nothing(monkeypatch):
    space = Space("ACGU", 5, 5)

    def forbids(texts):
        return np.where([text.startswith("A") for text in texts], counts(texts), -np.inf)

    scores = forbids(space.write(space.listed()))
    exact = find_temperature(forbids, space, 40.0)
    assert entropy(scores[np.isfinite(scores)], exact.beta) == pytest.approx(np.log(40.0), abs=1e-6)
    monkeypatch.setattr(tempering, "_MOST_LISTED", 0)
    assert find_temperature(forbids, space, 40.0).beta == pytest.approx(exact.beta, rel=0.25)


def test_a_score_that_tells_nothing_apart_has_a_temperature_all_the_same(monkeypatch):
    space = Space("ACGU", 5, 5)
    assert find_temperature(lambda texts: np.ones(len(texts)), space, 40.0).beta == 1.0
    monkeypatch.setattr(tempering, "_MOST_LISTED", 0)
    assert find_temperature(lambda texts: np.ones(len(texts)), space, 40.0).beta == 1.0
    with pytest.raises(ValueError, match="more than one object"):
        find_temperature(counts, space, 1.0)
