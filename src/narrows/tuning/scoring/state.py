"""Checkpoints of one member's training: safetensors and JSON, a new folder each time, and one name that says which counts."""

import json
import math
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from narrows.tuning.base import TunedModel
from narrows.tuning.files import save_pretrained
from narrows.tuning.folders import replace_text

_CURRENT: Final = "current"
_OPTIMIZER: Final = "optimizer.safetensors"
_PROGRESS: Final = "progress.json"
_RANDOM: Final = "random"
_STEP: Final = "state-"
_STEP_NAME: Final = re.compile(rf"{_STEP}\d+", re.ASCII)
_LONGEST_NAME: Final = 40
_BEST: Final = "best-"


class Progress(NamedTuple):
    """The progress of a training.

    Attributes:
        step: steps taken.
        seconds: of training so far.
        best_epoch: after which the validation loss was lowest, 0 before the first.
        best_loss: that loss.
        losses: sum of the losses of the epoch that is under way.
        history: a row an epoch.
    """

    step: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_loss: float = math.inf
    losses: float = 0.0
    history: tuple[dict[str, float], ...] = ()


def save_checkpoint(folder: Path, model: TunedModel, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write a checkpoint; whoever kills the process meanwhile finds the one before."""
    name = f"{_STEP}{progress.step}"
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    _save_adapter(model, target)
    tensors = {_RANDOM: torch.get_rng_state()} | optimizer_tensors(model, optimizer)
    save_file({key: value.contiguous() for key, value in tensors.items()}, target / _OPTIMIZER)
    (target / _PROGRESS).write_text(json.dumps(progress._asdict()), encoding="utf-8")
    replace_text(folder / _CURRENT, name)
    _remove_others(folder, _STEP, name)
    _remove_others(folder, _BEST, f"{_BEST}{progress.best_epoch}")


def save_best(folder: Path, model: TunedModel, epoch: int) -> None:
    """Keep the weights of the best epoch so far; those of the one before go when the next checkpoint is written."""
    shutil.rmtree(folder / f"{_BEST}{epoch}", ignore_errors=True)
    _save_adapter(model, folder / f"{_BEST}{epoch}")


def best_adapter(folder: Path, progress: Progress) -> Path:
    """Return where the weights of the best epoch are."""
    return folder / f"{_BEST}{progress.best_epoch}"


def current_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint that counts, None before the first one."""
    pointer = folder / _CURRENT
    if not pointer.is_file():
        return None
    name = pointer.read_bytes()[:_LONGEST_NAME].decode("utf-8", "replace")
    if not _STEP_NAME.fullmatch(name):
        raise ValueError(f"{pointer} is damaged: it names {name!r}, no checkpoint. Delete {folder.parent} and tune again.")
    return folder / name


def read_progress(checkpoint: Path) -> Progress:
    """Return how far a checkpoint is; ValueError where it is damaged."""
    try:
        fields = json.loads((checkpoint / _PROGRESS).read_text(encoding="utf-8"))
        progress = Progress(**{**fields, "history": tuple(fields["history"])})
        if not all(type(count) is int for count in (progress.step, progress.best_epoch)):
            raise ValueError("its counts are no integers")
        return progress
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{checkpoint} is damaged ({error}). Delete {checkpoint.parent.parent} and tune again.") from error


def restore(checkpoint: Path, model: TunedModel, optimizer: torch.optim.Optimizer) -> None:
    """Give an optimiser and the random numbers the state that they had; ValueError where the file is damaged."""
    try:
        tensors = load_file(checkpoint / _OPTIMIZER)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{checkpoint} is damaged ({error}). Delete {checkpoint.parent.parent} and tune again.") from error
    torch.set_rng_state(tensors.pop(_RANDOM))
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        like = parameters[name]
        # The count of steps lives on the host; a fused optimiser wants it where the parameter is. Moments of half precision,
        # which an early version kept of an encoder stored so, become those of the parameter.
        optimizer.state[like][entry] = value.to(like.device, like.dtype if value.dim() else value.dtype)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's state by the name of the parameter."""
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        entries: Mapping[str, Any] = optimizer.state.get(parameter, {})
        found |= {f"{name}/{entry}": value.detach().cpu() for entry, value in entries.items() if isinstance(value, Tensor)}
    return found


def _save_adapter(model: TunedModel, folder: Path) -> None:
    with warnings.catch_warnings():
        # What priming moved is held whole, and a checkpoint is no place to be warned of that.
        warnings.simplefilter("ignore", UserWarning)
        save_pretrained(model, folder)


def _remove_others(folder: Path, prefix: str, kept: str) -> None:
    for path in folder.glob(f"{prefix}*"):
        if path.name != kept:
            shutil.rmtree(path, ignore_errors=True)
