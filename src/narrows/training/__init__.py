"""The training loop: a step composed from its parts, an optimiser, and whole chunks of steps in one compiled program."""

from narrows.training.assembly import trainer
from narrows.training.descent import Surrogate
from narrows.training.devices import ONE, Devices, join, simulate
from narrows.training.loop import Chunk, History, Observer, Row, objects_of, run
from narrows.training.optimizers import adam
from narrows.training.reference import restore
from narrows.training.state import Given, StepInfo, Trainer, TrainState

__all__ = [
    "ONE",
    "Chunk",
    "Devices",
    "Given",
    "History",
    "Observer",
    "Row",
    "StepInfo",
    "Surrogate",
    "TrainState",
    "Trainer",
    "adam",
    "join",
    "objects_of",
    "restore",
    "run",
    "simulate",
    "trainer",
]
