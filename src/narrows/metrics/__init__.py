"""How good a sampler is: against the exact distribution where it is known, and from its samples everywhere."""

from narrows.metrics.exact import (
    empirical_distribution,
    entropy,
    jensen_shannon,
    kullback_leibler,
    log_prob_correlation,
    mass_by_quantile,
    mean_score,
    total_variation,
)
from narrows.metrics.likelihood import log_likelihood
from narrows.metrics.pool import temperature_pool
from narrows.metrics.samples import DiverseTopK as DiverseTopK
from narrows.metrics.samples import SampleEntropy as SampleEntropy
from narrows.metrics.samples import (
    closeness_to_modes,
    diverse_top_k,
    mode_distances,
    modes_found,
    novelty,
    sample_entropy,
    sample_mass_by_quantile,
    score_quantiles,
    top_k_diversity,
    top_k_mean,
)

__all__ = [
    "closeness_to_modes",
    "diverse_top_k",
    "empirical_distribution",
    "entropy",
    "jensen_shannon",
    "kullback_leibler",
    "log_likelihood",
    "log_prob_correlation",
    "mass_by_quantile",
    "mean_score",
    "mode_distances",
    "modes_found",
    "novelty",
    "sample_entropy",
    "sample_mass_by_quantile",
    "score_quantiles",
    "temperature_pool",
    "top_k_diversity",
    "top_k_mean",
    "total_variation",
]
