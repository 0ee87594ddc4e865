"""Tables of texts to scores: an encoder tuned by any method of this room, judged on held-out rows, kept in a folder."""

from narrows.tuning.scoring.fitting import Fitted, Plan, Request, Sides, fit_scorer, foreseen, prepare, refuse_taken
from narrows.tuning.scoring.quality import ScorerQuality
from narrows.tuning.scoring.scorer import TunedScorer, is_scorer, save_scorer
from narrows.tuning.scoring.task import Prediction, Task
from narrows.tuning.scoring.training import TuningSettings, Watch

__all__ = [
    "TuningSettings",
    "Fitted",
    "Plan",
    "Prediction",
    "ScorerQuality",
    "Request",
    "TunedScorer",
    "Sides",
    "Task",
    "Watch",
    "fit_scorer",
    "foreseen",
    "is_scorer",
    "prepare",
    "refuse_taken",
    "save_scorer",
]
