"""The state that stands on a tuned model, and the verbs that people know from PEFT.

Layers are swapped in place and the model stays the object, and of the class, that it was: the Trainer of transformers reads
the signature of a model's own forward, and keeps a registry by class. The verbs are set on the instance and taken off again
when the model is plain.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.config import TuningConfig
from narrows.tuning.precision import cast

TunedModel: TypeAlias = Any
"""A `PreTrainedModel` with the verbs of `VERBS` set on the instance; no static type says both."""

STATE: Final = "narrows_tuning"


class TunedLayer(nn.Module, ABC):
    """A layer that stands in a linear's place while the model is tuned, under the same names of parameters.

    Args:
        linear: the plain layer; its parameters are taken over, not copied.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # In a tuple, so that the plain layer is no part of the module tree and its parameters are not seen twice.
        self._linear = (linear,)
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    @abstractmethod
    def sync(self) -> None:
        """Write what was trained apart into the full tensors, whatever the version counters say."""

    @torch.no_grad()
    def plain(self) -> nn.Module:
        """Return the linear that was taken over, with what was learned in it."""
        (linear,) = self._linear
        self.weight.copy_(self.merged()["weight"])
        linear.weight, linear.bias = self.weight, self.bias
        linear.train(self.training)
        return linear

    @abstractmethod
    def own(self) -> Mapping[str, nn.Parameter]:
        """Return, by local name, the parameters that a plain layer does not have."""

    @abstractmethod
    def repeated(self) -> int:
        """Return how many numbers of `own` repeat numbers of the full tensors, so that no count sees them twice."""

    @abstractmethod
    def merged(self) -> Mapping[str, Tensor]:
        """Return the state of the plain layer with what was learned in it, by local name, without changing anything."""

    @abstractmethod
    def frozen(self) -> Mapping[str, Tensor]:
        """Return, by local name, the part of each full tensor that no training touches."""


class Swap(NamedTuple):
    """One module in the place of another.

    Attributes:
        name: of the place in the model.
        original: what stood there.
        replacement: what stands there while the model is tuned.
    """

    name: str
    original: nn.Module
    replacement: nn.Module


@dataclass
class Tuning:
    """The record, on a tuned model, of how it is tuned.

    Attributes:
        config: of the method.
        swaps: in the order in which they were made.
        trained: names of the parameters that are trained.
        head: names of the modules of the head.
        stored: names of further parameters that an adapter's file must hold, because they moved and are frozen now.
        base: values before training of all that moved, by name; None where no copy was kept.
        primed: names of parameters that are trained in a priming phase alone, of a method that has one while tuned.
        unreached: names of parameters that no gradient of the loss comes to; they are frozen, and no part of what is learned.
        narrow: types, by name, of the parameters and buffers that were in half precision before tuning.
        is_loading_adapter: whether the state dict that is being loaded is an adapter's.
    """

    config: TuningConfig
    swaps: list[Swap]
    trained: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    stored: frozenset[str] = frozenset()
    base: dict[str, Tensor] | None = field(default=None, repr=False)
    primed: frozenset[str] = frozenset()
    unreached: frozenset[str] = frozenset()
    narrow: Mapping[str, torch.dtype] = field(default_factory=dict, repr=False)
    is_loading_adapter: bool = False


def tuning_of(model: nn.Module) -> Tuning:
    """Return the state of a tuned model; ValueError for a model that is not tuned."""
    state = model.__dict__.get(STATE)
    if not isinstance(state, Tuning):
        raise ValueError(f"{type(model).__name__} is not tuned: get_far_model and its like return a model that is.")
    return state


def is_tuned(model: nn.Module) -> bool:
    """Whether the model carries a tuning."""
    return isinstance(model.__dict__.get(STATE), Tuning)


def check_plain(model: nn.Module) -> None:
    """Raise ValueError for a model that is tuned already."""
    if is_tuned(model):
        method = tuning_of(model).config.method
        raise ValueError(f"the model is tuned already, by {method!r}. Call its merge_and_unload() or unload() first.")


def layers(model: nn.Module) -> Iterator[tuple[str, TunedLayer]]:
    """Yield the names and layers that stand in the place of plain ones."""
    for name, module in model.named_modules():
        if isinstance(module, TunedLayer):
            yield name, module


def own_names(model: nn.Module) -> dict[str, str]:
    """Return the local names, by their names in the model, of the parameters that a plain model does not have."""
    return {f"{name}.{leaf}": leaf for name, layer in layers(model) for leaf in layer.own()}


def stored_names(model: nn.Module) -> list[str]:
    """Return the names of the tensors in an adapter's file."""
    state = tuning_of(model)
    wanted = set(own_names(model)) | set(state.trained) | state.stored
    return [name for name, _ in model.named_parameters() if name in wanted]


def attach(model: PreTrainedModel, state: Tuning, verbs: Mapping[str, Callable[..., Any]]) -> TunedModel:
    """Set the state and the verbs on a model whose layers are swapped and whose flags say what is trained.

    What no gradient comes to is frozen, whatever its flag: data-parallel training would wait for it, and counts would be wrong.
    The verbs are partial applications of functions of this package: unlike bound methods they are copied and pickled with the
    model.
    """
    for name, parameter in model.named_parameters():
        if name in state.unreached:
            parameter.requires_grad_(False)
    state.trained = tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    state.primed &= frozenset(state.trained)
    model.__dict__[STATE] = state
    for name, verb in verbs.items():
        model.__dict__[name] = functools.partial(verb, model)
    model.register_load_state_dict_pre_hook(note_loading)
    model.register_load_state_dict_post_hook(_forgive_frozen)
    return model


def note_loading(model: nn.Module, state_dict: Mapping[str, Tensor], *_: Any) -> None:
    """Note whether what is about to be loaded is an adapter: all that one holds, and nothing that is frozen."""
    if is_tuned(model):
        tuning_of(model).is_loading_adapter = set(state_dict) == set(stored_names(model))


def _forgive_frozen(model: nn.Module, keys: Any) -> None:
    """Report no tensor as missing where an adapter was loaded, which is a complete state: the base has the frozen ones."""
    if is_tuned(model) and tuning_of(model).is_loading_adapter:
        keys.missing_keys.clear()


def detach(model: PreTrainedModel) -> PreTrainedModel:
    """Take state and verbs off again: the class's own save_pretrained shows through."""
    for name, value in list(model.__dict__.items()):
        if name == STATE or (isinstance(value, functools.partial) and value.func.__module__.startswith("narrows.tuning")):
            del model.__dict__[name]
    return model


def swap(model: nn.Module, name: str, replacement: nn.Module) -> Swap:
    """Put a module in the place of another, in the same mode, and return what was done."""
    original = model.get_submodule(name)
    replacement.training = original.training
    model.set_submodule(name, replacement)
    return Swap(name, original, replacement)


def undo(model: nn.Module, swaps: list[Swap]) -> None:
    """Put the originals back, as they are, last swap first."""
    for name, original, replacement in reversed(swaps):
        original.train(replacement.training)
        model.set_submodule(name, original)


def sync(model: nn.Module) -> None:
    """Write everything that was trained apart into the full tensors.

    Needed by hand only after a write through `.data`, which moves no version counter.
    """
    for _, layer in layers(model):
        layer.sync()


def get_nb_trainable_parameters(model: TunedModel) -> tuple[int, int]:
    """Return how many numbers are trained and how many there are; a number that is held twice counts once."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    everything = sum(parameter.numel() for parameter in model.parameters())
    return trained, everything - sum(layer.repeated() for _, layer in layers(model))


def print_trainable_parameters(model: TunedModel) -> None:
    """Print both counts and their ratio."""
    trained, everything = get_nb_trainable_parameters(model)
    print(f"trainable params: {trained:,} || all params: {everything:,} || trainable%: {100 * trained / everything:.4f}")


def get_base_model(model: TunedModel) -> TunedModel:
    """Return the model itself: layers are swapped in place and nothing is wrapped."""
    return model


def merge_and_unload(model: TunedModel, safe_merge: bool = False) -> PreTrainedModel:
    """Return the same object as a plain model that computes what the tuned one does, every parameter trainable.

    It stays in single precision where it was in half before tuning, which would round away what was learned.
    Raises ValueError, before anything changes, where `safe_merge` is asked and a merged tensor is not finite.
    """
    state = tuning_of(model)
    if safe_merge:
        _check_finite(model)
    sync(model)
    return _unswap(model, state)


def unload(model: TunedModel) -> PreTrainedModel:
    """Return the same object as the plain model that it was before tuning, bit by bit.

    Raises ValueError where the base values of what was trained were not kept.
    """
    state = tuning_of(model)
    _exchange(model, _base(state, "unload"))
    plain = _unswap(model, state)
    cast(plain, state.narrow)
    return plain


@contextmanager
def disable_adapter(model: TunedModel) -> Iterator[None]:
    """Let the model compute what it did before tuning, in single precision at least, as long as the context is open.

    Raises ValueError where the base values of what was trained were not kept.
    """
    learned = _exchange(model, _base(tuning_of(model), "disable_adapter"))
    try:
        yield
    finally:
        _exchange(model, learned)


def _base(state: Tuning, verb: str) -> Mapping[str, Tensor]:
    if state.base is None:
        raise ValueError(
            f"{verb} needs the values that the trained tensors had before training, and this tuning kept none. "
            "Set keep_base_copy=True in the configuration, or load the base model again."
        )
    return state.base


@torch.no_grad()
def _exchange(model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put values in the place of parameters and return what was there."""
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].detach().clone() for name in values}
    for name, value in values.items():
        parameters[name].copy_(value)
    sync(model)
    return before


def _check_finite(model: nn.Module) -> None:
    tensors = {f"{name}.{leaf}": value for name, layer in layers(model) for leaf, value in layer.merged().items()}
    trained = tuning_of(model).trained
    tensors |= {name: parameter for name, parameter in model.named_parameters() if name in trained}
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise ValueError(
            f"the merged model would hold nan or infinity in {', '.join(broken)}; nothing was merged. Training diverged: "
            "go back to a checkpoint from before, and lower the learning rate."
        )


def _unswap(model: TunedModel, state: Tuning) -> PreTrainedModel:
    plain = {name: layer.plain() for name, layer in layers(model)}
    undo(model, state.swaps)
    for name, layer in plain.items():
        model.set_submodule(name, layer)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return detach(model)
