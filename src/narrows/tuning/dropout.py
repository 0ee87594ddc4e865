"""Dropout that keeps one byte a number for its backward pass, and draws its mask from fewer random words.

PyTorch's own keeps a mask in the precision of the data on a CPU, four bytes a number, and draws one random word for each.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from narrows.tuning.base import Swap, swap

# A mask is drawn from 16-bit words, so the probability is a multiple of this, within 8e-6 of what was asked.
_WORDS = 2**16


class ByteDropout(nn.Module):
    """Thrifty `nn.Dropout`: zero each number with probability p in training, and scale the rest by `1 / (1 - p)`.

    Args:
        p: the probability.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x, thinned out in training."""
        return thin(x, self.p) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


def thin(x: Tensor, p: float) -> Tensor:
    """Return x with each number zeroed with probability p and the rest scaled; the gradient goes through the same mask."""
    return _Thin.apply(x, p)


def swap_dropout(model: nn.Module) -> list[Swap]:
    """Put `ByteDropout` in the place of every `nn.Dropout` that drops anything, and return the swaps."""
    named = [(name, module.p) for name, module in model.named_modules() if type(module) is nn.Dropout and module.p > 0]
    return [swap(model, name, ByteDropout(p)) for name, p in named]


class _Thin(torch.autograd.Function):
    """The autograd function of dropout, which keeps the mask alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        dropped = round(p * _WORDS)
        # Four words of 16 bits from each random one of 64.
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        mask = (words.view(torch.int16)[: x.numel()] >= dropped - _WORDS // 2).view(x.shape)
        ctx.scale = _WORDS / max(_WORDS - dropped, 1)
        ctx.save_for_backward(mask)
        return torch.ops.aten.native_dropout_backward(x, mask, ctx.scale)

    @staticmethod
    # torch types what this decorator returns as taking its arguments by position.
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (mask,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(grads[0], mask, ctx.scale), None
