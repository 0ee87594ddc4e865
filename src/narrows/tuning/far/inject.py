"""Reconfiguration: feed-forwards of a model swapped in place, flags set, the result checked against what stood there before."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.base import Swap, TunedModel, Tuning, attach, check_plain, layers, swap, undo
from narrows.tuning.dropout import swap_dropout
from narrows.tuning.far.config import FarConfig
from narrows.tuning.far.functions import CODED, MemoryMode, Recipe
from narrows.tuning.far.layers import FarDown, FarPassed, FarShell, FarUp
from narrows.tuning.far.selection import Selection, Site, draw, imported
from narrows.tuning.precision import widened
from narrows.tuning.recording import Batch, example_batch, logits
from narrows.tuning.structure import Architecture, FfnPair, probe
from narrows.tuning.verbs import VERBS


def get_far_model(
    model: PreTrainedModel,
    config: FarConfig,
    selection: Selection | Mapping[str, Sequence[int]] | None = None,
    example: Batch | None = None,
    architecture: Architecture | None = None,
) -> TunedModel:
    """Return the model, reconfigured in place: learner nodes of each feed-forward apart and trainable, the others frozen.

    A model in half precision becomes float32.

    Args:
        selection: what `prime` returned, or learner nodes by the name of the widening linear. None for those of the
            configuration, or a draw where its score is `random`.
        example: a batch that the model takes, to watch it with; random tokens by default.
        architecture: what `probe` found in this model, where that was asked before.

    Raises ValueError where no nodes were chosen, or where the model with its new layers does not compute what it did before;
    the model is then as it was.
    """
    check_plain(model)
    with widened(model) as narrow:
        if architecture is None:
            architecture = probe(model, config.ffn_pairs, config.modules_to_save, example)
        chosen = _resolve(model, config, architecture, selection)
        flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        batch = example_batch(model) if example is None else example
        before = None if is_meta(model) else logits(model, batch)
        swaps: list[Swap] = []
        try:
            for pair in architecture.pairs:
                if config.is_transformed(pair.block):
                    swaps += reconfigure(model, pair, chosen.indices[pair.up], config.memory_mode_of(pair.block))
            if config.thrifty_dropout:
                swaps += swap_dropout(model)
            if before is not None:
                check_same(model, batch, before, all(pair.is_exact or pair.activation is None for pair in architecture.pairs))
        except BaseException:
            undo(model, swaps)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(flags[name])
            raise
        _set_flags(model, config, architecture)
        state = Tuning(
            config, swaps, head=architecture.head, stored=chosen.moved, unreached=architecture.unreached, narrow=narrow
        )
        tuned = attach(model, state, VERBS)
        state.base = _base_copy(tuned, chosen.before) if config.keep_base_copy else None
        return tuned


def sites_of(model: nn.Module, config: FarConfig, architecture: Architecture) -> list[Site]:
    """Return the feed-forwards that are to have learners."""
    pairs = [pair for pair in architecture.pairs if config.is_transformed(pair.block)]
    if not architecture.pairs:
        raise ValueError(
            f"no gradient comes to any feed-forward of {type(model).__name__}, so no node can learn. Look whether its forward "
            "detaches them or runs them under no_grad, and whether the loss of example= needs them."
        )
    if not pairs:
        raise ValueError(
            f"layers_to_transform={config.layers_to_transform} and frozen_blocks={config.frozen_blocks} leave no block, "
            f"and the model's blocks are 0 to {len(architecture.pairs) - 1}."
        )
    return [Site(pair.up, pair.block, linear(model, pair.down).in_features) for pair in pairs]


def linear(model: nn.Module, name: str) -> nn.Linear:
    """Return the linear of that name, narrowed to its type."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear), name
    return module


def reconfigure(model: nn.Module, pair: FfnPair, nodes: Sequence[int] | None, mode: MemoryMode) -> list[Swap]:
    """Put the two tuned linears in the place of a pair, fused where the mode asks for it, and return the swaps.

    Args:
        nodes: the learners; None for all of them, with the full tensors trained; none at all leaves plain linears.
    """
    up, down = linear(model, pair.up), linear(model, pair.down)
    is_all = nodes is None or len(nodes) == down.in_features
    if not is_all and not nodes:
        for parameter in (*up.parameters(), down.weight):
            parameter.requires_grad_(False)
        return []
    index = None if is_all else torch.tensor(nodes, dtype=torch.int64)
    far_up = FarUp(up, index, pair.gate != "none")
    far_down = FarDown(down, far_up)
    if index is not None:
        for parameter in (far_up.weight, far_up.bias, far_down.weight):
            if parameter is not None:
                parameter.requires_grad_(False)
    mode = _possible(pair, mode)
    swaps = (
        [swap(model, pair.shell, FarShell(model.get_submodule(pair.shell), pair.up[len(pair.shell) + 1 :]))]
        if (mode != "tier1" and not pair.bypass and pair.shell is not None)
        else []
    )
    swaps += [swap(model, pair.up, far_up), swap(model, pair.down, far_down)]
    if mode != "tier1":
        assert pair.activation is not None
        far_up.fuse(far_down, Recipe(pair.activation, pair.gate, mode))
        swaps += [swap(model, name, FarPassed()) for name in pair.bypass]
    return swaps


def check_same(model: nn.Module, batch: Batch, before: Tensor, is_exact: bool, safe_mode: str = "tier1") -> None:
    """Raise ValueError where the model's output is not what it was: bit by bit, or within 1e-6 of its size.

    Args:
        safe_mode: the memory mode to name as the way out.
    """
    after = logits(model, batch)
    scale = max(1.0, float(before.abs().max()))
    if torch.equal(before, after) or (not is_exact and float((before - after).abs().max()) <= 1e-6 * scale):
        return
    raise ValueError(
        "the reconfigured model does not compute what it did before (largest difference "
        f"{float((before - after).abs().max()):.3g}), so what was taken for a feed-forward is none. "
        f"Try memory_mode={safe_mode!r}, or name the pairs: ffn_pairs=[(up, down), ...]."
    )


def _possible(pair: FfnPair, mode: MemoryMode) -> MemoryMode:
    """The mode, or `tier1` with a warning where the feed-forward cannot be computed as one function."""
    if mode == "tier1":
        return mode
    if mode in CODED and pair.gate != "none":
        raise ValueError(
            f"memory_mode={mode!r} holds the derivative of an activation, and {pair.up} is gated: its derivative is not "
            "bounded. Take 'recompute', 'lean' or 'keep'."
        )
    if pair.is_fusible:
        return mode
    reason = "something random stands between its linears" if pair.has_dropout else "it cannot be computed as one function"
    if mode != "keep":
        warnings.warn(f"{pair.up} is tuned with memory_mode='tier1' instead of {mode!r}: {reason}.", stacklevel=4)
    return "tier1"


def is_meta(model: nn.Module) -> bool:
    """Whether the model has shapes and no values."""
    return any(parameter.is_meta for parameter in model.parameters())


def _resolve(
    model: nn.Module,
    config: FarConfig,
    architecture: Architecture,
    selection: Selection | Mapping[str, Sequence[int]] | None,
) -> Selection:
    sites = sites_of(model, config, architecture)
    if isinstance(selection, Selection):
        imported(selection.indices, sites)
        return selection
    if selection is None:
        selection = config.indices
    if selection is not None:
        return Selection(imported(selection, sites))
    if config.score == "random":
        return Selection(draw(config, sites))
    raise ValueError(
        "no learner nodes were chosen. Call prime(model, loader, config) and pass what it returns, give indices in the "
        "configuration, or take score='random'."
    )


def _set_flags(model: nn.Module, config: FarConfig, architecture: Architecture) -> None:
    """Say of every parameter whether it is trained; those of the feed-forwards with learners were said already."""
    transformed = [pair for pair in architecture.pairs if config.is_transformed(pair.block)]
    output_biases = {f"{pair.down}.bias" for pair in transformed}
    own = {f"{name}.{leaf}" for name, layer in layers(model) for leaf in layer.own()}
    whole = {
        f"{name}.{leaf}"
        for name, layer in layers(model)
        if isinstance(layer, FarUp | FarDown) and layer.is_whole
        for leaf in ("weight", "bias")
    }
    for name, parameter in model.named_parameters():
        if name in own:
            continue
        if name in output_biases:
            is_trained = config.train_output_bias
        elif name in architecture.ffn:
            is_trained = name in whole
        else:
            is_trained = is_trained_outside(name, config, architecture)
        parameter.requires_grad_(is_trained)


def is_trained_outside(name: str, config: FarConfig, architecture: Architecture) -> bool:
    """Whether a parameter outside the feed-forwards is trained. What is none of the named parts goes with attention."""
    if name in architecture.head_parameters:
        return True
    if name.startswith(tuple(home for home in architecture.blocks[: config.frozen_blocks] if home)):
        return False
    if name in architecture.embeddings:
        return config.train_embeddings
    return config.train_norms if name in architecture.norms else config.train_attention


def _base_copy(model: nn.Module, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values before training of everything trained, by name: those from before priming where they were kept."""
    known = dict(before)
    for name, layer in layers(model):
        if isinstance(layer, FarUp | FarDown):
            for leaf, _, axis, where, _ in layer.named_parts():
                if f"{name}.{leaf}" in before:
                    known[f"{name}.far_{leaf}"] = before[f"{name}.{leaf}"].index_select(axis, where)
    return {
        name: known[name].clone() if name in known else parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
