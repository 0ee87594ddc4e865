"""The exact laws of a world, and how much the interpolation between exponents bends their frontier."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks._stochastic import methods
from benchmarks._stochastic.frontier import Curve, Point
from benchmarks._stochastic.training import Found
from benchmarks._stochastic.worlds import World, world

EXACT = (methods.EFLOW, methods.MAXENT, methods.NOISE_FREE, methods.COMPROMISE, methods.CLIPPED)
SMOOTH = (methods.EFLOW, methods.MAXENT)
"""Whose frontier is also solved between the exponents."""


class References(NamedTuple):
    """The exact laws at one rate of noise.

    Attributes:
        found: of each reference, target and uniform law included, one entry an exponent.
        uniform: where every curve begins.
        bend: the largest error of the interpolated mean score at exponents halfway between those known.
    """

    found: dict[str, list[Found]]
    uniform: Point
    bend: float


def references(path: Path, alpha: float, betas: tuple[float, ...]) -> References:
    """Solve a world for every exponent."""
    here = world(path, alpha)
    names = (*EXACT, methods.TARGET, methods.UNIFORM)
    found = {name: [Found(beta, 0, here.figures(here.exact_law(name, beta), beta, 0)) for beta in betas] for name in names}
    figures = found[methods.UNIFORM][0].figures
    uniform = Point(figures.entropy, figures.mean)
    return References(found, uniform, max(_bend(here, name, uniform, found[name]) for name in SMOOTH))


def curve_of(uniform: Point, found: list[Found]) -> Curve:
    """Return the curve of one seed's laws."""
    return Curve(uniform, tuple(Point(one.figures.entropy, one.figures.mean) for one in sorted(found)))


def _bend(here: World, name: str, uniform: Point, found: list[Found]) -> float:
    betas = [one.beta for one in found]
    curve = curve_of(uniform, found)
    errors = [0.0]
    for beta in (float(np.sqrt(low * high)) for low, high in zip(betas, betas[1:], strict=False)):
        figures = here.figures(here.exact_law(name, beta), beta, 0)
        place = np.sqrt(np.asarray([uniform.entropy - figures.entropy]))
        errors.append(abs(float(curve.mean_at(place)[0]) - figures.mean))
    return max(errors)
