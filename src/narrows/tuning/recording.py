"""One tiny forward, written down: which module was called when, with what, and what it gave.

Names of modules differ from family to family; what they do to a tensor does not. So everything that this room needs to know
about a model it reads from such a record.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Batch = Mapping[str, Tensor]

_SPREAD: Final = 1.5


class Call(NamedTuple):
    """One call of one module.

    Attributes:
        name: of the module in the model.
        module: itself.
        input: its first tensor.
        output: what it gave, or the first tensor of it.
    """

    name: str
    module: nn.Module
    input: Tensor
    output: Tensor


def example_batch(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return a small batch of token ids that the model takes; ValueError where it reads something else than tokens."""
    vocabulary = getattr(model.config, "vocab_size", None)
    if model.main_input_name != "input_ids" or not isinstance(vocabulary, int):
        raise ValueError(
            f"{type(model).__name__} reads {model.main_input_name}, and a probe needs a batch it can run on. "
            "Pass one as example=, a mapping from argument names to tensors."
        )
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(5, vocabulary - 1), vocabulary, (2, 7), generator=generator)
    return {"input_ids": ids.to(model.device)}


@contextmanager
def mode(model: nn.Module, is_training: bool) -> Iterator[None]:
    """Put every module in evaluation or training mode, and back into its own when left; random numbers go on as before."""
    before = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            model.train(is_training)
            yield
    finally:
        for module, flag in before:
            module.training = flag


def record(model: nn.Module, batch: Batch, is_training: bool = False) -> list[Call]:
    """Return the calls of one forward without gradients, in the order in which they ended.

    What a widening linear gives is spread to a standard deviation of 1.5 on its way, since a freshly initialised one stays so
    near zero that one activation cannot be told from another.
    """
    calls: list[Call] = []
    hooks = [
        module.register_forward_hook(_writer(name, calls), with_kwargs=True) for name, module in model.named_modules() if name
    ]
    try:
        with mode(model, is_training), torch.no_grad():
            torch.manual_seed(0)
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the first tensor that the model gives in evaluation mode: logits, or hidden states where there is no head."""
    with mode(model, False), torch.no_grad():
        output = model(**batch)
    first = _first_tensor(tuple(output.values()) if isinstance(output, Mapping) else output)
    if first is None:
        raise ValueError(f"{type(model).__name__} gave no tensor for the batch that it was probed with.")
    return first


def _writer(name: str, calls: list[Call]) -> Any:
    def write(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        got, gave = _first_tensor((*args, *kwargs.values())), _first_tensor(output)
        if got is None or gave is None:
            return None
        if isinstance(module, nn.Linear) and module.out_features > module.in_features and not gave.is_meta:
            output = gave = gave * (_SPREAD / gave.std().clamp_min(1e-6))
        calls.append(Call(name, module, got, gave))
        return output

    return write


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (tuple, list)):
        return next((item for item in map(_first_tensor, value) if item is not None), None)
    return None
