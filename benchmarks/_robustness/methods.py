"""The methods that are compared: objectives in one trainer, and the two controls that every TGM has beside it."""

from dataclasses import dataclass

from narrows.objectives import DiscreteSAC, MunchausenDQN, ProximalPolicy, SoftQ, TrajectoryGeneralMellowmax
from narrows.objectives.base import AbstractObjective

OMEGA, ALPHA = 1.0, 1.0
QS = (0.25, 0.5, 0.75, 1.0)
RANDOM = "random search"
GFLOWNET = "GFlowNet"
CHOSEN = "TGM, q chosen"
TEMPERATURE, ENTROPY = "temperature-matched GFlowNet", "entropy-matched GFlowNet"
_PERIOD = 5


@dataclass(frozen=True)
class Method:
    """A way to train.

    Args:
        name: what rows and tables call it.
        objective: its loss.
        q: of a TGM; None for the others.
    """

    name: str
    objective: AbstractObjective
    q: float | None = None

    @property
    def temperature_factor(self) -> float:
        """How many times the exponent beta a GFlowNet needs to have the logits of this one (tgm section 6.4)."""
        return OMEGA + (self.q or 0.0) * ALPHA


def tgm_name(q: float) -> str:
    """Return the name of the TGM of a q."""
    return f"TGM, q = {q:g}"


def control_name(control: str, method: str) -> str:
    """Return the name of the control of a method."""
    return f"{control} of {method}"


_GFLOWNET = Method(GFLOWNET, TrajectoryGeneralMellowmax(OMEGA, 0.0, 0.0))
TGMS = tuple(Method(tgm_name(q), TrajectoryGeneralMellowmax(OMEGA, ALPHA, q), q) for q in QS)
METHODS = (
    _GFLOWNET,
    *TGMS,
    Method("soft Q-learning", SoftQ()),
    # The published periods, 100 and 500 steps, are longer than what a value takes to get from the end to the root here.
    Method("Munchausen DQN", MunchausenDQN(target_period=_PERIOD)),
    # Where the temperature is tuned the reward does not matter; held fixed, beta is its inverse, as for all others.
    Method("discrete SAC", DiscreteSAC(temperature=1.0, tunes_temperature=False, target_period=_PERIOD)),
    Method("PPO", ProximalPolicy()),
)


def named(name: str) -> Method:
    """Return the method of a name."""
    return next(method for method in METHODS if method.name == name)
