"""Learners to LoRA checkpoints in PEFT's layout, and back.

A learner is a LoRA of `alpha = r`: `lora_A` is P1, `lora_B` is P2. What a LoRA cannot say, such as weights that priming trained
beneath a learner, is refused instead of dropped.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.base import TunedModel, layers, tuning_of
from narrows.tuning.files import CONFIG_FILE, WEIGHTS_FILE, read_folder
from narrows.tuning.learners.config import LearnerConfig
from narrows.tuning.learners.inject import get_learner_model
from narrows.tuning.learners.layers import LearnerLinear
from narrows.tuning.recording import Batch

_PREFIX: Final = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_UNKNOWN: Final = ("use_dora", "fan_in_fan_out", "lora_bias", "layer_replication", "alora_invocation_tokens", "megatron_config")


def export_lora(
    model: TunedModel, directory: str | os.PathLike[str], save_norms: bool = False, task_type: str | None = "SEQ_CLS"
) -> None:
    """Write a LoRA adapter that PEFT opens on the same base and that computes the same.

    Args:
        save_norms: put trained norms among PEFT's `modules_to_save`, where they are held whole.
        task_type: PEFT's name of the task; None for a model without a head.

    Raises ValueError where the model holds what such an adapter cannot.
    """
    state = tuning_of(model)
    learners = {name: layer for name, layer in layers(model) if isinstance(layer, LearnerLinear)}
    if not isinstance(state.config, LearnerConfig) or not learners:
        raise ValueError(f"only learners are a LoRA, and the model is tuned by {state.config.method!r}.")
    own = {f"{name}.{leaf}" for name, layer in learners.items() for leaf in layer.own()}
    moved = [name for name in (*state.trained, *sorted(state.stored)) if name not in own]
    head = [name for name in moved if _is_in(name, state.head)]
    biases = [name for name in moved if name not in head and _is_linear_bias(model, name)]
    norms = [name for name in moved if name not in head and _is_norm(model, name)]
    rest = [name for name in moved if name not in {*head, *biases, *norms}]
    if rest:
        raise ValueError(
            f"priming trained {len(rest)} weights, first {rest[0]}, which a LoRA adapter cannot hold beside a learner. "
            "Train with priming_epochs=0, or write a plain checkpoint with save_merged."
        )
    if norms and not save_norms:
        raise ValueError(
            f"{len(norms)} parameters of norms are trained, first {norms[0]}. Pass save_norms=True to put them in "
            "modules_to_save, or train with train_norms=False."
        )
    modules = [*state.head, *dict.fromkeys(name.rpartition(".")[0] for name in norms)]
    parameters = dict(model.named_parameters())
    tensors = {
        _PREFIX + name: value for name, value in parameters.items() if name in head or _is_in(name, modules[len(state.head) :])
    }
    for name, layer in learners.items():
        tensors |= {f"{_PREFIX}{name}{_A}": layer.learner_down, f"{_PREFIX}{name}{_B}": layer.learner_up}
    for name in biases:
        place, _, leaf = name.rpartition(".")
        tensors[f"{_PREFIX}{place}.base_layer.{leaf}" if place in learners else _PREFIX + name] = parameters[name]
    ranks = {name: layer.learner_down.shape[0] for name, layer in learners.items()}
    config = _description(model, state.config, ranks, bool(biases), modules, task_type)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def import_lora(model: PreTrainedModel, directory: str | os.PathLike[str], example: Batch | None = None) -> TunedModel:
    """Return the base with a LoRA adapter of PEFT's layout as learners, in the phase after priming.

    Another `lora_alpha` than r goes into P2, so that the scale is 1. Raises ValueError where the folder is no such adapter, or
    is of a kind that learners are not.
    """
    described, tensors = _read(Path(directory))
    downs = {name.removesuffix(_A): value for name, value in tensors.items() if name.endswith(_A)}
    whole = {name: value for name, value in tensors.items() if not name.endswith((_A, _B))}
    ranks = {name: value.shape[0] for name, value in downs.items()}
    moved = {name.replace(".base_layer.", "."): value for name, value in whole.items()}
    modules = described.get("modules_to_save")
    config = LearnerConfig(
        r=next(iter(ranks.values())),
        rank_pattern={name.replace(".", r"\."): rank for name, rank in ranks.items()},
        target_modules=tuple(ranks),
        priming_epochs=0,
        train_biases=described.get("bias", "none") == "all",
        train_norms=any(_is_norm(model, name) for name in moved),
    )
    tuned = get_learner_model(model, config, example)
    parameters = dict(tuned.named_parameters())
    values = dict(moved)
    for name, down in downs.items():
        values[f"{name}.learner_down"] = down
        values[f"{name}.learner_up"] = tensors[name + _B] * _scale(described, name, ranks[name])
    wrong = [name for name, value in values.items() if name not in parameters or parameters[name].shape != value.shape]
    if wrong:
        raise ValueError(
            f"the adapter does not fit {type(model).__name__}: it has no place, or another shape, for {', '.join(wrong)} "
            f"(modules_to_save={modules}). Open the base with the class and number of labels that it was tuned with."
        )
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
    return tuned


def _description(
    model: TunedModel,
    config: LearnerConfig,
    ranks: Mapping[str, int],
    has_biases: bool,
    modules: list[str],
    task_type: str | None,
) -> dict[str, Any]:
    """Return the fields of PEFT's configuration that matter here; the others have its defaults."""
    escaped = {name.replace(".", r"\."): rank for name, rank in ranks.items() if rank != config.r}
    return {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": model.config.name_or_path,
        "inference_mode": True,
        "r": config.r,
        "lora_alpha": config.scale * config.r,
        "rank_pattern": escaped,
        "alpha_pattern": {name: config.scale * rank for name, rank in escaped.items()},
        "lora_dropout": config.dropout,
        "bias": "all" if has_biases else "none",
        "target_modules": list(ranks),
        "modules_to_save": modules,
        "use_rslora": False,
        "fan_in_fan_out": False,
    }


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    described, tensors = read_folder(folder, "PEFT's save_pretrained writes both")
    if not isinstance(described, dict) or described.get("peft_type") != "LORA":
        raise ValueError(f"{folder / CONFIG_FILE} does not describe a LoRA adapter (peft_type 'LORA').")
    refused = [name for name in _UNKNOWN if described.get(name)]
    if refused:
        raise ValueError(f"the adapter uses {', '.join(refused)}, which learners do not have. Merge it with PEFT instead.")
    renamed = {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
    lone = [name for name in renamed if name.endswith(_A) and name.removesuffix(_A) + _B not in renamed]
    strange = [name for name in renamed if "lora_" in name and not name.endswith((_A, _B))]
    if lone or strange or not any(name.endswith(_A) for name in renamed):
        raise ValueError(
            f"{folder / WEIGHTS_FILE} holds no pairs of lora_A and lora_B of linears alone: "
            f"{', '.join(lone + strange) or 'none at all'}. Learners stand beside linears only."
        )
    return described, renamed


def _scale(described: Mapping[str, Any], name: str, rank: int) -> float:
    """Return PEFT's factor of one adapter: alpha over r, or over its root, with the patterns that fit the end of the name."""
    alpha = described["lora_alpha"]
    for pattern, value in (described.get("alpha_pattern") or {}).items():
        try:
            is_meant = re.fullmatch(rf"(?:.*\.)?(?:{pattern})", name)
        except re.error as error:
            raise ValueError(
                f"alpha_pattern has {pattern!r}, which is no regular expression ({error}). Mend it in {CONFIG_FILE}."
            ) from None
        if is_meant:
            alpha = value
            break
    return alpha / (rank**0.5 if described.get("use_rslora") else rank)


def _is_in(name: str, modules: list[str] | tuple[str, ...]) -> bool:
    return name.startswith(tuple(f"{module}." for module in modules)) if modules else False


def _owner(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _is_linear_bias(model: nn.Module, name: str) -> bool:
    return name.endswith(".bias") and isinstance(_owner(model, name), nn.Linear | LearnerLinear)


def _is_norm(model: nn.Module, name: str) -> bool:
    try:
        return "norm" in type(_owner(model, name)).__name__.lower()
    except AttributeError:
        # A name that this model does not have; whoever asked reports it with all the others.
        return False
