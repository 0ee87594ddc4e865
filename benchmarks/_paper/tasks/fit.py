"""Fit the proxy of a published task as it was published (tgm 5.4): one encoder, a random fifth that judges."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Objects
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from benchmarks._paper.tasks.encoder import Encoder, TransformerProxy, make_encoder, raw_scores
from benchmarks._paper.tasks.report import PublishedReport
from benchmarks._paper.tasks.task import Objective, PublishedTask
from narrows.proxies.ensemble import encode
from narrows.proxies.quality import rank_agreement

MIN_ROWS = 10
"""Sequences below which a fifth of them says nothing."""


@final
@dataclass(frozen=True)
class EpochDone:
    """Hold how far training is: epochs done and at most, and the mean losses of the last one."""

    done: int
    at_most: int
    train_loss: float
    validation_loss: float


@final
class PublishedFit(NamedTuple):
    """Hold a fitted proxy and what happened while it was fitted."""

    reward: TransformerProxy
    report: PublishedReport


class _Recipe(NamedTuple):
    """What of a task the compiled epoch depends on."""

    objective: Objective
    batch: int
    learning_rate: float
    weight_decay: float


class _Rows(NamedTuple):
    tokens: Int[Array, "row length"]
    lengths: Int[Array, " row"]
    targets: Float[Array, " row"]


class _State(NamedTuple):
    encoder: Any  # an Encoder; optax's types know no modules
    memory: optax.OptState


class _Best(NamedTuple):
    """The epoch with the lowest validation loss so far, and the raw scores it gave the validation rows."""

    epoch: int
    loss: float
    encoder: Encoder
    scores: Float[np.ndarray, " held"]


class _Sides(NamedTuple):
    """Rows trained on and rows that only judge."""

    train: Int[np.ndarray, " row"]
    validation: Int[np.ndarray, " held"]


def fit_published(
    task: PublishedTask,
    sequences: Objects[str],
    targets: Float[np.ndarray, " row"],
    key: PRNGKeyArray,
    *,
    progress: Callable[[EpochDone], None] | None = None,
) -> PublishedFit:
    """Fit a task's encoder, keep its best epoch, and standardise its raw scores by those of the validation sequences.

    Args:
        task: architecture, objective and optimiser.
        sequences: at least 10 of the lengths that the task's proxy reads.
        targets: one finite number each; for a regression they are standardised over all rows first, as design-bench does, for
            a binary task they are 0 or 1.
        key: split, initial weights and minibatches; published is `jax.random.key(0)`. The same key gives the same bits on one
            machine.
        progress: called after every epoch.

    Raises ValueError for sequences and targets that cannot be learned from, naming the first that is at fault.
    """
    started = time.perf_counter()
    tokens = encode(sequences, task.readable)
    values = np.asarray(targets, np.float64)
    _check(task, values, len(tokens))
    offset, scale = (0.0, 1.0) if task.objective == "binary" else (float(values.mean()), float(values.std()))
    rows = _Rows(
        jnp.asarray(tokens),
        jnp.asarray((tokens < len(task.alphabet)).sum(axis=1), jnp.int32),
        jnp.asarray((values - offset) / scale, jnp.float32),
    )
    split_key, init_key, order_key = jax.random.split(key, 3)
    sides = _split(len(tokens), task.validation_fraction, split_key)
    best, losses = _train(task, make_encoder(task, init_key), rows, sides, order_key, progress)
    held = values[sides.validation]
    mean, std = float(best.scores.mean()), float(best.scores.std())
    if not std > 0.0:
        raise ValueError(
            f"the proxy gives all {len(held)} validation sequences one score, so its scores have no scale. Give more rows, "
            "or a task with a larger learning rate."
        )
    report = PublishedReport(
        num_rows=len(tokens),
        num_distinct=len(set(sequences)),
        num_train=len(sides.train),
        num_validation=len(sides.validation),
        num_parameters=best.encoder.num_parameters,
        target_mean=offset,
        target_std=scale,
        best_epoch=best.epoch,
        train_losses=tuple(train for train, _ in losses),
        validation_losses=tuple(validation for _, validation in losses),
        score_mean=mean,
        score_std=std,
        score_min=float(best.scores.min()),
        score_max=float(best.scores.max()),
        spearman=rank_agreement(best.scores, held),
        accuracy=float(np.mean((best.scores > 0.0) == held)) if task.objective == "binary" else None,
        seconds=time.perf_counter() - started,
    )
    return PublishedFit(
        TransformerProxy(best.encoder, jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32), task), report
    )


def _check(task: PublishedTask, targets: Float[np.ndarray, " row"], num: int) -> None:
    if targets.shape != (num,):
        raise ValueError(f"expected one target for each of {num} sequences, got an array of shape {targets.shape}.")
    if num < MIN_ROWS:
        raise ValueError(f"{num} sequences are too few to learn from; at least {MIN_ROWS} are needed.")
    is_bad = ~np.isfinite(targets) if task.objective == "regression" else ~np.isin(targets, (0.0, 1.0))
    if is_bad.any():
        first = int(np.flatnonzero(is_bad)[0])
        wanted = "finite" if task.objective == "regression" else "0 or 1"
        raise ValueError(
            f"target {first} is {targets[first]}; the targets of {task.name} must be {wanted} ({int(is_bad.sum())} are not). "
            "Leave those rows out."
        )
    if np.ptp(targets) == 0.0:
        raise ValueError(f"every target is {targets[0]:g}, so there is nothing to learn. Check where the targets come from.")


def _split(num: int, fraction: float, key: PRNGKeyArray) -> _Sides:
    """Return a random share of the rows to judge on, at least two and never all, and the others to train on."""
    held = min(max(round(fraction * num), 2), num - 1)
    order = np.asarray(jax.random.permutation(key, num))
    return _Sides(np.sort(order[held:]), np.sort(order[:held]))


def _train(
    task: PublishedTask,
    encoder: Encoder,
    rows: _Rows,
    sides: _Sides,
    key: PRNGKeyArray,
    progress: Callable[[EpochDone], None] | None,
) -> tuple[_Best, list[tuple[float, float]]]:
    """Return the best epoch, and the losses of every one: `patience` epochs may fail to better the best, one more ends it."""
    recipe = _Recipe(task.objective, task.batch, task.learning_rate, task.weight_decay)
    train, validation = (_Rows(*(leaf[side] for leaf in rows)) for side in sides)
    state = start(recipe, encoder)
    best = _Best(0, float("inf"), encoder, np.zeros(len(sides.validation)))
    losses: list[tuple[float, float]] = []
    for epoch in range(1, task.max_epochs + 1):
        state, train_loss, scores, validation_loss = run_epoch(recipe, state, jax.random.fold_in(key, epoch), train, validation)
        losses.append((float(train_loss), float(validation_loss)))
        if losses[-1][1] < best.loss:
            best = _Best(epoch, losses[-1][1], state.encoder, np.asarray(scores, np.float64))
        if progress is not None:
            progress(EpochDone(epoch, task.max_epochs, *losses[-1]))
        if epoch - best.epoch > task.patience:
            break
    if best.epoch == 0:
        raise ValueError("no epoch gave a finite validation loss. Look for targets that dwarf all others and leave them out.")
    return best, losses


@eqx.filter_jit  # leaf by leaf it would compile a dozen small programs
def start(recipe: _Recipe, encoder: Any) -> _State:
    """Return the state before the first epoch."""
    return _State(encoder, _optimiser(recipe).init(encoder))


@eqx.filter_jit
def run_epoch(
    recipe: _Recipe, state: _State, key: PRNGKeyArray, train: _Rows, validation: _Rows
) -> tuple[_State, Float[Array, ""], Float[Array, " held"], Float[Array, ""]]:
    """Return the state after one pass over the training rows and their mean loss, the validation rows' raw scores and loss."""
    optimiser = _optimiser(recipe)
    num = train.targets.shape[0]
    batch = min(recipe.batch, num)
    num_steps = -(-num // batch)
    # The last batch is filled up with rows that have no weight: every row counts once an epoch.
    fill = num_steps * batch - num
    order = jnp.pad(jax.random.permutation(key, num), (0, fill)).reshape(num_steps, batch)
    weight = (jnp.arange(num_steps * batch) < num).astype(jnp.float32).reshape(num_steps, batch)

    def step(state: _State, inputs: tuple[Array, Array]) -> tuple[_State, Array]:
        picked, weight = inputs
        part = _Rows(*(leaf[picked] for leaf in train))

        def loss(encoder: Encoder) -> Array:
            losses = _losses(recipe.objective, encoder(part.tokens, part.lengths), part.targets)
            return jnp.sum(weight * losses) / jnp.sum(weight)

        value, gradient = jax.value_and_grad(loss)(state.encoder)
        updates, memory = optimiser.update(gradient, state.memory, state.encoder)
        return _State(eqx.apply_updates(state.encoder, updates), memory), value * jnp.sum(weight)

    state, totals = jax.lax.scan(step, state, (order, weight))
    scores = raw_scores(state.encoder, validation.tokens, validation.lengths)
    return state, jnp.sum(totals) / num, scores, jnp.mean(_losses(recipe.objective, scores, validation.targets))


def _optimiser(recipe: _Recipe) -> optax.GradientTransformation:
    return optax.adamw(recipe.learning_rate, weight_decay=recipe.weight_decay)


def _losses(objective: Objective, scores: Float[Array, " row"], targets: Float[Array, " row"]) -> Float[Array, " row"]:
    if objective == "binary":
        return optax.sigmoid_binary_cross_entropy(scores, targets)
    return jnp.square(scores - targets)
