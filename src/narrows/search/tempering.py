"""How sharp a sampler should be: the temperature at which it would spread over a wanted number of objects."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from narrows.search.problem import Score
from narrows.search.space import Rows, Space

_PARTICLES = 512
_MOVES = 4
"""Moves of every particle at each temperature."""
_KEPT = 0.7
"""Share of the particles that count after a step: the next temperature is as low as leaves so many."""
_MOST_STEPS = 200
_MOST_LISTED = 100_000
"""Objects of a space that is worked out exactly."""


class Tempered(NamedTuple):
    """An inverse temperature, and the entropy there, in nats."""

    beta: float
    entropy: float


def find_temperature(score: Score, space: Space, num_objects: float, seed: int = 0) -> Tempered:
    """Return the inverse temperature at which `exp(beta score)` spreads over about so many objects: e to the entropy.

    Exactly where the space can be listed. Else particles are cooled from a uniform draw (sequential Monte Carlo, Del Moral,
    Doucet and Jasra, J. R. Stat. Soc. B 68:411, 2006), and the entropy is log Z - beta times the mean score, by the weights
    on the way. Cooling that has moved nothing apart in 200 steps ends where it is.

    Args:
        score: asked for many texts at once; -inf or NaN for what must not be made.
        space: which texts there are.
        num_objects: wanted, more than one.
        seed: of everything that is drawn.
    """
    if num_objects <= 1.0:
        raise ValueError(f"expected more than one object to spread over, got {num_objects}.")
    wanted = min(math.log(num_objects), math.log(space.num_objects))
    if space.num_objects <= _MOST_LISTED:
        return _listed(_finite(score(space.write(space.listed()))), wanted)
    return _cooled(score, space, wanted, np.random.default_rng(seed))


def _finite(scores: Float[np.ndarray, " object"]) -> Float[np.ndarray, " object"]:
    return np.where(np.isnan(scores), -np.inf, np.asarray(scores, np.float64))


def _listed(scores: Float[np.ndarray, " object"], wanted: float) -> Tempered:
    scores = scores[np.isfinite(scores)] - scores.max()
    spread = float(scores.std())
    if spread == 0.0:
        return Tempered(1.0, math.log(len(scores)))

    def entropy(beta: float) -> float:
        weights = np.exp(beta * scores)
        return float(np.log(weights.sum()) - beta * (weights @ scores) / weights.sum())

    low, high = 0.0, 1.0 / spread
    while entropy(high) > wanted and high * spread < 1e6:
        low, high = high, 2.0 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if entropy(middle) > wanted else (low, middle)
    return Tempered(high, entropy(high))


def _cooled(score: Score, space: Space, wanted: float, rng: np.random.Generator) -> Tempered:
    rows = _uniform(rng, space)
    scores = _finite(score(space.write(rows)))
    beta, log_total = 0.0, math.log(space.num_objects)
    before = Tempered(0.0, log_total)
    for _ in range(_MOST_STEPS):
        step = _step(scores)
        if step is None:
            break
        weights = step * (scores - scores.max())
        log_total += step * float(scores.max()) + float(np.log(np.mean(np.exp(weights))))
        beta += step
        shares = np.exp(weights) / np.exp(weights).sum()
        drawn = np.searchsorted(np.cumsum(shares), (np.arange(len(rows)) + rng.random()) / len(rows))
        rows, scores = rows[np.minimum(drawn, len(rows) - 1)], scores[np.minimum(drawn, len(rows) - 1)]
        for _ in range(_MOVES):
            rows, scores = _moved(rng, rows, scores, beta, score, space)
        now = Tempered(beta, log_total - beta * float(scores.mean()))
        if now.entropy <= wanted:
            share = (before.entropy - wanted) / max(before.entropy - now.entropy, 1e-12)
            return Tempered(before.beta + share * (now.beta - before.beta), wanted)
        before = now
    return before if before.beta > 0.0 else Tempered(1.0, before.entropy)


def _uniform(rng: np.random.Generator, space: Space) -> Rows:
    """Return particles drawn from all objects alike: long ones are by far the most."""
    lengths = np.arange(space.min_length, space.max_length + 1)
    log_number = lengths * math.log(space.num_letters)
    shares = np.exp(log_number - log_number.max())
    drawn = rng.choice(lengths, _PARTICLES, p=shares / shares.sum())
    rows = rng.integers(0, space.num_letters, (_PARTICLES, space.max_length), np.int32)
    return np.where(np.arange(space.max_length) < drawn[:, None], rows, np.int32(space.num_letters))


def _step(scores: Float[np.ndarray, " particle"]) -> float | None:
    """Return the step of beta after which the effective number of particles is the share that is kept, None where none is."""
    finite = scores[np.isfinite(scores)]
    if not len(finite) or np.ptp(finite) == 0.0:
        return None
    apart = finite - finite.max()

    def kept(step: float) -> float:
        weights = np.exp(step * apart)
        return float(weights.sum() ** 2 / (weights @ weights)) / len(finite)

    low, high = 0.0, 1.0 / float(finite.std())
    while kept(high) > _KEPT:
        low, high = high, 2.0 * high
        if high * float(finite.std()) > 1e6:
            return None
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kept(middle) > _KEPT else (low, middle)
    return low


def _moved(
    rng: np.random.Generator, rows: Rows, scores: Float[np.ndarray, " particle"], beta: float, score: Score, space: Space
) -> tuple[Rows, Float[np.ndarray, " particle"]]:
    """Return the particles after a Metropolis move each: a letter replaced, or one added or taken at the end."""
    num, size = len(rows), space.num_letters
    lengths = space.lengths(rows)
    proposed, log_ratio = rows.copy(), np.zeros(num)
    each = np.arange(num)
    kind = rng.integers(0, 4, num) if space.min_length < space.max_length else np.full(num, 2)
    grows, shrinks = (kind == 0) & (lengths < space.max_length), (kind == 1) & (lengths > space.min_length)
    changes = (kind >= 2) & (lengths > 0)
    letters = rng.integers(0, size, num, np.int32)
    place = np.floor(rng.random(num) * np.maximum(lengths, 1)).astype(int)
    proposed[each[changes], place[changes]] = letters[changes]
    proposed[each[grows], lengths[grows]] = letters[grows]
    proposed[each[shrinks], lengths[shrinks] - 1] = size
    # One of so many letters is added, and only one can be taken.
    log_ratio[grows], log_ratio[shrinks] = math.log(size), -math.log(size)
    new = _finite(score(space.write(proposed)))
    with np.errstate(invalid="ignore"):
        gain = np.where(np.isfinite(new), beta * (new - np.where(np.isfinite(scores), scores, new)) + log_ratio, -np.inf)
    taken = np.log(rng.random(num)) < gain
    return np.where(taken[:, None], proposed, rows), np.where(taken, new, scores)
