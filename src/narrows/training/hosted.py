"""The step of a reward that is computed outside: one batch after the other, or several under way at once."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from narrows.scorers.host import AbstractAsyncScore, AbstractScoreBatch, HostReward
from narrows.training import reference
from narrows.training.state import Step, StepInfo, Trainer, TrainState
from narrows.trajectories import Trajectory

Draw = Callable[[TrainState], tuple[PRNGKeyArray, Trajectory, Any, *tuple[Any, ...]]]
"""Compiled: fresh trajectories of a state, the key that remains, what was kept of earlier ones, and the cache of sampling that
the update can use."""
Update = Callable[..., tuple[TrainState, StepInfo]]
"""Compiled: train on a state, a key, trajectories with log-rewards, what they kept, the log-rewards of given objects or None,
and what `Draw` added, if the model is still the same. All log-rewards are less the reference."""
Learn = Callable[..., tuple[TrainState, StepInfo]]
"""`Update` told log-rewards as the score gave them, after the fresh trajectories and what they kept."""


def hosted(
    init: Callable[[PRNGKeyArray], TrainState],
    draw: Draw,
    update: Update,
    reward: HostReward,
    given: Float[np.ndarray, " object"] | None,
) -> Trainer:
    """Return the trainer of a host reward.

    Args:
        init: makes the first state.
        draw: see `Draw`.
        update: see `Update`; without what `draw` added it evaluates the model anew.
        reward: what scores; with an `AbstractAsyncScore` that keeps more than one batch pending, training overlaps with it.
        given: log-rewards of the given objects, if there are any.
    """

    def learn(
        state: TrainState,
        key: PRNGKeyArray,
        fresh: Trajectory,
        origin: Any,
        log_reward: Float[np.ndarray, " batch"],
        *cache: Any,
    ) -> tuple[TrainState, StepInfo]:
        taken = reference.number(state.reference)
        if state.reference is not None and math.isnan(taken):
            taken = reference.found_in(log_reward, *(() if given is None else (given,)))
            state = state._replace(reference=reference.placed_like(taken, state.reference))
        # Without a reference yet nothing is finite, and stays what it is.
        taken = 0.0 if math.isnan(taken) else taken
        known = None if given is None else jnp.asarray(reference.less(given, taken))
        numbers = reference.less(log_reward, taken)
        state, info = update(state, key, fresh._replace(log_reward=jnp.asarray(numbers)), origin, known, *cache)
        # What training cannot hold is no score to a reader either.
        return state, info._replace(log_reward=np.where(np.isfinite(numbers), log_reward, numbers))

    def step(state: TrainState) -> tuple[TrainState, StepInfo]:
        key, fresh, origin, *cache = draw(state)
        return learn(state, key, fresh, origin, reward(fresh.terminal), *cache)

    score = reward.score
    if not isinstance(score, AbstractAsyncScore) or score.pending == 1:
        return Trainer(init, step, is_pure=False)
    return Trainer(init, step, is_pure=False, overlapped=functools.partial(_overlapped, draw, learn, reward, score))


@contextmanager
def _overlapped(draw: Draw, learn: Learn, reward: HostReward, score: AbstractAsyncScore, num_steps: int) -> Iterator[Step]:
    """Open a step that keeps `score.pending` batches under way, but draws none that step `num_steps` would leave behind.

    Every batch that is drawn is trained on once. Closed early, it cancels what is under way: no state knows of those batches,
    so they are drawn anew, from the policy of then.
    """
    flying: list[tuple[Trajectory, Any, list[str], AbstractScoreBatch]] = []

    def step(state: TrainState) -> tuple[TrainState, StepInfo]:
        while len(flying) < min(score.pending, num_steps - int(state.step)):
            key, fresh, origin, *_ = draw(state)  # the model will be another one when the batch has come back
            state = state._replace(key=key)  # or the next batch would be the same one
            texts = reward.env.to_text(fresh.terminal)
            flying.append((fresh, origin, texts, score.submit(texts)))
        fresh, origin, texts, batch = flying.pop(score.first_of([batch for *_, batch in flying]))
        return learn(state, state.key, fresh, origin, reward.log_reward(batch.result(), texts))

    try:
        yield step
    finally:
        for *_, batch in flying:
            batch.cancel()
