"""The methods that are compared, and which exact law each of them is after."""

from dataclasses import dataclass

from narrows.objectives import (
    ExpectedDetailedBalance,
    ExpectedFlowMatching,
    ExpectedTrajectoryBalance,
    NaiveDetailedBalance,
    SampledExpectedDetailedBalance,
    SoftQ,
    StochasticDetailedBalance,
)
from narrows.objectives.base import AbstractObjective

EFLOW = "EFlowNet"
MAXENT = "MaxEnt RL"
NOISE_FREE = "noise-free policy in noise"
COMPROMISE = "least squares on the tree"
CLIPPED = "clipped deconvolution"
TARGET = "target"
UNIFORM = "uniform"


@dataclass(frozen=True)
class Method:
    """A way to train a policy in a noisy world."""

    name: str  # what rows and tables call it
    objective: AbstractObjective  # its loss
    exact: str  # the exact law that it is after, or where there is none, the nearest that is
    is_expected: bool = False  # it has the constraints of expected flow networks
    learns_backward: bool = False  # the policy has a backward head
    learns_kernel: bool = False  # the loss sees a kernel fitted to transitions, never the true one
    differs_without_noise: bool = False  # without noise its training is not that of detailed balance


METHODS = (
    Method("expected DB, visited", ExpectedDetailedBalance(), EFLOW, is_expected=True),
    Method("expected DB, all", ExpectedDetailedBalance("all"), EFLOW, is_expected=True, differs_without_noise=True),
    Method("expected TB", ExpectedTrajectoryBalance(), EFLOW, is_expected=True, differs_without_noise=True),
    Method("expected FM", ExpectedFlowMatching(), EFLOW, is_expected=True, differs_without_noise=True),
    Method("expected DB, 2 drawn", SampledExpectedDetailedBalance(2), EFLOW, is_expected=True, differs_without_noise=True),
    Method("naive DB", NaiveDetailedBalance(), NOISE_FREE),
    Method("stochastic DB, tree", StochasticDetailedBalance(dag_correction=False), COMPROMISE),
    Method("stochastic DB, uniform P_B", StochasticDetailedBalance(), COMPROMISE),
    Method("stochastic DB, learned P_B", StochasticDetailedBalance(), CLIPPED, learns_backward=True),
    Method(
        *("stochastic DB, learned P_B and kernel", StochasticDetailedBalance(), CLIPPED),
        learns_backward=True,
        learns_kernel=True,
        differs_without_noise=True,
    ),
    Method("soft Q", SoftQ(), MAXENT),
)
PLAIN = METHODS[0]
"""What the methods that do not differ without noise are trained as there: they are one constraint, detailed balance."""

SPEAKERS = ("expected DB, visited", "expected TB")
"""The two that stand for expected flow networks: the constraint as published, and its form along whole trajectories."""

RIVALS = tuple(method.name for method in METHODS if not method.is_expected)
NAMES = tuple(method.name for method in METHODS)


def named(name: str) -> Method:
    """Return a method by its name."""
    return next(method for method in METHODS if method.name == name)
