"""Priming: a few steps on the data that rank the nodes which shall go on learning."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.architecture import Architecture, probe
from narrows.tuning.base import check_plain
from narrows.tuning.far.config import FarConfig
from narrows.tuning.far.inject import is_trained_outside, sites_of
from narrows.tuning.far.scores import NodeScorer, positions, scorer_of, shares
from narrows.tuning.far.selection import Selection, choose, draw, num_learners
from narrows.tuning.precision import cast, widened
from narrows.tuning.recording import Batch, mode

_LEARNING_RATES: Final = {"sgd": 0.05, "adamw": 5e-5}


def prime(
    model: PreTrainedModel,
    loader: Iterable[Batch],
    config: FarConfig,
    total_steps: int | None = None,
    example: Batch | None = None,
    loss: Callable[[PreTrainedModel, Batch], Tensor] | None = None,
) -> Selection:
    """Return the learner nodes of each feed-forward, after a few steps on the data.

    Without an optimiser (the default) no weight moves, only feed-forwards get gradients, and each gradient is folded into the
    score and freed as soon as it is complete. With one, the steps are ordinary fine-tuning of everything, and
    `after_priming` says what of it stays; a model in half precision is float32 from then on, which small steps need.

    Args:
        loader: batches with labels, as the model's forward takes them; gone through again where it is too short.
        total_steps: of the whole run, of which `priming_ratio` is a share. Not needed where `priming_steps` is given; by
            default, the length of the loader.
        example: a batch to look at the model with; random tokens by default.
        loss: from the model and a batch to the loss, instead of the model's own.

    Raises ValueError where the score needs movement and there is no optimiser, where a batch has no labels, where the loader is
    empty, or where so small a share of the nodes is none.
    """
    check_plain(model)
    with widened(model) as narrow:
        selection = _primed(model, loader, config, total_steps, example, _own_loss if loss is None else loss)
    if config.priming_optimizer == "none":
        cast(model, narrow)
    return selection


def _primed(
    model: PreTrainedModel,
    loader: Iterable[Batch],
    config: FarConfig,
    total_steps: int | None,
    example: Batch | None,
    loss: Callable[[PreTrainedModel, Batch], Tensor],
) -> Selection:
    architecture = probe(model, config.ffn_pairs, config.modules_to_save, example)
    sites = sites_of(model, config, architecture)
    num_learners(config, sites)  # before the steps, not after them
    if config.score == "random":
        return Selection(draw(config, sites))
    if config.needs_movement and config.priming_optimizer == "none":
        raise ValueError(
            f"score={config.score!r} looks at how far weights move, and priming_optimizer='none' moves none. "
            "Take priming_optimizer='sgd' or 'adamw', or score='grad_l1'."
        )
    steps = config.num_priming_steps(total_steps if total_steps is not None else _length(loader))
    if steps == 0:
        raise ValueError("priming_steps is 0, so nothing would be seen. Take at least one step, or score='random'.")
    is_moving = config.priming_optimizer != "none"
    before = snapshot(model, config, architecture) if is_moving else {}
    counted = shares(model, architecture.pairs, config)
    scorer = scorer_of(model, counted, before, config)
    assert scorer is not None
    with _training(model, config.seed):
        losses = _losses(model, loader, steps, loss)
        if is_moving:
            _step(model, losses, scorer, config)
        else:
            _look(model, losses, scorer, {share.parameter for share in counted})
    return select(model, config, architecture, scorer, before if is_moving else None, steps)


def select(
    model: nn.Module,
    config: FarConfig,
    architecture: Architecture,
    scorer: NodeScorer | None,
    before: Mapping[str, Tensor] | None,
    num_steps: int,
) -> Selection:
    """Return the nodes that priming found, with `after_priming` applied to weights that moved.

    Args:
        scorer: what the steps were shown to; None where nodes are drawn.
        before: values from before priming of what may have to be rolled back; None where nothing moved.
        num_steps: that were taken.
    """
    sites = sites_of(model, config, architecture)
    scores = {} if scorer is None else scorer.scores()
    chosen = draw(config, sites) if scorer is None else choose(config, sites, scores)
    moved, kept = (frozenset(), {}) if before is None else _settle(model, config, architecture, chosen, before)
    return Selection(chosen, scores, num_steps, moved, kept)


def snapshot(model: nn.Module, config: FarConfig, architecture: Architecture) -> dict[str, Tensor]:
    """Return copies of what will have to be compared, rolled back, or kept as a base copy."""
    names: set[str] = set(architecture.ffn) if config.needs_movement else set()
    if config.after_priming == "rollback_frozen":
        names |= frozen_names(model, config, architecture)
    if config.after_priming == "restart" or config.keep_base_copy:
        names |= {name for name, _ in model.named_parameters()}
    return {name: value.detach().clone() for name, value in model.named_parameters() if name in names}


def frozen_names(model: nn.Module, config: FarConfig, architecture: Architecture) -> set[str]:
    """Return the names of the parameters that reconfiguration freezes, whole or but for their learners."""
    biases = {f"{pair.down}.bias" for pair in architecture.pairs if config.is_transformed(pair.block)}
    trained = biases if config.train_output_bias else set()
    return {
        name
        for name, _ in model.named_parameters()
        if (name in architecture.ffn and name not in trained)
        or (name not in architecture.ffn and not is_trained_outside(name, config, architecture))
    }


@torch.no_grad()
def _settle(
    model: nn.Module,
    config: FarConfig,
    architecture: Architecture,
    chosen: Mapping[str, tuple[int, ...]],
    before: Mapping[str, Tensor],
) -> tuple[frozenset[str], dict[str, Tensor]]:
    """Apply `after_priming` to weights that moved; return which frozen ones stay moved, and the base values to keep.

    Rolling back gives every tensor that will be frozen its value from before priming, but for the learner nodes in it.
    """
    parameters = dict(model.named_parameters())
    frozen = frozen_names(model, config, architecture)
    if config.after_priming == "keep":
        return frozenset(frozen), {}
    if config.after_priming == "restart":
        for name, value in before.items():
            parameters[name].copy_(value)
        return frozenset(), {}
    where = {share.parameter: share for share in positions(model, architecture.pairs, config)}
    for name in frozen:
        parameter = parameters[name]
        if name not in where:
            parameter.copy_(before[name])
            continue
        index = torch.tensor(chosen[where[name].pair], dtype=torch.int64, device=parameter.device)
        if where[name].is_gated:
            index = torch.cat([index, index + parameter.shape[0] // 2])
        learned = parameter.index_select(where[name].axis, index)
        parameter.copy_(before[name]).index_copy_(where[name].axis, index, learned)
    return frozenset(), dict(before) if config.keep_base_copy else {}


def _length(loader: Iterable[Batch]) -> int | None:
    return len(loader) if isinstance(loader, Sized) else None


@contextmanager
def _training(model: nn.Module, seed: int) -> Iterator[None]:
    """Switch to training mode with random numbers of our own, so that the choice depends on the seed alone."""
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with mode(model, True):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(flags[name])
                parameter.grad = None


def _losses(
    model: PreTrainedModel, loader: Iterable[Batch], steps: int, loss: Callable[[PreTrainedModel, Batch], Tensor]
) -> Iterator[Tensor]:
    """Yield the loss of one batch after the other; each is computed when it is asked for, with the weights of then."""
    taken = 0
    while taken < steps:
        begun = taken
        for batch in loader:
            yield loss(model, {name: value.to(model.device) for name, value in batch.items()})
            taken += 1
            if taken == steps:
                return
        if taken == begun:
            raise ValueError("the loader gave no batch, so there is nothing to prime on. Look at the data set.")


def _own_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    loss = model(**batch).loss
    if loss is None:
        raise ValueError(f"the model gave no loss for a batch of {', '.join(batch)}. Priming needs labels in each batch.")
    return loss


def _look(model: PreTrainedModel, losses: Iterator[Tensor], scorer: NodeScorer, names: set[str]) -> None:
    """Go backward without updates; at any time at most one parameter holds a gradient."""
    hooks = []
    for name, parameter in model.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(name in names)
        if name in names:
            hooks.append(parameter.register_post_accumulate_grad_hook(_folding(name, scorer)))
    try:
        for loss in losses:
            loss.backward()
    finally:
        for hook in hooks:
            hook.remove()


def _folding(name: str, scorer: NodeScorer) -> Callable[[Tensor], None]:
    def fold(parameter: Tensor) -> None:
        assert parameter.grad is not None
        scorer.see(name, parameter.grad)
        parameter.grad = None

    return fold


def _step(model: PreTrainedModel, losses: Iterator[Tensor], scorer: NodeScorer, config: FarConfig) -> None:
    """Take ordinary fine-tuning steps of every parameter."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    rate = config.priming_learning_rate
    rate = _LEARNING_RATES[config.priming_optimizer] if rate is None else rate
    made = torch.optim.SGD if config.priming_optimizer == "sgd" else torch.optim.AdamW
    optimizer = made(model.parameters(), lr=rate, weight_decay=0.0)
    for loss in losses:
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                scorer.see(name, parameter.grad)
        optimizer.step()
