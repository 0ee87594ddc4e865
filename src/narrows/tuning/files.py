"""Adapter files: all that was trained, nothing that is frozen, and hashes of the base that they belong to.

A folder holds `adapter_config.json` and `adapter_model.safetensors`. Tensors keep the names that they have in the tuned model.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from narrows.tuning.base import TunedModel, layers, stored_names, sync, tuning_of
from narrows.tuning.folders import replace_file, replace_text
from narrows.tuning.parts import was_loaded
from narrows.tuning.precision import HALVES

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
# The name under which the Trainer of transformers looks for weights when it resumes or goes back to the best checkpoint.
TRAINER_FILE: Final = "model.safetensors"
FORMAT: Final = 1


class Adapter(NamedTuple):
    """The contents of an adapter's folder.

    Attributes:
        method: of tuning.
        config: the configuration's fields.
        tensors: by the name of the parameter.
        base_hashes: of the frozen tensors, by name.
        head: names of the head's modules.
        trained: names of the trained parameters.
        stored: names of parameters that moved in priming and are frozen now.
        unreached: names of parameters that no gradient comes to; None where an early version wrote the file, which did not ask.
    """

    method: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    base_hashes: Mapping[str, str]
    head: tuple[str, ...]
    trained: tuple[str, ...]
    stored: frozenset[str]
    unreached: frozenset[str] | None


def save_pretrained(
    model: TunedModel,
    save_directory: str | os.PathLike[str],
    state_dict: Mapping[str, Tensor] | None = None,
    is_main_process: bool | None = None,
) -> None:
    """Write the adapter: everything trained, learner positions, and hashes of what is frozen.

    Args:
        state_dict: values to write instead of the model's own.
        is_main_process: given by a Trainer, and by nobody else. Its weights are then written under the name that a Trainer
            looks for as well, since it would resume without them; False writes nothing.
    """
    if is_main_process is False:
        return
    state = tuning_of(model)
    sync(model)
    folder = Path(save_directory)
    folder.mkdir(parents=True, exist_ok=True)
    if state.stored and is_main_process is None:
        warnings.warn(
            f"priming moved {len(state.stored)} tensors that are frozen now, so the adapter holds them whole. "
            f"{state.config.small_adapter}",
            stacklevel=2,
        )
    source = dict(model.named_parameters()) if state_dict is None else state_dict
    tensors = {name: source[name].detach().cpu().contiguous().clone() for name in stored_names(model)}
    described = {
        "format": FORMAT,
        "method": state.config.method,
        "base_model_name_or_path": model.config.name_or_path,
        "base_class": type(model).__name__,
        "config": state.config.to_dict(),
        "head": list(state.head),
        "trained": list(state.trained),
        "stored": sorted(state.stored),
        "unreached": sorted(state.unreached),
        "base_hashes": base_hashes(model),
    }
    replace_file(folder / WEIGHTS_FILE, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    replace_text(folder / CONFIG_FILE, json.dumps(described, indent=2, sort_keys=True) + "\n")
    if is_main_process:
        # A copy and no link: whoever writes a plain model into this folder later must not write through it.
        replace_file(folder / TRAINER_FILE, lambda path: shutil.copyfile(folder / WEIGHTS_FILE, path))


def save_merged(model: TunedModel, save_directory: str | os.PathLike[str]) -> None:
    """Write the plain checkpoint that `merge_and_unload` would leave, with its configuration; the model stays tuned."""
    type(model).save_pretrained(model, save_directory, state_dict=merged_state(model))


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of the merged model."""
    state = dict(model.state_dict())
    for name, layer in layers(model):
        for leaf in layer.own():
            state.pop(f"{name}.{leaf}", None)
        state |= {f"{name}.{leaf}": value.detach() for leaf, value in layer.merged().items()}
    return state


def base_hashes(model: nn.Module) -> dict[str, str]:
    """Return a hash of every frozen tensor; of one with learners in it, of the rest.

    What no gradient comes to is left out where it started at random: no two openings of a base have the same, and it decides
    nothing.
    """
    return {name: _hash(value) for name, value in _frozen(model).items()}


def _frozen(model: nn.Module) -> dict[str, Tensor]:
    known, unreached = set(stored_names(model)), tuning_of(model).unreached
    frozen = {
        name: value.detach()
        for name, value in model.named_parameters()
        if name not in known and (name not in unreached or was_loaded(value))
    }
    for name, layer in layers(model):
        for leaf, part in layer.frozen().items():
            if f"{name}.{leaf}" in frozen:
                frozen[f"{name}.{leaf}"] = part
    return frozen


def read_adapter(directory: str | os.PathLike[str]) -> Adapter:
    """Return the adapter in a folder; ValueError, saying what is wrong, where there is none."""
    folder = Path(directory)
    described, tensors = read_folder(folder, "save_pretrained of a tuned model writes one")
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict) or "method" not in described:
        raise ValueError(f"{folder / CONFIG_FILE} does not describe an adapter of this library.")
    if described.get("format", FORMAT) not in range(FORMAT + 1):
        raise ValueError(
            f"{folder} was written in format {described['format']}, and this version reads {FORMAT}. Upgrade narrows."
        )
    return Adapter(
        described["method"],
        described["config"],
        tensors,
        described.get("base_hashes", {}),
        tuple(described.get("head", ())),
        tuple(described.get("trained", ())),
        frozenset(described.get("stored", ())),
        frozenset(described["unreached"]) if "unreached" in described else None,
    )


def read_folder(folder: Path, writer: str) -> tuple[Any, dict[str, Tensor]]:
    """Return the description and the tensors in an adapter's folder, of ours or of PEFT's.

    Args:
        writer: a clause on what writes such a folder, for the error.

    Raises ValueError where a file is missing or damaged.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}, so it is no adapter. {writer}.")
    try:
        return json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")), load_file(folder / WEIGHTS_FILE)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} cannot be read as an adapter: {error}. Copy the folder again; the file is damaged."
        ) from error


def load_adapter(model: TunedModel, adapter: Adapter, strict: bool) -> None:
    """Put the tensors of a file into a model tuned alike.

    Raises ValueError where names or shapes are not those of the model, or, if `strict`, where the base is another one.
    """
    expected = {name: value.shape for name, value in model.named_parameters() if name in set(stored_names(model))}
    missing, further = sorted(set(expected) - set(adapter.tensors)), sorted(set(adapter.tensors) - set(expected))
    if missing or further:
        raise ValueError(
            f"the file does not fit {type(model).__name__}: it lacks {missing or 'nothing'} and has {further or 'nothing'} "
            "that the model has no place for. Open the base with the class, and the number of labels, that it was tuned with."
        )
    for name, shape in expected.items():
        if adapter.tensors[name].shape != shape:
            raise ValueError(
                f"{name} has shape {tuple(adapter.tensors[name].shape)} in the file and {tuple(shape)} in the model. "
                "A head differs where the number of labels does: pass num_labels when you open the base."
            )
    if strict:
        _check_base(model, adapter)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in expected:
                parameter.copy_(adapter.tensors[name])
    sync(model)


def _check_base(model: TunedModel, adapter: Adapter) -> None:
    parameters = {name: value.detach() for name, value in model.named_parameters()} | _frozen(model)
    different = [
        name for name, known in adapter.base_hashes.items() if name not in parameters or known not in _hashes(parameters[name])
    ]
    if different:
        raise ValueError(
            f"the adapter was trained on another base: {len(different)} of {len(adapter.base_hashes)} frozen tensors differ, "
            f"first {different[0]}. Open the base that it was trained on, or pass strict=False to go on at your own risk."
        )


def _hashes(value: Tensor) -> Iterator[str]:
    """Yield the hash of a tensor, and those of the same numbers in half precision, which an early version trained in."""
    yield _hash(value)
    for half in HALVES:
        if torch.equal(value.to(half).to(value.dtype), value):
            yield _hash(value.to(half))


def _hash(value: Tensor) -> str:
    head = f"{value.dtype} {tuple(value.shape)}".encode()
    data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(head + data.tobytes()).hexdigest()
