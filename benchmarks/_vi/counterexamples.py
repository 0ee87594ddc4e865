"""Where temporal differences diverge, and what surrogates do there: how much the values grow in a step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._vi.chain import surrogate_errors
from benchmarks.harness.rows import Context, Row, Target
from narrows import vi
from narrows.vi.problems import LinearBellman, baird_star, linear_bellman, spiral, two_state_off_policy

FACTOR, ERROR, LAST, LARGEST = "factor of a step", "error of the factor", "last norm over first", "largest norm over first"
GROWS, SHRINKS, RIGHT = Target(">", 1.0), Target("<", 1.0), Target("<=", 1e-6)


class Effort(NamedTuple):
    """How long runs are."""

    steps: int  # of the linear examples
    spiral_steps: int  # of TD(0) on the spiral


FULL = Effort(steps=600, spiral_steps=2000)
QUICK = FULL


def counterexample_rows(context: Context, effort: Effort) -> list[Row]:
    """Return the rows of all examples; to be called in double precision."""
    return [*_baird_rows(context, effort), *_two_state_rows(context, effort), *_spiral_rows(context, effort)]


def factor(norms: np.ndarray) -> float:
    """Return the factor of a step, by regression of the logarithm over the second half of a run."""
    late = np.arange(len(norms) // 2, len(norms))
    return float(np.exp(np.polyfit(late, np.log(norms[late]), 1)[0]))


def _baird_rows(context: Context, effort: Effort) -> list[Row]:
    problem = baird_star()
    size = 1.0 / float(np.linalg.eigvalsh(np.asarray(problem.moments.gram))[-1])
    rows = []
    for inner_steps in (1, 2, 5, 20):
        found = _factor(problem, vi.surrogate(vi.forward(1.0), optax.sgd(size), inner_steps, metric=problem.metric), effort)
        name = "TD(0), a long step" if inner_steps == 1 else f"m = {inner_steps}"
        rows.append(_row(context, f"vi/counterexamples/Baird/{name}", found, inner_steps == 1))
    slow = vi.surrogate(vi.forward(1.0), optax.sgd(0.01), 1, metric=problem.metric)
    rows.append(_row(context, "vi/counterexamples/Baird/TD(0), a short step", _factor(problem, slow, effort, 20), True))
    exact = _factor(problem, vi.preconditioned_hidden_gradient(1.0, problem.metric), effort)
    rows.append(_row(context, "vi/counterexamples/Baird/exact surrogate", exact, False))
    # Values are then iterated exactly, whatever the features.
    rows.append(context.row("vi/counterexamples/Baird/exact surrogate", ERROR, [abs(exact - 0.99)], target=RIGHT))
    return rows


def _two_state_rows(context: Context, effort: Effort) -> list[Row]:
    off, rows = two_state_off_policy(0.9), []
    on = linear_bellman(off.chain, off.features, start=off.start)
    for problem, policy, known in ((off, "off policy", 1.2 * 0.9), (on, "on policy", 0.9)):
        case = f"vi/counterexamples/two states, {policy}"
        exact = _factor(problem, vi.preconditioned_hidden_gradient(1.0, problem.metric), effort)
        play = _factor(problem, vi.surrogate(vi.forward(1.0), optax.sgd(0.1), 1, metric=problem.metric), effort)
        rows.append(_row(context, f"{case}/exact surrogate", exact, known > 1.0))
        rows.append(context.row(f"{case}/exact surrogate", ERROR, [abs(exact - known)], target=RIGHT))
        rows.append(_row(context, f"{case}/TD(0)", play, known > 1.0))
    return rows


def _factor(problem: LinearBellman, method: vi.SurrogateMethod, effort: Effort, times: int = 1) -> float:
    """Return the factor of a step of the values, all of which are 0 in the end; in the norm of the weights."""
    return factor(surrogate_errors(problem, method, times * effort.steps))


def _row(context: Context, case: str, found: float, should_grow: bool) -> Row:
    return context.row(case, FACTOR, [found], target=GROWS if should_grow else SHRINKS)


def _spiral_rows(context: Context, effort: Effort) -> list[Row]:
    rows = []
    for is_reversed, name in ((False, "spiral"), (True, "spiral, reversed")):
        runs = {
            "TD(0)": (optax.sgd(1e-4), 1, effort.spiral_steps),
            "m = 100": (optax.sgd(1e-3), 100, 200),
            "best of a wide search": (wide_search(), 1, 40),
        }
        for method, (inner, inner_steps, num_steps) in runs.items():
            norms = _spiral_norms(is_reversed, inner, inner_steps, num_steps)
            case = f"vi/counterexamples/{name}/{method}"
            shrinks = is_reversed or method == "best of a wide search"
            is_known = method != "m = 100"
            rows.append(context.row(case, LAST, [norms[-1] / norms[0]], target=SHRINKS if is_known and shrinks else None))
            largest = context.row(case, LARGEST, [norms.max() / norms[0]], target=None if shrinks or not is_known else _FAR)
            rows.append(largest)
    return rows


_FAR = Target(">", 10.0)


def wide_search() -> vi.Inner:
    """Return the inner solver that takes the best of many parameters within 20 of where it is."""

    def step(residual: Any, params: Any, state: Any, scale: Any) -> tuple[Any, Any, Any]:
        candidates = params + jnp.linspace(-20.0, 20.0, 8001)
        losses = jax.vmap(lambda at: 0.5 * jnp.sum(residual(at) ** 2))(candidates)
        return candidates[jnp.argmin(losses)], state, losses[4000]

    return vi.Inner(lambda params: (), step)


def _spiral_norms(is_reversed: bool, inner: Any, inner_steps: int, num_steps: int) -> np.ndarray:
    """Return the norm of the values at the start and after each step, as long as they are finite."""
    hidden = spiral(is_reversed)
    method = vi.surrogate(vi.forward(1.0), inner, inner_steps, metric=vi.batch_mean)

    def step(carry: tuple, _: None) -> tuple[tuple, Any]:
        params, state, _info = method.step(hidden.predict, hidden.problem.operator, *carry)
        return (params, state), jnp.linalg.norm(hidden.predict(params))

    start = (hidden.params, method.init(hidden.params, hidden.problem.start))
    after = np.asarray(jax.jit(lambda: jax.lax.scan(step, start, length=num_steps)[1])())
    norms = np.append(np.linalg.norm(np.asarray(hidden.problem.start)), after)
    return norms[np.isfinite(norms)]
