"""What is trained on the biological tasks: their sizes, the methods, and the grid that every method is tuned on."""

from dataclasses import dataclass, field

from benchmarks._laws import CHOSEN, ENTROPY, TEMPERATURE, tgm_name
from narrows.objectives import DiscreteSAC, ProximalPolicy, TrajectoryGeneralMellowmax
from narrows.objectives.base import AbstractObjective

OMEGA, ALPHA = 4.0, 1.0
QS = (0.25, 0.5, 0.75, 1.0)
SAC, PPO, GFN = "discrete SAC", "PPO", "GFlowNet, q = 0"
CONTROLS = (TEMPERATURE, ENTROPY)
SHARES = (0.05, 0.1, 0.2)
"""Least edits between two of the kept, as shares of the longest length: the published distances are not known."""
MAIN_SHARE = 1
PUBLISHED = {
    "UTR": {SAC: 3.46, PPO: 4.12, GFN: 4.19, CHOSEN: 4.27},
    "AMP": {SAC: 9.79, PPO: 10.04, GFN: 10.13, CHOSEN: 10.43},
    "GFP": {SAC: 0.66, PPO: 1.90, GFN: 2.44, CHOSEN: 2.95},
}
"""Average mode rewards (tgm 8), to stand beside figures on the published data alone."""
_PERIOD = 20


@dataclass(frozen=True)
class Method:
    """A way to train."""

    name: str  # what rows and tables call it
    objective: AbstractObjective  # its loss
    # times beta, the exponent of the reward that it is given: all are after `exp(omega beta Phi)`, or what TGM makes of it
    factor: float = 1.0


METHODS = (
    Method(SAC, DiscreteSAC(temperature=1.0, tunes_temperature=False, target_period=_PERIOD), OMEGA),
    Method(PPO, ProximalPolicy(), OMEGA),
    Method(GFN, TrajectoryGeneralMellowmax(OMEGA, 0.0, 0.0)),
    *(Method(tgm_name(q), TrajectoryGeneralMellowmax(OMEGA, ALPHA, q)) for q in QS),
)
TGMS = {tgm_name(q): q for q in QS}


@dataclass(frozen=True)
class Size:
    """How large a task is made."""

    name: str  # UTR, AMP or GFP
    num_rows: int  # of the stand-in's data
    num_epochs: int  # of its proxy, at most
    num_steps: int  # training steps of 16 objects
    proxy_rate: float | None = None  # learning rate of its proxy; None for the published one
    proxy_batch: int | None = None  # rows a step of its proxy; None for as many as published
    betas: tuple[float, ...] = (4.0, 16.0)  # of the grid
    num_samples: int = 256  # at each of three sampling temperatures, of which a shortlist is chosen


@dataclass(frozen=True)
class Plan:
    """What one run does."""

    # of the tasks
    sizes: tuple[Size, ...] = (
        Size("UTR", 4000, 12, 100, 1e-3),
        Size("AMP", 3000, 12, 100, 1e-3),
        # Smaller in all that can be, for an object of 237 letters costs far more than one of 50.
        Size("GFP", 800, 6, 20, 1e-3, proxy_batch=16, betas=(4.0,), num_samples=128),
    )
    seeds: tuple[int, ...] = (0, 1, 2)  # that are reported
    tuning_seed: int = 100  # on which beta and the learning rate are chosen, for each method, from the grid
    rates: tuple[float, ...] = (1e-3,)  # of the grid
    batch_size: int = 16  # objects a step (tgm 6.2)
    num_kept: int = 100  # objects of the average mode reward
    methods: tuple[str, ...] = field(default_factory=lambda: tuple(method.name for method in METHODS))  # names
    control_rounds: int = 2  # trainings for each control that has to find the exponent of an entropy


FULL = Plan()
QUICK = Plan(
    sizes=(Size("UTR", 200, 1, 3, 1e-3, betas=(4.0,), num_samples=32),),
    seeds=(0,),
    rates=(1e-3,),
    batch_size=8,
    num_kept=5,
    methods=(GFN, tgm_name(0.5)),
    control_rounds=1,
)


def named(name: str) -> Method:
    """Return the method of a name."""
    return next(method for method in METHODS if method.name == name)


def temperature_factor(q: float) -> float:
    """Return how many times the exponent of a TGM makes a GFlowNet as sharp (tgm 6.4)."""
    return (OMEGA + q * ALPHA) / OMEGA
