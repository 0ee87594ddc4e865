"""The state of training, the information of a step for a reader, and known objects to train on."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray, UInt32

from narrows.policies.base import Model
from narrows.training.devices import ONE, Devices
from narrows.training.replay import BufferState


class TrainState(NamedTuple):
    """Everything the next step depends on, and nothing else: restoring it continues bit for bit.

    `reference` holds the bits of the number taken off every log-reward (`training.reference`), None where nothing is;
    `exploration` is what the exploration remembers, None for one without a memory.
    """

    model: Model
    target: Model | None
    opt_state: Any
    buffer: BufferState | None
    key: PRNGKeyArray
    step: Int[Array, ""]
    reference: UInt32[Array, "2"] | None = None
    exploration: Any = None


class StepInfo(NamedTuple):
    """The information of one step for a reader: its loss and the objects it sampled.

    `log_reward` is what the reward says, float64 where the state has a reference; only a step that is pure leaves it less the
    reference, which `run` puts back.

    `is_skipped` marks a step that changed no parameter: its loss, gradient or update was not finite, or nothing in its batch
    had a finite reward.
    """

    loss: Float[Array, "*chunk"]
    terminal: Any
    log_reward: Num[Any, "*chunk batch"]
    is_skipped: Bool[Array, "*chunk"]


Step = Callable[[TrainState], tuple[TrainState, StepInfo]]


class Trainer(NamedTuple):
    """A pair of functions and whether `step` is a pure one that may be compiled into a chunk.

    `overlapped` is there where several batches can be scored at once: told the step to stop at, it opens a step that trains
    on whatever batch has come back and leaves nothing under way when it is closed. `devices` share each batch, and `run` puts
    the state on them.
    """

    init: Callable[[PRNGKeyArray], TrainState]
    step: Step
    is_pure: bool
    overlapped: Callable[[int], AbstractContextManager[Step]] | None = None
    devices: Devices = ONE


class Given(NamedTuple):
    """Known objects to train from: `batch_size` of them a step, walked back to the root by the backward policy.

    `log_reward` is what the reward says of them, with its inverse temperature in it.
    """

    terminal: Any
    log_reward: Num[Any, " object"]
    batch_size: int
