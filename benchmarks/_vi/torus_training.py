"""Trainings on the torus: TD(0) and surrogates, from the same seeds on the same transitions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from benchmarks._vi.turns import Side, take_turns
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
    """Trainings of one method at one learning rate.

    Attributes:
        method: which.
        rate: of learning.
        seeds: of the trainings.
        errors: RMSE at the start and after every ten outer steps, shape `[seeds, checks + 1]`.
    """

    method: Method
    rate: float
    seeds: tuple[int, ...]
    errors: Float[np.ndarray, "seed check"]

    def hits(self, level: float) -> list[int | None]:
        """Return the outer steps to an error by seed, as far as they are looked at; None where it is never reached."""
        return [CHECK_EVERY * int(np.argmax(row <= level)) if (row <= level).any() else None for row in self.errors]


def train(
    method: Method, optimizer: str, rate: float, seeds: tuple[int, ...], gradient_steps: int, eta: float = 1.0
) -> Trained:
    return side_by_side(method, optimizer, (rate,), seeds, gradient_steps, eta)[0]


def side_by_side(
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
        sides.append(Side(method.name, lambda run=run, carry=carry: run(carry), []))
        counts.append(count)
    take_turns(sides, windows)
    return {side.name: [each / count for each in side.seconds] for side, count in zip(sides, counts, strict=True)}
