"""Measures of a sampler: against the exact distribution where it is known, and by its samples everywhere."""

from narrows.metrics.exact import empirical_distribution as empirical_distribution
from narrows.metrics.exact import entropy as entropy
from narrows.metrics.exact import jensen_shannon as jensen_shannon
from narrows.metrics.exact import kullback_leibler as kullback_leibler
from narrows.metrics.exact import log_prob_correlation as log_prob_correlation
from narrows.metrics.exact import mass_by_quantile as mass_by_quantile
from narrows.metrics.exact import mean_score as mean_score
from narrows.metrics.exact import total_variation as total_variation
from narrows.metrics.likelihood import log_likelihood as log_likelihood
from narrows.metrics.pool import temperature_pool as temperature_pool
from narrows.metrics.samples import DiverseTopK as DiverseTopK
from narrows.metrics.samples import SampleEntropy as SampleEntropy
from narrows.metrics.samples import closeness_to_modes as closeness_to_modes
from narrows.metrics.samples import diverse_top_k as diverse_top_k
from narrows.metrics.samples import mode_distances as mode_distances
from narrows.metrics.samples import modes_found as modes_found
from narrows.metrics.samples import novelty as novelty
from narrows.metrics.samples import sample_entropy as sample_entropy
from narrows.metrics.samples import sample_mass_by_quantile as sample_mass_by_quantile
from narrows.metrics.samples import score_quantiles as score_quantiles
from narrows.metrics.samples import top_k_diversity as top_k_diversity
from narrows.metrics.samples import top_k_mean as top_k_mean
