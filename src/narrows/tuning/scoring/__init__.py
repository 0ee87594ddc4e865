"""Tables of texts to scores: an encoder tuned by any method of this room, judged on held-out rows, kept in a folder."""

from narrows.tuning.scoring.fitting import Fitted, Plan, Request, Sides, fit, foreseen, prepare, refuse_taken
from narrows.tuning.scoring.quality import Quality
from narrows.tuning.scoring.scorer import Scorer, is_scorer, save_scorer
from narrows.tuning.scoring.task import Prediction, Task
from narrows.tuning.scoring.training import FitSettings, Watch

__all__ = [
    "FitSettings",
    "Fitted",
    "Plan",
    "Prediction",
    "Quality",
    "Request",
    "Scorer",
    "Sides",
    "Task",
    "Watch",
    "fit",
    "foreseen",
    "is_scorer",
    "prepare",
    "refuse_taken",
    "save_scorer",
]
