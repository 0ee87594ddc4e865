"""The costs of a step, before one commits to a run: bytes kept for the backward pass, bytes of training state, seconds.

Bytes are counted by storage: a saved view keeps all that it is a view of, and two of the same storage keep it once.
"""

import copy
import statistics
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.base import TunedModel, get_nb_trainable_parameters, is_tuned, merge_and_unload, tuning_of
from narrows.tuning.config import GradientBound
from narrows.tuning.optimizer import decay_groups
from narrows.tuning.recording import Batch, mode

_MIB: Final = 2**20


class StepSeconds(NamedTuple):
    """Processor seconds of the parts of a step, medians over rounds.

    Attributes:
        forward, backward, optimizer: each part.
    """

    forward: float
    backward: float
    optimizer: float

    @property
    def total(self) -> float:
        """The whole step."""
        return self.forward + self.backward + self.optimizer


class Row(NamedTuple):
    """Costs of one model.

    Attributes:
        name: of the method.
        trained, parameters: how many numbers are trained, and how many there are.
        kept_bytes: kept by a forward in training mode for its backward pass, parameters and buffers apart.
        gradient_bytes: of all trained parameters.
        optimizer_bytes: two moments for each, as Adam holds them.
        seconds: of a step.
    """

    name: str
    trained: int
    parameters: int
    kept_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    seconds: StepSeconds


class Profile(NamedTuple):
    """Costs side by side; `str` gives the table.

    Attributes:
        rows: the model's and then, where it is tuned, ordinary fine-tuning of the same model.
        gradient_bound: on the error of the model's gradients; None where they are exact.
    """

    rows: tuple[Row, ...]
    gradient_bound: GradientBound | None = None

    def __str__(self) -> str:
        titles = (
            "method",
            "trained",
            "kept MiB",
            "gradients MiB",
            "moments MiB",
            "forward s",
            "backward s",
            "optimizer s",
            "step s",
        )
        lines = [titles, *(_cells(row) for row in self.rows)]
        if len(self.rows) == 2:
            lines.append(_ratios(*self.rows))
        widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
        table = [
            "  ".join(
                [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        ]
        return "\n".join(table if self.gradient_bound is None else [*table, f"{self.rows[0].name}: {self.gradient_bound}"])


def kept_bytes(module: nn.Module, given: Batch | Tensor) -> int:
    """Return the bytes that a forward keeps for its backward pass, each storage once, parameters and buffers apart.

    The forward runs in the mode that the module is in; dropout keeps masks in training only.

    Args:
        module: a model, or any part of one.
        given: a batch by the names of its arguments, or the one tensor that it takes; counts where it is kept.
    """
    own = {_pointer(tensor) for tensor in (*module.parameters(), *module.buffers())}
    # Tensors are held until the sum is taken: a storage that is freed would lend its address to the next one.
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        # Without its history: a node that saves its own output would hold itself, and the model, for good.
        held.append(tensor.detach())
        return held[-1]

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(given) if isinstance(given, Tensor) else module(**given)
    storages = {_pointer(tensor): tensor.untyped_storage().nbytes() for tensor in held}
    del output
    return sum(size for pointer, size in storages.items() if pointer not in own)


def _pointer(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of an optimiser's moments, counts of steps apart."""
    tensors = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(value.numel() * value.element_size() for value in tensors if value.dim() > 0)


def time_step(model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer, rounds: int) -> StepSeconds:
    """Return medians over rounds, after one to warm up, of processor seconds; on an accelerator, of elapsed ones.

    The model is trained by it.
    """
    device = next(model.parameters()).device
    measured = []
    for _ in range(rounds + 1):
        optimizer.zero_grad()
        marks = [_now(device)]
        loss = model(**batch).loss
        marks.append(_now(device))
        loss.backward()
        marks.append(_now(device))
        optimizer.step()
        marks.append(_now(device))
        measured.append([after - before for before, after in zip(marks, marks[1:], strict=False)])
    return StepSeconds(*(statistics.median(part) for part in zip(*measured[1:], strict=True)))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def profile(model: TunedModel, batch: Mapping[str, Tensor], rounds: int = 3, learning_rate: float = 1e-5) -> Profile:
    """Return what a step of AdamW costs, and beside it ordinary fine-tuning of the same model.

    Copies are measured, so the model itself stays as it is; that takes the memory of a second model for the time being.

    Args:
        batch: of the size that is meant to be trained with, with labels.
        rounds: timed steps, after one to warm up.

    Raises ValueError where nothing is trained, or the batch has no labels.
    """
    config = tuning_of(model).config if is_tuned(model) else None
    name = "as it is" if config is None else config.method
    rows = [_measure(name, copy.deepcopy(model), batch, rounds, learning_rate)]
    if config is not None:
        full = merge_and_unload(copy.deepcopy(model))
        rows.append(_measure("full", full, batch, rounds, learning_rate))
    return Profile(tuple(rows), None if config is None else config.gradient_bound)


def _measure(name: str, model: PreTrainedModel, batch: Batch, rounds: int, learning_rate: float) -> Row:
    flagged, parameters = get_nb_trainable_parameters(model)
    if flagged == 0:
        raise ValueError("the model trains nothing, so there is no step to measure. Tune it, or set requires_grad.")
    with mode(model, True):
        if model(**batch).loss is None:
            raise ValueError(f"the model gave no loss for a batch of {', '.join(batch)}. Pass labels in it.")
        kept = kept_bytes(model, batch)
        optimizer = torch.optim.AdamW(decay_groups(model, 0.01), lr=learning_rate)
        seconds = time_step(model, batch, optimizer, rounds)
    # What holds a gradient after a step: a plain model is flagged as trained where the loss never goes, too.
    held = [value for value in model.parameters() if value.grad is not None]
    trained, gradients = sum(value.numel() for value in held), sum(value.numel() * value.element_size() for value in held)
    return Row(name, trained, parameters, kept, gradients, 2 * gradients, seconds)


def _cells(row: Row) -> tuple[str, ...]:
    sizes = (row.kept_bytes, row.gradient_bytes, row.optimizer_bytes)
    seconds = (*row.seconds, row.seconds.total)
    return (
        row.name,
        f"{row.trained:,}",
        *(f"{size / _MIB:.1f}" for size in sizes),
        *(f"{value:.3f}" for value in seconds),
    )


def _ratios(row: Row, full: Row) -> tuple[str, ...]:
    def numbers(of: Row) -> tuple[float, ...]:
        return (of.trained, of.kept_bytes, of.gradient_bytes, of.optimizer_bytes, *of.seconds, of.seconds.total)

    return ("ratio", *(f"{a / b:.3f}" if b > 0 else "-" for a, b in zip(numbers(row), numbers(full), strict=True)))
