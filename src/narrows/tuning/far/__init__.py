"""Freeze-And-Reconfigure: a short priming ranks the nodes of the feed-forwards, and only the best go on learning.

Vucetic et al., "Efficient Fine-Tuning of BERT Models on the Edge" (arXiv:2205.01541).
"""

from narrows.tuning.far.config import FarConfig
from narrows.tuning.far.inject import get_far_model
from narrows.tuning.far.priming import prime
from narrows.tuning.far.selection import Selection, overlap

__all__ = ["FarConfig", "Selection", "get_far_model", "overlap", "prime"]
