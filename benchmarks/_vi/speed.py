"""What the library costs beside JAX loops of the same arithmetic that are written by hand."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.turns import Side, step_rows, take_turns
from narrows import vi
from narrows.vi import td
from narrows.vi.problems import hidden_rock_paper_scissors, matrix_game

HAND, OURS, TOLD = "by hand", "library", "library, all that a step tells"
TARGET = Target("<=", 1.2)
_DISCOUNT, _RATE = 0.9, 1e-3


class Effort(NamedTuple):
    """How much is timed."""

    inner_steps: tuple[int, ...]  # of TD(0) with a network of two layers of `width`, on batches of `batch`
    # width, batch: of these
    width: int
    batch: int
    gradients: int  # gradient steps of a window of them
    game_steps: int  # outer steps of a window of rock-paper-scissors with ten inner steps
    # size, solver_steps: actions of a matrix game, and extragradient steps on it
    size: int
    solver_steps: int
    windows: int  # timed windows of each side, in turns


FULL = Effort(
    inner_steps=(1, 5, 20), width=256, batch=256, gradients=120, game_steps=4000, size=30, solver_steps=20_000, windows=11
)
QUICK = FULL._replace(inner_steps=(1, 20), gradients=40, game_steps=1000, solver_steps=5000, windows=5)

Runs = dict[str, Callable[[], Any]]


def speed_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield the time of a step by hand and of the library's, and their ratio."""
    for inner_steps in effort.inner_steps:
        num_steps = max(2, effort.gradients // inner_steps)
        runs = td_runs(effort, inner_steps, num_steps)
        yield from timed_rows(context, f"vi/speed/TD, m = {inner_steps}", runs, num_steps, effort.windows)
    yield from timed_rows(context, "vi/speed/game, m = 10", game_runs(effort), effort.game_steps, effort.windows)
    yield from timed_rows(context, "vi/speed/solve", solver_runs(effort), effort.solver_steps, effort.windows)


def timed_rows(context: Context, case: str, runs: Runs, num_steps: int, windows: int) -> Iterator[Row]:
    """Yield times of runs of so many steps, and their ratios to the first."""
    sides = [Side(name, lambda _, run=run: run()) for name, run in runs.items()]
    take_turns(sides, windows)
    yield from step_rows(context, case, sides, num_steps, TARGET, [OURS])


def td_runs(effort: Effort, inner_steps: int, num_steps: int) -> Runs:
    """Return surrogate TD(0) by hand and by the library, with Adam inside and a network of ReLUs."""
    optimizer, sizes = optax.adam(_RATE), (4, effort.width, effort.width, 1)
    params = td.mlp_params(jax.random.key(0), sizes)
    seen, after = (jax.random.normal(jax.random.key(seed), (num_steps, effort.batch, 4)) for seed in (1, 2))
    batches = td.Transitions(seen, seen.sum(-1), after, jnp.zeros((num_steps, effort.batch), bool))
    learner = td.surrogate_td0(_value, optimizer, inner_steps=inner_steps, discount=_DISCOUNT)

    def by_hand(params: Any) -> Any:
        def step(carry: tuple, batch: td.Transitions) -> tuple[tuple, None]:
            target = batch.reward + _DISCOUNT * _value(carry[0], batch.next_observation)

            def loss_of(params: Any) -> Any:
                return 0.5 * jnp.mean((_value(params, batch.observation) - target) ** 2)

            def once(carry: tuple, _: None) -> tuple[tuple, None]:
                params, state = carry
                updates, state = optimizer.update(jax.grad(loss_of)(params), state, params)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(once, carry, length=inner_steps)[0], None

        return jax.lax.scan(step, (params, optimizer.init(params)), batches)[0][0]

    def by_library(params: Any, tells: bool) -> Any:
        def step(carry: tuple, batch: td.Transitions) -> tuple[tuple, Any]:
            params, state, info = learner.step(carry[0], carry[1], batch)
            return (params, state), info if tells else None

        (params, _), told = jax.lax.scan(step, (params, learner.init(params)), batches)
        return params, told

    hand, ours, told = jax.jit(by_hand), jax.jit(lambda at: by_library(at, False)), jax.jit(lambda at: by_library(at, True))
    return {HAND: lambda: hand(params), OURS: lambda: ours(params)[0], TOLD: lambda: told(params)}


def game_runs(effort: Effort) -> Runs:
    """Return hidden rock-paper-scissors with ten gradient steps inside, by hand and by the library."""
    hidden = hidden_rock_paper_scissors(key=jax.random.key(0))
    predict, operator, eta, inner_steps = hidden.predict, hidden.problem.operator, 0.25, 10
    method = vi.surrogate(vi.forward(eta), optax.sgd(1.0), inner_steps)

    def by_hand(params: Any) -> Any:
        def step(params: Any, _: None) -> tuple[Any, None]:
            z = predict(params)
            target = jax.tree.map(lambda at, field: at - eta * field, z, operator(z))

            def loss_of(params: Any) -> Any:
                return 0.5 * sum(jnp.sum((at - to) ** 2) for at, to in zip(predict(params), target, strict=True))

            def once(params: Any, _: None) -> tuple[Any, None]:
                return jax.tree.map(lambda leaf, slope: leaf - slope, params, jax.grad(loss_of)(params)), None

            return jax.lax.scan(once, params, length=inner_steps)[0], None

        return jax.lax.scan(step, params, length=effort.game_steps)[0]

    def by_library(params: Any, tells: bool) -> Any:
        def step(carry: tuple, _: None) -> tuple[tuple, Any]:
            params, state, info = method.step(predict, operator, *carry)
            return (params, state), info if tells else None

        (params, _), told = jax.lax.scan(step, (params, method.init(params, predict(params))), length=effort.game_steps)
        return params, told

    hand, ours, told = jax.jit(by_hand), jax.jit(lambda at: by_library(at, False)), jax.jit(lambda at: by_library(at, True))
    return {HAND: lambda: hand(hidden.params), OURS: lambda: ours(hidden.params)[0], TOLD: lambda: told(hidden.params)}


def solver_runs(effort: Effort) -> Runs:
    """Return extragradient on a matrix game, by hand and by `solve`, until the residual is 0 or all steps are taken."""
    problem = matrix_game(np.random.default_rng(0).normal(size=(effort.size, effort.size)))
    operator, start, eta, most = problem.operator, problem.start, 0.5 / problem.lipschitz, effort.solver_steps
    simplex = optax.projections.projection_simplex

    def by_hand(z: Any) -> tuple[Any, Any]:
        def towards(anchor: Any, at: Any) -> Any:
            return jax.tree.map(lambda leaf, field: simplex(leaf - eta * field), anchor, operator(at))

        def body(loop: tuple) -> tuple:
            z, step, _ = loop
            half = towards(z, z)
            return towards(z, half), step + 1, optax.tree.norm(optax.tree.sub(z, half)) / eta

        first = (z, jnp.zeros((), jnp.int32), jnp.full((), jnp.inf))
        return jax.lax.while_loop(lambda loop: (loop[2] > 0.0) & (loop[1] < most), body, first)[:2]

    def by_library(z: Any) -> vi.Solution:
        return vi.solve(operator, z, vi.extragradient(eta), project=vi.simplex, max_steps=most, tol=0.0)

    def short(z: Any) -> tuple[Any, Any]:
        solution = by_library(z)
        return solution.value, solution.stats.num_steps

    hand, ours, told = jax.jit(by_hand), jax.jit(short), jax.jit(by_library)
    return {HAND: lambda: hand(start), OURS: lambda: ours(start), TOLD: lambda: told(start)}


def _value(params: Any, observation: Any) -> Any:
    """Return values of a network of ReLUs with the parameters of `td.mlp_params`."""
    hidden = observation
    for weight, bias in params[:-1]:
        hidden = jax.nn.relu(hidden @ weight + bias)
    weight, bias = params[-1]
    return (hidden @ weight + bias)[:, 0]
