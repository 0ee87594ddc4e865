"""Learners put beside the linears of a model, flags set, the result checked against what stood there before."""

import re
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.architecture import Architecture, FfnPair, probe
from narrows.tuning.base import Swap, TunedModel, Tuning, attach, check_plain, layers, own_names, swap
from narrows.tuning.learners.config import LearnerConfig
from narrows.tuning.learners.layers import LearnerLinear
from narrows.tuning.precision import widened
from narrows.tuning.recording import Batch
from narrows.tuning.swapping import bypass, checked_swaps, linear
from narrows.tuning.verbs import VERBS


def get_learner_model(
    model: PreTrainedModel,
    config: LearnerConfig,
    example: Batch | None = None,
    architecture: Architecture | None = None,
) -> TunedModel:
    """Return the model with learners put in place, in its priming phase if the configuration has one.

    A model in half precision becomes float32.

    Args:
        example: a batch that the model takes, to watch it with; random tokens by default.
        architecture: what `probe` found in this model, where that was asked before.

    Raises ValueError where a name fits no linear, or where the model with fresh learners does not compute what it did before;
    the model is then as it was.
    """
    check_plain(model)
    with widened(model) as narrow:
        if architecture is None:
            architecture = probe(model, config.ffn_pairs, config.modules_to_save, example)
        ranks = targets(model, config, architecture)
        weights = primed_weights(model, config, architecture)
        is_exact = config.memory_mode == "plain" or all(pair.is_exact for pair in architecture.pairs)
        generator = torch.Generator().manual_seed(config.seed)
        with checked_swaps(model, example, None if config.init == "nonzero" else is_exact, safe_mode="plain") as swaps:
            for name, rank in ranks.items():
                layer = LearnerLinear(linear(model, name), rank, config.scale, config.dropout)
                layer.initialise(config.init, generator)
                swaps.append(swap(model, name, layer))
            for pair in architecture.pairs if config.memory_mode == "lean" else ():
                swaps += _fuse(model, pair)
        primed = _set_flags(model, config, architecture, weights)
        state = Tuning(config, swaps, head=architecture.head, primed=primed, unreached=architecture.unreached, narrow=narrow)
        tuned = attach(model, state, VERBS)
        state.base = _base_copy(tuned) if config.keep_base_copy else None
        return tuned


def targets(model: nn.Module, config: LearnerConfig, architecture: Architecture) -> dict[str, int]:
    """Return the dimension of each learner by the name of its linear, in the model's order."""
    roles = {part.name: (part.role, part.block) for part in architecture.attention}
    for pair in architecture.pairs:
        roles |= {pair.up: ("up", pair.block), pair.down: ("down", pair.block)}
    if config.target_modules is None:
        chosen = {name for name, (role, _) in roles.items() if _has_role(name, role, config.target_roles)}
    elif config.target_modules == "all-linear":
        chosen = set(roles)
    else:
        chosen = _named(model, config.target_modules, architecture)
    if config.layers_to_transform is not None:
        chosen = {name for name in chosen if name in roles and roles[name][1] in config.layers_to_transform}
    chosen = {name for name in chosen if not ends_with(name, config.exclude_modules)}
    if not chosen:
        raise ValueError(
            f"no linear is left for a learner: target_roles={tuple(config.target_roles)}, target_modules="
            f"{config.target_modules}, layers_to_transform={config.layers_to_transform}, exclude_modules="
            f"{tuple(config.exclude_modules)}. Linears of the blocks: {', '.join(roles)}."
        )
    return {name: _rank(name, config) for name, _ in model.named_modules() if name in chosen}


def primed_weights(model: nn.Module, config: LearnerConfig, architecture: Architecture) -> frozenset[str]:
    """Return the names of the weights that are trained in priming and frozen after it."""
    if not config.has_priming or config.priming_trains == "none":
        return frozenset()
    if config.priming_trains == "attention":
        return architecture.attention_parameters - architecture.biases - architecture.norms
    found: set[str] = set()
    for wanted in config.priming_trains:
        fitting = {name for name, _ in model.named_parameters() if f".{wanted}." in f".{name}."}
        if not fitting:
            raise ValueError(f"priming_trains names {wanted!r}, which no module or parameter of {type(model).__name__} has.")
        found |= fitting
    return frozenset(name for name in found if not _is_always_trained(name, config, architecture))


def ends_with(name: str, suffixes: Sequence[str]) -> bool:
    """Whether a name ends with one of the suffixes, at a dot."""
    return any(name == suffix or name.endswith(f".{suffix}") for suffix in suffixes)


def _has_role(name: str, role: str, wanted: Sequence[str]) -> bool:
    if role != "qkv":
        return role in wanted
    parts = [part for part in ("q", "k", "v") if part in wanted]
    if parts and len(parts) < 3:
        raise ValueError(
            f"{name} is query, key and value in one, and target_roles names {', '.join(parts)} alone. Name all three or none."
        )
    return bool(parts)


def _named(model: nn.Module, wanted: Sequence[str] | str, architecture: Architecture) -> set[str]:
    """Return the linears outside the head that a regular expression or ends of names fit; ValueError where one fits none."""
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" not in architecture.head_parameters | architecture.unreached
    ]
    chosen: set[str] = set()
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        is_regex = isinstance(wanted, str)
        fitting = {name for name in names if (re.fullmatch(pattern, name) if is_regex else ends_with(name, (pattern,)))}
        if not fitting:
            raise ValueError(
                f"target_modules: {pattern!r} fits no linear outside the head, which is trained whole, that a gradient comes "
                f"to. Linears: {', '.join(names)}."
            )
        chosen |= fitting
    return chosen


def _rank(name: str, config: LearnerConfig) -> int:
    for pattern, rank in (config.rank_pattern or {}).items():
        if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", name):
            return rank
    return config.r


def _fuse(model: nn.Module, pair: FfnPair) -> list[Swap]:
    """Compute a feed-forward as one function where both its linears have learners; say so where that cannot be."""
    up, down = model.get_submodule(pair.up), model.get_submodule(pair.down)
    if not isinstance(down, LearnerLinear):
        # Without a learner there, nothing after the activation is kept anyway.
        return []
    if not pair.is_fusible or pair.activation is None or not isinstance(up, LearnerLinear):
        reason = pair.obstacle if isinstance(up, LearnerLinear) else "its widening linear has no learner"
        warnings.warn(f"{pair.up} is tuned with memory_mode='plain' instead of 'lean': {reason}.", stacklevel=3)
        return []
    up.fuse(down, pair.activation, pair.gate)
    return bypass(model, pair)


def _set_flags(model: nn.Module, config: LearnerConfig, architecture: Architecture, weights: frozenset[str]) -> frozenset[str]:
    """Set for every parameter whether it is trained now, and return the names of those that are in priming alone."""
    own = own_names(model)
    downs = frozenset(name for name, leaf in own.items() if leaf == "learner_down" and not config.train_down_projection)
    primed = weights | downs if config.has_priming else frozenset()
    for name, parameter in model.named_parameters():
        if name in own:
            is_trained = own[name] == "learner_up" or (own[name] == "learner_down" and (name not in downs or name in primed))
        else:
            is_trained = name in primed or _is_always_trained(name, config, architecture)
        parameter.requires_grad_(is_trained)
    if not config.has_priming:
        for _, layer in layers(model):
            if isinstance(layer, LearnerLinear):
                layer.learner_phase.data.fill_(1)
    return primed


def _is_always_trained(name: str, config: LearnerConfig, architecture: Architecture) -> bool:
    if name in architecture.head_parameters:
        return True
    if name in architecture.norms:
        return config.train_norms
    return config.train_biases and name in architecture.biases


def _base_copy(model: nn.Module) -> dict[str, Tensor]:
    """Return the values before training by name. Zeros for the second matrix are enough to undo a learner."""
    own = own_names(model)
    copies = {}
    for name, parameter in model.named_parameters():
        if own.get(name) == "learner_up":
            copies[name] = torch.zeros_like(parameter, requires_grad=False)
        elif name not in own and parameter.requires_grad:
            copies[name] = parameter.detach().clone()
    return copies
