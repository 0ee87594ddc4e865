"""What a training step costs: beside trajectory balance without noise, and where nature has thousands of outcomes."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from benchmarks._stochastic.methods import METHODS
from benchmarks._stochastic.worlds import World
from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.turns import Side, step_rows, take_turns
from narrows.envs import Sequence as Sequences
from narrows.envs import perturbed
from narrows.envs.base import AbstractEnvironment
from narrows.envs.sequence import SequenceState
from narrows.noise import Substitution
from narrows.objectives import ExpectedDetailedBalance, SampledExpectedDetailedBalance, TrajectoryBalance
from narrows.objectives.base import AbstractObjective
from narrows.policies import MLP
from narrows.rewards import Tempered, UnwrapPerturbed
from narrows.rewards.base import AbstractReward
from narrows.training import TrainState, adam, trainer

TARGET = Target("<=", 2.0)
BASELINE = "TB without noise"
_BETA = 3.0
_HIDDEN = 256
_FIRST_LETTER = 0x4E00
_LENGTH = 8


class Effort(NamedTuple):
    """How much is timed."""

    batches: tuple[int, ...]  # trajectories a step
    full_batch: int | None  # at which every method is timed, and not only two
    windows: int  # timed windows of each side, in turns
    steps: int  # training steps of a window
    letters: int  # of the alphabet with thousands of outcomes
    drawn: tuple[int, ...]  # outcomes drawn there
    # many_windows, many_steps: timed windows there, and training steps of each
    many_windows: int
    many_steps: int


FULL = Effort(
    batches=(16, 64, 256), full_batch=64, windows=9, steps=100, letters=2000, drawn=(2, 8, 32), many_windows=5, many_steps=2
)
QUICK = Effort(batches=(64,), full_batch=None, windows=3, steps=20, letters=2000, drawn=(2,), many_windows=2, many_steps=1)
OTHERS = ("expected DB, visited", "expected TB")
"""The methods that are timed at every batch size."""


class LetterSum(AbstractReward):
    """A score that costs next to nothing: the mean over the positions of a number that each letter has."""

    weights: Float[Array, " letter"]

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return jnp.mean(self.weights[states.tokens], axis=-1)


def speed_rows(context: Context, here: World, effort: Effort) -> Iterator[Row]:
    """Yield the cost of a step of each method and its ratio to the baseline, then the rows of an alphabet of thousands."""
    for batch in effort.batches:
        reward = Tempered(here.reward, _BETA)
        plans = [(BASELINE, *_training(here.env.inner, reward, TrajectoryBalance(), False, batch))]
        for method in METHODS:
            # A learned kernel costs what a true one costs: a row of a table.
            if (batch == effort.full_batch or method.name in OTHERS) and not method.learns_kernel:
                made = _training(here.env, UnwrapPerturbed(reward), method.objective, method.learns_backward, batch)
                plans.append((method.name, *made))
        found = _timed(plans, effort.windows, effort.steps)
        yield from step_rows(context, f"stochastic/speed/batch {batch}", found, effort.steps, TARGET)
    inner = Sequences("".join(chr(_FIRST_LETTER + number) for number in range(effort.letters)), _LENGTH, _LENGTH)
    world = perturbed(inner, Substitution(inner, 0.25))
    weights = jax.random.normal(jax.random.key(0), (inner.num_values,))
    objectives: dict[str, AbstractObjective] = {"expected DB, visited": ExpectedDetailedBalance()}
    objectives |= {f"expected DB, {num} drawn": SampledExpectedDetailedBalance(num) for num in effort.drawn}
    plans = [(name, *_training(world, UnwrapPerturbed(LetterSum(weights)), one, False, 64)) for name, one in objectives.items()]
    found = _timed(plans, effort.many_windows, effort.many_steps)
    yield from step_rows(context, f"stochastic/speed/{effort.letters} outcomes", found, effort.many_steps, None)


Parts = tuple[Callable[[TrainState], TrainState], TrainState]


def _training(
    env: AbstractEnvironment, reward: AbstractReward, objective: AbstractObjective, learned_backward: bool, batch: int
) -> Parts:
    """Return a training step and its first state; the network is the same for all but for the heads that it must have."""
    sizes = objective.sizes(env, learned_backward=learned_backward)
    policy = MLP(sizes, hidden=_HIDDEN, depth=2, key=jax.random.key(0))
    training = trainer(env, policy, reward, objective, adam(), batch_size=batch)
    return lambda state: training.step(state)[0], training.init(jax.random.key(0))


def _timed(plans: Sequence[tuple[str, *Parts]], windows: int, steps: int) -> list[Side]:
    sides = []
    for name, step, state in plans:
        window = jax.jit(
            lambda state, step=step: jax.lax.fori_loop(0, steps, lambda _, one: step(one), state), donate_argnums=0
        )
        sides.append(Side(name, window, state))
    take_turns(sides, windows)
    return sides
