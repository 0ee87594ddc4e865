"""The layers that stand in a feed-forward's place: the original linears, frozen, beside compact copies of their learner nodes.

The full weight keeps its name, its order and, after a sync, the learned values, so that a state dict under the original keys is
a plain checkpoint at any time.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.tuning.activations import activation
from narrows.tuning.base import TunedLayer
from narrows.tuning.far.functions import Flag, Nodes, Recipe, feed_forward, linear_down, linear_up


class FarLinear(TunedLayer):
    """What both linears of a feed-forward share: full tensors, learners, and the rule when one is written into the other.

    Learners are written into the full tensors before a forward in which they differ, and not else: a write between two forwards
    and their backward would break gradient accumulation and shared layers. Whether they may differ is told by their version
    counters, and by a backward pass since the last look, because the fused optimisers of PyTorch move no counter.

    Args:
        linear: the plain layer; its parameters are taken over, not copied.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # In a tuple, so that the plain layer is no part of the module tree and its parameters are not seen twice.
        self._linear = (linear,)
        self._seen: tuple[int, ...] | None = None
        self._flag = Flag()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.far_index: nn.Parameter | None = None
        self.far_weight: nn.Parameter | None = None
        self.far_bias: nn.Parameter | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every node is trained, in the full tensors themselves."""
        return self.far_weight is None

    def index(self) -> Tensor | None:
        """The learner nodes as int64; None where every node is one."""
        raise NotImplementedError

    def nodes(self) -> Nodes:
        """The full side of the layer, for the autograd functions."""
        return Nodes(self.weight, self.bias, self.index(), self._flag)

    def full_parts(self) -> tuple[tuple[Tensor, int, Tensor, nn.Parameter], ...]:
        """What is held twice: full tensor, axis of the nodes, learner positions on it, compact tensor."""
        raise NotImplementedError

    def named_parts(self) -> tuple[tuple[str, Tensor, int, Tensor, nn.Parameter], ...]:
        """The parts with the local name of each full tensor before it."""
        return tuple((("weight", *part) if part[0] is self.weight else ("bias", *part)) for part in self.full_parts())

    @torch.no_grad()
    def refresh(self) -> None:
        """Write the learners into the full tensors where they may have changed since the last time."""
        versions = tuple(compact._version for compact in self.own().values())
        if versions != self._seen or self._flag.is_raised:
            self.sync()

    @torch.no_grad()
    def sync(self) -> None:
        """Write the learners into the full tensors where the values differ."""
        for full, axis, where, compact in self.full_parts():
            if full.is_meta or not torch.equal(full.index_select(axis, where), compact):
                full.index_copy_(axis, where, compact)
        self._seen = tuple(compact._version for compact in self.own().values())
        self._flag.is_raised = False

    @torch.no_grad()
    def gather(self) -> None:
        """Read the learners from the full tensors: the other direction, after a plain checkpoint was loaded."""
        for full, axis, where, compact in self.full_parts():
            compact.copy_(full.index_select(axis, where))

    def plain(self) -> nn.Module:
        """The linear that was taken over, with the parameters as they are now."""
        (linear,) = self._linear
        linear.weight, linear.bias = self.weight, self.bias
        linear.train(self.training)
        return linear

    def own(self) -> Mapping[str, nn.Parameter]:
        """Index and compact tensors."""
        named = {"far_index": self.far_index, "far_weight": self.far_weight, "far_bias": self.far_bias}
        return {name: parameter for name, parameter in named.items() if parameter is not None}

    def repeated(self) -> int:
        """All of them: they repeat the full tensors, or only say where."""
        return sum(parameter.numel() for parameter in self.own().values())

    def merged(self) -> Mapping[str, Tensor]:
        """The full tensors, synchronised."""
        self.sync()
        return {name: value for name, value in (("weight", self.weight), ("bias", self.bias)) if value is not None}

    def frozen(self) -> Mapping[str, Tensor]:
        """The nonlearner part of each full tensor that has learners."""
        return {leaf: _without(full, axis, where) for leaf, full, axis, where, _ in self.named_parts()}

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
        """A copy's counters start anew, so what was seen of the original's says nothing about them."""
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
        """The learner nodes as int64; None where every node is one."""
        return None if self.far_index is None else self.far_index.long()

    def fuse(self, down: "FarDown", recipe: Recipe) -> None:
        """Compute the whole feed-forward here; the linear that narrows passes on what it gets."""
        self._fused = (down, recipe)
        down.is_passed = True

    def _rows(self) -> Tensor:
        index = self.index()
        assert index is not None
        return torch.cat([index, index + self.out_features // 2]) if self.is_gated else index

    def full_parts(self) -> tuple[tuple[Tensor, int, Tensor, nn.Parameter], ...]:
        """Rows of the weight and entries of the bias."""
        if self.far_weight is None:
            return ()
        rows = self._rows()
        parts = ((self.weight, 0, rows, self.far_weight),)
        return parts if self.far_bias is None else (*parts, (self.bias, 0, rows, self.far_bias))

    def learners(self) -> tuple[Tensor, Tensor | None]:
        """What gets the gradients of weight and bias."""
        return (self.weight, self.bias) if self.far_weight is None else (self.far_weight, self.far_bias)

    def forward(self, x: Tensor) -> Tensor:
        """From `(..., H)` to `(..., F)`, or to `(..., H)` where the whole feed-forward is computed here."""
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
            return F.linear(_activate(recipe, F.linear(x, self.weight, self.bias)), down.weight, down.bias)
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
        """The learner nodes as int64; None where every node is one."""
        return self._up[0].index()

    def full_parts(self) -> tuple[tuple[Tensor, int, Tensor, nn.Parameter], ...]:
        """Columns of the weight."""
        index = self.index()
        return () if self.far_weight is None or index is None else ((self.weight, 1, index, self.far_weight),)

    def learners(self) -> tuple[Tensor, Tensor | None]:
        """What gets the gradients of weight and bias."""
        return self.weight if self.far_weight is None else self.far_weight, self.bias

    def forward(self, h: Tensor) -> Tensor:
        """From `(..., F)` to `(..., H)`; what it gets, where the feed-forward is computed as one."""
        if self.is_passed:
            return h
        self.refresh()
        if not torch.is_grad_enabled():
            return F.linear(h, self.weight, self.bias)
        return linear_down(h, *self.learners(), self.nodes())


class FarShell(nn.Module):
    """Stands for a module that did nothing but part of a feed-forward, under the same names of parameters.

    Args:
        original: the module.
        up: where in it the linear stands that now computes the feed-forward.
    """

    def __init__(self, original: nn.Module, up: str) -> None:
        super().__init__()
        # A name that no module of the original, which keep theirs here, will have.
        self._far_up = up
        for name, child in original.named_children():
            self.add_module(name, child)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The feed-forward of `(..., H)`."""
        return self.get_submodule(self._far_up)(hidden_states)


class FarPassed(nn.Module):
    """Stands for an activation, or a dropout that drops nothing, which is computed elsewhere now."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """What it gets."""
        return hidden_states


def _activate(recipe: Recipe, z: Tensor) -> Tensor:
    phi = activation(recipe.activation)
    if recipe.gate == "none":
        return phi.forward(z)
    u, v = z.chunk(2, dim=-1)
    return phi.forward(u) * v if recipe.gate == "first" else u * phi.forward(v)


def _without(full: Tensor, axis: int, where: Tensor) -> Tensor:
    keep = torch.ones(full.shape[axis], dtype=torch.bool, device=full.device)
    keep[where] = False
    return full.detach().index_select(axis, keep.nonzero().flatten())
