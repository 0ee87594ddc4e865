"""The two phases: attention and learners together, then learners alone."""

from typing import Any

import torch
from torch import nn

from narrows.tuning.base import layers, own_names, tuning_of
from narrows.tuning.learners.config import LearnerConfig
from narrows.tuning.learners.layers import LearnerLinear
from narrows.tuning.optimizer import Grouped, decay_groups, repair_optimizer


def learner_config(model: nn.Module) -> LearnerConfig:
    """Return the configuration of a model with learners; ValueError for any other model."""
    config = tuning_of(model).config
    if not isinstance(config, LearnerConfig):
        raise ValueError(f"this is for a model of get_learner_model, and {type(model).__name__} is tuned by {config.method!r}.")
    return config


def is_priming(model: nn.Module) -> bool:
    """Whether the model is in its first phase; ValueError for a model without learners."""
    return any(not bool(layer.learner_phase.any()) for layer in _learners(model))


@torch.no_grad()
def end_priming(model: nn.Module, optimizer: Grouped | None = None) -> None:
    """Freeze what is trained in priming alone, and let the optimiser, if there is one, forget it.

    Groups and schedule of the optimiser stay, and so do the moments of what goes on being trained. `LearnerCallback` calls this
    under a Trainer; in a loop of your own, call it between two steps. ValueError where priming is over already.
    """
    if not is_priming(model):
        raise ValueError("priming is over already, or the configuration has none (priming_epochs=0).")
    state, own = tuning_of(model), set(own_names(model))
    for name, parameter in model.named_parameters():
        if name in state.primed:
            parameter.requires_grad_(False)
            parameter.grad = None
    for layer in _learners(model):
        layer.learner_phase.fill_(1)
    state.trained = tuple(name for name in state.trained if name not in state.primed)
    state.stored |= state.primed - own
    if optimizer is not None:
        repair_optimizer(optimizer, [parameter for parameter in model.parameters() if parameter.requires_grad], {})


def learner_groups(
    model: nn.Module, learning_rate: float = 3e-4, attention_learning_rate: float = 3e-5, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Return the trained parameters in groups for an optimiser: learners and head, what does not decay, primed weights.

    The published rates are not known; these are the middle of what such layers and such models are usually trained with.

    Args:
        learning_rate: of learners, head, biases and norms.
        attention_learning_rate: of the weights that priming trains.
        weight_decay: of everything but biases and norms.
    """
    learner_config(model)
    primed_alone = tuning_of(model).primed - set(own_names(model))
    slow = {parameter for name, parameter in model.named_parameters() if name in primed_alone}
    groups: list[dict[str, Any]] = []
    for group in decay_groups(model, weight_decay):
        rest = [parameter for parameter in group["params"] if parameter not in slow]
        primed = [parameter for parameter in group["params"] if parameter in slow]
        groups += [{**group, "params": rest, "lr": learning_rate}] if rest else []
        groups += [{**group, "params": primed, "lr": attention_learning_rate}] if primed else []
    return groups


def _learners(model: nn.Module) -> list[LearnerLinear]:
    found = [layer for _, layer in layers(model) if isinstance(layer, LearnerLinear)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no learners: get_learner_model returns a model that does.")
    return found
