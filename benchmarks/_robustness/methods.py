"""The methods that are compared: objectives in one trainer, and the two controls that every TGM has beside it."""

from dataclasses import dataclass

from narrows.objectives import (
    DiscreteSAC,
    LaggedGeneralMellowmax,
    MunchausenDQN,
    ProximalPolicy,
    SoftQ,
    TrajectoryGeneralMellowmax,
)
from narrows.objectives.base import AbstractObjective

OMEGA, ALPHA = 1.0, 1.0
QS = (0.25, 0.5, 0.75, 1.0)
RANDOM = "random search"
GFLOWNET = "GFlowNet"
CHOSEN = "TGM, q chosen"
LAG = 0.9
LAGGED, VALUED = "lagged TGM", "GFlowNet with values"
TEMPERATURE, ENTROPY = "temperature-matched GFlowNet", "entropy-matched GFlowNet"
_PERIOD = 5


@dataclass(frozen=True)
class Method:
    """A way to train.

    Args:
        name: what rows and tables call it.
        objective: its loss.
        q: of a TGM in its published form; None for the others.
        twin: the GFlowNet that its controls are trained as: what it has beside its operator, they have too.
    """

    name: str
    objective: AbstractObjective
    q: float | None = None
    twin: str = GFLOWNET

    def temperature_factor(self, stop: int) -> float:
        """How many times the exponent beta a GFlowNet needs to be as sharp as this one after so many batches.

        That of its logits where the reference is its own (tgm 6.4). A lagged one has made `stop` exact steps at most.
        """
        if isinstance(self.objective, LaggedGeneralMellowmax):
            return OMEGA * (1.0 - self.objective.q**stop)
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
    Method(VALUED, LaggedGeneralMellowmax(OMEGA, 0.0)),
    Method(LAGGED, LaggedGeneralMellowmax(OMEGA, LAG), twin=VALUED),
)
TWINS = tuple(dict.fromkeys(method.twin for method in METHODS))


def controlled_by(twin: str) -> tuple[str, ...]:
    """Return the names of what has controls that are trained as this GFlowNet."""
    return tuple(method.name for method in METHODS if method.twin == twin and method.name in {*map(tgm_name, QS), LAGGED})


def named(name: str) -> Method:
    """Return the method of a name."""
    return next(method for method in METHODS if method.name == name)
