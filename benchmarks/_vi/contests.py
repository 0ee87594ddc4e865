"""The hidden games that are played, by whom, with which step sizes, and what is known of them."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from narrows import vi
from narrows.vi.problems import HiddenProblem, hidden_matching_pennies, hidden_rock_paper_scissors

Taken = tuple[Any, Any, Int[Array, ""]]
"""Parameters, state, and what a step cost in gradient evaluations."""


class Algorithm(NamedTuple):
    """A way to play a hidden game."""

    name: str  # as it stands in the rows
    init: Callable[[HiddenProblem, Any, Any], Any]  # from the game, a step size and parameters to a state
    # from the game, a step size, parameters and state to the next ones and what it cost. A gradient evaluation is one pass
    # forward and back through the models of all players; a Jacobian costs one for each prediction.
    step: Callable[[HiddenProblem, Any, Any, Any], Taken]


class Trail(NamedTuple):
    """A run."""

    distance: Any  # to the solution after each step, the start first, shape `[steps + 1]`; an array of JAX or NumPy
    evaluations: Any  # gradient evaluations until then, of the same shape


def runner(hidden: HiddenProblem, algorithm: Algorithm, most: int) -> Callable[[Any, Any, Any], Trail]:
    """Return the compiled run from a step size, parameters and a number of steps, at most so many.

    The number of steps is an argument of the program, so that any part of a run can be timed without compiling it.
    """

    def distance(params: Any) -> Float[Array, ""]:
        return optax.tree.norm(optax.tree.sub(hidden.predict(params), hidden.problem.solution))

    def run(step_size: Any, params: Any, num_steps: Any) -> Trail:
        def body(number: Any, carry: tuple) -> tuple:
            params, state, trail = carry
            params, state, cost = algorithm.step(hidden, step_size, params, state)
            distances = trail.distance.at[number + 1].set(distance(params))
            evaluations = trail.evaluations.at[number + 1].set(trail.evaluations[number] + cost)
            return params, state, Trail(distances, evaluations)

        first = distance(params)
        trail = Trail(jnp.full(most + 1, jnp.nan, first.dtype).at[0].set(first), jnp.zeros(most + 1, jnp.int32))
        start = (params, algorithm.init(hidden, step_size, params), trail)
        return jax.lax.fori_loop(0, num_steps, body, start)[2]

    return jax.jit(run)


def field(hidden: HiddenProblem, params: Any) -> Any:
    """Return what every player's parameters see, `J^T F(g(theta))`."""
    z, pull = jax.vjp(hidden.predict, params)
    return pull(hidden.problem.operator(z))[0]


def simultaneous() -> Algorithm:
    """Return gradient descent-ascent, all players at once."""

    def step(hidden: HiddenProblem, step_size: Any, params: Any, state: Any) -> Taken:
        return _moved(params, step_size, field(hidden, params)), state, jnp.int32(1)

    return Algorithm("simultaneous GD", lambda hidden, step_size, params: (), step)


def alternating() -> Algorithm:
    """Return gradient descent-ascent, the second player knowing the first one's step: two halves of an evaluation."""

    def step(hidden: HiddenProblem, step_size: Any, params: Any, state: Any) -> Taken:
        first = _moved(params[0], step_size, field(hidden, params)[0])
        second = _moved(params[1], step_size, field(hidden, (first, params[1]))[1])
        return (first, second), state, jnp.int32(1)

    return Algorithm("alternating GD", lambda hidden, step_size, params: (), step)


def extragradient() -> Algorithm:
    """Return extragradient on the parameters."""

    def step(hidden: HiddenProblem, step_size: Any, params: Any, state: Any) -> Taken:
        half = _moved(params, step_size, field(hidden, params))
        return _moved(params, step_size, field(hidden, half)), state, jnp.int32(2)

    return Algorithm("extragradient", lambda hidden, step_size, params: (), step)


def optimistic_adam(momentum: float) -> Algorithm:
    """Return optax's optimistic Adam on the parameters, with its default momentum of 0.9 or another one."""

    def optimizer(step_size: Any) -> optax.GradientTransformation:
        return optax.optimistic_adam_v2(step_size, b1=momentum)

    def step(hidden: HiddenProblem, step_size: Any, params: Any, state: Any) -> Taken:
        updates, state = optimizer(step_size).update(field(hidden, params), state, params)
        return optax.apply_updates(params, updates), state, jnp.int32(1)

    name = f"optimistic Adam, b1 = {momentum:g}"
    return Algorithm(name, lambda hidden, step_size, params: optimizer(step_size).init(params), step)


def composed(name: str, make: Callable[[Any], vi.SurrogateMethod], cost: int = 1) -> Algorithm:
    """Return a surrogate method whose inner steps each cost so many gradient evaluations."""

    def init(hidden: HiddenProblem, step_size: Any, params: Any) -> vi.SurrogateState:
        return make(step_size).init(params, hidden.predict(params))

    def step(hidden: HiddenProblem, step_size: Any, params: Any, state: vi.SurrogateState) -> Taken:
        params, state, info = make(step_size).step(hidden.predict, hidden.problem.operator, params, state)
        return params, state, cost * info.num_inner_steps

    return Algorithm(name, init, step)


def descent(inner_steps: int, rate: float) -> Algorithm:
    """Return the surrogate with so many gradient steps inside."""
    return composed(f"GD, m = {inner_steps}", lambda eta: vi.surrogate(vi.forward(eta), optax.sgd(rate), inner_steps))


def descent_until(alpha: float, rate: float) -> Algorithm:
    """Return the surrogate with gradient steps inside until the loss has fallen by `alpha^2`, a thousand at most."""
    return composed("GD until alpha", lambda eta: vi.surrogate(vi.forward(eta), optax.sgd(rate), 1000, alpha=alpha))


def normalised_adam(inner_steps: int, rate: float) -> Algorithm:
    """Return the surrogate with Adam inside, its steps in proportion to the first residual and its state fresh each time."""

    def make(eta: Any) -> vi.SurrogateMethod:
        return vi.surrogate(vi.forward(eta), optax.adam(rate), inner_steps, normalise=True, reset_inner_state=True)

    return composed(f"normalised Adam, m = {inner_steps}", make)


def phgd(cost: int) -> Algorithm:
    """Return preconditioned hidden gradient descent, with a Jacobian of so many rows."""
    return composed("PHGD", vi.preconditioned_hidden_gradient, cost)


def gauss_newton(inner_steps: int, cost: int) -> Algorithm:
    """Return several Gauss-Newton steps on each target."""
    name = f"Gauss-Newton, m = {inner_steps}"
    return composed(name, lambda eta: vi.surrogate(vi.forward(eta), vi.gauss_newton(), inner_steps), cost)


def damped_gauss_newton(scale: float, cost: int) -> Algorithm:
    """Return Gauss-Newton with a shortened step."""
    return composed(f"damped Gauss-Newton, {scale:g}", lambda eta: vi.damped_gauss_newton(eta, scale), cost)


def levenberg_marquardt(damping: float, cost: int) -> Algorithm:
    """Return Levenberg-Marquardt, one step on each target."""
    inner = vi.levenberg_marquardt(damping)
    return composed(f"Levenberg-Marquardt, {damping:g}", lambda eta: vi.surrogate(vi.forward(eta), inner), cost)


def nearly_exact(name: str, method: Callable[[Any], vi.Method], cost: int) -> Algorithm:
    """Return a method of prediction space with targets that are reached to rounding: five steps with hardly any damping."""
    inner = vi.levenberg_marquardt(1e-6)
    return composed(name, lambda eta: vi.surrogate(method(eta), inner, 5), cost)


def _moved(params: Any, step_size: Any, direction: Any) -> Any:
    return jax.tree.map(lambda leaf, slope: leaf - step_size * slope, params, direction)


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
    """One algorithm in a contest."""

    algorithm: Algorithm  # who plays
    step_sizes: tuple[float, ...]  # that are always reported
    # of which the best on other starts is reported too; none for methods whose step size the theory gives
    grid: tuple[float, ...]
    most: int  # steps of a run

    @property
    def kind(self) -> str:
        """What the step size is of: the parameters (step) or the predictions (eta)."""
        return "step" if self.grid else "eta"


class Contest(NamedTuple):
    """A hidden game and who plays it."""

    name: str  # as it stands in the rows
    hidden: HiddenProblem  # the game
    exact: Any  # parameters to begin at whose run is compared with known figures; None where all are drawn
    drawn: dict[int, Any]  # parameters to begin at by seed
    tuning: list[Any]  # others, on which step sizes of the parameters are chosen
    entries: tuple[Entry, ...]  # who plays
    horizon: dict[float, int]  # steps that the picture shows, by step size in prediction space; 0 for all on the parameters
    theory: Callable[[float], float]  # the rate of exact solves at a step size in prediction space
    governed: frozenset[str]  # algorithms that have it if they solve exactly
    accurate: dict[str, tuple[float, ...]]  # algorithms that should have that rate, each with the step sizes where


class Effort(NamedTuple):
    """How much is played."""

    seeds: tuple[int, ...]  # of drawn starts and networks
    tuning_seeds: tuple[int, ...]  # of those on which steps are chosen
    # of the surrogates with gradient steps, on matching pennies and on rock-paper-scissors
    inner_steps: tuple[tuple[int, ...], tuple[int, ...]]
    regularisations: dict[float, int]  # of rock-paper-scissors, with the steps of a run
    free_steps: int  # of a run of gradient play without regularisation
    windows: int  # timed windows of each run
    points: int  # of a curve in the picture


FULL = Effort((0, 1, 2, 3, 4), (100, 101, 102), ((1, 5, 20, 100), (1, 10, 50)), {1.0: 400, 0.2: 3500}, 20_000, 9, 16)
QUICK = Effort((0, 1), (100,), ((1, 5, 100), (1, 10)), {1.0: 200}, 4000, 3, 9)


def pennies(effort: Effort) -> Contest:
    """Return hidden matching pennies, regularised: the frozen instance, and the same neurons from drawn parameters."""
    hidden = hidden_matching_pennies()
    lipschitz, rate = hidden.problem.lipschitz, 10.0
    inner = [descent(steps, rate) for steps in effort.inner_steps[0]]
    others = [
        phgd(cost=2),
        gauss_newton(5, cost=2),
        damped_gauss_newton(0.5, cost=2),
        levenberg_marquardt(1e-2, cost=2),
        descent_until(0.5 / lipschitz, rate),
        normalised_adam(20, 1.0),
    ]
    grid = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 16.0, 32.0)
    on_params = (
        Entry(simultaneous(), (3.0, 8.0, 20.0), grid, 6000),
        Entry(alternating(), (), grid, 4000),
        Entry(extragradient(), (), grid, 4000),
        *(Entry(optimistic_adam(momentum), (), _ADAM, 4000) for momentum in _MOMENTA),
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
            Entry(simultaneous(), (0.1, 1.0, 5.0), grid, effort.free_steps),
            Entry(alternating(), (), grid, 4000),
            Entry(extragradient(), (), grid, 4000),
            *(Entry(optimistic_adam(momentum), (), _ADAM, 4000) for momentum in _MOMENTA),
            Entry(nearly_exact("surrogate forward", vi.forward, 10), (0.05,), (), 4000),
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
    inner = [descent(steps, 1.0) for steps in effort.inner_steps[1]]
    others = [
        phgd(cost=6),
        damped_gauss_newton(0.5, cost=6),
        levenberg_marquardt(1e-2, cost=6),
        descent_until(0.5 * regularisation / lipschitz, 1.0),
        normalised_adam(20, 0.03),
    ]
    grid = (0.01, 0.03, 0.1, 0.3, 1.0)
    on_params = (
        Entry(simultaneous(), (2.0,), grid, most),
        Entry(alternating(), (), grid, most),
        Entry(extragradient(), (), grid, most),
        *(Entry(optimistic_adam(momentum), (), (3e-4, 1e-3, 3e-3, 1e-2), most) for momentum in _MOMENTA),
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
        nearly_exact("surrogate extragradient", vi.extragradient, 10),
        nearly_exact("surrogate optimistic", vi.optimistic, 10),
    )


def _coins(seed: int) -> Any:
    first, second = np.random.default_rng(seed).uniform(-3.0, 3.0, 2)
    return jnp.asarray(first), jnp.asarray(second)


def _networks(seed: int) -> Any:
    return hidden_rock_paper_scissors(key=jax.random.key(seed)).params
