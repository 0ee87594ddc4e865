"""Adapter folders back onto a base model."""

import os
from pathlib import Path

from transformers import PreTrainedModel

from narrows.tuning.base import TunedModel
from narrows.tuning.baselines import BASELINES, get_baseline_model
from narrows.tuning.far.config import FarConfig
from narrows.tuning.far.inject import get_far_model
from narrows.tuning.far.selection import Selection
from narrows.tuning.files import Adapter, load_adapter, read_adapter
from narrows.tuning.learners.config import LearnerConfig
from narrows.tuning.learners.inject import get_learner_model
from narrows.tuning.learners.phases import end_priming, is_priming
from narrows.tuning.recording import Batch


def from_pretrained(
    model: PreTrainedModel,
    directory: str | os.PathLike[str],
    is_trainable: bool = False,
    strict: bool = True,
    example: Batch | None = None,
) -> TunedModel:
    """Return the base model tuned in place as the folder says; its head is the folder's, whatever head the base had.

    Args:
        is_trainable: whether training shall go on; else everything is frozen and the model is in evaluation mode.
        strict: refuse a base whose frozen tensors are not those that the adapter was trained on.

    Raises ValueError where the folder is no adapter, or does not fit the base.
    """
    adapter = read_adapter(directory)
    tuned = rebuild(model, adapter, example)
    load_adapter(tuned, adapter, strict)
    if not is_trainable:
        tuned.train(False)
        for parameter in tuned.parameters():
            parameter.requires_grad_(False)
    return tuned


def rebuild(model: PreTrainedModel, adapter: Adapter, example: Batch | None = None) -> TunedModel:
    """Return the base tuned as the adapter was, with the base's own values still in it."""
    config = dict(adapter.config)
    if adapter.head:
        config["modules_to_save"] = list(adapter.head)
    if adapter.method == FarConfig.method:
        selection = Selection(indices_in(adapter), moved=adapter.stored)
        return get_far_model(model, FarConfig.from_dict(config), selection, example)
    if adapter.method == LearnerConfig.method:
        return _with_learners(model, LearnerConfig.from_dict(config), adapter, example)
    for kind in BASELINES:
        if adapter.method == kind.method:
            return get_baseline_model(model, kind.from_dict(config), example)
    known = ", ".join((FarConfig.method, *(kind.method for kind in BASELINES), LearnerConfig.method))
    raise ValueError(f"the adapter was tuned with {adapter.method!r}, and this version knows {known}. Upgrade narrows.")


def _with_learners(model: PreTrainedModel, config: LearnerConfig, adapter: Adapter, example: Batch | None) -> TunedModel:
    """Return the base with learners, in the phase that the adapter was saved in."""
    tuned = get_learner_model(model, config, example)
    phases = [value for name, value in adapter.tensors.items() if name.endswith(".learner_phase")]
    if is_priming(tuned) and all(bool(phase.any()) for phase in phases):
        end_priming(tuned)
    return tuned


def indices_in(adapter: Adapter) -> dict[str, tuple[int, ...]]:
    """Return the learner nodes of an adapter by the name of the widening linear."""
    ending = ".far_index"
    return {
        name.removesuffix(ending): tuple(value.tolist()) for name, value in adapter.tensors.items() if name.endswith(ending)
    }


def saved_indices(directory: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Return the learner nodes of an adapter's folder, as `FarConfig(indices=...)` takes them."""
    return indices_in(read_adapter(Path(directory)))
