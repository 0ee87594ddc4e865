"""A whole feed-forward with learners on both linears, as one autograd function that keeps the least.

A learner needs the input of its linear for the gradient of P1. For the linear that narrows this is `h = phi(z)`, F numbers a
token that a frozen layer would not keep; but z is kept anyway, for the derivative of phi, and h is one elementwise pass away.
Written out, with `A1, A2` the first and `B1, B2` the second matrices of the learners and s the scale:

    u = x A1^T,   z = x W1^T + b1 + s u B1^T,   h = phi(z),   v = h A2^T,   y = h W2^T + b2 + s v B2^T

Kept are x and z; where neither A1 nor W1 is trained, u in the place of x.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from narrows.tuning.activations import Gate, activation
from narrows.tuning.far.functions import flat
from narrows.tuning.precision import outside_autocast


class Path(NamedTuple):
    """A linear with its learner.

    Attributes:
        weight, bias: of the linear.
        down, up: of the learner, `(r, in)` and `(out, r)`.
    """

    weight: Tensor
    bias: Tensor | None
    down: Tensor
    up: Tensor


class Recipe(NamedTuple):
    """The way in which a fused feed-forward is computed.

    Attributes:
        activation: the name of phi.
        gate: the half that phi acts on.
        scales: factors of the two learners.
    """

    activation: str
    gate: Gate
    scales: tuple[float, float]


class _Gradients(NamedTuple):
    """Gradients of one path, in the order of its inputs."""

    x: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    down: Tensor | None
    up: Tensor | None


def with_learner(x: Tensor, seen: Tensor, path: Path, scale: float) -> Tensor:
    """Return `x W^T + b + scale (seen A^T) B^T`; `seen` is x, or x after dropout."""
    return torch.add(F.linear(x, path.weight, path.bias), F.linear(F.linear(seen, path.down), path.up), alpha=scale)


def feed_forward(x: Tensor, first: Path, second: Path, recipe: Recipe) -> Tensor:
    """Return the feed-forward of x, keeping x and z for its backward pass."""
    return outside_autocast(x, lambda x: _FeedForward.apply(x, *first, *second, recipe))


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w1: Tensor,
        b1: Tensor | None,
        a1: Tensor,
        c1: Tensor,
        w2: Tensor,
        b2: Tensor | None,
        a2: Tensor,
        c2: Tensor,
        recipe: Recipe,
    ) -> Tensor:
        first, second = Path(w1, b1, a1, c1), Path(w2, b2, a2, c2)
        needs = ctx.needs_input_grad
        z = with_learner(x, x, _cast(first, x.dtype), recipe.scales[0])
        ctx.recipe = recipe
        keeps_x = needs[1] or needs[3]
        u = F.linear(x, a1.to(x.dtype)) if needs[4] and not keeps_x else None
        ctx.save_for_backward(x if keeps_x else None, u, z, *first, *second)
        h = activation(recipe.activation).apply(z, recipe.gate)
        return with_learner(h, h, _cast(second, h.dtype), recipe.scales[1])

    @staticmethod
    # torch types what this decorator returns as taking its arguments by position.
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, u, z, *weights = ctx.saved_tensors
        first, second = Path(*weights[:4]), Path(*weights[4:])
        needs, recipe = ctx.needs_input_grad, ctx.recipe
        phi = activation(recipe.activation)
        with torch.autocast(grads[0].device.type, enabled=False):
            h = phi.apply(z, recipe.gate) if needs[5] or needs[7] or needs[8] else None
            is_deep = any(needs[:5])
            last = _path_backward(grads[0], h, None, second, recipe.scales[1], (is_deep, *needs[5:9]))
            if last.x is None:
                return *(None,) * 5, *last[1:], None
            del h
            dz = phi.apply_backward(last.x, z, recipe.gate)
            return *_path_backward(dz, x, u, first, recipe.scales[0], needs[:5]), *last[1:], None


def _path_backward(
    g: Tensor, x: Tensor | None, u: Tensor | None, path: Path, scale: float, needs: tuple[bool, ...]
) -> _Gradients:
    """Return the gradients of a linear with its learner from that of its output; u comes from x where it was not kept."""
    cast = _cast(path, g.dtype)
    rows = flat(g)
    scaled = rows if scale == 1.0 else rows * scale
    needs_x, needs_weight, needs_bias, needs_down, needs_up = needs
    du = scaled @ cast.up if needs_x or needs_down else None
    dx = dw = da = dc = None
    if needs_x:
        assert du is not None
        dx = (rows @ cast.weight).add_(du @ cast.down).view(*g.shape[:-1], -1)
    if needs_weight:
        assert x is not None
        dw = (rows.t() @ flat(x)).to(path.weight.dtype)
    if needs_down:
        assert x is not None and du is not None
        da = (du.t() @ flat(x)).to(path.down.dtype)
    if needs_up:
        if u is None:
            assert x is not None
            u = F.linear(x, cast.down)
        dc = (scaled.t() @ flat(u)).to(path.up.dtype)
    db = rows.sum(0).to(path.bias.dtype) if needs_bias and path.bias is not None else None
    return _Gradients(dx, dw, db, da, dc)


def _cast(path: Path, dtype: torch.dtype) -> Path:
    bias = None if path.bias is None else path.bias.to(dtype)
    return Path(path.weight.to(dtype), bias, path.down.to(dtype), path.up.to(dtype))
