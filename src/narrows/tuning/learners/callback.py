"""The phases of learners under the Trainer of transformers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, TrainerState, TrainingArguments

from narrows.tuning.learners.phases import end_priming, is_priming, learner_config
from narrows.tuning.optimizer import repair_optimizer
from narrows.tuning.phases import PhaseCallback


class LearnerCallback(PhaseCallback):
    """End the priming of a model with learners when its configuration says so.

    The optimiser is repaired in place, so moments, schedule and groups go on. A checkpoint of either phase can be resumed from:
    start from the same base model, with learners of the same configuration, and with this callback given when the Trainer is
    made.
    """

    def __init__(self) -> None:
        super().__init__()
        self._optimizer: Any = None

    def look(self, model: PreTrainedModel, optimizer: Any) -> None:
        """See that the model has learners."""
        learner_config(model)
        self._optimizer = optimizer

    def begin(self, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, optimizer: Any) -> None:
        """Refuse what cannot work, before it is tried."""
        config = learner_config(model)
        if not is_priming(model):
            return
        if args.world_size > 1:
            raise ValueError(
                "LearnerCallback freezes weights while the model trains, which data-parallel training does not allow. Prime in "
                "one process, call end_priming, and leave the callback out; or take priming_epochs=0."
            )
        if state.global_step and config.is_primed(state.global_step, state.epoch or 0.0):
            raise ValueError(
                f"the checkpoint is of step {state.global_step}, after priming, and the model is still priming. Its file is "
                "of another configuration, or the callback was added after the Trainer was made."
            )

    def after_step(self, state: TrainerState, model: PreTrainedModel, optimizer: Any) -> None:
        """End priming after its last step."""
        if is_priming(model) and learner_config(model).is_primed(state.global_step, state.epoch or 0.0):
            end_priming(model, optimizer)

    def before_loading(self, model: PreTrainedModel, state_dict: Mapping[str, Tensor], *_: Any) -> None:
        """Freeze before a checkpoint of the second phase goes in: its optimiser knows fewer parameters."""
        phases = [value for name, value in state_dict.items() if name.endswith(".learner_phase")]
        if not phases or not all(bool(phase.any()) for phase in phases):
            return
        if is_priming(model):
            end_priming(model)
        if self._optimizer is not None:
            # Even where priming was over: the callback of another Trainer on the same model may have been the first.
            repair_optimizer(self._optimizer, [parameter for parameter in model.parameters() if parameter.requires_grad], {})
