"""Comparing methods at equal entropy: each one's curve of mean score over entropy, and differences with intervals.

At one exponent an expected flow network is more diffuse than others, so that a comparison there says nothing about what either
can do (eflow 7.4). Over the exponents each method draws a curve, and curves can be compared where both have a point.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from benchmarks.harness.intervals import Interval, of_difference

NUM_POINTS = 16
_SAME = 1e-9


class Point(NamedTuple):
    """The law of one exponent: its entropy in nats and its mean score."""

    entropy: float
    mean: float


class Curve(NamedTuple):
    """One seed's laws over the exponents, and the uniform law, in which every method begins at exponent 0."""

    uniform: Point
    points: tuple[Point, ...]

    @property
    def sharpest(self) -> float:
        """Return the coordinate of the law of least entropy: how far the curve goes."""
        return float(np.max(self._coordinates([point.entropy for point in self.points])))

    def mean_at(self, coordinates: Float[np.ndarray, " place"]) -> Float[np.ndarray, " place"]:
        """Return the mean score at coordinates `sqrt(entropy of uniform - entropy)`, in which curves start out straight.

        Between the points it is a monotone cubic (PCHIP). Points of the same entropy count as one with their mean score.
        """
        by_place: dict[float, list[float]] = {0.0: [self.uniform.mean]}
        for point, place in zip(self.points, self._coordinates([point.entropy for point in self.points]), strict=True):
            known = next((one for one in by_place if abs(one - place) < _SAME), float(place))
            by_place.setdefault(known, []).append(point.mean)
        places = sorted(by_place)
        if len(places) == 1:
            return np.full(coordinates.shape, np.mean(by_place[0.0]))
        return PchipInterpolator(places, [np.mean(by_place[place]) for place in places])(coordinates)

    def entropy_at(self, coordinate: float) -> float:
        """Return the entropy of a coordinate."""
        return self.uniform.entropy - coordinate**2

    def _coordinates(self, entropies: Sequence[float]) -> Float[np.ndarray, " place"]:
        return np.sqrt(np.maximum(self.uniform.entropy - np.asarray(entropies), 0.0))


class Gap(NamedTuple):
    """How much larger one method's mean score is than another's at equal entropy."""

    # on average over the part of the frontier that every seed of both has, from the uniform law to the sharpest
    along: Interval
    at_end: Interval  # at the end of that part
    end: float  # the entropy there


def gap(ours: Sequence[Curve], theirs: Sequence[Curve]) -> Gap:
    """Compare two methods, a curve a seed, at `NUM_POINTS` entropies evenly spaced in the coordinate of the curves."""
    end = min(curve.sharpest for curve in (*ours, *theirs))
    places = end * np.arange(1, NUM_POINTS + 1) / NUM_POINTS
    one, two = (np.stack([curve.mean_at(places) for curve in curves]) for curves in (ours, theirs))
    along, at_end = of_difference(one.mean(axis=1), two.mean(axis=1)), of_difference(one[:, -1], two[:, -1])
    return Gap(along, at_end, ours[0].entropy_at(end))
