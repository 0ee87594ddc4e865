"""Timing in turns, A B A B ..., so that a slow minute hits all alike."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from benchmarks.harness.rows import Context, Row, Target

TIME, RATIO = "time a step", "ratio of times"


@dataclass
class Side:
    """Something that is timed: `advance` takes the newest state and returns the next one."""

    name: str
    advance: Callable[[Any], Any]
    state: Any = None
    seconds: list[float] = field(default_factory=list)  # what each window took


def take_turns(sides: Sequence[Side], windows: int) -> None:
    """Time all in turns; the first window of each compiles and is not counted."""
    for side in sides:
        side.state = jax.block_until_ready(side.advance(side.state))
    for _ in range(windows):
        for side in sides:
            began = time.perf_counter()
            side.state = jax.block_until_ready(side.advance(side.state))
            side.seconds.append(time.perf_counter() - began)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours to theirs in each pair of windows that followed one another."""
    return [one / two for one, two in zip(ours, theirs, strict=True)]


def step_rows(
    context: Context, case: str, sides: Sequence[Side], num_steps: int, target: Target | None, judged: Sequence[str] = ()
) -> Iterator[Row]:
    """Yield the milliseconds a step of each side, and its ratio to the first in the windows that followed one another.

    Args:
        context, case: of the rows.
        sides: timed before, so many steps a window.
        num_steps: a window.
        target: of the ratios.
        judged: names of the sides that it is asked of; empty for all.
    """
    first = sides[0]
    for side in sides:
        times = [1e3 * seconds / num_steps for seconds in side.seconds]
        yield context.row(f"{case}/{side.name}", TIME, times, unit="ms", windows=True)
        if side is not first:
            slower, asked = ratios(side.seconds, first.seconds), target if side.name in (judged or (side.name,)) else None
            yield context.row(f"{case}/{side.name}", RATIO, slower, against=first.name, target=asked, windows=True)
