"""From rules and a policy to trajectories, and from trajectories back to what a loss reads.

A trajectory is kept as its actions; states are replayed where they are needed. This is the one place that batches rules
(`jax.vmap`) and the one place that pads (`NO_ACTION` after the end).
"""

from narrows.envs.base import NO_ACTION
from narrows.trajectories.path import Path, PathScores, follow, gather, log_probs_along, per_step, shift_back
from narrows.trajectories.sampling import (
    Redrawn,
    SamplerCache,
    Share,
    Trajectory,
    redraw,
    redraw_with_cache,
    sample,
    sample_backward,
    sample_with_cache,
)

__all__ = [
    "NO_ACTION",
    "Path",
    "PathScores",
    "Redrawn",
    "SamplerCache",
    "Share",
    "Trajectory",
    "follow",
    "gather",
    "log_probs_along",
    "per_step",
    "redraw",
    "redraw_with_cache",
    "sample",
    "sample_backward",
    "sample_with_cache",
    "shift_back",
]
