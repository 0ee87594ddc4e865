"""The layers that stand in a feed-forward's place: the original linears, frozen, beside compact copies of their learner nodes.

The full weight keeps its name, its order and, after a sync, the learned values, so that a state dict under the original keys is
a plain checkpoint at any time.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.tuning.activations import activation
from narrows.tuning.base import TunedLayer
from narrows.tuning.far.functions import Flag, Nodes, Recipe, feed_forward, linear_down, linear_up


class Part(NamedTuple):
    """Numbers of a full tensor that a compact one holds as well.

    Attributes:
        leaf: local name of the full tensor.
        full: the tensor.
        axis: of the nodes in it.
        where: positions of the learners on that axis.
        compact: the parameter that is trained in their stead.
    """

    leaf: str
    full: Tensor
    axis: int
    where: Tensor
    compact: nn.Parameter


class FarLinear(TunedLayer):
    """A linear of a feed-forward with its learners apart, and the rule when one is written into the other.

    Learners are written into the full tensors before a forward in which they differ, and not else: a write between two forwards
    and their backward would break gradient accumulation and shared layers. Whether they may differ is told by their version
    counters, and by a backward pass since the last look, because the fused optimisers of PyTorch move no counter.

    Args:
        linear: the plain layer.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._seen: tuple[int, ...] | None = None
        self._flag = Flag()
        self.far_index: nn.Parameter | None = None
        self.far_weight: nn.Parameter | None = None
        self.far_bias: nn.Parameter | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every node is trained, in the full tensors themselves."""
        return self.far_weight is None

    @abstractmethod
    def index(self) -> Tensor | None:
        """Return the learner nodes as int64; None where every node is one."""

    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """Return what is held twice."""

    @abstractmethod
    def learners(self) -> tuple[Tensor, Tensor | None]:
        """Return what gets the gradients of weight and bias."""

    def nodes(self) -> Nodes:
        """Return the full side of the layer, for the autograd functions."""
        return Nodes(self.weight, self.bias, self.index(), self._flag)

    @torch.no_grad()
    def refresh(self) -> None:
        """Write the learners into the full tensors where they may have changed since the last time."""
        versions = tuple(compact._version for compact in self.own().values())
        if versions != self._seen or self._flag.is_raised:
            self.sync()

    @torch.no_grad()
    def sync(self) -> None:
        """Write the learners into the full tensors where the values differ."""
        for _, full, axis, where, compact in self.parts():
            if full.is_meta or not torch.equal(full.index_select(axis, where), compact):
                full.index_copy_(axis, where, compact)
        self._seen = tuple(compact._version for compact in self.own().values())
        self._flag.is_raised = False

    @torch.no_grad()
    def gather(self) -> None:
        """Read the learners from the full tensors: the other direction, after a plain checkpoint was loaded."""
        for _, full, axis, where, compact in self.parts():
            compact.copy_(full.index_select(axis, where))

    def own(self) -> Mapping[str, nn.Parameter]:
        """Return index and compact tensors."""
        named = {"far_index": self.far_index, "far_weight": self.far_weight, "far_bias": self.far_bias}
        return {name: parameter for name, parameter in named.items() if parameter is not None}

    def repeated(self) -> int:
        """Return the size of all of them: they repeat numbers of the full tensors, or are positions in them."""
        return sum(parameter.numel() for parameter in self.own().values())

    def merged(self) -> Mapping[str, Tensor]:
        """Return the full tensors, synchronised."""
        self.sync()
        return {name: value for name, value in (("weight", self.weight), ("bias", self.bias)) if value is not None}

    def frozen(self) -> Mapping[str, Tensor]:
        """Return the nonlearner part of each full tensor that has learners."""
        return {leaf: _without(full, axis, where) for leaf, full, axis, where, _ in self.parts()}

    def train(self, mode: bool = True) -> "FarLinear":
        """Switch the mode; on the way to evaluation, write the learners in whatever their counters say."""
        if not mode and not self.weight.is_meta:
            self.sync()
        return super().train(mode)

    def extra_repr(self) -> str:
        index = self.index()
        learners = "all" if index is None else index.numel()
        return f"in_features={self.in_features}, out_features={self.out_features}, learners={learners}"

    def __getstate__(self) -> dict[str, Any]:
        """Forget the counters that were seen: those of a copy start anew."""
        return {**self.__dict__, "_seen": None}

    def _apply(self, fn: Any, recurse: bool = True) -> "FarLinear":
        if not self.weight.is_meta:
            self.sync()
        self._seen = None
        super()._apply(fn, recurse)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if not self.weight.is_meta:
            self.sync()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        index = state_dict.get(f"{prefix}far_index")
        if self.far_index is not None and index is not None and not torch.equal(index.cpu(), self.far_index.detach().cpu()):
            error_msgs.append(
                f"{prefix}far_index: the file has other learner nodes than this model. Reconfigure the base model with the "
                "nodes of the file (FarConfig(indices=saved_indices(folder))), or open the folder with from_pretrained."
            )
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        self._seen = None
        if f"{prefix}weight" in state_dict and f"{prefix}far_weight" not in state_dict:
            self.gather()


class FarUp(FarLinear):
    """The linear that widens; its learners are rows. Fused, it computes the whole feed-forward.

    Args:
        linear: the plain layer.
        index: learner nodes, ascending; None where every node is trained and no compact copy is needed.
        is_gated: whether node j is rows j and F + j.
    """

    def __init__(self, linear: nn.Linear, index: Tensor | None, is_gated: bool = False) -> None:
        super().__init__(linear)
        self.is_gated = is_gated
        self._fused: tuple[FarDown, Recipe] | None = None
        if index is None:
            return
        # A frozen parameter, not a buffer: data-parallel training broadcasts buffers before every forward.
        self.far_index = nn.Parameter(index.to(linear.weight.device, torch.int32), requires_grad=False)
        rows = self._rows()
        self.far_weight = nn.Parameter(linear.weight.detach().index_select(0, rows))
        if linear.bias is not None:
            self.far_bias = nn.Parameter(linear.bias.detach().index_select(0, rows))

    def index(self) -> Tensor | None:
        """Return the learner nodes as int64; None where every node is one."""
        return None if self.far_index is None else self.far_index.long()

    def fuse(self, down: "FarDown", recipe: Recipe) -> None:
        """Compute the whole feed-forward here; the linear that narrows passes on what it gets."""
        self._fused = (down, recipe)
        down.is_passed = True

    def _rows(self) -> Tensor:
        index = self.index()
        assert index is not None
        return torch.cat([index, index + self.out_features // 2]) if self.is_gated else index

    def parts(self) -> tuple[Part, ...]:
        """Return rows of the weight and entries of the bias."""
        if self.far_weight is None:
            return ()
        rows = self._rows()
        weight = Part("weight", self.weight, 0, rows, self.far_weight)
        return (weight,) if self.far_bias is None else (weight, Part("bias", self.bias, 0, rows, self.far_bias))

    def learners(self) -> tuple[Tensor, Tensor | None]:
        """Return what gets the gradients of weight and bias."""
        return (self.weight, self.bias) if self.far_weight is None else (self.far_weight, self.far_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., H)` to `(..., F)`, or to `(..., H)` where the whole feed-forward is computed here."""
        self.refresh()
        if self._fused is not None:
            return self._feed_forward(x, *self._fused)
        if not torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        nodes = self.nodes()
        rows = None if nodes.learners is None else self._rows()
        return linear_up(x, *self.learners(), nodes._replace(learners=rows))

    def _feed_forward(self, x: Tensor, down: "FarDown", recipe: Recipe) -> Tensor:
        down.refresh()
        if not torch.is_grad_enabled():
            h = activation(recipe.activation).apply(F.linear(x, self.weight, self.bias), recipe.gate)
            return F.linear(h, down.weight, down.bias)
        return feed_forward(x, (*self.learners(), *down.learners()), self.nodes(), down.nodes(), recipe)


class FarDown(FarLinear):
    """The linear that narrows; its learners are columns, and its bias is held once and trained whole or not at all.

    Args:
        linear: the plain layer.
        up: the linear that widens, which knows the learner nodes of both.
    """

    def __init__(self, linear: nn.Linear, up: FarUp) -> None:
        super().__init__(linear)
        self._up = (up,)
        self.is_passed = False
        index = self.index()
        if index is not None:
            self.far_weight = nn.Parameter(linear.weight.detach().index_select(1, index))

    def index(self) -> Tensor | None:
        """Return the learner nodes as int64; None where every node is one."""
        return self._up[0].index()

    def parts(self) -> tuple[Part, ...]:
        """Return columns of the weight."""
        index = self.index()
        return () if self.far_weight is None or index is None else (Part("weight", self.weight, 1, index, self.far_weight),)

    def learners(self) -> tuple[Tensor, Tensor | None]:
        """Return what gets the gradients of weight and bias."""
        return self.weight if self.far_weight is None else self.far_weight, self.bias

    def forward(self, h: Tensor) -> Tensor:
        """Map `(..., F)` to `(..., H)`; return the input where the feed-forward is computed as one."""
        if self.is_passed:
            return h
        self.refresh()
        if not torch.is_grad_enabled():
            return F.linear(h, self.weight, self.bias)
        return linear_down(h, *self.learners(), self.nodes())


def _without(full: Tensor, axis: int, where: Tensor) -> Tensor:
    keep = torch.ones(full.shape[axis], dtype=torch.bool, device=full.device)
    keep[where] = False
    return full.detach().index_select(axis, keep.nonzero().flatten())
