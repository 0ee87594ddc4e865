"""The ways to play a hidden game that are compared: on the parameters alone, and through surrogates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from narrows import vi
from narrows.vi.problems import HiddenProblem

Taken = tuple[Any, Any, Int[Array, ""]]
"""Parameters, state, and what a step cost in gradient evaluations."""


class Algorithm(NamedTuple):
    """A way to play a hidden game.

    Attributes:
        name: as it stands in the rows.
        init: from the game, a step size and parameters to a state.
        step: from the game, a step size, parameters and state to the next ones and what it cost. A gradient evaluation is one
            pass forward and back through the models of all players; a Jacobian costs one for each prediction.
    """

    name: str
    init: Callable[[HiddenProblem, Any, Any], Any]
    step: Callable[[HiddenProblem, Any, Any, Any], Taken]


class Trail(NamedTuple):
    """A run.

    Attributes:
        distance: to the solution after each step, the start first, shape `[steps + 1]`; an array of JAX or NumPy.
        evaluations: gradient evaluations until then, of the same shape.
    """

    distance: Any
    evaluations: Any


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
