"""Elo ratings by maximum likelihood and the intervals of ratings and scores (eflow 6.3)."""

import math
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

MEAN: Final = 1500.0
"""The mean of ratings; only their differences say anything."""

DEVIATION: Final = 1000.0
"""Standard deviation of the prior on each rating. It is weak: it moves a player who scores 75 % of 100 games by less than one
point, and it keeps one who has won or lost every game from an infinite rating."""

_NAT: Final = 400.0 / math.log(10.0)
"""Rating points by which the odds of winning grow e-fold."""

_QUANTILE: Final = 1.959963984540054
"""Of the normal distribution: 95 % lie within so many standard deviations."""


class Interval(NamedTuple):
    """The ends of an interval that has the truth in it in 95 % of all cases."""

    low: float
    high: float


class Ratings(NamedTuple):
    """Ratings of players and the ends of their 95 % intervals."""

    rating: Float[np.ndarray, " player"]
    low: Float[np.ndarray, " player"]
    high: Float[np.ndarray, " player"]


def ratings(
    points: Float[np.ndarray, "*batch player player"],
    games: Float[np.ndarray, "*batch player player"],
    *,
    deviation: float = DEVIATION,
) -> Float[np.ndarray, "*batch player"]:
    """Return the ratings that make a table of scores most probable, their mean 1500.

    With `p_ij = 1 / (1 + 10^((r_j - r_i) / 400))` they maximise

        sum_{i < j} points_ij log p_ij + points_ji log p_ji  -  sum_i (r_i - 1500)^2 / (2 deviation^2),

    where the last term is a weak prior, see `DEVIATION`.

    Args:
        points: `points[i, j]` is what player `i` has scored against `j`: 1 for a win, 1/2 for a draw, 0 for a loss.
        games: how many games the two have played, the same in both triangles.
        deviation: of the prior.

    Raises ValueError for tables that do not fit together.
    """
    points, games = np.asarray(points, np.float64), np.asarray(games, np.float64)
    num = points.shape[-1]
    points, games = np.where(np.eye(num, dtype=bool), 0.0, points), np.where(np.eye(num, dtype=bool), 0.0, games)
    total = points + np.swapaxes(points, -1, -2)
    if points.shape != games.shape or not np.allclose(total, games) or (points < 0).any():
        raise ValueError(
            "expected points[i, j] + points[j, i] = games[i, j] and no negative points. Check the table of scores."
        )
    if not deviation > 0.0:
        raise ValueError(f"deviation must be positive, got {deviation}. 1000 is weak.")
    found, prior = np.zeros(points.shape[:-1]), (_NAT / deviation) ** 2
    for _ in range(500):
        probability = 1.0 / (1.0 + np.exp(found[..., None, :] - found[..., :, None]))
        gradient = np.sum(points - games * probability, axis=-1) - prior * found
        weight = games * probability * (1.0 - probability)
        curvature = np.sum(weight, axis=-1)[..., None] * np.eye(num) - weight + prior * np.eye(num)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        spread = step.max(axis=-1, keepdims=True) - step.min(axis=-1, keepdims=True)
        # The curvature changes by a factor of e at most where no difference changes by more than 1, so such a step ascends.
        found = found + step / np.maximum(spread, 1.0)
        # Where the prior is very weak, rounding would move the mean, which is known.
        found = found - found.mean(axis=-1, keepdims=True)
        if spread.max(initial=0.0) < 1e-10:
            break
    return MEAN + _NAT * found


class Encounters(NamedTuple):
    """Results of pairings, opening by opening.

    Attributes:
        first: a player of each pairing.
        second: the other.
        points: what `first` has scored in the games of a pairing that begin with an opening.
        games: number of those games, for each opening.
    """

    first: Int[np.ndarray, " pairing"]
    second: Int[np.ndarray, " pairing"]
    points: Float[np.ndarray, "pairing opening"]
    games: int


def rate(encounters: Encounters, num_players: int, *, seed: int = 0, draws: int = 1000) -> Ratings:
    """Return ratings with 95 % intervals from a bootstrap over openings.

    Each of the `draws` resamples takes as many openings as there are, with replacement, the same for all pairings: games that
    begin alike are not independent, neither between the two colours nor between pairings.
    """
    num_openings = encounters.points.shape[1]
    counts = np.random.default_rng(seed).multinomial(num_openings, np.full(num_openings, 1.0 / num_openings), size=draws)
    resampled = _rated(encounters, num_players, counts)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return Ratings(_rated(encounters, num_players, np.ones((1, num_openings)))[0], low, high)


def _rated(
    encounters: Encounters, num_players: int, counts: Float[np.ndarray, "draw opening"]
) -> Float[np.ndarray, "draw player"]:
    """Return the ratings where each opening counts so many times."""
    points, games = np.zeros((2, len(counts), num_players, num_players))
    scored = counts @ encounters.points.T
    played = np.repeat(encounters.games * counts.sum(axis=1)[:, None], len(encounters.first), axis=1)
    first, second = encounters.first, encounters.second
    points[:, first, second], points[:, second, first] = scored, played - scored
    games[:, first, second] = games[:, second, first] = played
    return ratings(points, games)


def wilson(score: float, num: float) -> Interval:
    """Return Wilson's 95 % interval of a mean score in [0, 1] over `num` independent games.

    Draws make scores vary less than wins and losses of the same mean do, so that with draws it is wider than it had to be.
    """
    if not 0.0 <= score <= 1.0 or num <= 0:
        raise ValueError(f"expected a score in [0, 1] over at least one game, got {score} over {num}.")
    square = _QUANTILE**2
    middle = (score + square / (2.0 * num)) / (1.0 + square / num)
    half = _QUANTILE / (1.0 + square / num) * math.sqrt(score * (1.0 - score) / num + square / (4.0 * num**2))
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0))


def score_interval(points: Float[np.ndarray, " opening"], games: int) -> Interval:
    """Return the 95 % interval of a player's score when every opening was played `games` times.

    Games that begin alike are not independent. So it is Wilson's interval for as many independent games as the scores by
    opening vary like, at most those that were played: unlike a bootstrap's, it is none of length zero where all games were won.

    Args:
        points: scored in the games of each opening.
        games: number of games of an opening.
    """
    scores = np.asarray(points, np.float64) / games
    num, score = len(scores), float(np.mean(scores))
    variance = float(np.var(scores, ddof=1)) / num if num > 1 else score * (1.0 - score)
    played = float(num * games)
    return wilson(score, min(score * (1.0 - score) / variance, played) if variance > 0.0 else played)
