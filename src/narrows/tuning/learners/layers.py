"""The layer that stands in a linear's place: the linear, frozen as a rule, and a low-dimensional linear path beside it."""

import math
from collections.abc import Mapping
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.tuning.activations import Gate
from narrows.tuning.base import TunedLayer
from narrows.tuning.learners.config import Init
from narrows.tuning.learners.functions import Path, Recipe, feed_forward, with_learner

_GAUSSIAN_DEVIATION: Final = 0.02


class LearnerLinear(TunedLayer):
    """`y = x W^T + b + scale (x P1) P2` under the names of the plain layer's parameters.

    Args:
        linear: the plain layer.
        r: dimension of the learner.
        scale: factor of its path.
        dropout: probability on its input.
    """

    def __init__(self, linear: nn.Linear, r: int, scale: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__(linear)
        self._fused: tuple[LearnerLinear, Recipe] | None = None
        self.is_passed = False
        self.scale, self.dropout = scale, dropout
        like = linear.weight
        self.learner_down = nn.Parameter(torch.zeros(r, self.in_features, dtype=like.dtype, device=like.device))
        self.learner_up = nn.Parameter(torch.zeros(self.out_features, r, dtype=like.dtype, device=like.device))
        # 1 where priming is over. It travels with the weights, so that a checkpoint says of which phase it is; a frozen
        # parameter, not a buffer, which data-parallel training would broadcast before every forward.
        self.learner_phase = nn.Parameter(torch.zeros(1, dtype=torch.int8, device=like.device), requires_grad=False)

    @torch.no_grad()
    def initialise(self, init: Init, generator: torch.Generator) -> None:
        """Draw initial values; always on the CPU, so that a seed means the same on every device."""
        down, up = torch.zeros(self.learner_down.shape), torch.zeros(self.learner_up.shape)
        if init in ("uniform", "nonzero"):
            down.uniform_(-1.0 / math.sqrt(self.in_features), 1.0 / math.sqrt(self.in_features), generator=generator)
        if init in ("swapped", "nonzero"):
            bound = 1.0 / math.sqrt(self.learner_up.shape[1])
            up.uniform_(-bound, bound, generator=generator)
        if init == "gaussian":
            down.normal_(0.0, _GAUSSIAN_DEVIATION, generator=generator)
        self.learner_down.copy_(down)
        self.learner_up.copy_(up)

    def fuse(self, down: "LearnerLinear", activation: str, gate: Gate) -> None:
        """Compute the whole feed-forward here; the linear that narrows passes on what it gets."""
        self._fused = (down, Recipe(activation, gate, (self.scale, down.scale)))
        down.is_passed = True

    def path(self) -> Path:
        """Return the four tensors, for the functions."""
        return Path(self.weight, self.bias, self.learner_down, self.learner_up)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`; return the input where the feed-forward is computed as one."""
        if self.is_passed:
            return x
        if self._fused is not None:
            down, recipe = self._fused
            return feed_forward(x, self.path(), down.path(), recipe)
        seen = F.dropout(x, self.dropout, self.training) if self.dropout > 0 else x
        return with_learner(x, seen, self.path(), self.scale)

    def sync(self) -> None:
        """Do nothing: no number is held twice."""

    def own(self) -> Mapping[str, nn.Parameter]:
        """Return both matrices of the learner, and the phase."""
        return {"learner_down": self.learner_down, "learner_up": self.learner_up, "learner_phase": self.learner_phase}

    def repeated(self) -> int:
        """Return the size of the phase, which is no number of the model."""
        return self.learner_phase.numel()

    @torch.no_grad()
    def merged(self) -> Mapping[str, Tensor]:
        """Return `W + scale P2 P1`, summed in single precision at least, and the bias; W itself where the learner is zero."""
        weight = self.weight.detach()
        if weight.is_meta or bool(self.learner_up.any()):
            wide = torch.promote_types(weight.dtype, torch.float32)
            product = self.learner_up.to(wide) @ self.learner_down.to(wide)
            weight = torch.add(weight.to(wide), product, alpha=self.scale).to(weight.dtype)
        return {"weight": weight} if self.bias is None else {"weight": weight, "bias": self.bias.detach()}

    def frozen(self) -> Mapping[str, Tensor]:
        """Return nothing: each tensor is trained or frozen as a whole."""
        return {}

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, r={self.learner_down.shape[0]}"
