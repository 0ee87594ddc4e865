"""What is compared: every way of tuning, by name, from a plain model to a tuned one."""

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
import torch.utils.checkpoint
from torch import nn
from transformers import PreTrainedModel

from narrows.tuning import (
    BitFitConfig,
    FarConfig,
    FreezeFfnConfig,
    FullConfig,
    HeadOnlyConfig,
    LearnerConfig,
    end_priming,
    get_baseline_model,
    get_far_model,
    get_learner_model,
)
from narrows.tuning.architecture import probe
from narrows.tuning.baselines import BaselineConfig

Build = Callable[[PreTrainedModel], Any]
"""From a plain model, which it may change, to what is trained."""

FULL: Final = "full"
FLAT: Final = ", flat optimizer"
"""What the name of a variant ends with that is trained by one pass over all parameters, `FlatAdamW`; others have AdamW."""


def _far(**changes: Any) -> Build:
    """The nodes are drawn at random: what a step costs does not depend on which they are."""
    return lambda model: get_far_model(model, FarConfig(**{"retention": 0.1, "score": "random", **changes}))


def _edge(**changes: Any) -> Build:
    return _far(train_embeddings=False, **changes)


def _learner(priming: float = 0.0, **changes: Any) -> Build:
    return lambda model: get_learner_model(model, LearnerConfig(**{"priming_epochs": priming, **changes}))


def _baseline(config: BaselineConfig) -> Build:
    return lambda model: get_baseline_model(model, config)


def _frozen_embeddings(model: PreTrainedModel) -> PreTrainedModel:
    embeddings = probe(model).embeddings
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in embeddings)
    return model


def _checkpointed(model: PreTrainedModel) -> PreTrainedModel:
    """PyTorch's own checkpointing around each feed-forward, which keeps its input alone."""
    for pair in probe(model).pairs:
        module = model.get_submodule(pair.up.rpartition(".")[0])
        module.forward = _Checkpointed(module.forward)
    return model


class _Checkpointed:
    """A forward that is computed again in the backward pass."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._forward = forward

    def __call__(self, *inputs: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(self._forward, *inputs, use_reentrant=False)


def _peft(rank: int, modules: list[str]) -> Build:
    def build(model: PreTrainedModel) -> Any:
        from peft import LoraConfig, TaskType, get_peft_model  # of the benchmark alone

        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=rank, lora_alpha=2 * rank, target_modules=modules)
        return get_peft_model(model, config)

    return build


_QUERY_VALUE = ["q_lin", "v_lin", "query", "value"]
_LINEARS = ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"]

COSTS: Final[Mapping[str, Build]] = MappingProxyType(
    {
        FULL: lambda model: model,
        FULL + FLAT: lambda model: model,
        "full, feed-forward checkpointed": _checkpointed,
        "full, feed-forward recomputed": _baseline(FullConfig(memory_mode="recompute")),
        "full, embeddings frozen": _frozen_embeddings,
        "frozen feed-forwards": _baseline(FreezeFfnConfig()),
        "FAR_10 tier1": _far(memory_mode="tier1"),
        "FAR_10 keep": _far(memory_mode="keep"),
        "FAR_10 lean": _far(memory_mode="lean"),
        "FAR_10 recompute": _far(memory_mode="recompute"),
        "FAR_10 u8": _far(memory_mode="u8"),
        "FAR_10 bf16": _far(memory_mode="bf16"),
        "FAR_40 keep": _far(retention=0.4),
        "FAR_40 recompute": _far(retention=0.4, memory_mode="recompute"),
        "FAR_10 edge keep": _edge(),
        f"FAR_10 edge keep{FLAT}": _edge(),
        "FAR_10 edge recompute": _edge(memory_mode="recompute"),
        "FAR_10 feed-forwards only": _edge(train_attention=False, train_norms=False),
        "FAR_10 frugal": _edge(frozen_blocks=2, thrifty_dropout=True),
        f"FAR_10 frugal{FLAT}": _edge(frozen_blocks=2, thrifty_dropout=True),
        "Learner_8": _learner(r=8),
        "Learner_64": _learner(),
        "Learner_64 priming": _learner(priming=2.0),
        "Learner_64 lean": _learner(memory_mode="lean"),
        "Learner_64, P1 frozen": lambda model: _primed(_learner(priming=2.0, train_down_projection=False)(model)),
        "LoRA r=8, query and value (peft)": _peft(8, _QUERY_VALUE),
        "LoRA r=64, all linears (peft)": _peft(64, _LINEARS),
        "BitFit": _baseline(BitFitConfig()),
        "head only": _baseline(HeadOnlyConfig()),
    }
)
"""Of a DistilBERT with random weights."""


def _primed(model: Any) -> Any:
    end_priming(model)
    return model


def far_config(retention: float, score: str) -> FarConfig:
    """Freeze-And-Reconfigure as published but for the score; priming is 1 % of the steps."""
    if score == "l1_delta":
        return FarConfig.paper(retention)
    return FarConfig(retention=retention, score=score)  # pyright: ignore[reportArgumentType]


ACCURACY: Final[Mapping[str, FarConfig | LearnerConfig | BaselineConfig | Build]] = MappingProxyType(
    {
        FULL: FullConfig(),
        "FAR_10 l1_delta": far_config(0.1, "l1_delta"),
        "FAR_10 grad_l1": far_config(0.1, "grad_l1"),
        "FAR_10 random": far_config(0.1, "random"),
        "FAR_40 grad_l1": far_config(0.4, "grad_l1"),
        "FAR_5 l1_delta": far_config(0.05, "l1_delta"),
        "FAR_5 grad_l1": far_config(0.05, "grad_l1"),
        "FAR_5 random": far_config(0.05, "random"),
        "FAR_10 frugal": FarConfig.frugal(0.1),
        "Learner_64 p=0": LearnerConfig(priming_epochs=0),
        "Learner_64 p=2": LearnerConfig(priming_epochs=2),
        "frozen feed-forwards": FreezeFfnConfig(),
        "BitFit": BitFitConfig(),
        "LoRA r=8, query and value (peft)": _peft(8, _QUERY_VALUE),
        "head only": HeadOnlyConfig(),
    }
)


def fresh(model: nn.Module) -> Any:
    """Return a copy, since building changes a model in place."""
    return copy.deepcopy(model)
