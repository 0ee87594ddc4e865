"""Half precision on the way in and out: what is trained has 32 bits.

A step of 5e-5 on a weight near 1 is lost in 16 bits, where the next number is 1e-3 away in float16 and 8e-3 in bfloat16. So a
model that was opened in half precision becomes float32 as a whole when it is tuned: its values are the same numbers, and layers
that are trained and layers that are not compute with each other. To compute in 16 bits, use autocast.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

HALVES: Final = (torch.float16, torch.bfloat16)


@contextmanager
def widened(model: nn.Module) -> Iterator[dict[str, torch.dtype]]:
    """Make every parameter and buffer in half precision float32, and yield the types that they had, by name.

    The parameters stay the objects that they are. After an error inside, they have their old types.
    """
    narrow = {name: tensor.dtype for name, tensor in _tensors(model) if tensor.dtype in HALVES}
    cast(model, dict.fromkeys(narrow, torch.float32))
    try:
        yield narrow
    except BaseException:
        cast(model, narrow)
        raise


def cast(model: nn.Module, types: Mapping[str, torch.dtype]) -> None:
    """Give parameters and buffers other types, in place; gradients that they held are dropped."""
    for name, tensor in _tensors(model):
        if name in types:
            tensor.grad = None
            tensor.data = tensor.data.to(types[name])


def outside_autocast(x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `compute(x)`, run outside autocast on an input in the precision that autocast would have used.

    The backward pass of a custom function runs outside autocast while its forward stood inside, and both must see the same
    numbers.
    """
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return compute(x)
    with torch.autocast(kind, enabled=False):
        return compute(x.to(torch.get_autocast_dtype(kind)))


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()
