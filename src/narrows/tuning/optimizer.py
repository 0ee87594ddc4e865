"""Optimisers: surgery on one when the set of trained tensors changes, and AdamW over few flat tensors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Grouped(Protocol):
    """The part of an optimiser that surgery needs; a wrapper that shows both of the real one's will do."""

    param_groups: list[dict[str, Any]]

    @property
    def state(self) -> Any:
        """The state kept for each parameter."""
        ...


class Origin(NamedTuple):
    """The origin of a new parameter.

    Attributes:
        parameter: the one that it was part of.
        axis: along which.
        where: which positions of it.
    """

    parameter: nn.Parameter
    axis: int
    where: Tensor


@torch.no_grad()
def repair_optimizer(
    optimizer: Grouped,
    parameters: Sequence[nn.Parameter],
    origins: Mapping[nn.Parameter, Origin],
    is_fresh: bool = False,
) -> None:
    """Let an optimiser train other parameters than it did, in place, so that its schedule and its groups stay valid.

    A parameter stays in its group, a new one goes to the group of the one that it comes from; so what has no weight decay
    keeps having none. State of what is dropped is deleted. New parameters take their part of the old one's moments and its
    count of steps.

    Args:
        parameters: what is trained from now on, in the order of the model, which a fresh optimiser would have too.
        origins: of new parameters.
        is_fresh: drop all state instead of carrying it over.

    Raises ValueError where a parameter is neither known to the optimiser nor new.
    """
    if isinstance(optimizer, FlatAdamW):
        raise ValueError(
            "FlatAdamW holds parameters in flat tensors and cannot change them on the way. "
            "Prime first, then make it from the reconfigured model."
        )
    groups = {parameter: number for number, group in enumerate(optimizer.param_groups) for parameter in group["params"]}
    members: list[list[nn.Parameter]] = [[] for _ in optimizer.param_groups]
    for parameter in parameters:
        source = origins[parameter].parameter if parameter in origins else parameter
        if source not in groups:
            raise ValueError(
                "a parameter that is to be trained was in no group of the optimiser, so its learning rate is not known. "
                "Make the optimiser while everything is trainable, or after reconfiguration."
            )
        members[groups[source]].append(parameter)
    carried = (
        {}
        if is_fresh
        else {
            new: _carried(optimizer.state[old.parameter], old)
            for new, old in origins.items()
            if old.parameter in optimizer.state
        }
    )
    kept = set() if is_fresh else set(parameters)
    for parameter in list(optimizer.state):
        if parameter not in kept:
            del optimizer.state[parameter]
    for parameter, state in carried.items():
        optimizer.state[parameter] = state
    for group, own in zip(optimizer.param_groups, members, strict=True):
        group["params"][:] = own


def _carried(state: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """Return the state of a part: tensors of the parameter's shape gathered, the rest, such as the count of steps, copied."""
    shape = origin.parameter.shape
    return {
        key: (value.index_select(origin.axis, origin.where) if value.shape == shape else value.clone())
        if isinstance(value, Tensor)
        else value
        for key, value in state.items()
    }


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters in two groups, the second, of biases and norms, without decay, as Trainer has them."""
    norms = {
        f"{name}.{leaf}"
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for leaf, _ in module.named_parameters(recurse=False)
    }
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name in norms or "bias" in name.rsplit(".", 1)[-1]].append(parameter)
    decays = (weight_decay, 0.0)
    return [{"params": own, "weight_decay": decay} for own, decay in zip(groups, decays, strict=True) if own]


class FlatAdamW(torch.optim.Optimizer):
    """AdamW on few flat tensors: parameters and gradients become views into one tensor for each group, type and device.

    One fused pass goes over each, where an optimiser of many tensors makes several over each of them. The updates are those of
    `torch.optim.AdamW(fused=True)` bit by bit, but for the last numbers of a tensor whose size is no multiple of a vector
    register's, which that kernel rounds in another way. Gradients are zeroed and never freed, whatever `set_to_none` says.
    Make it after the model is on its device and reconfigured, and do not move the model afterwards.

    Args:
        params: parameters or groups of them, as for any optimiser.
        lr, betas, eps, weight_decay: of AdamW.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"lr, eps and weight_decay must not be negative, nor betas 1; got {lr}, {eps}, {weight_decay}, {betas}."
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._flats = [_flatten(group["params"]) for group in self.param_groups]
        inner = [
            {"params": [flat.values for flat in flats], **_settings(group)}
            for group, flats in zip(self.param_groups, self._flats, strict=True)
        ]
        self._inner = torch.optim.AdamW(inner, fused=True)

    # torch declares two overloads of it, of which a checker reads the first alone.
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that is trained; one whose gradient is zero decays all the same, as under any AdamW."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for own, group in zip(self._inner.param_groups, self.param_groups, strict=True):
            own.update(_settings(group))
        for flats in self._flats:
            for flat in flats:
                flat.collect()
        self._inner.step()
        # The update went through the flat tensor, of which the parameters' own version counters know nothing.
        torch.autograd.graph.increment_version([parameter for group in self.param_groups for parameter in group["params"]])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Zero the gradients, in one pass for each flat tensor."""
        for flats in self._flats:
            for flat in flats:
                flat.zero()

    def state_dict(self) -> dict[str, Any]:
        """Return the moments by flat tensor, with the groups' settings."""
        return self._inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` of one with the same parameters returned."""
        self._inner.load_state_dict(state_dict)
        for own, group in zip(self._inner.param_groups, self.param_groups, strict=True):
            group.update(_settings(own))


class _Flat:
    """Parameters of one type on one device, laid end to end, and their gradients likewise."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.values = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters]))
        self.values.grad = torch.zeros_like(self.values)
        begin = 0
        for parameter in self.parameters:
            end = begin + parameter.numel()
            parameter.data = self.values.detach()[begin:end].view(parameter.shape)
            parameter.grad = self.values.grad[begin:end].view(parameter.shape)
            begin = end
        self.views = [parameter.grad for parameter in self.parameters]

    def collect(self) -> None:
        """Copy in the gradients that something put in the place of our views, such as a model's own zero_grad."""
        for parameter, view in zip(self.parameters, self.views, strict=True):
            assert view is not None
            if parameter.grad is view:
                continue
            if parameter.grad is None:
                view.zero_()
            else:
                view.copy_(parameter.grad)
            parameter.grad = view

    def zero(self) -> None:
        """Zero all gradients and put the views back."""
        assert self.values.grad is not None
        self.values.grad.zero_()
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view


def _flatten(parameters: Sequence[nn.Parameter]) -> list[_Flat]:
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    return [_Flat(own) for own in kinds.values()]


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")}
