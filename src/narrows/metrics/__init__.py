"""How good a sampler is: against the exact law where it is known, and from its samples everywhere."""

from narrows.metrics.exact import (
    empirical_law,
    entropy,
    jensen_shannon,
    kullback_leibler,
    log_law_correlation,
    mass_by_quantile,
    mean_score,
    total_variation,
)

__all__ = [
    "empirical_law",
    "entropy",
    "jensen_shannon",
    "kullback_leibler",
    "log_law_correlation",
    "mass_by_quantile",
    "mean_score",
    "total_variation",
]
