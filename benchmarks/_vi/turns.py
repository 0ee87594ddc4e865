"""Timing in turns, and what rows of this benchmark have in common."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax


class Side(NamedTuple):
    """Something that is timed again and again: `run` does all of its work, `seconds` is what each time took."""

    name: str
    run: Callable[[], Any]
    seconds: list[float]


def take_turns(sides: Sequence[Side], windows: int) -> None:
    """Time all in turns, so that a slow minute hits all alike; the first window of each compiles and is not counted."""
    for side in sides:
        jax.block_until_ready(side.run())
    for _ in range(windows):
        for side in sides:
            began = time.perf_counter()
            jax.block_until_ready(side.run())
            side.seconds.append(time.perf_counter() - began)
