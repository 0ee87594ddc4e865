"""Reconfiguration: feed-forwards of a model swapped in place, flags set, the result checked against what stood there before."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.architecture import Architecture, FfnPair, probe
from narrows.tuning.base import Swap, TunedModel, Tuning, attach, check_plain, layers, own_names, swap
from narrows.tuning.dropout import swap_dropout
from narrows.tuning.far.config import FarConfig
from narrows.tuning.far.functions import CODED, MemoryMode, Recipe
from narrows.tuning.far.layers import FarDown, FarLinear, FarUp
from narrows.tuning.far.selection import Selection, Site, draw, imported
from narrows.tuning.precision import widened
from narrows.tuning.recording import Batch
from narrows.tuning.swapping import bypass, checked_swaps, linear
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
        is_exact = all(pair.is_exact or pair.activation is None for pair in architecture.pairs)
        with checked_swaps(model, example, is_exact) as swaps:
            for pair in architecture.pairs:
                if config.is_transformed(pair.block):
                    swaps += reconfigure(model, pair, chosen.indices[pair.up], config.memory_mode_of(pair.block))
            if config.thrifty_dropout:
                swaps += swap_dropout(model)
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
    swaps = [swap(model, pair.up, far_up), swap(model, pair.down, far_down)]
    if mode != "tier1":
        assert pair.activation is not None
        far_up.fuse(far_down, Recipe(pair.activation, pair.gate, mode))
        swaps += bypass(model, pair)
    return swaps


def _possible(pair: FfnPair, mode: MemoryMode) -> MemoryMode:
    """Return the mode, or `tier1` with a warning where the feed-forward cannot be computed as one function."""
    if mode == "tier1":
        return mode
    if mode in CODED and pair.gate != "none":
        raise ValueError(
            f"memory_mode={mode!r} holds the derivative of an activation, and {pair.up} is gated: its derivative is not "
            "bounded. Take 'recompute', 'lean' or 'keep'."
        )
    if pair.is_fusible:
        return mode
    if mode != "keep":
        warnings.warn(f"{pair.up} is tuned with memory_mode='tier1' instead of {mode!r}: {pair.obstacle}.", stacklevel=4)
    return "tier1"


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
    """Set for every parameter whether it is trained; those of the feed-forwards with learners are set already."""
    transformed = [pair for pair in architecture.pairs if config.is_transformed(pair.block)]
    output_biases = {f"{pair.down}.bias" for pair in transformed}
    own = own_names(model)
    whole = {
        f"{name}.{leaf}"
        for name, layer in layers(model)
        if isinstance(layer, FarLinear) and layer.is_whole
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
    """Return the values before training of everything trained, by name: from before priming where they were kept."""
    known = dict(before)
    for name, layer in layers(model):
        if isinstance(layer, FarLinear):
            for part in layer.parts():
                if f"{name}.{part.leaf}" in before:
                    known[f"{name}.far_{part.leaf}"] = before[f"{name}.{part.leaf}"].index_select(part.axis, part.where)
    return {
        name: known[name].clone() if name in known else parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
