"""The two autograd functions of Freeze-And-Reconfigure: one linear with few trained nodes, and a whole feed-forward with them.

Notation of the paper's own split: T are the learner nodes, `x (N, H)`, `z = x W1^T + b1`, `h = phi(z)`, `y = h W2^T + b2`.
The full weights stand in their original order and are frozen; the compact tensors of the learners are the ones that get
gradients, k rows of them instead of F. A forward is one product at full width, so it rounds as the plain layers do.

The full weights travel as attributes of the context, not among the saved tensors: they are no activations, and a scatter of
the same values must not count as a change. A real change between forward and backward is refused, as autograd refuses it.
"""

from typing import Any, Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from narrows.tuning.activations import Activation, Gate, activation
from narrows.tuning.config import GradientBound
from narrows.tuning.precision import outside_autocast

MemoryMode = Literal["tier1", "keep", "lean", "recompute", "u8", "bf16"]
CODED: Final = ("u8", "bf16")
"""Modes that keep a derivative in fewer bits; all others are exact."""

FEW_BITS: Final = GradientBound(of_tensor=0.05, of_model=0.001)
"""Of whole models under `u8` and `bf16`: twice what the families of the tests come to, fresh and trained, 2 to 12 blocks."""

# Every phi that we know has a derivative in this range, and 256 codes over it err by at most 0.0026.
_LOWEST, _STEP = -0.15, 1.3 / 255


class Flag:
    """Raised by a backward pass through a layer: an optimiser may step now, and a fused one moves no version counter."""

    def __init__(self) -> None:
        self.is_raised = False


class Nodes(NamedTuple):
    """The frozen side of a linear, or of one half of a feed-forward.

    Attributes:
        weight: the full weight, synchronised with the learners.
        bias: the full bias, or None.
        learners: learner rows (columns for the linear that narrows), int64; None where every node is trained.
        flag: of the layer.
    """

    weight: Tensor
    bias: Tensor | None
    learners: Tensor | None
    flag: Flag


class Recipe(NamedTuple):
    """The way in which a fused feed-forward is computed.

    Attributes:
        activation: the name of phi.
        gate: the half that phi acts on.
        mode: what is kept for the backward pass.
    """

    activation: str
    gate: Gate
    mode: MemoryMode


def linear_up(x: Tensor, weight: Tensor | None, bias: Tensor | None, full: Nodes) -> Tensor:
    """Return `x W^T + b` where gradients go to `weight` and `bias`, the learner rows of the full ones."""
    return outside_autocast(x, lambda x: _Up.apply(x, weight, bias, full, full.weight._version))


def linear_down(h: Tensor, weight: Tensor | None, bias: Tensor | None, full: Nodes) -> Tensor:
    """Return `h W^T + b` where gradients go to `weight`, the learner columns of the full one, and to the whole `bias`."""
    return outside_autocast(h, lambda h: _Down.apply(h, weight, bias, full, full.weight._version))


def feed_forward(
    x: Tensor,
    learners: tuple[Tensor, Tensor | None, Tensor, Tensor | None],
    up: Nodes,
    down: Nodes,
    recipe: Recipe,
) -> Tensor:
    """Return `phi(x W1^T + b1) W2^T + b2`, keeping for its backward pass what the recipe says.

    Args:
        learners: what gets gradients: rows of W1, entries of b1, columns of W2, and b2.
    """
    versions = (up.weight._version, down.weight._version)
    return outside_autocast(x, lambda x: _FeedForward.apply(x, *learners, up, down, recipe, versions))


def _linear(x: Tensor, nodes: Nodes) -> Tensor:
    return F.linear(x, nodes.weight.to(x.dtype), None if nodes.bias is None else nodes.bias.to(x.dtype))


def _columns(x: Tensor, index: Tensor | None) -> Tensor:
    """Return the learner columns, copied, since a view would keep the whole tensor alive."""
    return x if index is None else x.index_select(-1, index)


def flat(x: Tensor) -> Tensor:
    """Return `(..., n)` as rows, `(rows, n)`."""
    return x.reshape(-1, x.shape[-1])


def _as(gradient: Tensor | None, like: torch.dtype) -> Tensor | None:
    return None if gradient is None else gradient.to(like)


def _begin_backward(nodes: Nodes, version: int) -> None:
    nodes.flag.is_raised = True
    if nodes.weight._version != version:
        raise RuntimeError(
            "a weight of this feed-forward was changed between its forward and its backward pass, so its gradient would be of "
            "another function. Step the optimiser, load and roll back only after backward."
        )


class _Up(torch.autograd.Function):
    """A linear whose learners are rows. Keeps x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, full: Nodes, version: int) -> Tensor:
        ctx.full, ctx.version = full, version
        ctx.dtype = None if weight is None else weight.dtype
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None)
        return _linear(x, full)

    @staticmethod
    # torch types what this decorator returns as taking its arguments by position.
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        _begin_backward(ctx.full, ctx.version)
        with torch.autocast(grads[0].device.type, enabled=False):
            (x,), dz = ctx.saved_tensors, grads[0]
            dx = dz @ ctx.full.weight.to(dz.dtype) if ctx.needs_input_grad[0] else None
            dz_learners = _columns(flat(dz), ctx.full.learners)
            dw = dz_learners.t() @ flat(x) if ctx.needs_input_grad[1] else None
            db = dz_learners.sum(0) if ctx.needs_input_grad[2] else None
            return dx, _as(dw, ctx.dtype), _as(db, ctx.dtype), None, None


class _Down(torch.autograd.Function):
    """A linear whose learners are columns. Keeps those columns of its input."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor | None, bias: Tensor | None, full: Nodes, version: int) -> Tensor:
        ctx.full, ctx.version = full, version
        ctx.dtypes = tuple(None if item is None else item.dtype for item in (weight, bias))
        ctx.save_for_backward(_columns(h, full.learners) if ctx.needs_input_grad[1] else None)
        return _linear(h, full)

    @staticmethod
    # torch types what this decorator returns as taking its arguments by position.
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        _begin_backward(ctx.full, ctx.version)
        with torch.autocast(grads[0].device.type, enabled=False):
            (h_learners,), g = ctx.saved_tensors, grads[0]
            dh = g @ ctx.full.weight.to(g.dtype) if ctx.needs_input_grad[0] else None
            dw = flat(g).t() @ flat(h_learners) if ctx.needs_input_grad[1] else None
            db = flat(g).sum(0) if ctx.needs_input_grad[2] else None
            return dh, _as(dw, ctx.dtypes[0]), _as(db, ctx.dtypes[1]), None, None


class _FeedForward(torch.autograd.Function):
    """A whole feed-forward. What it keeps is the table of `_kept`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w1: Tensor,
        b1: Tensor | None,
        w2: Tensor,
        b2: Tensor | None,
        up: Nodes,
        down: Nodes,
        recipe: Recipe,
        versions: tuple[int, int],
    ) -> Tensor:
        phi = activation(recipe.activation)
        z = _linear(x, up)
        h = phi.apply(z, recipe.gate)
        ctx.up, ctx.down, ctx.recipe, ctx.versions = up, down, recipe, versions
        ctx.dtypes = tuple(None if item is None else item.dtype for item in (w1, b1, w2, b2))
        ctx.save_for_backward(*_kept(ctx, phi, x, z, h))
        del z
        return _linear(h, down)

    @staticmethod
    # torch types what this decorator returns as taking its arguments by position.
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        up, down, gate, needs = ctx.up, ctx.down, ctx.recipe.gate, ctx.needs_input_grad
        _begin_backward(up, ctx.versions[0])
        _begin_backward(down, ctx.versions[1])
        with torch.autocast(grads[0].device.type, enabled=False):
            g = grads[0]
            phi = activation(ctx.recipe.activation)
            x, middle, h_learners = ctx.saved_tensors
            if ctx.recipe.mode == "recompute":
                middle = _linear(x, up)
            dw2 = None
            if needs[3]:
                h_learners = _learner_h(phi, gate, middle, down.learners) if h_learners is None else h_learners
                dw2 = flat(g).t() @ flat(h_learners)
            db2 = flat(g).sum(0) if needs[4] else None
            if not any(needs[:3]):
                return None, None, None, _as(dw2, ctx.dtypes[2]), _as(db2, ctx.dtypes[3]), None, None, None, None
            dz = _middle_backward(ctx.recipe, phi, g @ down.weight.to(g.dtype), middle)
            dz_learners = _columns(flat(dz), _rows(up.learners, gate, down.weight.shape[1]))
            dw1 = dz_learners.t() @ flat(x) if needs[1] else None
            db1 = dz_learners.sum(0) if needs[2] else None
            dx = dz @ up.weight.to(dz.dtype) if needs[0] else None
            gradients = (dw1, db1, dw2, db2)
            return dx, *(_as(item, dtype) for item, dtype in zip(gradients, ctx.dtypes, strict=True)), None, None, None, None


def _rows(index: Tensor | None, gate: Gate, inner: int) -> Tensor | None:
    """Return the learner rows of the linear that widens: one for each node, or two where the other half gates."""
    return index if index is None or gate == "none" else torch.cat([index, index + inner])


def _kept(ctx: Any, phi: Activation, x: Tensor, z: Tensor, h: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return what the backward pass needs: x; z, the derivative at z, or None; the learners' columns of h, or None."""
    mode, needs = ctx.recipe.mode, ctx.needs_input_grad
    if mode == "recompute":
        return x, None, None
    kept_x = x if needs[1] else None
    middle = None
    if any(needs[:3]) or (mode == "lean" and needs[3]):
        middle = _code(phi, z, mode) if mode in CODED else z
    return kept_x, middle, _columns(h, ctx.down.learners) if mode != "lean" and needs[3] else None


def _learner_h(phi: Activation, gate: Gate, z: Tensor, index: Tensor | None) -> Tensor:
    """Return `phi(z)` on the learners' columns alone."""
    rows = _rows(index, gate, z.shape[-1] // 2)
    return phi.apply(_columns(z, rows), gate)


def _code(phi: Activation, z: Tensor, mode: MemoryMode) -> Tensor:
    """Return `phi'(z)` in 8 bits on a linear scale, or in bfloat16."""
    slope = phi.backward(torch.ones_like(z), z)
    if mode == "bf16":
        return slope.to(torch.bfloat16)
    # No known slope leaves the range, so nothing is clipped; half a step more, and cutting off rounds.
    return slope.mul_(1.0 / _STEP).add_(0.5 - _LOWEST / _STEP).to(torch.uint8)


def _middle_backward(recipe: Recipe, phi: Activation, dh: Tensor, middle: Tensor) -> Tensor:
    """Return the gradient of z from that of h."""
    if recipe.mode == "u8":
        return dh.mul_(middle.to(dh.dtype).mul_(_STEP).add_(_LOWEST))
    if recipe.mode == "bf16":
        return dh.mul_(middle)
    return phi.apply_backward(dh, middle, recipe.gate)
