"""Layers swapped in place: what stood between them passed by, and the model checked against what it computed before."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.architecture import FfnPair
from narrows.tuning.base import Swap, swap, undo
from narrows.tuning.recording import Batch, example_batch, logits


class Shell(nn.Module):
    """A stand-in for a module that did nothing but part of a feed-forward, under the same names of parameters.

    Args:
        original: the module.
        up: where in it the linear stands that now computes the feed-forward.
    """

    def __init__(self, original: nn.Module, up: str) -> None:
        super().__init__()
        # A name that no module of the original, which keep theirs here, will have.
        self._fused_up = up
        for name, child in original.named_children():
            self.add_module(name, child)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the feed-forward of `(..., H)`."""
        return self.get_submodule(self._fused_up)(hidden_states)


class PassThrough(nn.Module):
    """A stand-in for an activation, or a dropout that drops nothing, which is computed elsewhere now."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the input."""
        return hidden_states


def bypass(model: nn.Module, pair: FfnPair) -> list[Swap]:
    """Swap out what stands between the linears of a pair, of which the first computes everything; return the swaps."""
    if pair.bypass:
        return [swap(model, name, PassThrough()) for name in pair.bypass]
    assert pair.shell is not None, "the pair is fusible"
    return [swap(model, pair.shell, Shell(model.get_submodule(pair.shell), pair.up[len(pair.shell) + 1 :]))]


@contextmanager
def checked_swaps(
    model: PreTrainedModel, example: Batch | None, is_exact: bool | None, safe_mode: str = "tier1"
) -> Iterator[list[Swap]]:
    """Yield a list for swaps, and see in the end that the model computes what it did before.

    Args:
        example: a batch that the model takes; random tokens by default.
        is_exact: whether bits have to agree; False allows 1e-6 of the output's size, None compares nothing.
        safe_mode: the memory mode that the error names as the way out.

    Raises ValueError where it does not. After that, and any error inside, the model is as it was.
    """
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    batch = example_batch(model) if example is None else example
    before = None if is_exact is None or is_meta(model) else logits(model, batch)
    swaps: list[Swap] = []
    try:
        yield swaps
        if before is not None:
            _check_same(before, logits(model, batch), bool(is_exact), safe_mode)
    except BaseException:
        undo(model, swaps)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])
        raise


def linear(model: nn.Module, name: str) -> nn.Linear:
    """Return the linear of that name, narrowed to its type."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear), name
    return module


def is_meta(model: nn.Module) -> bool:
    """Whether the model has shapes and no values."""
    return any(parameter.is_meta for parameter in model.parameters())


def _check_same(before: Tensor, after: Tensor, is_exact: bool, safe_mode: str) -> None:
    difference = float((before - after).abs().max())
    if torch.equal(before, after) or (not is_exact and difference <= 1e-6 * max(1.0, float(before.abs().max()))):
        return
    raise ValueError(
        f"the reconfigured model does not compute what it did before (largest difference {difference:.3g}), so what was taken "
        f"for a feed-forward is none. Try memory_mode={safe_mode!r}, or name the pairs: ffn_pairs=[(up, down), ...]."
    )
