"""Processes that work side by side, each on a core of its own."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import TypeVar

Result = TypeVar("Result")


@contextmanager
def side_by_side(tasks: Sequence[Callable[[], Result]]) -> Iterator[list[Future[Result]]]:
    """Run tasks on all cores that this process may use, a process a core, beginning with the first."""
    cores = sorted(os.sched_getaffinity(0))
    context = get_context("spawn")  # a fork of a process in which JAX runs may hang
    free = context.Queue()
    for core in cores:
        free.put(core)
    pool = ProcessPoolExecutor(len(cores), mp_context=context, initializer=_take_core, initargs=(free,))
    try:
        yield [pool.submit(task) for task in tasks]
    finally:
        pool.shutdown(cancel_futures=True)


def done(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return what tasks come to that run side by side."""
    with side_by_side(tasks) as futures:
        return [future.result() for future in futures]


def tell(words: str) -> None:
    """Say what is under way: a full run takes long, and whoever waits should see it move."""
    print(words, file=sys.stderr, flush=True)


def _take_core(free: "Queue[int]") -> None:
    """Stay on one core from the start: JAX makes as many threads as there are cores when it is first used."""
    os.sched_setaffinity(0, {free.get()})
