"""Exact references on measured DNA 8-mers in noise: eflow T8 and 7.4, by the graph and by arrays over prefixes."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
from benchmarks.harness.places import TFBIND8 as DATA
from tests.reference.noisy_prefixes import (
    clipped_policy,
    expected_flow_policy,
    letter_kernel,
    noisy_law,
    soft_policy,
    target_conditionals,
)

from narrows.envs import Sequence, perturbed
from narrows.envs.base import NO_ACTION
from narrows.exact import enumerate_graph, solve, solve_deconvolution, solve_noise_free
from narrows.metrics.exact import entropy, mean_score, total_variation
from narrows.noise import Substitution
from narrows.operators import soft_bellman

TABLE = DATA / "SIX6_REF_R1_8mers.txt"
pytestmark = pytest.mark.skipif(not TABLE.is_file(), reason=f"the measured 8-mers are not at {TABLE}")

BY_GRAPH = pytest.mark.slow(
    "enumerates 305,000 states; the same table by arrays, and small graphs in test_noise.py, guard it quickly"
)
LETTERS = "ACGT"
LOG_Z = {1: 10.3220, 3: 9.1596, 10: 7.1919, 30: 5.3665}  # eflow 4.1


class Row(NamedTuple):
    """Mean y, entropy and distance of a policy's law, as eflow 7.4 has them."""

    mean: float
    entropy: float
    distance: float


def _row(text):
    return Row(*map(float, text.split("/")))


# Table 7.4: expected flow network, maximum-entropy RL, noise-free policy, clipped deconvolution, share of edges in percent.
CELLS = {
    (3, 0.1): (".6126/10.758/.158", ".6150/10.746/.148", ".6291/10.683/.083", ".6471/10.593/.001", 1.4),
    (3, 0.25): (".5666/10.926/.361", ".5710/10.912/.344", ".6015/10.803/.207", ".6453/10.603/.011", 6.2),
    (3, 0.5): (".5087/11.057/.612", ".5127/11.051/.599", ".5549/10.959/.411", ".6312/10.669/.092", 19.4),
    (10, 0.1): (".7848/9.579/.388", ".8075/9.384/.282", ".8181/9.265/.209", ".8418/8.992/.057", 29.5),
    (10, 0.25): (".6840/10.316/.841", ".7347/10.024/.654", ".7613/9.775/.503", ".8102/9.290/.249", 40.8),
    (10, 0.5): (".5548/10.926/1.316", ".6063/10.779/1.172", ".6576/10.469/.946", ".7223/9.967/.684", 51.6),
    (30, 0.1): (".8670/8.324/.635", ".9130/7.711/.502", ".9089/7.747/.355", ".9207/7.465/.232", 57.8),
    (30, 0.25): (".7348/9.669/1.237", ".8525/8.612/.953", ".8367/8.682/.803", ".8621/8.231/.643", 62.6),
    (30, 0.5): (".5696/10.786/1.703", ".7175/10.029/1.456", ".7003/9.949/1.353", ".7313/9.551/1.229", 66.4),
}
QUIET = {3: ".6473/10.591/0", 10: ".8516/8.879/0", 30: ".9481/6.993/0"}
GRAPH_CELLS = ((3, 0.1), (10, 0.25), (30, 0.5))


@pytest.fixture(scope="module")
def scores():
    """The normalised scores as an array over the letters of the word, 0 raised to 1e-8."""
    array = np.full([len(LETTERS)] * 8, np.nan)
    for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]:
        word, complement, score, *_ = line.split("\t")
        for strand in (word, complement):
            array[tuple(map(LETTERS.index, strand))] = float(score)
    assert not np.any(np.isnan(array))
    return np.maximum((array - array.min()) / (array.max() - array.min()), 1e-8)


@pytest.fixture(scope="module")
def graph():
    env = Sequence(LETTERS, 8, 8)
    return enumerate_graph(perturbed(env, Substitution(env, 0.25)))


def _at_rate(graph, rate):
    """Return the graph under another rate: the same states, other probabilities of the letters."""
    kernel = np.log(letter_kernel(len(LETTERS), rate))
    log_probs, asked = graph.chance_log_probs.copy(), graph.states.asked
    is_letter = (asked != NO_ACTION) & (asked < len(LETTERS))
    log_probs[is_letter, : len(LETTERS)] = kernel[asked[is_letter]]
    return dataclasses.replace(graph, chance_log_probs=log_probs)


def _found(law, scores, log_target):
    """Return a row of the table. Its distance is the whole of `sum |p - q|`, twice the total variation."""
    log_probs = np.log(law.ravel())
    return Row(mean_score(log_probs, scores.ravel()), entropy(log_probs), 2.0 * total_variation(log_probs, log_target.ravel()))


def _check(found, text):
    # Within the table's rounding: the mean has four digits and the others three.
    assert np.all(np.abs(np.subtract(found, _row(text))) < (6e-5, 6e-4, 6e-4)), (found, text)


def _log_target(scores, beta):
    return beta * np.log(scores) - np.logaddexp.reduce(beta * np.log(scores), axis=None)


@pytest.mark.parametrize(("beta", "rate"), CELLS)
def test_t8_table_by_arrays(scores, beta, rate):
    log_reward, log_target = beta * np.log(scores), _log_target(scores, beta)
    share, clipped = clipped_policy(log_reward, rate)
    policies = (
        expected_flow_policy(log_reward, rate)[1],
        soft_policy(log_reward, rate),
        target_conditionals(log_reward),
        clipped,
    )
    for policy, text in zip(policies, CELLS[beta, rate], strict=False):
        _check(_found(noisy_law(policy, rate), scores, log_target), text)
    assert abs(100.0 * share - CELLS[beta, rate][-1]) < 0.051


@pytest.mark.parametrize("beta", QUIET)
def test_t8_without_noise_all_are_the_target(scores, beta):
    log_reward, log_target = beta * np.log(scores), _log_target(scores, beta)
    share, clipped = clipped_policy(log_reward, 0.0)
    assert share == 0.0
    for policy in (expected_flow_policy(log_reward, 0.0)[1], soft_policy(log_reward, 0.0), clipped):
        _check(_found(noisy_law(policy, 0.0), scores, log_target), QUIET[beta])


def test_t8_uniform_row(scores):
    uniform = np.full(scores.size, -np.log(scores.size))
    assert abs(mean_score(uniform, scores.ravel()) - 0.4638) < 1e-4 and abs(entropy(uniform) - 11.090) < 1e-3


@BY_GRAPH
def test_t8_log_z_does_not_depend_on_the_noise(scores, graph):
    for beta, figure in LOG_Z.items():
        log_reward = beta * np.log(scores)
        log_z = np.logaddexp.reduce(log_reward, axis=None)
        assert abs(log_z - figure) < 1e-4
        for rate in (0.0, 0.1, 0.25, 0.5):
            assert abs(expected_flow_policy(log_reward, rate)[0] - log_z) < 1e-10
        assert abs(solve(graph, _of_graph(graph, log_reward), soft_bellman()).root_value - log_z) < 1e-10


def _of_graph(graph, array):
    """Return the entries of an array over words in the order of the graph's objects."""
    return array[tuple(graph.terminal_states.inner.tokens.T)]


@BY_GRAPH
def test_t8_the_graph_has_the_kernel(graph):
    by_hand = _at_rate(graph, 0.25).chance_log_probs
    assert graph.num_states == 21_845 + 87_380 + 3 * 65_536  # prefixes, letters asked for, whole words before and after the end
    assert np.array_equal(np.isfinite(by_hand), np.isfinite(graph.chance_log_probs))
    assert np.allclose(np.exp(by_hand), np.exp(graph.chance_log_probs), atol=1e-15)


@BY_GRAPH
@pytest.mark.parametrize(("beta", "rate"), GRAPH_CELLS)
def test_t8_table_by_the_graph(scores, graph, beta, rate):
    noisy, log_reward = _at_rate(graph, rate), beta * np.log(scores)
    given, y = _of_graph(graph, log_reward), _of_graph(graph, scores)
    log_target = _of_graph(graph, _log_target(scores, beta))
    flow, soft = (solve(noisy, given, soft_bellman(), averaging=averaging) for averaging in ("flow", "value"))
    clipped = solve_deconvolution(noisy, given)
    found = [flow.log_probs, soft.log_probs, solve_noise_free(noisy, given).log_probs, clipped.log_probs]
    share, by_arrays = clipped_policy(log_reward, rate)
    policies = (
        expected_flow_policy(log_reward, rate)[1],
        soft_policy(log_reward, rate),
        target_conditionals(log_reward),
        by_arrays,
    )
    for log_probs, policy, text in zip(found, policies, CELLS[beta, rate], strict=False):
        _check(_found(np.exp(log_probs), y, log_target), text)
        assert np.allclose(np.exp(log_probs), _of_graph(graph, noisy_law(policy, rate)), rtol=1e-9, atol=1e-20)
    assert clipped.share_clipped == share
