"""The training loop: whole chunks of steps in one compiled program, and everything else between them."""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from narrows.envs.base import AbstractEnvironment
from narrows.training import reference
from narrows.training.devices import local
from narrows.training.state import StepInfo, Trainer, TrainState


class Chunk(NamedTuple):
    """The steps between two looks: `num_steps` steps up to and including step `last_step` (counted from 1).

    `state` is good until the observer returns: its buffers are then given to the next chunk. `loss` is the mean over the steps
    that trained, NaN if none did.
    """

    last_step: int
    num_steps: int
    state: TrainState
    info: StepInfo
    seconds: float

    @property
    def loss(self) -> float:
        losses = np.asarray(self.info.loss)[~np.asarray(self.info.is_skipped)]
        return float(losses.mean()) if losses.size else float("nan")


Row = dict[str, int | float]
"""A row of the history: columns by name."""


@runtime_checkable
class Observer(Protocol):
    """Reads a chunk between dispatches and returns columns for the history."""

    def __call__(self, chunk: Chunk) -> Row: ...


History = list[Row]


def run(
    trainer: Trainer,
    state: TrainState,
    num_steps: int,
    *,
    every: int = 100,
    observers: Sequence[Observer] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[TrainState, History]:
    """Train until step `num_steps`, in compiled chunks of `every` steps that end at its multiples.

    Args:
        trainer: what `trainer` returned.
        state: where to start, `trainer.init(key)` or a restored one, from however many devices; its buffers are donated.
        num_steps: the step to stop at, counted from the very beginning, so that a resumed run is told the same number.
        every: steps a chunk, >= 1.
        observers: called after each chunk; the columns they return make a row of the history.
        should_stop: asked after each chunk; True ends training there.

    Returns the last state and the history, a row a chunk, `step` and `loss` always among its columns.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}.")
    if trainer.overlapped is not None:
        with trainer.overlapped(num_steps) as step:
            sequential = trainer._replace(step=step, overlapped=None)
            return run(sequential, state, num_steps, every=every, observers=observers, should_stop=should_stop)
    advance = _compiled_chunk(trainer.step) if trainer.is_pure else _python_chunk(trainer.step)
    history: History = []
    devices = trainer.devices
    state = devices.place(state)
    while (done := int(state.step)) < num_steps and not should_stop():
        length = min(every - done % every, num_steps - done)
        began = time.perf_counter()
        state, info = jax.block_until_ready(advance(state, length))
        seconds = time.perf_counter() - began
        info = devices.fetch(info)
        if trainer.is_pure and state.reference is not None:
            log_reward = np.asarray(info.log_reward, np.float64) + reference.number(local(state).reference)
            info = info._replace(log_reward=log_reward)
        chunk = Chunk(done + length, length, local(state), info, seconds)
        row: Row = {"step": chunk.last_step, "loss": chunk.loss}
        for observe in observers:
            row.update(observe(chunk))
        history.append(row)
    return local(state), history


@functools.lru_cache(maxsize=8)  # a trainer that is run again, as in a notebook, does not compile again
def _compiled_chunk(step: Callable) -> Callable[[TrainState, int], tuple[TrainState, StepInfo]]:
    def chunk(state: TrainState, length: int) -> tuple[TrainState, StepInfo]:
        return jax.lax.scan(lambda carry, _: step(carry), state, length=length)

    return jax.jit(chunk, static_argnums=1, donate_argnums=0)


def _python_chunk(step: Callable) -> Callable[[TrainState, int], tuple[TrainState, StepInfo]]:
    def chunk(state: TrainState, length: int) -> tuple[TrainState, StepInfo]:
        infos = []
        for _ in range(length):
            state, info = step(state)
            infos.append(jax.device_get(info))
        return state, jax.tree.map(lambda *leaves: np.stack(leaves), *infos)

    return chunk


def objects_of(info: StepInfo, env: AbstractEnvironment) -> Iterable[str]:
    """Return the texts of a chunk's sampled objects, step by step."""
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), info.terminal)
    return env.to_text(flat)
