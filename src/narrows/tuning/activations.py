"""Activations between the two linears of a feed-forward: each is recognised, computed and differentiated.

A model may call PyTorch's own kernel or compose the same function from elementary operations; both round differently, and a
fused feed-forward must round as the model did. So each form has its own entry, and probing prefers the one that agrees bit by
bit.
"""

import math
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Gate = Literal["none", "first", "second"]
"""The half of z that phi acts on where the other half multiplies it; `none` for a plain feed-forward."""


class Activation(NamedTuple):
    """One function phi.

    Attributes:
        name: how configurations and files call it.
        forward: `phi(z)`, elementwise.
        backward: from the gradient of `phi(z)` and z to the gradient of z.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]

    def apply(self, z: Tensor, gate: Gate) -> Tensor:
        """Return `phi(z)`, or `phi(u) * v` or `u * phi(v)` of the halves `(..., F)` of z, `(..., 2F)`."""
        if gate == "none":
            return self.forward(z)
        u, v = z.chunk(2, dim=-1)
        return self.forward(u) * v if gate == "first" else u * self.forward(v)

    def apply_backward(self, grad: Tensor, z: Tensor, gate: Gate) -> Tensor:
        """Return the gradient of z, of the shape of z, from that of `apply(z, gate)`."""
        if gate == "none":
            return self.backward(grad, z)
        u, v = z.chunk(2, dim=-1)
        if gate == "first":
            return torch.cat([self.backward(grad * v, u), grad * self.forward(u)], dim=-1)
        return torch.cat([grad * self.forward(v), self.backward(grad * u, v)], dim=-1)


def _gelu_backward(grad: Tensor, z: Tensor) -> Tensor:
    return torch.ops.aten.gelu_backward(grad, z, approximate="none")


def _gelu_tanh(z: Tensor) -> Tensor:
    return F.gelu(z, approximate="tanh")


def _gelu_tanh_backward(grad: Tensor, z: Tensor) -> Tensor:
    return torch.ops.aten.gelu_backward(grad, z, approximate="tanh")


def _gelu_composed(z: Tensor) -> Tensor:
    return z * 0.5 * (1.0 + torch.erf(z / math.sqrt(2.0)))


def _gelu_tanh_composed(z: Tensor) -> Tensor:
    return 0.5 * z * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * torch.pow(z, 3.0))))


def _relu_backward(grad: Tensor, z: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(grad, z, 0)


def _tanh_backward(grad: Tensor, z: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward(grad, torch.tanh(z))


# A composed form keeps its own forward; its derivative is the kernel's, one pass instead of one for each operation, and equal
# to the composed one up to rounding.
ACTIVATIONS: Final = (
    Activation("gelu", F.gelu, _gelu_backward),
    Activation("gelu_tanh", _gelu_tanh, _gelu_tanh_backward),
    Activation("relu", F.relu, _relu_backward),
    Activation("silu", F.silu, torch.ops.aten.silu_backward),
    Activation("tanh", torch.tanh, _tanh_backward),
    Activation("gelu_composed", _gelu_composed, _gelu_backward),
    Activation("gelu_tanh_composed", _gelu_tanh_composed, _gelu_tanh_backward),
)


def activation(name: str) -> Activation:
    """Return the activation of that name; ValueError, with the known names, where there is none."""
    for known in ACTIVATIONS:
        if known.name == name:
            return known
    raise ValueError(f"an activation is one of {', '.join(known.name for known in ACTIVATIONS)}, got {name!r}.")


def recognise(before: Tensor, after: Tensor) -> tuple[Activation, bool] | None:
    """Return the phi with `phi(before) == after` and whether it agrees bit by bit; None where none is within 1e-6 x scale."""
    return _first(after, [(known, known.forward(before)) for known in ACTIVATIONS])


def recognise_gated(before: Tensor, after: Tensor) -> tuple[Activation, Gate, bool] | None:
    """Return phi, which half it acts on (`first` or `second`) and whether bits agree, where `after` is a gated product.

    Args:
        before: what the wider linear gave, `[..., 2F]`, halves u and v.
        after: what the next one got, `[..., F]`: `phi(u) * v` or `u * phi(v)`.
    """
    gates: tuple[Gate, ...] = ("first", "second")
    for gate in gates:
        found = _first(after, [(known, known.apply(before, gate)) for known in ACTIVATIONS])
        if found is not None:
            return found[0], gate, found[1]
    return None


def _first(after: Tensor, candidates: list[tuple[Activation, Tensor]]) -> tuple[Activation, bool] | None:
    for known, value in candidates:
        if torch.equal(value, after):
            return known, True
    tolerance = 1e-6 * max(1.0, float(after.abs().max()))
    for known, value in candidates:
        if float((value - after).abs().max()) <= tolerance:
            return known, False
    return None
