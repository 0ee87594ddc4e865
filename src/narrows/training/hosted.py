"""The step of a reward that is computed outside: one batch after the other, or several under way at once."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from narrows.rewards.host import AbstractAsyncScore, AbstractScoreBatch, HostReward
from narrows.training.state import Step, StepInfo, Trainer, TrainState
from narrows.trajectories import Trajectory

Draw = Callable[[TrainState], tuple[PRNGKeyArray, Trajectory, *tuple[Any, ...]]]
"""Compiled: fresh trajectories of a state, the key that remains, and what sampling has computed that the update can use."""
Update = Callable[..., tuple[TrainState, StepInfo]]
"""Compiled: train on a state, a key, trajectories with log-rewards, and what `Draw` added, if the model is still the same."""


def hosted(init: Callable[[PRNGKeyArray], TrainState], draw: Draw, update: Update, reward: HostReward) -> Trainer:
    """Return the trainer of a host reward.

    Args:
        init: makes the first state.
        draw: see `Draw`.
        update: see `Update`; without what `draw` added it evaluates the model anew.
        reward: what scores; with an `AbstractAsyncScore` that keeps more than one batch pending, training overlaps with it.
    """

    def step(state: TrainState) -> tuple[TrainState, StepInfo]:
        key, fresh, *record = draw(state)
        log_reward = jnp.asarray(reward(fresh.terminal), jnp.float32)
        return update(state, key, fresh._replace(log_reward=log_reward), *record)

    score = reward.score
    if not isinstance(score, AbstractAsyncScore) or score.pending == 1:
        return Trainer(init, step, is_pure=False)
    return Trainer(init, step, is_pure=False, overlapped=functools.partial(_overlapped, draw, update, reward, score))


@contextmanager
def _overlapped(draw: Draw, update: Update, reward: HostReward, score: AbstractAsyncScore, num_steps: int) -> Iterator[Step]:
    """Open a step that keeps `score.pending` batches under way, but draws none that step `num_steps` would leave behind.

    Every batch that is drawn is trained on once. Closed early, it cancels what is under way: no state knows of those batches,
    so they are drawn anew, from the policy of then.
    """
    flying: list[tuple[Trajectory, list[str], AbstractScoreBatch]] = []

    def step(state: TrainState) -> tuple[TrainState, StepInfo]:
        while len(flying) < min(score.pending, num_steps - int(state.step)):
            key, fresh, *_ = draw(state)  # the model will be another one when the batch has come back
            state = state._replace(key=key)  # or the next batch would be the same one
            texts = reward.env.to_text(fresh.terminal)
            flying.append((fresh, texts, score.submit(texts)))
        fresh, texts, batch = flying.pop(score.first_of([batch for *_, batch in flying]))
        log_reward = jnp.asarray(reward.log_reward(batch.result(), texts), jnp.float32)
        return update(state, state.key, fresh._replace(log_reward=log_reward))

    try:
        yield step
    finally:
        for *_, batch in flying:
            batch.cancel()
