"""Value prediction on the torus: transitions, gradient steps and seconds to an error, for TD(0) and for surrogates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.turns import Side, take_turns
from narrows.vi import td

BATCH = 128
CHECK_EVERY = 10
TD0 = "TD(0)"
POINTS_SEED = 1_000_000
"""Of the points at which errors are measured."""
_TIMED = 1000
"""Gradient steps of a timed window."""
OPTIMIZERS: Final[Mapping[str, tuple[Callable[[Any], optax.GradientTransformation], float]]] = {
    "Adam": (optax.adam, 1e-3),
    "SGD": (optax.sgd, 1e-2),
}
"""Each with the learning rate of the specification."""


class Method(NamedTuple):
    """TD(0), with `inner_steps` None, or a surrogate."""

    inner_steps: int | None

    @property
    def name(self) -> str:
        """As it stands in the rows."""
        return TD0 if self.inner_steps is None else f"m = {self.inner_steps}"

    @property
    def gradients(self) -> int:
        """Gradient steps of an outer step."""
        return self.inner_steps or 1

    def learner(self, optimizer: str, rate: Any, eta: Any) -> td.Learner:
        """Return the learner; both see the same batches for the same seed."""
        inner = OPTIMIZERS[optimizer][0](rate)
        if self.inner_steps is None:
            return td.semi_gradient_td0(td.mlp_value, inner, discount=td.torus.DISCOUNT)
        return td.surrogate_td0(td.mlp_value, inner, inner_steps=self.inner_steps, discount=td.torus.DISCOUNT, step_size=eta)


class Trained(NamedTuple):
    """Trainings of one method at one learning rate."""

    method: Method  # which
    rate: float  # of learning
    seeds: tuple[int, ...]  # of the trainings
    errors: Float[np.ndarray, "seed check"]  # RMSE at the start and after every ten outer steps, shape `[seeds, checks + 1]`

    def hits(self, level: float) -> list[int | None]:
        """Return the outer steps to an error by seed, as far as they are looked at; None where it is never reached."""
        return [CHECK_EVERY * int(np.argmax(row <= level)) if (row <= level).any() else None for row in self.errors]


def train(
    method: Method, optimizer: str, rate: float, seeds: tuple[int, ...], gradient_steps: int, eta: float = 1.0
) -> Trained:
    """Train with one learning rate."""
    return train_all(method, optimizer, (rate,), seeds, gradient_steps, eta)[0]


def train_all(
    method: Method,
    optimizer: str,
    rates: Sequence[float],
    seeds: tuple[int, ...],
    gradient_steps: int,
    eta: float = 1.0,
) -> list[Trained]:
    """Train with every learning rate and seed in one program."""
    checks = max(1, gradient_steps // (method.gradients * CHECK_EVERY))
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds * len(rates)))
    lanes = jnp.repeat(jnp.asarray(rates, jnp.float32), len(seeds))
    errors = np.asarray(jax.jit(jax.vmap(_training(method, optimizer, checks, eta)))(lanes, keys), np.float64)
    return [Trained(method, rate, seeds, rows) for rate, rows in zip(rates, np.split(errors, len(rates)), strict=True)]


def _training(method: Method, optimizer: str, checks: int, eta: float) -> Callable[[Any, Array], Array]:
    """Return the training from a learning rate and a key to the errors at the start and after every ten outer steps."""

    def run(rate: Any, key: Array) -> Array:
        points = td.torus.points(jax.random.key(POINTS_SEED), 2000)
        learner, start = method.learner(optimizer, rate, eta), _start(key)

        def check(carry: tuple, number: Array) -> tuple[tuple, Array]:
            carry = jax.lax.fori_loop(number * CHECK_EVERY, (number + 1) * CHECK_EVERY, _step(learner, key), carry)
            return carry, td.torus.rmse(td.mlp_value, carry[0], points)

        carry = (start, learner.init(start))
        _, errors = jax.lax.scan(check, carry, jnp.arange(checks))
        return jnp.concatenate([td.torus.rmse(td.mlp_value, start, points)[None], errors])

    return run


def _start(key: Array) -> Any:
    return td.mlp_params(jax.random.fold_in(key, 0))


def _step(learner: td.Learner, key: Array) -> Callable[[Array, tuple], tuple]:
    """Return an outer step by its number: fresh transitions, then the learner."""

    def step(number: Array, carry: tuple) -> tuple:
        batch = td.torus.transitions(jax.random.fold_in(key, number + 1), BATCH)
        params, state, _ = learner.step(carry[0], carry[1], batch)
        return params, state

    return step


def seconds_of(optimizer: str, methods: Sequence[Method], windows: int) -> dict[str, list[float]]:
    """Return what an outer step of each takes by itself, its transitions drawn and no error looked at."""
    sides, counts = [], []
    for method in methods:
        count = max(4, _TIMED // method.gradients)
        learner, key = method.learner(optimizer, OPTIMIZERS[optimizer][1], 1.0), jax.random.key(0)
        start = _start(key)
        carry = (start, learner.init(start))
        step = _step(learner, key)
        run = jax.jit(lambda carry, step=step, count=count: jax.lax.fori_loop(0, count, step, carry))
        sides.append(Side(method.name, lambda _, run=run, carry=carry: run(carry)))
        counts.append(count)
    take_turns(sides, windows)
    return {side.name: [each / count for each in side.seconds] for side, count in zip(sides, counts, strict=True)}


LEVELS = (8.0, 6.0, 4.0)
AT = LEVELS[1]
SAMPLES = tuple(f"samples to RMSE {level:g}" for level in LEVELS)
GRADIENTS, SECONDS, TIME = f"gradient steps to RMSE {AT:g}", f"seconds to RMSE {AT:g}", "time an outer step"
REACHED, RATE, RMSE, LATE = f"share of seeds that reach RMSE {AT:g}", "learning rate", "RMSE", "late RMSE"
SAVED, SAVED_EACH = "how many times fewer samples than TD(0)", "how many times fewer samples than TD(0), seed by seed"
COST = "gradient steps to those of TD(0)"
LATE_RATIO = "late RMSE to that at eta = 1"
MANY, NO_MORE, LOWER = Target(">=", 20.0), Target("<=", 1.0), Target("<", 1.0)
TUNED = "tuned"
SPECIFIED: Final = {
    ("Adam", 1): (1820, 2720, 4480),
    ("Adam", 5): (320, 450, 680),
    ("Adam", 20): (80, 110, 160),
    ("Adam", 50): (60, 80, 160),
    ("SGD", 1): (1650, 1970, 2640),
    ("SGD", 5): (320, 420, 540),
    ("SGD", 20): (80, 100, 160),
    ("SGD", 50): (60, 80, 160),
}
"""Outer steps to the errors, medians of 5 seeds of an independent program (surrogate 6.4)."""
LATE_SPECIFIED: Final = {1: 1.9, 5: 3.2, 20: 4.1, 50: 5.2}
"""The error late in trainings with SGD, by inner steps."""
ETA_SPECIFIED: Final = {1.0: 4.0, 0.3: 2.6, 0.1: 1.8}
"""The error late in trainings with Adam and 20 inner steps, by eta."""


class Effort(NamedTuple):
    """How much is trained."""

    seeds: tuple[int, ...]  # that are reported
    tuning_seeds: tuple[int, ...]  # on which learning rates are chosen
    optimizers: tuple[str, ...]  # inside
    inner_steps: tuple[int, ...]  # of the surrogates
    # of a training at the specification's learning rates, and of one for the choice or at the chosen rate
    gradient_steps: tuple[int, int]
    # learning rates to choose from, the same for all methods of an optimiser; empty for no choice
    grids: dict[str, tuple[float, ...]]
    step_sizes: tuple[float, ...]  # eta, tried with Adam and 20 inner steps for so many outer steps
    step_size_outer: int  # outer steps of these
    windows: int  # timed windows of each method
    points: int  # of a curve in the picture


_GRIDS = {"Adam": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), "SGD": (3e-3, 1e-2, 3e-2, 0.1, 0.3)}
FULL = Effort(
    seeds=(0, 1, 2, 3, 4),
    tuning_seeds=(100, 101),
    optimizers=("Adam", "SGD"),
    inner_steps=(1, 5, 20, 50),
    gradient_steps=(20_000, 6000),
    grids=_GRIDS,
    step_sizes=(1.0, 0.3, 0.1),
    step_size_outer=2000,
    windows=9,
    points=16,
)
QUICK = Effort((0, 1), (100,), ("Adam",), (20,), (3000, 3000), {"Adam": (1e-3, 1e-2)}, (), 0, 3, 8)


def torus_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield what all methods need at the specification's learning rates and at chosen ones, and the effect of eta."""
    for optimizer in effort.optimizers:
        methods = [Method(None), *map(Method, effort.inner_steps)]
        seconds = seconds_of(optimizer, methods, effort.windows)
        given = OPTIMIZERS[optimizer][1]
        plain = [train(one, optimizer, given, effort.seeds, effort.gradient_steps[0]) for one in methods]
        yield from comparison_rows(context, f"vi/torus/{optimizer} {given:g}", plain, seconds, effort.points, optimizer)
        if optimizer in effort.grids:
            best = [_best(one, optimizer, effort) for one in methods]
            yield from comparison_rows(context, f"vi/torus/{optimizer} {TUNED}", best, seconds, effort.points)
    if effort.step_sizes:
        yield from _eta_rows(context, effort)


def comparison_rows(
    context: Context,
    case: str,
    trained: Sequence[Trained],
    seconds: Mapping[str, Sequence[float]],
    points: int,
    specified: str | None = None,
) -> Iterator[Row]:
    """Yield the rows of trainings with one optimiser, TD(0) first.

    Args:
        context: of the run.
        case: that all rows begin with.
        trained: of each method.
        seconds: that an outer step of each takes, a number a window.
        points: of a curve.
        specified: the optimiser whose figures in the specification belong to these; None for none.
    """
    base = trained[0]
    for one in trained:
        of = f"{case}/{one.method.name}"
        yield context.row(of, RATE, [one.rate])
        yield context.row(of, TIME, [1e3 * each for each in seconds[one.method.name]], unit="ms", windows=True)
        yield from _reach_rows(context, of, one, seconds[one.method.name], specified)
        late = np.mean(one.errors[:, -max(1, one.errors.shape[1] // 10) :], 1)
        if np.isfinite(late).all():
            known = LATE_SPECIFIED.get(one.method.gradients) if specified == "SGD" else None
            against = None if known is None else "specification"
            yield context.row(of, LATE, late.tolist(), seeds=one.seeds, against=against, peer=known)
        if one is not base and one.method.gradients > 1:
            yield from _saving_rows(context, of, base, one)
        yield from _curve_rows(context, of, one, points)


def _reach_rows(context: Context, case: str, one: Trained, seconds: Sequence[float], specified: str | None) -> Iterator[Row]:
    known = None if specified is None else SPECIFIED.get((specified, one.method.gradients))
    for place, (metric, level) in enumerate(zip(SAMPLES, LEVELS, strict=True)):
        reached = [count for count in one.hits(level) if count is not None]
        if level == AT:
            yield context.row(case, REACHED, [len(reached) / len(one.seeds)])
        if len(reached) < len(one.seeds):
            continue
        against, peer = (None, None) if known is None else ("specification", float(BATCH * known[place]))
        samples = [float(BATCH * count) for count in reached]
        yield context.row(case, metric, samples, seeds=one.seeds, against=against, peer=peer)
        if level == AT:
            yield context.row(case, GRADIENTS, [float(one.method.gradients * count) for count in reached], seeds=one.seeds)
            count = float(np.median(reached))
            yield context.row(case, SECONDS, [count * each for each in seconds], unit="s", windows=True)


def _saving_rows(context: Context, case: str, base: Trained, one: Trained) -> Iterator[Row]:
    """Yield by how much a surrogate's medians are below those of TD(0).

    A training of TD(0) that never arrives counts as all of its steps, and a surrogate that does not has saved nothing.
    """
    ends = [CHECK_EVERY * (each.errors.shape[1] - 1) for each in (base, one)]
    theirs = [ends[0] if count is None else count for count in base.hits(AT)]
    ours, arrives = [ends[1] if count is None else count for count in one.hits(AT)], [c is not None for c in one.hits(AT)]
    their, our = float(np.median(theirs)), float(np.median(ours))
    asked = one.method.inner_steps == 20
    saved = their / our if 2 * sum(arrives) > len(arrives) else 0.0
    yield context.row(case, SAVED, [saved], target=MANY if asked else None)
    cost = one.method.gradients * our / (base.method.gradients * their)
    yield context.row(case, COST, [cost], target=NO_MORE if asked else None)
    each = [one / two if is_there else 0.0 for one, two, is_there in zip(theirs, ours, arrives, strict=True)]
    yield context.row(case, SAVED_EACH, each, seeds=one.seeds)


def _curve_rows(context: Context, case: str, one: Trained, points: int) -> Iterator[Row]:
    """Yield the error at times that are evenly spaced in the logarithm."""
    last = one.errors.shape[1] - 1
    for check in np.unique(np.geomspace(1, last, points).round().astype(int)):
        values = one.errors[:, check]
        if np.isfinite(values).all():
            yield context.row(f"{case}/after {CHECK_EVERY * check}", RMSE, values.tolist(), seeds=one.seeds)


def _eta_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield what a lower eta does to the error that is left late, and to the way there."""
    method, rate = Method(20), OPTIMIZERS["Adam"][1]
    first = None
    for eta in effort.step_sizes:
        found = train(method, "Adam", rate, effort.seeds, method.gradients * effort.step_size_outer, eta)
        case = f"vi/torus/eta/eta = {eta:g}"
        late = np.mean(found.errors[:, -max(1, found.errors.shape[1] // 10) :], 1)
        known = ETA_SPECIFIED.get(eta)
        against = None if known is None else "specification"
        yield context.row(case, LATE, late.tolist(), seeds=found.seeds, against=against, peer=known)
        reached = [float(BATCH * count) for count in found.hits(AT) if count is not None]
        if len(reached) == len(found.seeds):
            yield context.row(case, SAMPLES[1], reached, seeds=found.seeds)
        first = late if first is None else first
        if late is not first:
            ratios = [float(one / two) for one, two in zip(late, first, strict=True)]
            yield context.row(case, LATE_RATIO, ratios, seeds=found.seeds, target=LOWER)


def _best(method: Method, optimizer: str, effort: Effort) -> Trained:
    """Return the trainings at the learning rate with the fewest samples to RMSE 6 on other seeds."""
    steps, seeds = effort.gradient_steps[1], effort.tuning_seeds
    trials = train_all(method, optimizer, effort.grids[optimizer], seeds, steps)

    def badness(one: Trained) -> tuple[float, float]:
        counts = [np.inf if count is None else count for count in one.hits(AT)]
        # A tie is decided by how far the training came on the way.
        return float(np.median(counts)), float(np.median(np.nan_to_num(one.errors, nan=np.inf).min(1)))

    return train(method, optimizer, min(trials, key=badness).rate, effort.seeds, steps)
