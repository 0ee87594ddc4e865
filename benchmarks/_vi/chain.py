"""CHAIN-100, the linear projected Bellman equation: facts, rates, steps, and simulation beside exact projected steps."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.harness.rows import Context, Row, Target
from narrows import vi
from narrows.vi.problems import LinearBellman, Walk, chain_100, exact_step, simulate, surrogate_step, walk

ERROR = "error of "
RATE, STEPS, DIFFERENCE = "rate", "steps to 1e-06", "difference from the specified steps"
MEAN, SPREAD, APART, APART_SPREAD = (
    "mean error",
    "its standard error",
    "mean distance to LSPE",
    "standard error of the distance",
)
LSPE, LSTD = "LSPE", "LSTD"
INNER_STEPS = (1, 20, 100)
INNER_SIZE = 0.04
"""Of simulated inner steps, at most `1 / max_s ||phi(s)||^2`: the averages of a slow chain begin nearly singular."""

FACTS: Final = {
    "second eigenvalue": 0.905079,
    "least eigenvalue of B": 0.571389,
    "largest eigenvalue of B": 1.601885,
    "strength": 0.05,
    "Lipschitz constant": 0.146937,
    "norm of the values": 7.476807,
    "distance of the values to the representable ones": 6.912462,
    "distance of the values to the solution": 6.912571,
    "first parameter": -0.559640,
    "second parameter": -0.505266,
    "third parameter": -0.281721,
}
RATES: Final = {1: (0.969653, 417), 2: (0.957743, 305), 5: (0.950672, 264), 10: (0.950032, 261), 50: (0.950000, 261)}
EXACT_RATES: Final = {1.0: 0.95, 0.5: 0.975, 0.1: 0.995}
MEANS: Final = {
    LSPE: {10: 3.72, 100: 46.4, 1000: 3.977, 5000: 1.771, 20_000: 0.860},
    "m = 1": {10: 2.92, 100: 4.00, 1000: 3.975, 5000: 1.772, 20_000: 0.862},
    "m = 20": {10: 3.64, 100: 8.93, 1000: 3.988, 5000: 1.772, 20_000: 0.860},
    "m = 100": {10: 3.71, 100: 12.3, 1000: 3.978, 5000: 1.771, 20_000: 0.859},
    LSTD: {10: 7.94, 100: 94.5, 1000: 3.963, 5000: 1.771, 20_000: 0.860},
}
APARTS: Final = {
    "m = 1": {10: 1.62, 100: 45.4, 1000: 1.703, 5000: 0.300, 20_000: 0.070},
    "m = 20": {10: 0.211, 100: 42.0, 1000: 0.193, 5000: 0.029, 20_000: 0.0062},
    "m = 100": {10: 0.026, 100: 38.5, 1000: 0.017, 5000: 0.0014, 20_000: 0.0003},
}
"""What an independent program had found (surrogate 6.2)."""

TIGHT, CLOSE, SAME, FACT = Target("<=", 1e-5), Target("<=", 1e-4), Target("<=", 1.0), Target("<=", 1e-6)
NEARER = Target("<", 0.5)
SHARE = "last distance to LSPE as a share of its error"
"""The iterates come to each other before they come to the solution."""


class Effort(NamedTuple):
    """How much is simulated."""

    runs: int  # of the simulation
    times: tuple[int, ...]  # at which errors are looked at, in transitions
    at_once: int  # runs side by side; all their iterates are held until their times are picked


FULL = Effort(runs=200, times=(10, 100, 1000, 5000, 20_000), at_once=20)
QUICK = Effort(runs=20, times=(10, 100, 1000), at_once=20)


def chain_rows(context: Context, effort: Effort) -> list[Row]:
    """Return the rows of the chain; to be called in double precision."""
    problem = chain_100()
    rows = [*_fact_rows(context, problem), *_rate_rows(context, problem), *_exact_rows(context, problem)]
    return [*rows, *simulation_rows(context, effort, *simulated(problem, effort))]


def _fact_rows(context: Context, problem: LinearBellman) -> Iterator[Row]:
    value, near = problem.chain.value, np.asarray(problem.project(jnp.asarray(problem.chain.value)))
    sizes = np.linalg.eigvalsh(np.asarray(problem.moments.gram))
    norms = [value, near - value, problem.features @ problem.solution - value]
    found = [
        float(np.sort(np.abs(np.linalg.eigvals(problem.chain.transition)))[-2]),
        *(float(sizes[place]) for place in (0, -1)),
        *(problem.strength, problem.lipschitz),
        *(float(problem.norm(jnp.asarray(each))) for each in norms),
        *(float(each) for each in problem.solution[:3]),
    ]
    for (name, specified), got in zip(FACTS.items(), found, strict=True):
        yield context.row("vi/chain/facts", name, [got], against="specification", peer=specified)
        yield context.row("vi/chain/facts", f"{ERROR}{name}", [abs(got - specified)], target=FACT)


def _rate_rows(context: Context, problem: LinearBellman) -> Iterator[Row]:
    """Yield rates of the surrogate itself, with SGD inside, from the start of all zeros."""
    size = 1.0 / float(np.linalg.eigvalsh(np.asarray(problem.moments.gram))[-1])
    for inner_steps, (rate, steps) in RATES.items():
        errors = surrogate_errors(
            problem, vi.surrogate(vi.forward(1.0), optax.sgd(size), inner_steps, metric=problem.metric), 450
        )
        # So late the slowest mode is alone, and rounding still far away.
        got = float((errors[400] / errors[350]) ** 0.02)
        case, count = f"vi/chain/m = {inner_steps}", float(np.argmax(errors < 1e-6))
        yield context.row(case, RATE, [got], against="specification", peer=rate)
        yield context.row(case, f"{ERROR}the rate", [abs(got - rate)], target=CLOSE if inner_steps == 1 else TIGHT)
        yield context.row(case, STEPS, [count], against="specification", peer=float(steps))
        yield context.row(case, DIFFERENCE, [abs(count - steps)], target=SAME)


def surrogate_errors(problem: LinearBellman, method: vi.SurrogateMethod, num_steps: int) -> np.ndarray:
    """Return the distance to the solution at the start and after each step, in the norm of the weights."""
    hidden = problem.hidden()

    def norm(params: Any) -> Any:
        return problem.norm(problem.predict(params - problem.solution))

    def step(carry: tuple, _: None) -> tuple[tuple, Any]:
        params, state, _info = method.step(hidden.predict, hidden.problem.operator, *carry)
        return (params, state), norm(params)

    def run(params: Any) -> Any:
        start = (params, method.init(params, hidden.problem.start))
        return jnp.append(norm(params), jax.lax.scan(step, start, length=num_steps)[1])

    return np.asarray(jax.jit(run)(hidden.params))


def _exact_rows(context: Context, problem: LinearBellman) -> Iterator[Row]:
    def run(eta: Any) -> Any:
        def step(params: Any, _: None) -> tuple[Any, Any]:
            params = exact_step(problem.moments, params, eta)
            return params, problem.norm(problem.predict(params - problem.solution))

        return jax.lax.scan(step, jnp.zeros(len(problem.start)), length=2400)[1]

    errors = np.asarray(jax.jit(jax.vmap(run))(jnp.asarray(list(EXACT_RATES))))
    for (eta, rate), row, time in zip(EXACT_RATES.items(), errors, (399, 799, 2399), strict=True):
        got, case = float((row[time] / row[time - 50]) ** 0.02), f"vi/chain/{LSPE}, eta = {eta:g}"
        yield context.row(case, RATE, [got], against="specification", peer=rate)
        yield context.row(case, f"{ERROR}the rate", [abs(got - rate)], target=TIGHT)


def simulated(problem: LinearBellman, effort: Effort) -> tuple[np.ndarray, np.ndarray]:
    """Return errors and distances to LSPE of every run, method and time, shape `[runs, methods, times]`."""
    times = jnp.asarray(effort.times) - 1
    norm = jax.vmap(jax.vmap(lambda params: problem.norm(problem.predict(params))))

    def update(moments: Any, params: tuple) -> tuple:
        exact, *learned = params
        stepped = (surrogate_step(moments, at, 1.0, INNER_SIZE, num) for num, at in zip(INNER_STEPS, learned, strict=True))
        return exact_step(moments, exact), *stepped

    def run(key: Any) -> tuple[Any, Any, Walk]:
        seen = walk(problem.chain, key, effort.times[-1])
        start = (jnp.zeros(len(problem.start)),) * (1 + len(INNER_STEPS))
        kept = jnp.stack(simulate(problem, seen, update, start))[:, times]
        return norm(kept - problem.solution), norm(kept - kept[:1]), seen

    program = jax.jit(jax.vmap(run))
    errors, aparts = [], []
    for group in np.array_split(np.arange(effort.runs), -(-effort.runs // effort.at_once)):
        error, apart, seen = program(jax.vmap(jax.random.key)(jnp.asarray(group)))
        solved = norm(jnp.asarray(least_squares(problem, seen, effort.times)) - problem.solution)
        errors.append(np.concatenate([np.asarray(error), np.asarray(solved)[:, None]], 1))
        aparts.append(np.asarray(apart))
    return np.concatenate(errors), np.concatenate(aparts)


def least_squares(problem: LinearBellman, seen: Walk, times: Sequence[int]) -> np.ndarray:
    """Return LSTD's parameters of each run at each time, those of least norm where few transitions leave a choice."""
    here, after, features = np.asarray(seen.state), np.asarray(seen.next_state), problem.features
    found = np.zeros((len(here), len(times), features.shape[1]))
    for run, place in np.ndindex(found.shape[:2]):
        first, second = (features[states[run, : times[place]]] for states in (here, after))
        matrix = first.T @ (first - problem.chain.discount * second)
        vector = first.T @ problem.chain.reward[here[run, : times[place]]]
        found[run, place] = np.linalg.lstsq(matrix, vector, rcond=1e-9)[0]
    return found


def simulation_rows(context: Context, effort: Effort, errors: np.ndarray, aparts: np.ndarray) -> Iterator[Row]:
    """Yield means over the runs, with standard errors."""
    names = (LSPE, *(f"m = {num}" for num in INNER_STEPS), LSTD)
    for place, time in enumerate(effort.times):
        for number, name in enumerate(names):
            case = f"vi/chain/simulation/after {time}/{name}"
            yield from _mean_rows(context, case, (MEAN, SPREAD), errors[:, number, place], MEANS[name].get(time))
            if name in APARTS:
                apart = aparts[:, number, place]
                yield from _mean_rows(context, case, (APART, APART_SPREAD), apart, APARTS[name].get(time))
    late = {name: aparts[:, number, -1].mean() for number, name in enumerate(names) if name in APARTS}
    error = errors[:, 0, -1].mean()
    for name, apart in late.items():
        yield context.row(f"vi/chain/simulation/{name}", SHARE, [float(apart / error)], target=NEARER)


def _mean_rows(
    context: Context, case: str, metrics: tuple[str, str], values: np.ndarray, specified: float | None
) -> Iterator[Row]:
    against = None if specified is None else "specification"
    yield context.row(case, metrics[0], [float(values.mean())], against=against, peer=specified)
    yield context.row(case, metrics[1], [float(values.std(ddof=1) / np.sqrt(len(values)))])
