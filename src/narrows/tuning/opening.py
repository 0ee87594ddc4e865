"""Adapter folders back onto a base model."""

import os
from pathlib import Path

from transformers import PreTrainedModel

from narrows.tuning.architecture import Architecture, probe
from narrows.tuning.base import TunedModel, tuning_of
from narrows.tuning.baselines import BASELINES, BaselineConfig, get_baseline_model
from narrows.tuning.far.config import FarConfig
from narrows.tuning.far.inject import get_far_model, sites_of
from narrows.tuning.far.selection import Selection
from narrows.tuning.files import Adapter, load_adapter, read_adapter
from narrows.tuning.learners.config import LearnerConfig
from narrows.tuning.learners.inject import get_learner_model
from narrows.tuning.learners.phases import end_priming, is_priming
from narrows.tuning.precision import widened
from narrows.tuning.recording import Batch


def from_pretrained(
    model: PreTrainedModel,
    directory: str | os.PathLike[str],
    is_trainable: bool = False,
    strict: bool = True,
    example: Batch | None = None,
) -> TunedModel:
    """Return the base model tuned in place as the folder says; its head is the folder's, whatever head the base had.

    A base in half precision becomes float32.

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
    values = dict(adapter.config)
    if adapter.head:
        values["modules_to_save"] = list(adapter.head)
    kinds = {kind.method: kind for kind in (FarConfig, *BASELINES, LearnerConfig)}
    if adapter.method not in kinds:
        raise ValueError(
            f"the adapter was tuned with {adapter.method!r}, and this version knows {', '.join(kinds)}. Upgrade narrows."
        )
    config = kinds[adapter.method].from_dict(values)
    with widened(model) as narrow:
        architecture = probe(model, config.ffn_pairs, config.modules_to_save, example, adapter.unreached)
        tuned = _tuned(model, config, architecture, adapter, example)
    state = tuning_of(tuned)
    state.narrow = narrow
    # An adapter of an early version holds parameters that no gradient came to as well.
    state.stored |= (adapter.stored | frozenset(adapter.trained)) - frozenset(state.trained)
    return tuned


def _tuned(
    model: PreTrainedModel,
    config: FarConfig | BaselineConfig | LearnerConfig,
    architecture: Architecture,
    adapter: Adapter,
    example: Batch | None,
) -> TunedModel:
    if isinstance(config, BaselineConfig):
        return get_baseline_model(model, config, example, architecture)
    if isinstance(config, LearnerConfig):
        return _with_learners(get_learner_model(model, config, example, architecture), adapter)
    # A feed-forward without learners is plain, and has no place for their positions.
    nodes = {site.up: () for site in sites_of(model, config, architecture)} | indices_in(adapter)
    return get_far_model(model, config, Selection(nodes, moved=adapter.stored), example, architecture)


def _with_learners(tuned: TunedModel, adapter: Adapter) -> TunedModel:
    """Return the model in the phase that the adapter was saved in."""
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
