"""The base of callbacks that change a model in the middle of a run under the Trainer of transformers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class PhaseCallback(TrainerCallback, ABC):
    """A callback of a run in two phases, which is ready for a checkpoint of either to be loaded before training begins."""

    def __init__(self) -> None:
        self._hook: RemovableHandle | None = None

    @abstractmethod
    def look(self, model: PreTrainedModel, optimizer: Any) -> None:
        """Look at the model as the Trainer got it; ValueError for one that this callback is not for."""

    @abstractmethod
    def before_loading(self, model: PreTrainedModel, state_dict: Mapping[str, Tensor], *_: Any) -> None:
        """Bring the model into the phase of a checkpoint that is about to be loaded into it."""

    @abstractmethod
    def begin(self, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, optimizer: Any) -> None:
        """Begin training, or go on with it; ValueError for what cannot work."""

    @abstractmethod
    def after_step(self, state: TrainerState, model: PreTrainedModel, optimizer: Any) -> None:
        """Go over to the second phase where it is time, before anything is evaluated or saved."""

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Look at the model, and be ready for a checkpoint of the second phase."""
        model = given.get("model")
        if model is not None:
            self.look(model, given.get("optimizer"))
            self._hook = model.register_load_state_dict_pre_hook(self.before_loading)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Begin, and take no notice of what is loaded from now on."""
        self.begin(args, state, given["model"], given["optimizer"])
        if self._hook is not None:
            self._hook.remove()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Change phases after the step that ends the first one."""
        self.after_step(state, given["model"], given["optimizer"])
