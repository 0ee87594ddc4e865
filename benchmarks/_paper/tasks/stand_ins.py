"""Stand-ins for the published biological data: tasks of the same shape with a known truth, drawn from a seed.

The numbers they lead to say nothing about the published data, but the same environment, proxy and training code runs on both,
and here the true score of whatever is proposed is known.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from benchmarks._paper.tasks.data import PublishedData, PublishedTask, spell
from narrows.envs.sequence import SequenceState
from narrows.rewards.base import AbstractReward

_PROBE = 2000
"""Sequences that set the scale of a truth."""

_CHUNK = 4096


class Truth(AbstractReward):
    """A known score of sequences: letters at places, pairs of them, motifs anywhere, and a saturating scale.

        truth(x) = low + (high - low) sigmoid(bias + sum_i W[i, x_i] + sum_p J[p, x_i(p), x_j(p)] + sum_m c_m share_m(x))

    `share_m` is the largest share of the letters of motif m that stand in place at one location where all of m fits into x. A
    place beyond the end of a sequence adds nothing.
    """

    weights: Float[Array, "place letter"]  # `W`; the last column, of padding, is zero
    pairs: Int[Array, "pair 2"]  # the two places of each pair
    pair_weights: Float[Array, "pair letter letter"]  # `J`; rows and columns of padding are zero
    motifs: Int[Array, "motif width"]  # letters of each motif
    motif_weights: Float[Array, " motif"]  # `c`
    bias: Float[Array, ""]  # of the latent score
    # low, high: ends of the scale
    low: Float[Array, ""]
    high: Float[Array, ""]

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return self.low + (self.high - self.low) * jax.nn.sigmoid(_latent(self, states.tokens))


@eqx.filter_jit
def _latent(truth: Truth, tokens: Int[Array, "batch length"]) -> Float[Array, " batch"]:
    """Return the scores before they are bent; padding is the number after the last letter's."""
    place, num_letters = jnp.arange(tokens.shape[1]), truth.weights.shape[1] - 1
    total = truth.bias + jnp.sum(truth.weights[place, tokens], axis=1)
    pair = jnp.arange(truth.pairs.shape[0])
    total += jnp.sum(truth.pair_weights[pair, tokens[:, truth.pairs[:, 0]], tokens[:, truth.pairs[:, 1]]], axis=1)
    width = truth.motifs.shape[1]
    windows = tokens[:, place[: tokens.shape[1] - width + 1, None] + jnp.arange(width)]
    share = jnp.mean(windows[:, None] == truth.motifs[None, :, None], axis=-1, dtype=jnp.float32)
    share = jnp.where(windows[:, None, :, -1] < num_letters, share, 0.0)  # a window that reaches beyond the end
    return total + jnp.max(share, axis=-1) @ truth.motif_weights


class StandIn(NamedTuple):
    """The data of a stand-in, and the truth behind their targets."""

    data: PublishedData
    truth: Truth


def stand_in(task: PublishedTask, num_rows: int | None = None, *, seed: int = 0, noise: float = 0.1) -> StandIn:
    """Draw data of a published task's shape, for UTR, AMP or GFP with sizes as published or others.

    UTR: uniform sequences; the load, 0 to 9, depends on composition, places, pairs of neighbours and motifs. AMP: lengths
    uniform in the task's range, half of the sequences with letters that favour class 1; labels are drawn with the true
    probability of class 1, and about two in five are 1. GFP: mutants of one reference, from a single letter to a third of them
    away from it, few as often as many; most changes dim it, by how much depends on place and letter, a few brighten it, and
    pairs of changes interact; letters change to some more often than to others; the brightness, 1.3 to 4.1, has a floor that
    unrelated sequences lie on.

    Args:
        task: UTR, AMP or GFP, or a variant of one with other sizes.
        num_rows: sequences to draw; as many as were published if left out.
        seed: of the truth and of the data.
        noise: standard deviation of the measurements' errors, in standard deviations of the true values. Labels have none but
            that they are drawn.
    """
    num = task.published_rows if num_rows is None else num_rows
    assert num is not None, f"nobody knows how many rows {task.name} has"
    drawing = {"UTR": _utr_like, "AMP": _amp_like, "GFP": _gfp_like}[task.name]
    # RandomState, for its streams never change: a stand-in of a seed is the same in every version of NumPy.
    drawn = drawing(task, num, np.random.RandomState(seed))
    values = _evaluate(drawn.truth, drawn.tokens)
    rng = np.random.RandomState([seed, 1])
    if task.objective == "binary":
        targets = (rng.uniform(size=num) < values).astype(np.float64)
    else:
        targets = values + noise * values.std() * rng.normal(size=num)
    lengths = (drawn.tokens < len(task.alphabet)).sum(axis=1).tolist()
    texts = (text[:length] for text, length in zip(spell(drawn.tokens, task.alphabet + "-"), lengths, strict=True))
    return StandIn(PublishedData(task, tuple(texts), targets), drawn.truth)


class _Drawn(NamedTuple):
    truth: Truth
    tokens: Int[np.ndarray, "row length"]


def _utr_like(task: PublishedTask, num: int, rng: np.random.RandomState) -> _Drawn:
    letters, length = len(task.alphabet), task.max_length
    # Which letters raise the load wherever they stand: without it a few thousand rows teach a proxy next to nothing.
    weights = 0.3 * rng.normal(size=(length, letters)) + 0.4 * rng.normal(size=letters)
    first = rng.randint(0, max(length - 1, 1), size=length // 2)
    pairs = np.stack([first, np.minimum(first + rng.randint(1, 6, size=len(first)), length - 1)], axis=1)
    pair_weights = 0.6 * rng.normal(size=(len(pairs), letters, letters))
    motifs = rng.randint(0, letters, size=(3, min(5, length)))
    truth = _truth(weights, pairs, pair_weights, motifs, np.array([3.0, 2.0, -4.0]), ends=(0.0, 9.0))
    probe, tokens = (rng.randint(0, letters, size=(size, length)) for size in (_PROBE, num))
    return _Drawn(_scaled(truth, probe, spread=1.5, share=0.5), tokens)


def _amp_like(task: PublishedTask, num: int, rng: np.random.RandomState) -> _Drawn:
    letters, length = len(task.alphabet), task.max_length
    taste = rng.normal(size=letters)  # which letters favour class 1, wherever they stand
    weights = np.tile(0.4 * taste, (length, 1))
    first = min(max(task.min_length, 2), length)  # pairs among places that every object has
    pairs = np.stack([rng.randint(0, max(first - 1, 1), size=8), np.full(8, first - 1)], axis=1)
    pair_weights = 0.5 * rng.normal(size=(8, letters, letters))
    motifs = rng.randint(0, letters, size=(4, min(4, length)))
    truth = _truth(weights, pairs, pair_weights, motifs, np.array([4.0, 4.0, 3.0, 3.0]), ends=(0.0, 1.0))

    def draw(size: int) -> Int[np.ndarray, "row length"]:
        plain = rng.randint(0, letters, size=(size, length))
        favoured = rng.choice(letters, size=(size, length), p=np.exp(0.5 * taste) / np.exp(0.5 * taste).sum())
        tokens = np.where(rng.uniform(size=(size, 1)) < 0.5, plain, favoured)
        lengths = rng.randint(max(task.min_length, 1), length + 1, size=size)
        return np.where(np.arange(length) < lengths[:, None], tokens, letters)

    return _Drawn(_scaled(truth, draw(_PROBE), spread=3.0, share=0.4), draw(num))


def _gfp_like(task: PublishedTask, num: int, rng: np.random.RandomState) -> _Drawn:
    letters, length = len(task.alphabet), task.max_length
    reference = rng.randint(0, letters, size=length)
    is_change = np.arange(letters) != reference[:, None]
    importance, harm = rng.gamma(0.7, 1.0, size=(length, 1)), rng.exponential(size=letters)
    dims = (0.3 + importance) * harm * rng.exponential(size=(length, letters))
    effect = np.where(rng.uniform(size=(length, letters)) < 0.05, 0.5 * rng.exponential(size=(length, letters)), -0.2 * dims)
    pairs = rng.randint(0, length, size=(length, 2))
    joint = is_change[pairs[:, 0], :, None] & is_change[pairs[:, 1], None, :]
    pair_weights = np.where(joint & (pairs[:, 0] != pairs[:, 1])[:, None, None], 0.5 * rng.normal(size=joint.shape), 0.0)
    nothing = np.zeros((1, 1), np.int64)  # one motif without weight
    truth = _truth(np.where(is_change, effect, 0.0), pairs, pair_weights, nothing, np.zeros(1), ends=(1.3, 4.1))
    # Published variants lie a few letters away; so near, a proxy needs hours to learn anything.
    changes = np.exp(rng.uniform(0.0, np.log(max(length / 3, 2.0)), size=num)).astype(int)
    frequency = np.exp(rng.normal(size=letters))  # of what letters change to, wherever they stand
    tokens = np.tile(reference, (num, 1))
    for row, places in enumerate(changes):
        where = rng.choice(length, size=places, replace=False)
        chances = np.where(is_change[where], frequency, 0.0).cumsum(axis=1)
        drawn = (rng.uniform(size=(places, 1)) * chances[:, -1:] >= chances).sum(axis=1)
        tokens[row, where] = np.minimum(drawn, letters - 1)
    # The reference itself lies near the top of the scale.
    return _Drawn(eqx.tree_at(lambda it: it.bias, truth, jnp.asarray(2.0, jnp.float32)), tokens)


def _truth(*parts: np.ndarray, ends: tuple[float, float]) -> Truth:
    """Return a truth without bias from weights, pairs and their weights, motifs and theirs; padding's weights are added."""
    weights, pairs, pair_weights, motifs, motif_weights = parts
    weights, pair_weights = np.pad(weights, ((0, 0), (0, 1))), np.pad(pair_weights, ((0, 0), (0, 1), (0, 1)))
    numbers = [jnp.asarray(one, jnp.float32) for one in (weights, pair_weights, motif_weights, 0.0, *ends)]
    places = [jnp.asarray(one, jnp.int32) for one in (pairs, motifs)]
    return Truth(numbers[0], places[0], numbers[1], places[1], *numbers[2:])


def _scaled(truth: Truth, probe: Int[np.ndarray, "row length"], *, spread: float, share: float) -> Truth:
    """Return the truth whose latent scores of the probe have this standard deviation, this share of them above zero."""
    latent = np.asarray(_latent(truth, jnp.asarray(probe, jnp.int32)), np.float64)
    factor = spread / max(latent.std(), np.finfo(np.float32).tiny)
    bias = -factor * np.quantile(latent, 1.0 - share)
    weights = (truth.weights, truth.pair_weights, truth.motif_weights)
    return eqx.tree_at(
        lambda it: (it.weights, it.pair_weights, it.motif_weights, it.bias),
        truth,
        (*(jnp.asarray(factor * leaf, jnp.float32) for leaf in weights), jnp.asarray(bias, jnp.float32)),
    )


def _evaluate(truth: Truth, tokens: Int[np.ndarray, "row length"]) -> Float[np.ndarray, " row"]:
    """Return the true values, `_CHUNK` at a time; the last chunk is filled up, so that one shape is compiled."""
    values = np.empty(len(tokens))
    size = min(_CHUNK, len(tokens))
    for start in range(0, len(tokens), size):
        part = tokens[start : start + size]
        filled = jnp.asarray(np.pad(part, ((0, size - len(part)), (0, 0))), jnp.int32)
        lengths, is_done = jnp.full(size, tokens.shape[1], jnp.int32), jnp.ones(size, bool)
        values[start : start + size] = np.asarray(truth(SequenceState(filled, lengths, is_done)))[: len(part)]
    return values
