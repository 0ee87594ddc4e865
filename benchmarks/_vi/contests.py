"""The hidden games that are played, by whom, with which step sizes, and what is known of them."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._vi import algorithms
from benchmarks._vi.algorithms import Algorithm
from narrows import vi
from narrows.vi.problems import HiddenProblem, hidden_matching_pennies, hidden_rock_paper_scissors

PENNIES, FREE = "pennies", "pennies without regularisation"
SAFE, LONG, BEYOND = 1.0 / 17.0, 0.1, 0.12
"""Steps in prediction space for matching pennies: a safe one, a longer one, and one beyond the limit of exact solves, 2/17."""
_LOOKING_AHEAD = 0.125
"""Of extragradient and optimistic steps there, half of `1 / L`."""

_ADAM = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)
_MOMENTA = (0.9, 0.0)
"""The default of optax, and none: momentum turns with the players."""

Counts = tuple[int | None, int | None, int | None]

SPECIFIED: Final[Mapping[tuple[str, str], Mapping[float, Counts]]] = {
    (PENNIES, "PHGD"): {SAFE: (108, 260, 564), LONG: (192, 494, 1099), BEYOND: (None, None, None)},
    (PENNIES, "Gauss-Newton, m = 5"): {SAFE: (112, 264, 568), LONG: (223, 525, 1130), BEYOND: (None, None, None)},
    (PENNIES, "damped Gauss-Newton, 0.5"): {SAFE: (149, 353, 761), LONG: (112, 267, 578), BEYOND: (108, 260, 564)},
    (PENNIES, "Levenberg-Marquardt, 0.01"): {SAFE: (136, 305, 654), LONG: (117, 268, 571), BEYOND: (127, 292, 629)},
    (PENNIES, "GD, m = 1"): {SAFE: (376, 805, 1695), LONG: (249, 509, 1068), BEYOND: (212, 449, 922)},
    (PENNIES, "GD, m = 5"): {SAFE: (142, 309, 653), LONG: (120, 264, 559), BEYOND: (123, 287, 609)},
    (PENNIES, "GD, m = 20"): {SAFE: (114, 266, 569), LONG: (194, 466, 1010), BEYOND: (3267, None, None)},
    (PENNIES, "GD, m = 100"): {SAFE: (112, 264, 568), LONG: (223, 525, 1130), BEYOND: (None, None, None)},
    (PENNIES, "GD until alpha"): {SAFE: (115, 269, 573), LONG: (158, 368, 794)},
    (PENNIES, "normalised Adam, m = 20"): {SAFE: (108, 256, 549)},
    (PENNIES, "simultaneous GD"): {3.0: (126, 262, 543), 8.0: (None, None, None), 20.0: (None, None, None)},
    (FREE, "surrogate extragradient"): {0.05: (173, 409, 879), 0.125: (33, 77, 166)},
    (FREE, "surrogate optimistic"): {0.1: (33, 75, 157), 0.125: (18, 33, 61)},
    (FREE, "simultaneous GD"): dict.fromkeys((0.1, 1.0, 5.0), (None, None, None)),
}
"""Steps to a distance of 1e-2, 1e-4 and 1e-8 that an independent program took (surrogate 5.2)."""


class Entry(NamedTuple):
    """One algorithm in a contest.

    Attributes:
        algorithm: who plays.
        step_sizes: that are always reported.
        grid: of which the best on other starts is reported too; none for methods whose step size the theory gives.
        most: steps of a run.
    """

    algorithm: Algorithm
    step_sizes: tuple[float, ...]
    grid: tuple[float, ...]
    most: int

    @property
    def kind(self) -> str:
        """What the step size is of: the parameters (step) or the predictions (eta)."""
        return "step" if self.grid else "eta"


class Contest(NamedTuple):
    """A hidden game and who plays it.

    Attributes:
        name: as it stands in the rows.
        hidden: the game.
        exact: parameters to begin at whose run is compared with known figures; None where all are drawn.
        drawn: parameters to begin at by seed.
        tuning: others, on which step sizes of the parameters are chosen.
        entries: who plays.
        horizon: steps that the picture shows, by step size in prediction space; 0 for all on the parameters.
        theory: the rate of exact solves at a step size in prediction space.
        governed: algorithms that have it if they solve exactly.
        accurate: algorithms that should have that rate, each with the step sizes where.
    """

    name: str
    hidden: HiddenProblem
    exact: Any
    drawn: dict[int, Any]
    tuning: list[Any]
    entries: tuple[Entry, ...]
    horizon: dict[float, int]
    theory: Callable[[float], float]
    governed: frozenset[str]
    accurate: dict[str, tuple[float, ...]]


class Effort(NamedTuple):
    """How much is played.

    Args:
        seeds: of drawn starts and networks.
        tuning_seeds: of those on which steps are chosen.
        inner_steps: of the surrogates with gradient steps, on matching pennies and on rock-paper-scissors.
        regularisations: of rock-paper-scissors, with the steps of a run.
        free_steps: of a run of gradient play without regularisation.
        windows: timed windows of each run.
        points: of a curve in the picture.
    """

    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    inner_steps: tuple[tuple[int, ...], tuple[int, ...]]
    regularisations: dict[float, int]
    free_steps: int
    windows: int
    points: int


FULL = Effort((0, 1, 2, 3, 4), (100, 101, 102), ((1, 5, 20, 100), (1, 10, 50)), {1.0: 400, 0.2: 3500}, 20_000, 9, 16)
QUICK = Effort((0, 1), (100,), ((1, 5, 100), (1, 10)), {1.0: 200}, 4000, 3, 9)


def pennies(effort: Effort) -> Contest:
    """Return hidden matching pennies, regularised: the frozen instance, and the same neurons from drawn parameters."""
    hidden = hidden_matching_pennies()
    lipschitz, rate = hidden.problem.lipschitz, 10.0
    inner = [algorithms.descent(steps, rate) for steps in effort.inner_steps[0]]
    others = [
        algorithms.phgd(cost=2),
        algorithms.gauss_newton(5, cost=2),
        algorithms.damped_gauss_newton(0.5, cost=2),
        algorithms.levenberg_marquardt(1e-2, cost=2),
        algorithms.descent_until(0.5 / lipschitz, rate),
        algorithms.normalised_adam(20, 1.0),
    ]
    grid = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 16.0, 32.0)
    on_params = (
        Entry(algorithms.simultaneous(), (3.0, 8.0, 20.0), grid, 6000),
        Entry(algorithms.alternating(), (), grid, 4000),
        Entry(algorithms.extragradient(), (), grid, 4000),
        *(Entry(algorithms.optimistic_adam(momentum), (), _ADAM, 4000) for momentum in _MOMENTA),
    )
    accurate = [one.name for one in (*inner, *others[:2]) if one.name not in ("GD, m = 1", "GD, m = 5")]
    return Contest(
        name=PENNIES,
        hidden=hidden,
        exact=hidden.params,
        drawn={seed: _coins(seed) for seed in effort.seeds},
        tuning=[_coins(seed) for seed in effort.tuning_seeds],
        entries=(
            *on_params,
            *(Entry(one, (SAFE, LONG, BEYOND), (), 4000) for one in (*others, *inner)),
            *(Entry(one, (_LOOKING_AHEAD,), (), 1000) for one in _looking_ahead()),
        ),
        horizon={0.0: 800, SAFE: 800, BEYOND: 800},
        theory=lambda eta: float(np.sqrt(1.0 - 2.0 * eta + (eta * lipschitz) ** 2)),
        governed=frozenset(one.name for one in (*others, *inner)),
        accurate=dict.fromkeys(accurate, (SAFE,)),
    )


def free_pennies(effort: Effort) -> Contest:
    """Return hidden matching pennies without regularisation, which is monotone and not strongly so."""
    hidden = hidden_matching_pennies(0.0)
    lipschitz, grid = hidden.problem.lipschitz, (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    return Contest(
        name=FREE,
        hidden=hidden,
        exact=hidden.params,
        drawn={},
        tuning=[_coins(seed) for seed in effort.tuning_seeds],
        entries=(
            Entry(algorithms.simultaneous(), (0.1, 1.0, 5.0), grid, effort.free_steps),
            Entry(algorithms.alternating(), (), grid, 4000),
            Entry(algorithms.extragradient(), (), grid, 4000),
            *(Entry(algorithms.optimistic_adam(momentum), (), _ADAM, 4000) for momentum in _MOMENTA),
            Entry(algorithms.nearly_exact("surrogate forward", vi.forward, 10), (0.05,), (), 4000),
            *(Entry(one, sizes, (), 1500) for one, sizes in zip(_looking_ahead(), ((0.05, 0.125), (0.1, 0.125)), strict=True)),
        ),
        horizon={},
        theory=lambda eta: float(np.sqrt(1.0 - (eta * lipschitz) ** 2 + (eta * lipschitz) ** 4)),
        governed=frozenset({"surrogate extragradient"}),
        accurate={"surrogate extragradient": (0.05, 0.125)},
    )


def rock_paper_scissors(effort: Effort, regularisation: float) -> Contest:
    """Return hidden rock-paper-scissors between networks that are drawn anew for each seed."""
    first = hidden_rock_paper_scissors(regularisation, key=jax.random.key(effort.seeds[0]))
    eta, lipschitz, most = first.problem.safe_step_size, first.problem.lipschitz, effort.regularisations[regularisation]
    inner = [algorithms.descent(steps, 1.0) for steps in effort.inner_steps[1]]
    others = [
        algorithms.phgd(cost=6),
        algorithms.damped_gauss_newton(0.5, cost=6),
        algorithms.levenberg_marquardt(1e-2, cost=6),
        algorithms.descent_until(0.5 * regularisation / lipschitz, 1.0),
        algorithms.normalised_adam(20, 0.03),
    ]
    grid = (0.01, 0.03, 0.1, 0.3, 1.0)
    on_params = (
        Entry(algorithms.simultaneous(), (2.0,), grid, most),
        Entry(algorithms.alternating(), (), grid, most),
        Entry(algorithms.extragradient(), (), grid, most),
        *(Entry(algorithms.optimistic_adam(momentum), (), (3e-4, 1e-3, 3e-3, 1e-2), most) for momentum in _MOMENTA),
    )
    # Not PHGD: one Gauss-Newton step towards a target outside the simplex ends at a vertex for many draws (surrogate 7.4).
    exact_enough = [inner[-1].name, "Levenberg-Marquardt, 0.01"]
    return Contest(
        name=f"rock-paper-scissors, lam = {regularisation:g}",
        hidden=first,
        exact=None,
        drawn={seed: _networks(seed) for seed in effort.seeds},
        tuning=[_networks(seed) for seed in effort.tuning_seeds],
        entries=(*on_params, *(Entry(one, (eta,), (), most) for one in (*others, *inner))),
        horizon={0.0: 160, eta: 160} if regularisation == 1.0 else {},
        theory=lambda eta: float(np.sqrt(1.0 - 2.0 * eta * regularisation + (eta * lipschitz) ** 2)),
        governed=frozenset(one.name for one in (*others, *inner)),
        accurate=dict.fromkeys(exact_enough, (eta,)),
    )


def _looking_ahead() -> tuple[Algorithm, Algorithm]:
    """Return the methods for operators that are only monotone."""
    return (
        algorithms.nearly_exact("surrogate extragradient", vi.extragradient, 10),
        algorithms.nearly_exact("surrogate optimistic", vi.optimistic, 10),
    )


def _coins(seed: int) -> Any:
    first, second = np.random.default_rng(seed).uniform(-3.0, 3.0, 2)
    return jnp.asarray(first), jnp.asarray(second)


def _networks(seed: int) -> Any:
    return hidden_rock_paper_scissors(key=jax.random.key(seed)).params
