"""Distances between laws against plain sums and SciPy's figures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import spearmanr

from narrows.envs import Sequence, Subsets
from narrows.exact import enumerate_graph
from narrows.metrics import (
    empirical_distribution,
    entropy,
    jensen_shannon,
    kullback_leibler,
    log_prob_correlation,
    mass_by_quantile,
    mean_score,
    total_variation,
)


def _log_law(rng, size):
    return np.log(rng.dirichlet(np.full(size, 0.5)))


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_against_scipy(seed, size):
    rng = np.random.default_rng(seed)
    log_p, log_q = _log_law(rng, size), _log_law(rng, size)
    p, q = np.exp(log_p), np.exp(log_q)
    assert math.isclose(total_variation(log_p, log_q), 0.5 * sum(abs(a - b) for a, b in zip(p, q, strict=True)), abs_tol=1e-12)
    assert math.isclose(jensen_shannon(log_p, log_q), jensenshannon(p, q) ** 2, abs_tol=1e-9)
    assert math.isclose(kullback_leibler(log_p, log_q), scipy_entropy(p, q), rel_tol=1e-9)
    assert math.isclose(entropy(log_p), scipy_entropy(p), abs_tol=1e-12)
    assert math.isclose(log_prob_correlation(log_p, log_q), np.asarray(spearmanr(p, q))[0], abs_tol=1e-9)
    assert math.isclose(mean_score(log_p, q), float(p @ q), abs_tol=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_laws_of_the_distances(seed, size):
    rng = np.random.default_rng(seed)
    log_p, log_q = _log_law(rng, size), _log_law(rng, size)
    assert 0.0 <= total_variation(log_p, log_q) <= 1.0
    assert total_variation(log_p, log_p) == 0.0 and 0.0 <= jensen_shannon(log_p, log_p) < 1e-15
    assert math.isclose(jensen_shannon(log_p, log_q), jensen_shannon(log_q, log_p), abs_tol=1e-12)
    assert total_variation(log_p, log_q) ** 2 <= kullback_leibler(log_p, log_q) / 2 + 1e-12  # Pinsker


def test_objects_without_mass():
    with np.errstate(divide="ignore"):
        log_p, log_q = np.log([0.0, 0.5, 0.5]), np.log([0.5, 0.5, 0.0])
    assert total_variation(log_p, log_q) == 0.5
    assert math.isclose(jensen_shannon(log_p, log_q), 0.5 * math.log(2.0))
    assert kullback_leibler(log_p, log_q) == math.inf
    assert math.isclose(entropy(log_p), math.log(2.0))
    disjoint = np.array([-np.inf, 0.0]), np.array([0.0, -np.inf])
    assert total_variation(*disjoint) == 1.0
    assert math.isclose(jensen_shannon(*disjoint), math.log(2.0))
    assert mean_score(log_p, np.array([7.0, 1.0, 2.0])) == 1.5
    assert math.isnan(log_prob_correlation(log_p[1:], log_p[1:]))


def test_mass_by_quantile():
    scores = np.array([0.3, 0.1, 0.2, 0.9, 0.5])
    p = np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    assert np.allclose(mass_by_quantile(np.log(p), scores, num_bins=5), [0.2, 0.3, 0.1, 0.25, 0.15])
    assert np.allclose(mass_by_quantile(np.log(p), scores, num_bins=2), [0.6, 0.4])
    with pytest.raises(ValueError, match="num_bins must lie in 1 to"):
        mass_by_quantile(np.log(p), scores, num_bins=6)


def test_empirical_law_counts():
    env = Sequence("AB", 1, 2)
    graph = enumerate_graph(env)
    texts = ["A", "BB", "BB", "AB"]
    log_probs = empirical_distribution(graph, env.from_text(texts))
    found = dict(zip(env.to_text(graph.terminal_states), np.exp(log_probs).tolist(), strict=True))
    assert found == {"A": 0.25, "B": 0.0, "AA": 0.0, "AB": 0.25, "BA": 0.0, "BB": 0.5}


def test_empirical_law_refuses_what_is_no_object():
    env = Subsets(3)
    graph = enumerate_graph(env)
    with pytest.raises(ValueError, match="row 0 is not a terminal state"):
        empirical_distribution(graph, graph.rows(np.array([0, graph.terminals[0]])))
    with pytest.raises(ValueError, match="empty batch"):
        empirical_distribution(graph, env.from_text([]))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"got shapes \(2,\), \(3,\)"):
        total_variation(np.zeros(2), np.zeros(3))
