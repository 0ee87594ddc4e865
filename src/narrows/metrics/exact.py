"""Comparing distributions that are known exactly, as log-probabilities, one for each terminal state of a graph."""

from typing import Any

import numpy as np
from jaxtyping import Float

from narrows.exact import Graph

LogProbs = Float[np.ndarray, " terminal"]


def total_variation(log_p: LogProbs, log_q: LogProbs) -> float:
    """Return `1/2 sum |p - q|`, in [0, 1].

    >>> total_variation(np.log([0.5, 0.5]), np.log([0.25, 0.75]))
    0.25
    """
    _check(log_p, log_q)
    return float(np.sum(np.abs(np.exp(log_p) - np.exp(log_q))) / 2.0)


def kullback_leibler(log_p: LogProbs, log_q: LogProbs) -> float:
    """Return `sum p (log p - log q)` in nats, infinite where q misses an object that p has."""
    _check(log_p, log_q)
    has_mass = np.isfinite(log_p)
    return float(np.sum(np.exp(log_p[has_mass]) * (log_p[has_mass] - log_q[has_mass])))


def jensen_shannon(log_p: LogProbs, log_q: LogProbs) -> float:
    """Return the Jensen-Shannon divergence in nats, in [0, log 2]: the mean divergence of p and q from their mixture."""
    _check(log_p, log_q)
    log_mixture = np.logaddexp(log_p, log_q) - np.log(2.0)
    # Rounding can leave a negative trace where p = q.
    return max(0.0, 0.5 * (kullback_leibler(log_p, log_mixture) + kullback_leibler(log_q, log_mixture)))


def entropy(log_p: LogProbs) -> float:
    """Return `-sum p log p` in nats.

    >>> round(entropy(np.log([0.25, 0.25, 0.5])), 6)
    1.039721
    """
    log_p = log_p[np.isfinite(log_p)]
    return float(-np.sum(np.exp(log_p) * log_p))


def mean_score(log_p: LogProbs, scores: Float[np.ndarray, " terminal"]) -> float:
    """Return the expected score of an object drawn from a distribution."""
    _check(log_p, scores)
    return float(np.sum(np.exp(log_p) * scores))


def mass_by_quantile(
    log_p: LogProbs, scores: Float[np.ndarray, " terminal"], *, num_bins: int = 10
) -> Float[np.ndarray, " bin"]:
    """Return the probability of each `1/num_bins` of the objects, the worst-scored first.

    Ties are cut in the order of the objects, and bins differ by one object where their number does not divide.
    """
    _check(log_p, scores)
    if not 1 <= num_bins <= log_p.size:
        raise ValueError(f"num_bins must lie in 1 to the number of objects ({log_p.size}), got {num_bins}.")
    bins = np.array_split(np.argsort(scores, kind="stable"), num_bins)
    return np.asarray([np.sum(np.exp(log_p[members])) for members in bins])


def log_prob_correlation(log_p: LogProbs, log_q: LogProbs) -> float:
    """Return Spearman's rank correlation of `log p` with `log q`, in [-1, 1]; NaN if one of them is constant."""
    from scipy.stats import rankdata  # half a second and 45 MB that most runs have no use for

    _check(log_p, log_q)
    if np.ptp(log_p) == 0.0 or np.ptp(log_q) == 0.0:
        return float("nan")
    return float(np.corrcoef(rankdata(log_p), rankdata(log_q))[0, 1])


def empirical_distribution(graph: Graph, states: Any) -> LogProbs:
    """Return the log-frequency of each of `graph.terminals` in a batch of sampled terminal states, `-inf` where unseen.

    Raises ValueError for a state that is not terminal or not of this graph, and for an empty batch.
    """
    ids = graph.index(states)
    if not ids.size:
        raise ValueError("expected at least one sampled state, got an empty batch.")
    if not np.all(graph.is_terminal[ids]):
        raise ValueError(f"row {int(np.argmin(graph.is_terminal[ids]))} is not a terminal state: its object is not finished.")
    counts = np.bincount(ids, minlength=graph.num_states)[graph.terminals]
    with np.errstate(divide="ignore"):
        return np.log(counts / ids.size)


def _check(one: Float[np.ndarray, " terminal"], two: Float[np.ndarray, " terminal"]) -> None:
    if np.ndim(one) != 1 or np.shape(one) != np.shape(two):
        raise ValueError(f"expected one number per terminal state on both sides, got shapes {np.shape(one)}, {np.shape(two)}.")
