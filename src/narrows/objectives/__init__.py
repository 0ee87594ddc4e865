"""Losses, one name each; a job names them in its `[objective]` table."""

from narrows.objectives.adversarial import (
    AdversarialDetailedBalance,
    AdversarialFlowMatching,
    AdversarialSubTrajectoryBalance,
    AdversarialTrajectoryBalance,
    AdversarialVarGrad,
)
from narrows.objectives.balance import (
    DetailedBalance,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrajectoryGeneralMellowmax,
    VarGrad,
)
from narrows.objectives.base import AbstractObjective as AbstractObjective
from narrows.objectives.bellman import BellmanGeneralMellowmax
from narrows.objectives.expected import (
    ExpectedDetailedBalance,
    ExpectedFlowMatching,
    ExpectedTrajectoryBalance,
    NaiveDetailedBalance,
    SampledExpectedDetailedBalance,
    SoftQ,
    StochasticDetailedBalance,
)
from narrows.objectives.lagged import LaggedGeneralMellowmax
from narrows.objectives.munchausen import MunchausenDQN
from narrows.objectives.ppo import ProximalPolicy
from narrows.objectives.sac import DiscreteSAC
from narrows.objectives.unadjusted import UnadjustedExpectedDetailedBalance

__all__ = [
    "AdversarialDetailedBalance",
    "AdversarialFlowMatching",
    "AdversarialSubTrajectoryBalance",
    "AdversarialTrajectoryBalance",
    "AdversarialVarGrad",
    "BellmanGeneralMellowmax",
    "DetailedBalance",
    "DiscreteSAC",
    "ExpectedDetailedBalance",
    "ExpectedFlowMatching",
    "ExpectedTrajectoryBalance",
    "LaggedGeneralMellowmax",
    "MunchausenDQN",
    "NaiveDetailedBalance",
    "ProximalPolicy",
    "SampledExpectedDetailedBalance",
    "SoftQ",
    "StochasticDetailedBalance",
    "SubTrajectoryBalance",
    "TrajectoryBalance",
    "TrajectoryGeneralMellowmax",
    "UnadjustedExpectedDetailedBalance",
    "VarGrad",
]
