"""Learner modules: a low-dimensional linear path beside each frozen linear, which collapses into it after training.

Vucetic et al., "Efficient Fine-Tuning of Compressed Language Models with Learners" (arXiv:2208.02070).
"""

from narrows.tuning.learners.callback import LearnerCallback
from narrows.tuning.learners.config import LearnerConfig
from narrows.tuning.learners.inject import get_learner_model
from narrows.tuning.learners.lora import export_lora, import_lora
from narrows.tuning.learners.phases import end_priming, is_priming, learner_groups

__all__ = [
    "LearnerCallback",
    "LearnerConfig",
    "end_priming",
    "export_lora",
    "get_learner_model",
    "import_lora",
    "is_priming",
    "learner_groups",
]
