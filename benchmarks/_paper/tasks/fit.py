"""The proxy of the published tasks: a transformer encoder read at its first token, fitted as published (tgm 5.4)."""

import math
import time
from collections.abc import Sequence as Objects
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from benchmarks._paper.tasks.data import Objective, PublishedTask
from narrows.envs.sequence import SequenceState
from narrows.policies.attention import Block
from narrows.policies.layers import Affine
from narrows.policies.transformer import sinusoids
from narrows.proxies.files import Kind, read_manifest, read_tree, save_tree
from narrows.proxies.fitted import encode
from narrows.proxies.quality import rank_agreement
from narrows.rewards.base import AbstractReward

BOS, PAD, EOS, FIRST_CONTENT = 0, 1, 2, 3
"""The published vocabulary; the letters follow in the order of the alphabet."""
_MAX_SCORES: Final = 2**26
"""Attention scores of one layer held at a time, 256 MiB; larger batches are evaluated in parts."""


class Encoder(eqx.Module):
    """Score token arrays: embedding and sinusoids, post-norm blocks over everything but padding, an MLP on the first state.

        x = LN(x + MHA(x))       x = LN(x + W2 relu(W1 x))       score = MLP(x at BOS), widths embed -> 4 embed -> 4 embed -> 1

    Each head's queries, keys and values are as wide as a token's vector. No dropout. The kernels of the blocks are drawn with
    variance `2 / layers` over the fan-in (truncated normal), those of the MLP with variance 1 over it; biases start at zero.

    >>> encoder = Encoder(4, embed=8, layers=1, heads=2, key=jax.random.key(0))
    >>> encoder(jnp.array([[0, 3, 4], [2, 4, 4]]), jnp.array([2, 1])).shape
    (2,)
    """

    tokens: Float[Array, "value width"]
    blocks: tuple[Block, ...]
    readout: tuple[Affine, Affine, Affine]

    def __init__(self, num_letters: int, embed: int, layers: int, heads: int, *, key: PRNGKeyArray) -> None:
        token_key, readout_key, *keys = jax.random.split(key, 2 + layers)
        shape = (FIRST_CONTENT + num_letters, embed)
        self.tokens = jax.random.truncated_normal(token_key, -2, 2, shape, jnp.float32)
        self.blocks = tuple(_make_block(embed, heads, 2 / layers, one_key) for one_key in keys)
        widths = (embed, 4 * embed, 4 * embed, 1)
        first, second, last = (
            _redrawn(Affine(num_in, num_out, 1.0, one_key), 1.0, one_key)
            for num_in, num_out, one_key in zip(widths, widths[1:], jax.random.split(readout_key, 3), strict=False)
        )
        self.readout = (first, second, last)

    def rows_at_once(self, length: int) -> int:
        """Return how many sequences to evaluate at a time, so that one layer's attention stays within 256 MiB."""
        return max(1, _MAX_SCORES // (self.blocks[0].heads * (length + 2) ** 2))

    def __call__(self, tokens: Int[Array, "batch length"], lengths: Int[Array, " batch"]) -> Float[Array, " batch"]:
        """Return the raw score of each sequence; what stands from a sequence's length on is not read."""
        array = token_array(tokens, lengths)
        num_times = array.shape[1]
        hidden = jnp.swapaxes(self.tokens[array] + sinusoids(num_times, self.tokens.shape[1]), 0, 1)
        mask = jnp.broadcast_to((array != PAD)[:, None, :], (array.shape[0], num_times, num_times))
        for block in self.blocks:
            hidden = block.unroll(hidden, mask)
        first, second, last = self.readout
        return last(jax.nn.relu(second(jax.nn.relu(first(hidden[0])))))[:, 0]


def token_array(tokens: Int[Array, "batch length"], lengths: Int[Array, " batch"]) -> Int[Array, "batch length+2"]:
    """Return the arrays that the published networks read: BOS, the letters, EOS, padding.

    >>> token_array(jnp.array([[0, 3, 4]]), jnp.array([2])).tolist()
    [[0, 3, 6, 2, 1]]
    """
    place = jnp.arange(tokens.shape[1] + 2, dtype=jnp.int32)
    letters = jnp.pad(tokens + FIRST_CONTENT, ((0, 0), (1, 1)))
    last = lengths[:, None]
    return jnp.where(place == 0, BOS, jnp.where(place <= last, letters, jnp.where(place == last + 1, EOS, PAD)))


@eqx.filter_jit
def raw_scores(encoder: Encoder, tokens: Int[Array, "batch length"], lengths: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Return the raw scores of any number of sequences, as many at a time as `rows_at_once` allows."""
    num, length = tokens.shape
    rows = encoder.rows_at_once(length)
    if num <= rows:
        return encoder(tokens, lengths)
    parts = -(-num // rows)
    fill = parts * rows - num
    tokens = jnp.pad(tokens, ((0, fill), (0, 0))).reshape(parts, rows, length)
    lengths = jnp.pad(lengths, (0, fill)).reshape(parts, rows)
    return jax.lax.map(lambda part: encoder(*part), (tokens, lengths)).reshape(-1)[:num]


class TransformerProxy(AbstractReward):
    """The standardised score of a fitted encoder, `Phi(x) = (score(x) - mean) / std`, over a task's sequences.

    `mean` and `std` are those of the encoder's raw scores on the validation sequences, for binary tasks of the logits; the
    published rewards are `exp(Phi)`. Made by `fit.fit_published` and `fit.load`.
    """

    encoder: Encoder  # the network
    # mean, std: of its scores on the validation sequences
    mean: Float[Array, ""]
    std: Float[Array, ""]
    task: PublishedTask = eqx.field(static=True)  # what it was fitted for

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return (raw_scores(self.encoder, states.tokens, states.length) - self.mean) / self.std


@eqx.filter_jit  # op by op it would compile dozens of small programs
def make_encoder(task: PublishedTask, key: PRNGKeyArray) -> Encoder:
    """Return a task's encoder, freshly initialised."""
    return Encoder(len(task.alphabet), task.embed, task.layers, task.heads, key=key)


def _make_block(embed: int, heads: int, scale: float, key: PRNGKeyArray) -> Block:
    """Return a post-norm block of the published sizes, its kernels drawn as published."""
    block_key, *keys = jax.random.split(key, 5)
    block = Block(embed, heads, embed, embed, "post", "relu", "f32", block_key)
    project, merge, up, down = (
        _redrawn(affine, scale, one_key)
        for affine, one_key in zip((block.project, block.merge, block.up, block.down), keys, strict=True)
    )
    return eqx.tree_at(lambda it: (it.project, it.merge, it.up, it.down), block, (project, merge, up, down))


def _redrawn(affine: Affine, scale: float, key: PRNGKeyArray) -> Affine:
    """Return a layer with weights of variance `scale / fan_in`, truncated at two standard deviations."""
    draw = jax.nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal", dtype=jnp.float32)
    return eqx.tree_at(lambda it: it.weight, affine, draw(key, affine.weight.shape))


KIND: Final = Kind("narrows-published-proxy", 1, frozenset({"task", "report"}), "the benchmark of the paper's experiments")


class Report(NamedTuple):
    """The course and the end of a fit."""

    best_epoch: int  # whose parameters were kept, counted from 1
    # train_losses, validation_losses: of every epoch, the squared error of standardised targets or the cross-entropy; those of
    # training are means over the epoch, while the parameters changed
    train_losses: list[float]
    validation_losses: list[float]
    # score_mean, score_std, score_max: of the raw scores of the validation sequences
    score_mean: float
    score_std: float
    score_max: float
    spearman: float | None  # rank agreement of scores and targets on them; None where one side is constant
    seconds: float

    @property
    def highest_reward(self) -> float:
        """Return `exp(Phi)` of the best validation sequence, which tgm 5.4 gives for the published proxies."""
        return math.exp((self.score_max - self.score_mean) / self.score_std)


class Fitted(NamedTuple):
    """A fitted proxy and what happened while it was fitted."""

    reward: TransformerProxy
    report: Report


class Recipe(NamedTuple):
    """What of a task the compiled epoch depends on."""

    objective: Objective
    batch: int
    learning_rate: float
    weight_decay: float


class Rows(NamedTuple):
    """Sequences and what is to be learned of them."""

    tokens: Int[Array, "row length"]
    lengths: Int[Array, " row"]
    targets: Float[Array, " row"]


class State(NamedTuple):
    """The encoder (which optax's types do not know as a tree) and the optimiser's memory."""

    encoder: Any
    memory: optax.OptState


class _Best(NamedTuple):
    """The epoch with the lowest validation loss so far, and the raw scores it gave the validation rows."""

    epoch: int
    loss: float
    encoder: Encoder
    scores: Float[np.ndarray, " held"]


def fit_published(
    task: PublishedTask, sequences: Objects[str], targets: Float[np.ndarray, " row"], key: PRNGKeyArray
) -> Fitted:
    """Fit a task's encoder, keep its best epoch, and standardise its raw scores by those of the validation sequences.

    Args:
        task: architecture, objective and optimiser.
        sequences: of the lengths that the task's proxy reads.
        targets: one finite number each, not all the same; for a regression they are standardised over all rows first, as
            design-bench does, for a binary task they are 0 or 1.
        key: split, initial weights and minibatches; published is `jax.random.key(0)`. The same key gives the same bits on one
            machine.
    """
    began = time.perf_counter()
    tokens, values = encode(sequences, task.readable), np.asarray(targets, np.float64)
    offset, scale = (0.0, 1.0) if task.objective == "binary" else (float(values.mean()), float(values.std()))
    rows = Rows(
        jnp.asarray(tokens),
        jnp.asarray((tokens < len(task.alphabet)).sum(axis=1), jnp.int32),
        jnp.asarray((values - offset) / scale, jnp.float32),
    )
    split_key, init_key, order_key = jax.random.split(key, 3)
    order = np.asarray(jax.random.permutation(split_key, len(tokens)))
    num_held = min(max(round(task.validation_fraction * len(tokens)), 2), len(tokens) - 1)
    held, own = np.sort(order[:num_held]), np.sort(order[num_held:])
    train, validation = (Rows(*(leaf[side] for leaf in rows)) for side in (own, held))
    best, losses = _train(task, make_encoder(task, init_key), train, validation, order_key)
    mean, std, most = (float(value) for value in (best.scores.mean(), best.scores.std(), best.scores.max()))
    if not std > 0.0:
        raise ValueError(f"the proxy gives all {num_held} validation sequences one score. Give more rows, or a larger rate.")
    told = (best.epoch, [loss for loss, _ in losses], [loss for _, loss in losses], mean, std, most)
    report = Report(*told, rank_agreement(best.scores, values[held]), time.perf_counter() - began)
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return Fitted(TransformerProxy(best.encoder, mean, std, task), report)


def save(fitted: Fitted, folder: Path) -> None:
    """Write a fitted proxy to a folder, made when missing; one already there is replaced in one step."""
    # A loss that is not finite has no place in JSON.
    report = {name: value for name, value in fitted.report._asdict().items() if not name.endswith("losses")}
    save_tree(folder, KIND, fitted.reward, {"task": asdict(fitted.reward.task), "report": report})


def load(folder: Path) -> TransformerProxy:
    """Return a saved proxy, bit for bit; ValueError names what is missing or damaged."""
    manifest = read_manifest(folder, KIND)
    task, one = PublishedTask(**manifest["task"]), jax.ShapeDtypeStruct((), jnp.float32)
    like = jax.eval_shape(lambda: make_encoder(task, jax.random.key(0)))
    return read_tree(folder, manifest, TransformerProxy(like, one, one, task))  # pyright: ignore[reportArgumentType] (shapes)


def _train(
    task: PublishedTask, encoder: Encoder, train: Rows, validation: Rows, key: PRNGKeyArray
) -> tuple[_Best, list[tuple[float, float]]]:
    """Return the best epoch, and the losses of every one: `patience` epochs may fail to better the best, one more ends it."""
    recipe = Recipe(task.objective, task.batch, task.learning_rate, task.weight_decay)
    state, losses = start(recipe, encoder), []
    best = _Best(0, math.inf, encoder, np.zeros(len(validation.targets)))
    for epoch in range(1, task.max_epochs + 1):
        state, train_loss, scores, validation_loss = run_epoch(recipe, state, jax.random.fold_in(key, epoch), train, validation)
        losses.append((float(train_loss), float(validation_loss)))
        if losses[-1][1] < best.loss:
            best = _Best(epoch, losses[-1][1], state.encoder, np.asarray(scores, np.float64))
        if epoch - best.epoch > task.patience:
            break
    if best.epoch == 0:
        raise ValueError("no epoch gave a finite validation loss. Look for targets that dwarf all others and leave them out.")
    return best, losses


@eqx.filter_jit  # leaf by leaf it would compile a dozen small programs
def start(recipe: Recipe, encoder: Any) -> State:
    """Return the state before the first epoch."""
    return State(encoder, _optimiser(recipe).init(encoder))


@eqx.filter_jit
def run_epoch(
    recipe: Recipe, state: State, key: PRNGKeyArray, train: Rows, validation: Rows
) -> tuple[State, Float[Array, ""], Float[Array, " held"], Float[Array, ""]]:
    """Return the state after one pass over the training rows and their mean loss, the validation rows' raw scores and loss."""
    optimiser, num = _optimiser(recipe), train.targets.shape[0]
    batch = min(recipe.batch, num)
    num_steps = -(-num // batch)
    # The last batch is filled up with rows that have no weight: every row counts once an epoch.
    fill = num_steps * batch - num
    order = jnp.pad(jax.random.permutation(key, num), (0, fill)).reshape(num_steps, batch)
    weight = (jnp.arange(num_steps * batch) < num).astype(jnp.float32).reshape(num_steps, batch)

    def step(state: State, inputs: tuple[Array, Array]) -> tuple[State, Array]:
        picked, weight = inputs
        part = Rows(*(leaf[picked] for leaf in train))

        def loss(encoder: Encoder) -> Array:
            losses = _losses(recipe.objective, encoder(part.tokens, part.lengths), part.targets)
            return jnp.sum(weight * losses) / jnp.sum(weight)

        value, gradient = jax.value_and_grad(loss)(state.encoder)
        updates, memory = optimiser.update(gradient, state.memory, state.encoder)
        return State(eqx.apply_updates(state.encoder, updates), memory), value * jnp.sum(weight)

    state, totals = jax.lax.scan(step, state, (order, weight))
    scores = raw_scores(state.encoder, validation.tokens, validation.lengths)
    return state, jnp.sum(totals) / num, scores, jnp.mean(_losses(recipe.objective, scores, validation.targets))


def _optimiser(recipe: Recipe) -> optax.GradientTransformation:
    return optax.adamw(recipe.learning_rate, weight_decay=recipe.weight_decay)


def _losses(objective: Objective, scores: Float[Array, " row"], targets: Float[Array, " row"]) -> Float[Array, " row"]:
    if objective == "binary":
        return optax.sigmoid_binary_cross_entropy(scores, targets)
    return jnp.square(scores - targets)
