"""The record of one tiny forward: the calls of modules in order, each with its input and output.

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
            _forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def reached(model: nn.Module, batch: Batch) -> frozenset[str]:
    """Return the names of the parameters that a backward pass brings a gradient to.

    It begins at the loss where the batch has labels and the model gives one, else at everything that the model gives. What
    only takes part in training counts too. At any time at most one parameter holds a gradient. Raises ValueError where none
    gets one.
    """
    floating = {name: parameter for name, parameter in model.named_parameters() if parameter.is_floating_point()}
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in floating.values()]
    found: set[str] = set()
    hooks = []
    try:
        for name, parameter in floating.items():
            parameter.grad = None
            hooks.append(parameter.requires_grad_(True).register_post_accumulate_grad_hook(_noting(name, found)))
        for is_training in (False, True):
            if len(found) < len(floating):
                with mode(model, is_training), torch.enable_grad():
                    torch.manual_seed(0)
                    _backward(model, _forward(model, batch))
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, flag, gradient in before:
            parameter.requires_grad_(flag)
            parameter.grad = gradient
    if not found:
        raise ValueError(
            f"no gradient comes to any parameter of {type(model).__name__} from what it gives for a batch of "
            f"{', '.join(batch)}, so nothing could be trained. If it gives numbers to learn by for labels alone, pass a batch "
            "with labels as example=; if it runs under no_grad, or detaches what it gives, take that out."
        )
    return frozenset(found)


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the first tensor that the model gives in evaluation mode: logits, or hidden states where there is no head."""
    with mode(model, False), torch.no_grad():
        first = next(_tensors(_forward(model, batch)), None)
    if first is None:
        raise ValueError(f"{type(model).__name__} gave no tensor for the batch that it was probed with.")
    return first


def _forward(model: nn.Module, batch: Batch) -> Any:
    """Return the model's output; ValueError, with the reason, where it does not take the batch."""
    try:
        return model(**batch)
    except Exception as error:
        raise ValueError(_failed(model, "forward", batch, error)) from error


def _backward(model: nn.Module, output: Any) -> None:
    """Go back from the loss, or from everything that was given; not at all where nothing of it has a gradient."""
    loss = output.get("loss") if isinstance(output, Mapping) else None
    ends = [tensor for tensor in _tensors(output if loss is None else loss) if tensor.requires_grad]
    if ends:
        try:
            torch.autograd.backward([tensor.sum() for tensor in ends])
        except Exception as error:
            raise ValueError(_failed(model, "backward pass", {}, error)) from error


def _failed(model: nn.Module, what: str, batch: Batch, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    given = f" on a batch of {', '.join(batch)}" if batch else ""
    return (
        f"{type(model).__name__} cannot be watched, which every method begins with: its {what} failed{given} "
        f"({type(error).__name__}: {reason}). Pass as example= a batch like those that it will be trained on."
    )


def _noting(name: str, found: set[str]) -> Any:
    def note(parameter: Tensor) -> None:
        found.add(name)
        parameter.grad = None

    return note


def _writer(name: str, calls: list[Call]) -> Any:
    def write(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        got = next(_tensors((*args, *kwargs.values())), None)
        gave = None if isinstance(output, Mapping) else next(_tensors(output), None)
        if got is None or gave is None:
            return None
        if isinstance(module, nn.Linear) and module.out_features > module.in_features and not gave.is_meta:
            output = gave = gave * (_SPREAD / gave.std().clamp_min(1e-6))
        calls.append(Call(name, module, got, gave))
        return output

    return write


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in the input or output of a module, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
