"""Kernels of noise: which action takes place for the one that was asked for. A job names one in `[noise]`."""

from narrows.noise.dataset import Transitions as Transitions
from narrows.noise.dataset import transitions as transitions
from narrows.noise.fit import KernelFit as KernelFit
from narrows.noise.fit import KernelQuality as KernelQuality
from narrows.noise.fit import fit_kernel as fit_kernel
from narrows.noise.observed import Observed
from narrows.noise.substitution import Substitution
from narrows.noise.table import Matrix as Matrix
from narrows.noise.table import Table

__all__ = ["Observed", "Substitution", "Table"]
